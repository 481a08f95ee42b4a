//! One behaviour, every language: a program in each goes through the scenarios of `conformance/scenarios.md`, all at
//! the same time.
//!
//! Run it where the cluster is reached: `tests/cluster/cluster.py run -- cargo test --test conformance`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;
mod toolchain;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Instant;
use std::{fs, io};

use common::Namespace;
use toolchain::{LANGUAGES, Language, Place, output, root};

/// Seconds that a program may take: one that hangs is to be seen, and not to hold up the others.
const LIMIT: &str = "600";

/// What became of a program.
struct Report {
    language: Language,
    /// What it said of each scenario.
    cells: BTreeMap<String, String>,
    /// Why it failed as a whole, or what it left behind.
    troubles: Vec<String>,
    said: String,
    seconds: f64,
}

/// The names of the scenarios, from the one place that has them.
fn scenarios() -> Vec<&'static str> {
    let lines = include_str!("conformance/scenarios.md").lines();
    let names = lines.filter_map(|line| line.strip_prefix("- `")?.split_once("`: ").map(|(name, _)| name));
    let names: Vec<_> = names.collect();
    assert!(names.len() > 20 && names[0] == "life" && names.ends_with(&["end"]), "{names:?}");
    names
}

/// The sources of a language's program; Python's others are found by the first one.
fn sources(language: Language) -> Vec<PathBuf> {
    let (program, ending) = (root().join("tests/conformance").join(language.name()), language.ending());
    match language {
        Language::C | Language::Cpp => {
            let files = fs::read_dir(program).unwrap().map(|entry| entry.unwrap().path());
            files.filter(|path| path.extension().is_some_and(|found| found == ending)).collect()
        }
        Language::Go => vec![program],
        Language::Rust | Language::Python => vec![program.join(format!("main.{ending}"))],
    }
}

/// `ok SCENARIO` or `failed SCENARIO: WHY`.
fn cell(line: &str) -> Option<(String, String)> {
    match line.strip_prefix("ok ") {
        Some(name) => Some((name.trim().to_owned(), "ok".to_owned())),
        None => line.strip_prefix("failed ")?.split_once(':').map(|(name, _)| (name.to_owned(), "FAILED".to_owned())),
    }
}

/// Lets a language's program go through all scenarios, in a namespace of its own: what it reaps is nobody else's.
fn report(place: &Place, language: Language) -> Report {
    let namespace = Namespace::new(&format!("conformance-{}", language.ending()));
    let directory = place.path(&format!("files.{language:?}"));
    fs::create_dir(&directory).unwrap();
    let program = place.program(language, "conformance", &sources(language));
    let mut limited = Command::new("timeout");
    limited.args(["--kill-after=5", LIMIT]).arg(program.get_program()).args(program.get_args()).arg(directory);
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let began = Instant::now();
    let output = output(limited.env("SANDBOX_NAMESPACE", namespace.name()));
    let seconds = began.elapsed().as_secs_f64();
    let text = String::from_utf8_lossy(&output.stdout);
    let mut troubles = Vec::new();
    if !output.status.success() {
        troubles.push(output.status.to_string());
    }
    let template =
        "go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}} {{end}}{{end}}";
    let left = namespace.kubectl(&["get", "pods", "-o", template]);
    if !left.is_empty() {
        troubles.push(format!("left behind: {left}"));
    }
    let said = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    Report { language, cells: text.lines().filter_map(cell).collect(), troubles, said, seconds }
}

/// A program that can't even be built is told like one that failed.
fn report_in_any_case(place: &Place, language: Language) -> Report {
    thread::scope(|scope| scope.spawn(|| report(place, language)).join()).unwrap_or_else(|panic| {
        let why = panic.downcast::<String>().map_or_else(|_| "a panic".to_owned(), |why| *why);
        Report { language, cells: BTreeMap::new(), troubles: vec![why], said: String::new(), seconds: 0.0 }
    })
}

fn table(scenarios: &[&str], reports: &[Report]) -> String {
    let mut table = String::new();
    let mut row = |name: &str, cells: &mut dyn Iterator<Item = String>| {
        let cells: String = cells.map(|cell| format!("{cell:>9}")).collect();
        writeln!(table, "{name:16}{cells}").unwrap();
    };
    row("", &mut reports.iter().map(|report| format!("{:?}", report.language)));
    for &name in scenarios {
        row(name, &mut reports.iter().map(|report| report.cells.get(name).map_or("missing", |cell| cell).to_owned()));
    }
    row("seconds", &mut reports.iter().map(|report| format!("{:.0}", report.seconds)));
    table
}

#[test]
fn every_language_passes_every_scenario() {
    let (scenarios, place) = (scenarios(), Place::new("conformance"));
    let reports = thread::scope(|scope| {
        let running = LANGUAGES.map(|language| {
            scope.spawn({
                let place = &place;
                move || report_in_any_case(place, language)
            })
        });
        running.map(|running| running.join().unwrap())
    });
    // Past the test's captured output: the table is for whoever reads what CI says.
    io::stdout().write_all(table(&scenarios, &reports).as_bytes()).unwrap();
    let mut failures = String::new();
    for Report { language, cells, troubles, said, .. } in &reports {
        let unknown: Vec<_> = cells.keys().filter(|name| !scenarios.contains(&&***name)).collect();
        let is_complete = scenarios.iter().all(|&name| cells.get(name).is_some_and(|cell| cell == "ok"));
        if !is_complete || !unknown.is_empty() || !troubles.is_empty() {
            writeln!(failures, "\n{language:?}: {}; unknown scenarios: {unknown:?}\n{said}", troubles.join("; "))
                .unwrap();
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

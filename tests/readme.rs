//! README shows what is really there.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

use std::path::Path;

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The examples that a document shows; each as it is.
fn shown(document: &str) -> Vec<String> {
    let text = read(document);
    let names = text.lines().filter_map(|line| line.strip_prefix("<!-- examples/")?.strip_suffix(" -->"));
    let names: Vec<_> = names.map(str::to_owned).collect();
    for name in &names {
        let language = match name.rsplit('.').next().unwrap() {
            "rs" => "rust",
            "py" => "python",
            ending => ending,
        };
        let example = format!("<!-- examples/{name} -->\n```{language}\n{}```\n", read(&format!("examples/{name}")));
        assert!(text.contains(&example), "{document} does not show examples/{name} as it is");
    }
    names
}

const GUIDES: [(&str, &str); 4] = [
    ("bindings/c/README.md", "life.c"),
    ("bindings/cpp/README.md", "quickstart.cpp"),
    ("bindings/go/README.md", "quickstart.go"),
    ("bindings/python/README.md", "quickstart.py"),
];

#[test]
fn readme_and_guides_show_the_examples_as_they_are() {
    for (document, example) in [("README.md", "quickstart.rs"), ("README.md", "quickstart.c")].into_iter().chain(GUIDES)
    {
        assert!(shown(document).iter().any(|name| name == example), "{document} does not show {example}");
    }
}

#[test]
fn readme_names_every_kind_of_error() {
    let (readme, source) = (read("README.md"), read("src/error/kind.rs"));
    let kinds = source.split("pub enum ErrorKind {").nth(1).unwrap().split("\n}").next().unwrap();
    let kinds = kinds.lines().map(str::trim).filter_map(|line| line.strip_suffix(','));
    for kind in kinds.filter(|kind| !kind.contains(' ')) {
        assert!(readme.contains(&format!("`{kind}`")), "README.md does not name the error kind {kind}");
    }
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let (readme, makefile) = (read("README.md"), read("Makefile"));
    let table = readme.split("\n## What you can rely on\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<_> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 15, "{rows:?}");
    for row in rows {
        let [_, promise, how, tests, _] = row.split('|').collect::<Vec<_>>()[..] else { panic!("{row}") };
        assert!(!how.trim().is_empty(), "{promise}");
        let names: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{promise}names no test");
        for name in names {
            let has_tests = match name.strip_prefix("make ") {
                Some(target) => makefile.lines().any(|line| line.starts_with(&format!("{target}: "))),
                None => read(name).contains("#[test]"),
            };
            assert!(has_tests, "{promise}names {name}, which has no test");
        }
    }
}

#[test]
fn links_lead_somewhere() {
    for name in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].into_iter().chain(GUIDES.map(|(guide, _)| guide)) {
        let text: String = read(name).split("```").step_by(2).collect();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let is_file = !link.starts_with("http") && !link.starts_with('#');
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(name).with_file_name(link.split('#').next().unwrap());
            assert!(!is_file || file.exists(), "{name} links to {link}");
        }
    }
}

#[test]
fn contributing_stays_short() {
    assert!(read("CONTRIBUTING.md").lines().count() < 120);
}

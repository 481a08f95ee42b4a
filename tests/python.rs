//! The wheel for Python: it is installed in a clean virtual environment, checked by mypy and used against the cluster.
//!
//! Run it where the cluster is reached, after `make wheel PROFILE=debug`:
//! `tests/cluster/cluster.py run -- cargo test --test python`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod toolchain;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use toolchain::{Language, Place, output, root, succeeded};

static PLACE: LazyLock<Place> = LazyLock::new(|| {
    let place = Place::new("python");
    // By one test for all: they run at the same time.
    place.python();
    place
});

/// What a program says that runs with the installed package, with all that Python can warn of.
fn said(program: &str) -> String {
    let output = output(&mut PLACE.program(Language::Python, "program", &[root().join(program)]));
    let (said, warned) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !warned.contains("Exception ignored"), "{program}: {said}\n{warned}");
    said.into_owned()
}

#[test]
fn the_wheel_has_no_other_package_and_its_types_are_complete() {
    let found = succeeded(Command::new(PLACE.python()).args(["-m", "pip", "list", "--format", "freeze"]));
    let known = ["pip", "setuptools", concat!("sandbox==", env!("CARGO_PKG_VERSION"))];
    assert!(found.lines().all(|line| known.iter().any(|known| line.starts_with(known))), "{found}");
    let programs = ["examples/quickstart.py", "examples/asyncio_run.py", "tests/conformance/python/main.py"];
    let mut mypy = Command::new(root().join("target/tools/bin/mypy"));
    mypy.arg("--strict").arg("--cache-dir").arg(PLACE.path("mypy")).arg("--python-executable").arg(PLACE.python());
    succeeded(mypy.args(programs.map(|program| root().join(program))));
}

/// Every Python that pyenv has and that is new enough.
fn interpreters() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").unwrap_or_default();
    let versions = fs::read_dir(Path::new(&home).join(".pyenv/versions")).into_iter().flatten();
    let found = versions.map(|version| version.unwrap().path().join("bin/python"));
    let is_usable = |python: &PathBuf| {
        let question = "import ctypes, sys; sys.exit(sys.version_info < (3, 9))";
        Command::new(python).args(["-c", question]).output().is_ok_and(|output| output.status.success())
    };
    found.filter(is_usable).collect()
}

#[test]
fn every_python_can_use_the_wheel() {
    assert_eq!(said("bindings/python/tests/package.py"), "done\n");
    for python in interpreters() {
        said_by(&python, "package.py", &[]);
    }
}

/// What a program of the package's tests says with another interpreter than that of the virtual environment.
fn said_by(python: &Path, program: &str, arguments: &[&str]) -> String {
    let question = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let place = succeeded(Command::new(PLACE.python()).args(["-c", question]));
    let program = root().join("bindings/python/tests").join(program);
    let mut command = Command::new(python);
    command.current_dir(PLACE.path(".")).args(["-X", "dev", "-B"]).arg(program).args(arguments);
    succeeded(command.env("PYTHONPATH", place.trim()))
}

/// With the system's OpenSSL, which Python has used before or uses later: it may not go away under a thread of the
/// library.
#[test]
fn the_interpreter_ends_in_the_midst_of_calls() {
    let client = sandbox::Client::from_env().unwrap();
    let sandbox = client.create_sandbox(&sandbox::SandboxSpec::new()).unwrap().delete_on_drop();
    for when in ["before", "later"].repeat(5) {
        let mut command = Command::new(PLACE.python());
        command.args(["-X", "dev", "-W", "error"]).arg(root().join("tests/packages/openssl.py"));
        assert!(succeeded(command.args([sandbox.name(), when])).starts_with("done"));
    }
}

#[test]
fn objects_end_in_any_order() {
    let told = said("bindings/python/tests/endings.py");
    assert!(told.ends_with("done\n"), "{told}");
    // What depends on how an interpreter collects and ends: beside this one, the oldest and the newest.
    let mut others = interpreters();
    let version = |python: &PathBuf| {
        let told = succeeded(Command::new(python).args(["-c", "import sys; print(sys.version_info.minor)"]));
        told.trim().parse::<u32>().unwrap()
    };
    others.sort_by_key(version);
    let newest = others.split_off(others.len().min(1)).pop();
    for python in others.into_iter().chain(newest) {
        let told = said_by(
            &python,
            "endings.py",
            &[
                "what_is_in_a_cycle_is_freed_once",
                "what_was_written_arrives_from_a_cycle",
                "a_finalizer_of_the_callers_uses_what_ends_with_it",
                "the_interpreter_ends_with_everything_open",
                "daemon_threads_do_not_matter_at_the_end",
            ],
        );
        assert!(told.ends_with("done\n"), "{told}");
    }
}

#[test]
fn every_call_bears_what_is_around_it() {
    let told = said("bindings/python/tests/surroundings.py");
    println!("{told}");
    assert!(told.ends_with("done\n"), "{told}");
}

#[test]
fn greenlets_get_answers_and_interrupts() {
    let python = root().join("target/tools/bin/python");
    for library in ["gevent", "eventlet"] {
        let told = said_by(&python, "greenlets.py", &[library]);
        assert!(told.ends_with("done\n"), "{told}");
    }
}

#[test]
fn the_wheel_has_the_licenses() {
    let listed = succeeded(Command::new(PLACE.python()).args(["-m", "pip", "show", "--files", "sandbox"]));
    for license in ["LICENSE-APACHE", "LICENSE-MIT"] {
        assert!(listed.contains(license), "{listed}");
    }
}

#[test]
fn the_boundary_keeps_its_promises() {
    let said = said("bindings/python/tests/boundary.py");
    assert!(said.ends_with("done\n"), "{said}");
}

#[test]
fn whatever_runs_can_be_interrupted() {
    let said = said("bindings/python/tests/interrupts.py");
    assert!(said.ends_with("done\n"), "{said}");
}

#[test]
fn commands_are_awaited_and_cancelled() {
    assert_eq!(said("examples/asyncio_run.py"), "0\n1\n2\ncancelled, 0 left\n");
}

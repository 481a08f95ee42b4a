//! The wheel for Python: it is installed in a clean virtual environment, checked by mypy and used against the cluster.
//!
//! Run it where the cluster is reached, after `make wheel PROFILE=debug`:
//! `tests/cluster/cluster.py run -- cargo test --test python`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// The Python of a virtual environment that has the wheel and nothing else.
static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
    // The library that cargo built beside this test.
    succeeded(Command::new("make").args(["wheel", "PROFILE=debug"]));
    let wheels: Vec<_> =
        fs::read_dir(root().join("target/wheel")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [wheel] = &wheels[..] else { panic!("not one wheel: {wheels:?}") };
    let name = wheel.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with(&format!("sandbox-{}-py3-none-linux_", env!("CARGO_PKG_VERSION"))), "{name}");
    let place = empty("environment");
    succeeded(Command::new("python3").args(["-m", "venv"]).arg(&place));
    let python = place.join("bin/python");
    succeeded(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--no-index"]).arg(wheel));
    let found = succeeded(Command::new(&python).args(["-m", "pip", "list", "--format", "freeze"]));
    assert!(found.lines().all(|line| ["pip", "setuptools", "sandbox"].contains(&line.split('=').next().unwrap())));
    python
});

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// An empty directory outside of the sources.
fn empty(name: &str) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python-{name}"));
    if place.exists() {
        fs::remove_dir_all(&place).unwrap();
    }
    fs::create_dir_all(&place).unwrap();
    place
}

fn succeeded(command: &mut Command) -> String {
    let output = command.current_dir(root()).output().unwrap_or_else(|e| panic!("{command:?} can't be run: {e}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    assert!(!err.contains("Exception ignored"), "{command:?}: {err}");
    out.into_owned()
}

/// What a program says that runs with the installed package, with all that Python can warn of.
fn said(program: &str, arguments: &[&Path]) -> String {
    succeeded(Command::new(&*PYTHON).args(["-X", "dev", "-W", "error", "-B", program]).args(arguments))
}

#[test]
fn every_function_of_the_header_is_used_and_declared_as_there() {
    let package = root().join("bindings/python");
    succeeded(Command::new("python3").arg(package.join("make_abi.py")).arg("--check"));
    let mut sources = String::new();
    for directory in ["src/sandbox", "tests"] {
        for entry in fs::read_dir(package.join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "py") && !path.ends_with("_abi.py") {
                sources += &fs::read_to_string(path).unwrap();
            }
        }
    }
    let used: Vec<_> = sources.split(|letter: char| !letter.is_alphanumeric() && letter != '_').collect();
    let declared = fs::read_to_string(package.join("src/sandbox/_abi.py")).unwrap();
    let functions: Vec<_> =
        declared.lines().filter_map(|line| line.split_once(": Callable").map(|(name, _)| name)).collect();
    assert!(functions.len() > 200);
    for function in functions {
        assert!(used.contains(&function), "{function} is used nowhere in bindings/python");
    }
}

#[test]
fn programs_are_checked_by_mypy_with_the_installed_types() {
    let programs = ["examples/quickstart.py", "examples/asyncio_run.py", "tests/conformance/conformance.py"];
    let mut mypy = Command::new(root().join("target/tools/bin/mypy"));
    mypy.arg("--strict").arg("--cache-dir").arg(empty("mypy")).arg("--python-executable").arg(&*PYTHON);
    succeeded(mypy.args(programs));
}

#[test]
fn the_border_keeps_its_promises() {
    let said = said("bindings/python/tests/border.py", &[]);
    assert!(said.ends_with("done\n"), "{said}");
}

#[test]
fn the_examples_run_and_the_guide_shows_them() {
    assert!(said("examples/quickstart.py", &[]).contains(" says sandbox-"));
    assert_eq!(said("examples/asyncio_run.py", &[]), "0\n1\n2\ncancelled, 0 left\n");
    let guide = fs::read_to_string(root().join("bindings/python/README.md")).unwrap();
    for name in ["examples/quickstart.py", "examples/asyncio_run.py"] {
        let shown = format!("<!-- {name} -->\n```python\n{}```\n", fs::read_to_string(root().join(name)).unwrap());
        assert!(guide.contains(&shown), "bindings/python/README.md does not show {name} as it is");
    }
}

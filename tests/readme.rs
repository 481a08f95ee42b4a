//! README shows what is really there.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

use std::path::Path;

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn readme_shows_the_examples_as_they_are() {
    for (readme, name, language) in [
        ("README.md", "examples/quickstart.rs", "rust"),
        ("README.md", "examples/quickstart.c", "c"),
        ("bindings/go/README.md", "examples/quickstart.go", "go"),
    ] {
        let shown = format!("<!-- {name} -->\n```{language}\n{}```\n", read(name));
        assert!(read(readme).contains(&shown), "{readme} does not show {name} as it is");
    }
}

#[test]
fn readme_names_every_kind_of_error() {
    let (readme, source) = (read("README.md"), read("src/error.rs"));
    let kinds = source.split("pub enum ErrorKind {").nth(1).unwrap().split("\n}").next().unwrap();
    let kinds = kinds.lines().map(str::trim).filter_map(|line| line.strip_suffix(','));
    for kind in kinds.filter(|kind| !kind.contains(' ')) {
        assert!(readme.contains(&format!("`{kind}`")), "README.md does not name the error kind {kind}");
    }
}

#[test]
fn links_lead_somewhere() {
    for name in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        for link in read(name).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let is_file = !link.starts_with("http") && !link.starts_with('#');
            assert!(!is_file || Path::new(env!("CARGO_MANIFEST_DIR")).join(link).exists(), "{name} links to {link}");
        }
    }
}

#[test]
fn contributing_stays_short() {
    assert!(read("CONTRIBUTING.md").lines().count() < 60);
}

//! The C++ header is complete, compiles however it is included, and its guide shows what compiles too. What it does is shown by the
//! scenarios in `conformance/`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// An empty directory.
fn place(test: &str) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cpp-{test}"));
    if place.exists() {
        fs::remove_dir_all(&place).unwrap();
    }
    fs::create_dir_all(&place).unwrap();
    place
}

/// The compiler with all warnings, and all of them errors.
fn compiler(standard: &str) -> Command {
    let mut command = Command::new("c++");
    command.arg(format!("-std={standard}")).args([
        "-Wall",
        "-Wextra",
        "-Wpedantic",
        "-Wshadow",
        "-Wconversion",
        "-Werror",
    ]);
    command.arg("-I").arg(root().join("include")).arg("-I").arg(root().join("bindings/cpp"));
    command
}

fn succeeded(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?} can't be run: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The parts of `sandbox.hpp`.
fn parts() -> Vec<PathBuf> {
    let parts = fs::read_dir(root().join("bindings/cpp/sandbox")).unwrap().map(|entry| entry.unwrap().path());
    parts.collect()
}

/// All names in a source that begin with `sbx_`, without those in comments.
fn names(source: &str) -> BTreeSet<&str> {
    let code = source.lines().map(|line| line.split("//").next().unwrap());
    let words = code.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    words.filter(|word| word.starts_with("sbx_")).collect()
}

#[test]
fn the_header_compiles_alone_and_twice_in_one_program_in_every_standard() {
    let place = place("header");
    let unit = "#include <sandbox.hpp>\n#include <sandbox.hpp>\n";
    let (one, two) = (place.join("one.cpp"), place.join("two.cpp"));
    fs::write(&one, format!("{unit}bool other();\nint main() {{ return other() ? 1 : 0; }}\n")).unwrap();
    fs::write(&two, format!("{unit}bool other();\nbool other() {{ return sandbox::version().empty(); }}\n")).unwrap();
    std::os::unix::fs::symlink(
        std::env::current_exe().unwrap().with_file_name("libsandbox.so"),
        place.join("libsandbox.so"),
    )
    .unwrap();
    for standard in ["c++17", "c++20", "c++23"] {
        let mut command = compiler(standard);
        command.arg(&one).arg(&two).arg("-o").arg(place.join("program"));
        succeeded(command.arg("-L").arg(&place).arg("-lsandbox"));
    }
    for part in parts() {
        succeeded(compiler("c++17").arg("-fsyntax-only").args(["-x", "c++", "-include"]).arg(part).arg("/dev/null"));
    }
}

#[test]
fn the_header_covers_the_whole_c_abi() {
    let sources: Vec<_> = parts().iter().map(|part| fs::read_to_string(part).unwrap()).collect();
    let used: BTreeSet<_> = sources.iter().flat_map(|source| names(source)).collect();
    let header = read("include/sandbox.h");
    let code = header.lines().filter(|line| !line.trim_start().starts_with(['*', '/']));
    let functions = code.filter_map(|line| line.split_once('(')?.0.rsplit([' ', '*']).next());
    let functions: BTreeSet<_> = functions.filter(|name| name.starts_with("sbx_")).collect();
    assert!(functions.len() > 200, "only {} functions found", functions.len());
    let missing: Vec<_> = functions.difference(&used).collect();
    assert!(missing.is_empty(), "no use of {missing:?} in bindings/cpp");
}

/// Doxygen, which `make docs-c` asks about everything else, has no warning for these.
#[test]
fn every_enumerator_is_documented() {
    let source = read("bindings/cpp/sandbox/types.hpp");
    let lines: Vec<_> = source.lines().collect();
    let enumerators = lines.windows(2).filter(|pair| pair[1].contains(" = SBX_"));
    assert!(enumerators.clone().count() > 60);
    for pair in enumerators {
        assert!(pair[0].trim_start().starts_with("///"), "no documentation: {}", pair[1]);
    }
}

#[test]
fn the_guide_shows_the_example_as_it_is_and_code_that_compiles() {
    let guide = read("bindings/cpp/README.md");
    let shown = format!("<!-- examples/quickstart.cpp -->\n```cpp\n{}```\n", read("examples/quickstart.cpp"));
    let (before, after) = guide.split_once(&shown).expect("the guide does not show examples/quickstart.cpp as it is");
    assert!(!before.contains("```"), "there is code before the example");
    let mut program = "#include <iostream>\n#include <sandbox.hpp>\nusing namespace std::chrono_literals;\n".to_owned();
    let blocks = after.split("```cpp\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    for (number, block) in blocks.enumerate() {
        program += &format!("void block_{number}(const sandbox::box &box);\n");
        program += &format!("void block_{number}(const sandbox::box &box) {{\n{block}}}\n");
    }
    assert!(program.contains("block_2"), "{program}");
    let source = place("guide").join("guide.cpp");
    fs::write(&source, program).unwrap();
    succeeded(compiler("c++17").args(["-Wno-unused", "-fsyntax-only"]).arg(&source));
}

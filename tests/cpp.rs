//! The C++ header is complete, compiles however it is included, and its guide shows what compiles too. What it does is
//! shown by the scenarios in `conformance/`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a test program")]

mod toolchain;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use toolchain::{Place, root, succeeded};

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// The compiler with more warnings than the library's own users are asked for.
fn compiler(place: &Place, standard: &str) -> Command {
    let mut command = place.compiler("c++", standard);
    command.args(["-Wshadow", "-Wconversion"]);
    command
}

/// The parts of `sandbox.hpp`.
fn parts() -> Vec<PathBuf> {
    let parts = fs::read_dir(root().join("bindings/cpp/sandbox")).unwrap().map(|entry| entry.unwrap().path());
    parts.collect()
}

#[test]
fn the_header_compiles_alone_and_twice_in_one_program_in_every_standard() {
    let place = Place::new("header");
    let unit = "#include <sandbox.hpp>\n#include <sandbox.hpp>\n";
    let one = format!("{unit}bool other();\nint main() {{ return other() ? 1 : 0; }}\n");
    let two = format!("{unit}bool other();\nbool other() {{ return sandbox::version().empty(); }}\n");
    let (one, two) = (place.source("one.cpp", &one), place.source("two.cpp", &two));
    for standard in ["c++17", "c++20", "c++23"] {
        let mut command = compiler(&place, standard);
        succeeded(command.arg(&one).arg(&two).arg("-o").arg(place.path("program")).args(place.libraries()));
    }
    for part in parts() {
        succeeded(
            compiler(&place, "c++17").arg("-fsyntax-only").args(["-x", "c++", "-include"]).arg(part).arg("/dev/null"),
        );
    }
}

#[test]
fn bytes_of_literals_and_arrays_are_counted() {
    let place = Place::new("bytes");
    let source = "#include <sandbox.hpp>
#include <array>
using sandbox::bytes_view;
int main() {
    char text[8] = \"abc\";
    const char no_text[] = {'a', 'b'};
    unsigned char raw[4] = {1};
    const std::array<std::byte, 5> bytes{};
    const char *pointer = text;
    const std::size_t sizes[] = {bytes_view(\"a\\0b\").size(), bytes_view(u8\"a\\0b\").size(), bytes_view(\"\").size(),
                                 bytes_view(text).size(),     bytes_view(no_text).size(),   bytes_view(raw).size(),
                                 bytes_view(bytes).size(),    bytes_view(pointer).size()};
    const std::size_t expected[] = {3, 3, 0, 8, 2, 4, 5, 3};
    for (std::size_t i = 0; i < std::size(expected); i++)
        if (sizes[i] != expected[i])
            return static_cast<int>(i) + 1;
}
";
    let (source, program) = (place.source("bytes.cpp", source), place.path("bytes"));
    for standard in ["c++17", "c++20", "c++23"] {
        succeeded(compiler(&place, standard).arg(&source).arg("-o").arg(&program));
        succeeded(&mut Command::new(&program));
    }
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
        program += &format!("void block_{number}(sandbox::client &client, const sandbox::box &box);\n");
        program += &format!("void block_{number}(sandbox::client &client, const sandbox::box &box) {{\n{block}}}\n");
    }
    assert!(program.contains("block_2"), "{program}");
    let place = Place::new("guide");
    let source = place.source("guide.cpp", &program);
    succeeded(compiler(&place, "c++17").args(["-Wno-unused", "-fsyntax-only"]).arg(&source));
}

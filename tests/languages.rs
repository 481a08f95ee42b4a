//! The header serves the languages that it is for, and so do the examples. What each language can do is shown by
//! `conformance.rs`.
//!
//! Run it where the cluster is reached: `tests/cluster/cluster.py run -- cargo test --test languages`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod toolchain;

use toolchain::{LANGUAGES, Language, Place, output, root, succeeded};

#[test]
fn the_header_compiles_alone_and_twice_and_in_every_standard() {
    let place = Place::new("header");
    for (standards, ending) in [(&["c99", "c11", "c17", "c2x"], "c"), (&["c++11", "c++14", "c++17", "c++20"], "cpp")] {
        let unit = "#include \"sandbox.h\"\n#include \"sandbox.h\"\n";
        let compiler = if ending == "c" { "cc" } else { "c++" };
        let one =
            place.source(&format!("one.{ending}"), &format!("{unit}int main(void) {{ return sbx_version() == 0; }}\n"));
        let two = place.source(&format!("two.{ending}"), unit);
        for standard in standards {
            let mut command = place.compiler(compiler, standard);
            command.args(["-Wundef", "-Wshadow", "-Wconversion"]).arg(&one).arg(&two);
            succeeded(command.arg("-o").arg(place.path("program")).args(place.libraries()));
        }
    }
}

#[test]
fn a_status_that_nobody_looks_at_is_a_mistake() {
    let place = Place::new("status");
    let unit = "#include <sandbox.h>\nvoid f(sbx_sandbox *sandbox);\nvoid f(sbx_sandbox *sandbox) { sbx_sandbox_delete(sandbox, 0); }\n";
    for (compiler, ending, standards) in [("cc", "c", ["c99", "c2x"]), ("c++", "cpp", ["c++11", "c++17"])] {
        let source = place.source(&format!("status.{ending}"), unit);
        for standard in standards {
            let mut command = place.compiler(compiler, standard);
            let refused = output(command.arg("-c").arg(&source).arg("-o").arg(place.path("status.o")));
            let said = String::from_utf8_lossy(&refused.stderr);
            assert!(!refused.status.success() && said.contains("-Werror=unused-result"), "{standard}: {said}");
        }
    }
}

#[test]
fn the_guide_for_c_shows_code_that_compiles() {
    let guide = std::fs::read_to_string(root().join("bindings/c/README.md")).unwrap();
    let mut program =
        "#include <sandbox.h>\n#include <stdio.h>\n#include <sys/socket.h>\n#include <unistd.h>\n".to_owned();
    // The first one is an example, which runs in another test.
    let blocks: Vec<_> = guide.split("```c\n").skip(2).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() > 2);
    for (number, block) in blocks.iter().enumerate() {
        let function = format!("void block_{number}(sbx_sandbox *sandbox)");
        program += &format!("{function};\n{function} {{\n{block}}}\n");
    }
    let place = Place::new("guide");
    let source = place.source("guide.c", &program);
    succeeded(place.compiler("cc", "c99").arg("-c").arg(&source).arg("-o").arg(place.path("guide.o")));
}

#[test]
fn a_leak_is_seen() {
    let place = Place::new("leak");
    // More than one, since the last one's address may still lie about on the stack.
    let source = "#include <sandbox.h>
int main(void) {
    sbx_config *config = 0;
    for (int i = 0; i < 10; i++)
        if (sbx_config_new(&config, 0) != SBX_OK)
            return 1;
    return 0;
}
";
    let output = output(&mut place.program(Language::C, "leak", &[place.source("leak.c", source)]));
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(99) && report.contains("detected memory leaks"), "{report}");
}

/// A thread that runs a command may use it until the very end.
#[test]
fn a_program_that_ends_does_not_take_openssl_down() {
    let place = Place::new("exit");
    let source = "#include <dlfcn.h>
#include <sandbox.h>
#include <stdio.h>
static void told(void) { puts(\"taken down\"); }
int main(void) {
    int (*at_its_end)(void (*)(void));
    sbx_client *client = 0;
    *(void **)&at_its_end = dlsym(dlopen(0, RTLD_LAZY), \"OPENSSL_atexit\");
    if (sbx_client_new(0, &client, 0) != SBX_OK || at_its_end(told) != 1)
        return 1;
    sbx_client_free(client);
    puts(\"over\");
    return 0;
}
";
    assert_eq!(succeeded(&mut place.program(Language::C, "exit", &[place.source("exit.c", source)])), "over\n");
}

#[test]
fn handles_end_in_any_order_in_c() {
    let place = Place::new("endings-c");
    let said = succeeded(&mut place.program(Language::C, "endings", &[root().join("tests/endings/endings.c")]));
    assert_eq!(said, "done\n");
}

#[test]
fn the_state_of_the_host_program_is_left_alone() {
    let place = Place::new("host");
    let said = succeeded(&mut place.program(Language::C, "host", &[root().join("tests/host/host.c")]));
    assert_eq!(said, "done\n");
}

#[test]
fn objects_end_in_any_order_in_cpp() {
    let place = Place::new("endings-cpp");
    let said = succeeded(&mut place.program(Language::Cpp, "endings", &[root().join("tests/endings/endings.cpp")]));
    // The last one to go was the box, after the end of main().
    let client = sandbox::Client::from_env().unwrap();
    let gone = client.get_sandbox_info(said.trim()).unwrap_err();
    assert_eq!(gone.kind(), sandbox::ErrorKind::NotFound, "{gone}");
}

#[test]
fn the_shortest_example_in_every_language() {
    let place = Place::new("quickstart");
    for language in LANGUAGES {
        let source = root().join("examples/quickstart").with_extension(language.ending());
        let said = succeeded(&mut place.program(language, "quickstart", &[source]));
        assert!(said.contains(" says sandbox-"), "{language:?}: {said}");
    }
}

#[test]
fn the_life_of_a_sandbox_in_c() {
    let place = Place::new("life");
    let said = succeeded(&mut place.program(Language::C, "life", &[root().join("examples/life.c")]));
    for part in ["takes commands\n", "exit code 0: hello from sandbox-", "hello, file\n", "the Pod is gone"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn the_tests_of_the_binding_for_go() {
    let place = Place::new("go");
    succeeded(place.go(&root().join("bindings/go")).args(["test", "-race", "-count=1", "."]));
}

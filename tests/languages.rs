//! The header serves the languages that it is for: a program in each lives the whole life of a sandbox against the cluster.
//!
//! Run it where the cluster is reached: `tests/cluster/cluster.py run -- cargo test --test languages`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];
const SANITIZERS: [&str; 3] = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
const C99: [&str; 2] = ["cc", "-std=c99"];
const CPP17: [&str; 2] = ["c++", "-std=c++17"];

/// A directory of one test: the library under the names by which it is linked and loaded, and an empty directory for files.
struct Place(PathBuf);

impl Place {
    fn new(test: &str) -> Self {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("languages-{test}"));
        if place.exists() {
            fs::remove_dir_all(&place).unwrap();
        }
        fs::create_dir_all(place.join("files")).unwrap();
        // cargo builds the library beside the tests.
        let library = std::env::current_exe().unwrap().with_file_name("libsandbox.so");
        symlink(&library, place.join("libsandbox.so.0")).unwrap();
        symlink(&library, place.join("libsandbox.so")).unwrap();
        Self(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn source(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// A compiler with all warnings, and all of them errors.
    fn compiler(&self, [compiler, standard]: [&str; 2]) -> Command {
        let mut command = Command::new(compiler);
        command.arg(standard).args(WARNINGS).arg("-I").arg(root().join("include"));
        command
    }

    /// A program with both sanitizers, linked with the library.
    fn compiled(&self, compiler: [&str; 2], source: &Path) -> PathBuf {
        let program = self.path("program");
        let mut command = self.compiler(compiler);
        command.args(SANITIZERS).arg(source).arg("-o").arg(&program);
        succeeded(command.arg("-L").arg(&self.0).arg("-lsandbox").arg(format!("-Wl,-rpath,{}", self.0.display())));
        let symbols = succeeded(Command::new("nm").arg(&program));
        assert!(symbols.contains("__asan_init"), "AddressSanitizer is not in the program");
        assert!(symbols.contains("__ubsan_handle"), "UndefinedBehaviorSanitizer is not in the program");
        program
    }

    /// The program, with leak checking too.
    fn program(&self, program: PathBuf) -> Command {
        let mut command = Command::new(program);
        command.env("ASAN_OPTIONS", "detect_leaks=1:exitcode=99").env_remove("LSAN_OPTIONS");
        command
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn languages() -> PathBuf {
    root().join("tests/languages")
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| panic!("{command:?} can't be run: {e}"))
}

fn succeeded(command: &mut Command) -> String {
    let output = output(command);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

fn done(command: &mut Command) {
    assert!(succeeded(command).ends_with("done\n"), "{command:?} did not come to its end");
}

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
            let mut command = place.compiler([compiler, &format!("-std={standard}")]);
            command
                .args(["-Wundef", "-Wshadow", "-Wconversion"])
                .arg(&one)
                .arg(&two)
                .arg("-o")
                .arg(place.path("program"));
            succeeded(command.arg("-L").arg(&place.0).arg("-lsandbox"));
        }
    }
}

#[test]
fn a_leak_is_seen() {
    let place = Place::new("leak");
    // More than one, since the last one's address may still lie about on the stack.
    let source = "#include \"sandbox.h\"
int main(void) {
    sbx_config *config = 0;
    for (int i = 0; i < 10; i++)
        if (sbx_config_new(&config, 0) != SBX_OK)
            return 1;
    return 0;
}
";
    let program = place.compiled(C99, &place.source("leak.c", source));
    let output = output(&mut place.program(program));
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(99) && report.contains("detected memory leaks"), "{report}");
}

#[test]
fn life_in_c() {
    let place = Place::new("c");
    let program = place.compiled(C99, &languages().join("life.c"));
    done(place.program(program).arg(place.path("files")));
}

#[test]
fn life_in_cpp() {
    let place = Place::new("cpp");
    let program = place.compiled(CPP17, &languages().join("life.cpp"));
    done(place.program(program).arg(place.path("files")));
}

#[test]
fn life_in_go() {
    let place = Place::new("go");
    let go = |verb: &str| {
        let mut command = Command::new("go");
        command.arg(verb).arg("life.go").current_dir(languages()).env("GOTOOLCHAIN", "local");
        command.env("CGO_CFLAGS", format!("-I{}", root().join("include").display()));
        command.env("CGO_LDFLAGS", format!("-L{}", place.0.display())).env("LD_LIBRARY_PATH", &place.0);
        command
    };
    succeeded(&mut go("vet"));
    done(go("run").arg(place.path("files")));
}

/// The go command in a directory of this project, with the library as `make install` leaves it.
struct Go(Place);

impl Go {
    fn new(test: &str) -> Self {
        let place = Place::new(test);
        let mut make = Command::new("make");
        make.current_dir(root()).args(["install", "PROFILE=debug"]).arg(format!("PREFIX={}", place.0.display()));
        succeeded(&mut make);
        Self(place)
    }

    fn command(&self, directory: &str, args: &[&str]) -> Command {
        let (lib, mut command) = (self.0.path("lib"), Command::new("go"));
        command.args(args).current_dir(root().join(directory)).env("GOTOOLCHAIN", "local");
        command.env("PKG_CONFIG_PATH", lib.join("pkgconfig")).env("LD_LIBRARY_PATH", lib);
        command
    }
}

#[test]
fn the_binding_for_go() {
    let go = Go::new("go-binding");
    succeeded(&mut go.command("bindings/go", &["test", "-race", "-count=1", "."]));
}

#[test]
fn conformance_in_go() {
    let go = Go::new("go-conformance");
    let mut command = go.command("tests/conformance/go", &["run", "-race", "."]);
    let told = succeeded(command.arg(go.0.path("files")));
    let scenarios = fs::read_to_string(root().join("tests/conformance/scenarios.md")).unwrap();
    for name in scenarios.lines().filter_map(|line| line.strip_prefix("- `")?.split('`').next()) {
        assert!(told.lines().any(|line| line == format!("ok {name}")), "{name} is missing:\n{told}");
    }
}

#[test]
fn the_example_in_go() {
    let told = succeeded(&mut Go::new("go-example").command("examples", &["run", "quickstart.go"]));
    assert!(told.contains(" says sandbox-"), "{told}");
}

#[test]
fn life_in_python() {
    let place = Place::new("python");
    let mut python = Command::new("python3");
    python.args(["-X", "dev", "-W", "error", "-B"]).arg(languages().join("life.py"));
    done(python.arg(place.path("libsandbox.so.0")).arg(place.path("files")));
}

#[test]
fn the_examples_in_c() {
    let place = Place::new("examples");
    let told = |name: &str| {
        let program = place.compiled(C99, &root().join("examples").join(name));
        succeeded(&mut place.program(program))
    };
    assert!(told("quickstart.c").contains(" says sandbox-"));
    let life = told("life.c");
    for part in ["takes commands\n", "exit code 0: hello from sandbox-", "hello, file\n", "the Pod is gone"] {
        assert!(life.contains(part), "{life}");
    }
}

//! The library as `make install` leaves it, and programs in each language that are built with that.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test program uses a part of it")]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{LazyLock, Mutex, PoisonError};

const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];
const SANITIZERS: [&str; 3] = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

/// The languages that have a binding, or need none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Rust,
    C,
    Cpp,
    Go,
    Python,
}

pub const LANGUAGES: [Language; 5] = [Language::Rust, Language::C, Language::Cpp, Language::Go, Language::Python];

impl Language {
    /// As directories are named.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
            Self::Cpp => "cpp",
            Self::Go => "go",
            Self::Python => "python",
        }
    }

    /// What its files end with.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Rust => "rs",
            Self::C => "c",
            Self::Cpp => "cpp",
            Self::Go => "go",
            Self::Python => "py",
        }
    }
}

/// A directory of one test, for programs that are built with the installed library.
#[derive(Debug)]
pub struct Place(PathBuf);

/// Where the library is installed, for all tests of a program.
static PREFIX: LazyLock<PathBuf> = LazyLock::new(|| {
    let prefix = empty(&format!("prefix-{}", env!("CARGO_CRATE_NAME")));
    // Cargo builds the library beside its tests, but leaves it where `make install` looks only when asked for it.
    make(&["library", "install"], &[format!("PREFIX={}", prefix.display())]);
    prefix
});

/// An empty directory outside of the sources.
pub fn empty(name: &str) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if place.exists() {
        fs::remove_dir_all(&place).unwrap();
    }
    fs::create_dir_all(&place).unwrap();
    place
}

/// What a person types, with the build that the tests have made, but the system's loader is not told: only one at a
/// time may do that.
pub fn make(goals: &[&str], variables: &[String]) {
    succeeded(making(goals, variables).arg("LDCONFIG=true"));
}

pub fn making(goals: &[&str], variables: &[String]) -> Command {
    let mut make = Command::new("make");
    make.current_dir(root()).args(goals).arg("PROFILE=debug").args(variables);
    make
}

impl Place {
    pub fn new(test: &str) -> Self {
        Self(empty(&format!("{}-{test}", env!("CARGO_CRATE_NAME"))))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn source(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// A compiler with all warnings, and all of them errors.
    pub fn compiler(&self, compiler: &str, standard: &str) -> Command {
        let mut command = Command::new(compiler);
        command.arg(format!("-std={standard}")).args(WARNINGS).args(self.pkg_config("--cflags"));
        command
    }

    /// What to link with, for the end of a compiler's arguments.
    pub fn libraries(&self) -> Vec<String> {
        self.pkg_config("--libs")
    }

    fn pkg_config(&self, option: &str) -> Vec<String> {
        let mut command = Command::new("pkg-config");
        let told = succeeded(command.args([option, "sandbox"]).env("PKG_CONFIG_PATH", PREFIX.join("lib/pkgconfig")));
        told.split_whitespace().map(str::to_owned).collect()
    }

    /// Builds a program of these sources, and gives the command that runs it: in C and C++ with the sanitizers, in Go
    /// with the race detector, in Python with its development mode. What is Rust is one of cargo's examples, which are
    /// built with the tests.
    pub fn program(&self, language: Language, name: &str, sources: &[PathBuf]) -> Command {
        let program = self.path(&format!("{name}.{language:?}"));
        let mut command = match language {
            Language::Rust => {
                let tests = std::env::current_exe().unwrap();
                Command::new(tests.ancestors().nth(2).unwrap().join("examples").join(name))
            }
            Language::C => self.compiled(self.compiler("cc", "c99"), sources, &program),
            Language::Cpp => self.compiled(self.compiler("c++", "c++17"), sources, &program),
            Language::Go => {
                let [source] = sources else { panic!("one file or directory expected: {sources:?}") };
                let (directory, what) = match source.is_dir() {
                    true => (&**source, OsStr::new(".")),
                    false => (source.parent().unwrap(), source.file_name().unwrap()),
                };
                succeeded(self.go(directory).args(["build", "-race", "-o"]).arg(&program).arg(what));
                Command::new(&program)
            }
            Language::Python => {
                let mut python = Command::new(self.python());
                python.args(["-X", "dev", "-W", "error", "-B"]).args(sources);
                python
            }
        };
        command.env("LD_LIBRARY_PATH", PREFIX.join("lib"));
        command
    }

    /// The go command in this directory.
    pub fn go(&self, directory: &Path) -> Command {
        let mut command = Command::new("go");
        command.current_dir(directory).env("GOTOOLCHAIN", "local").env("GOPROXY", "off");
        command.env("PKG_CONFIG_PATH", PREFIX.join("lib/pkgconfig"));
        command.env("LD_LIBRARY_PATH", PREFIX.join("lib"));
        command
    }

    fn compiled(&self, mut compiler: Command, sources: &[PathBuf], program: &Path) -> Command {
        compiler.args(SANITIZERS).arg("-pthread").args(sources).arg("-o").arg(program).args(self.libraries());
        succeeded(&mut compiler);
        let symbols = succeeded(Command::new("nm").arg(program));
        assert!(symbols.contains("__asan_init"), "AddressSanitizer is not in the program");
        assert!(symbols.contains("__ubsan_handle"), "UndefinedBehaviorSanitizer is not in the program");
        let mut command = Command::new(program);
        command.env("ASAN_OPTIONS", "detect_leaks=1:exitcode=99").env_remove("LSAN_OPTIONS");
        command
    }

    /// A virtual environment with the wheel and nothing else.
    pub fn python(&self) -> PathBuf {
        // Tests that share a place may ask at the same time.
        static MAKING: Mutex<()> = Mutex::new(());
        let _turn = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let environment = self.path("python");
        if !environment.exists() {
            let wheels = fs::read_dir(root().join("target/wheel")).into_iter().flatten();
            let wheels: Vec<_> = wheels.map(|entry| entry.unwrap().path()).collect();
            let [wheel] = &wheels[..] else {
                panic!("one wheel expected in target/wheel, found {wheels:?}: run `make wheel`")
            };
            succeeded(Command::new("python3").args(["-m", "venv"]).arg(&environment));
            let mut pip = Command::new(environment.join("bin/pip"));
            succeeded(pip.args(["install", "--quiet", "--no-index", "--no-deps"]).arg(wheel));
        }
        environment.join("bin/python")
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| panic!("{command:?} can't be run: {e}"))
}

pub fn succeeded(command: &mut Command) -> String {
    let output = output(command);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

//! What `make install` leaves is enough to build and run programs outside of this tree.
//!
//! Run it where the cluster is reached: `tests/cluster/cluster.py run -- cargo test --test install`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod toolchain;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use toolchain::{empty, make, making, output, root, succeeded};

fn pkg_config(prefix: &Path, options: &[&str]) -> Vec<String> {
    let mut command = Command::new("pkg-config");
    command.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")).args(options);
    succeeded(&mut command).split_whitespace().map(str::to_owned).collect()
}

/// Builds `tests/install` with what CMake finds below this prefix.
fn with_cmake(prefix: &Path, build: &Path) {
    let project = build.with_extension("project");
    fs::create_dir(&project).unwrap();
    for source in ["tests/install/CMakeLists.txt", "examples/quickstart.c", "examples/quickstart.cpp"] {
        let source = root().join(source);
        fs::copy(&source, project.join(source.file_name().unwrap())).unwrap();
    }
    let (version, _) = env!("CARGO_PKG_VERSION").rsplit_once('.').unwrap();
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(&project).arg("-B").arg(build).arg(format!("-DVERSION={version}"));
    succeeded(configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display())));
    succeeded(Command::new("cmake").arg("--build").arg(build));
}

/// Whether the program loads the library, or has it in itself.
fn loads(program: &Path) -> bool {
    succeeded(Command::new("readelf").arg("-d").arg(program)).contains("[libsandbox.so.0]")
}

/// The order in which a linker takes things decides whose ciphers are in a program: libssh2's own are slow.
fn has_our_ciphers(linked: &Path) {
    let symbols = succeeded(Command::new("nm").arg(linked));
    assert!(symbols.contains("ssh2_crypt_methods") && symbols.contains("ssh2_kex_exchange"), "{}", linked.display());
    assert!(!symbols.contains("crypt_init_chacha20_poly"), "{} has libssh2's own ciphers", linked.display());
}

fn says_its_sandbox(program: &Path, prefix: &Path) {
    let said = succeeded(Command::new(program).env("LD_LIBRARY_PATH", prefix.join("lib")));
    assert!(said.contains(" says sandbox-"), "{said}");
}

#[test]
fn programs_outside_build_with_pkg_config_and_cmake_shared_and_static() {
    let place = empty("install-prefix");
    let (first, prefix) = (place.join("first"), place.join("moved"));
    make(&["library", "install"], &[format!("PREFIX={}", first.display())]);

    let (program, library) = (place.join("with-pkg-config"), first.join("lib/libsandbox.so"));
    for (module, is_shared) in [("sandbox", true), ("sandbox-static", false)] {
        for (compiler, source) in [("cc", "examples/quickstart.c"), ("c++", "examples/quickstart.cpp")] {
            let mut compiler = Command::new(compiler);
            compiler.arg(root().join(source)).arg("-o").arg(&program);
            succeeded(compiler.args(pkg_config(&first, &["--cflags", "--libs", module])));
            assert_eq!(loads(&program), is_shared);
            has_our_ciphers(if is_shared { &library } else { &program });
            says_its_sandbox(&program, &first);
        }
        assert_eq!(pkg_config(&first, &["--modversion", module]), [env!("CARGO_PKG_VERSION")]);
    }

    // Go asks pkg-config.
    for (tags, is_shared) in [("", true), ("sandbox_static", false)] {
        let mut go = Command::new("go");
        go.current_dir(root().join("examples")).env("GOTOOLCHAIN", "local").env("GOPROXY", "off");
        go.env("PKG_CONFIG_PATH", first.join("lib/pkgconfig")).args(["build", "-tags", tags, "-o"]).arg(&program);
        succeeded(go.arg("quickstart.go"));
        assert_eq!(loads(&program), is_shared);
        says_its_sandbox(&program, &first);
    }

    // CMake's files find their place themselves, so the prefix can be moved.
    fs::rename(&first, &prefix).unwrap();
    let build = place.join("build");
    with_cmake(&prefix, &build);
    for language in ["c", "cpp"] {
        for (library, is_shared) in [("sandbox", true), ("static", false)] {
            let program = build.join(format!("{language}-{library}"));
            assert_eq!(loads(&program), is_shared);
            if !is_shared {
                has_our_ciphers(&program);
            }
            says_its_sandbox(&program, &prefix);
        }
    }
}

/// Where `/lib` is a link to `/usr/lib`, CMake may come through it.
#[test]
fn cmake_finds_the_headers_through_a_link() {
    let place = empty("install-merged");
    make(&["library", "install"], &[format!("PREFIX={}/usr", place.display())]);
    symlink("usr/lib", place.join("lib")).unwrap();
    with_cmake(&place, &place.join("build"));
    let cache = fs::read_to_string(place.join("build/CMakeCache.txt")).unwrap();
    assert!(cache.contains(&format!("sandbox_DIR:PATH={}/lib/cmake/sandbox\n", place.display())), "{cache}");
}

#[test]
fn what_is_staged_names_its_prefix_and_is_removed_whole_and_alone() {
    let place = empty("install-staged").join("a place");
    let variables =
        [format!("DESTDIR={}", place.display()), "PREFIX=/opt/box".into(), "LIBDIR=/opt/box/lib/x86_64".into()];
    make(&["library"], &[]);
    // Nobody's habits decide who can read it.
    let mut secretive = Command::new("sh");
    secretive.current_dir(root()).args(["-c", "umask 077 && exec make \"$@\"", "sh"]);
    succeeded(secretive.args(making(&["install"], &variables).get_args()));
    for file in succeeded(Command::new("find").arg(&place)).lines() {
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o044, 0o044, "{file} has mode {mode:o}");
    }
    let lib = place.join("opt/box/lib/x86_64");
    assert_eq!(fs::read_link(lib.join("libsandbox.so")).unwrap(), Path::new("libsandbox.so.0"));
    let versioned = format!("libsandbox.so.{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(fs::read_link(lib.join("libsandbox.so.0")).unwrap(), Path::new(&versioned));
    for name in ["sandbox.pc", "sandbox-static.pc"] {
        let pc = fs::read_to_string(lib.join("pkgconfig").join(name)).unwrap();
        assert!(pc.contains("prefix=/opt/box\n") && pc.contains("libdir=/opt/box/lib/x86_64\n"), "{pc}");
        assert!(!pc.contains(place.to_str().unwrap()) && !pc.contains('@'), "{pc}");
    }
    let cmake = fs::read_to_string(lib.join("cmake/sandbox/sandbox-config.cmake")).unwrap();
    assert!(cmake.contains("/../../../../include\"") && !cmake.contains('@'), "{cmake}");

    // Somebody else's, beside all of it, and where a name with a space would lead if it were two.
    let foreign = [
        place.join("opt/box/include/sandbox/other.hpp"),
        lib.join("libsandbox.so.9"),
        lib.join("cmake/sandbox/other.cmake"),
        place.with_file_name("a").join("other"),
    ];
    for file in &foreign {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "").unwrap();
    }
    make(&["uninstall"], &variables);
    let left = succeeded(Command::new("find").arg(place.parent().unwrap()).args(["!", "-type", "d"]));
    let left: BTreeSet<_> = left.lines().map(PathBuf::from).collect();
    assert_eq!(left, foreign.iter().cloned().collect());

    fs::remove_file(&foreign[0]).unwrap();
    make(&["install"], &variables);
    make(&["uninstall"], &variables);
    assert!(!place.join("opt/box/include/sandbox").exists());
    make(&["uninstall"], &variables);
}

#[test]
fn the_loader_is_told_of_what_root_installs_here() {
    let place = empty("install-loader");
    let loader = place.join("ldconfig");
    fs::write(&loader, "#!/bin/sh\necho told >> \"${0%/*}/told\"\n").unwrap();
    fs::set_permissions(&loader, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", place.display(), std::env::var("PATH").unwrap());
    make(&["library"], &[]);
    let install = |variable: &str, directory: &str| {
        let variables = [format!("{variable}={}/{directory}", place.display())];
        succeeded(making(&["install"], &variables).env("PATH", &path));
    };
    install("DESTDIR", "staged");
    assert!(!place.join("told").exists());
    install("PREFIX", "prefix");
    assert_eq!(place.join("told").exists(), rustix::process::geteuid().is_root());
}

#[test]
fn a_library_that_is_older_than_its_sources_is_not_installed() {
    let place = empty("install-old");
    make(&["library"], &[]);
    // Root's PATH has no cargo.
    let tools = place.join("tools");
    fs::create_dir(&tools).unwrap();
    for tool in ["make", "sed", "find", "realpath", "install", "ln", "id"] {
        let found = succeeded(Command::new("which").arg(tool));
        symlink(found.trim_end(), tools.join(tool)).unwrap();
    }
    let source = place.join("source");
    let install = |written: &str| {
        succeeded(Command::new("touch").args(["-d", written]).arg(&source));
        let variables = [format!("DESTDIR={}/staged", place.display()), format!("SOURCES={}", source.display())];
        output(making(&["install"], &variables).env("PATH", &tools))
    };
    let refused = install("1 hour");
    let said = String::from_utf8_lossy(&refused.stdout);
    assert!(!refused.status.success() && said.contains("make library"), "{said}");
    assert!(!place.join("staged").exists());
    let installed = install("1 hour ago");
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
}

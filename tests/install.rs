//! What `make install` leaves is enough to build and run programs outside of this tree.
//!
//! Run it where the cluster is reached: `tests/cluster/cluster.py run -- cargo test --test install`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod toolchain;

use std::fs;
use std::path::Path;
use std::process::Command;

use toolchain::{empty, make, root, succeeded};

fn pkg_config(prefix: &Path, options: &[&str]) -> Vec<String> {
    let mut command = Command::new("pkg-config");
    command.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")).args(options).arg("sandbox");
    succeeded(&mut command).split_whitespace().map(str::to_owned).collect()
}

/// Whether the program loads the library, or has it in itself.
fn loads(program: &Path) -> bool {
    succeeded(Command::new("readelf").arg("-d").arg(program)).contains("[libsandbox.so.0]")
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
    let source = place.join("program.c");
    fs::copy(root().join("examples/quickstart.c"), &source).unwrap();

    let program = place.join("with-pkg-config");
    for (is_shared, options, library) in [
        (true, &["--cflags", "--libs"][..], "-lsandbox"),
        (false, &["--static", "--cflags", "--libs"], "-l:libsandbox.a"),
    ] {
        let flags = pkg_config(&first, options);
        let flags = flags.iter().map(|flag| if flag == "-lsandbox" { library } else { flag });
        succeeded(Command::new("cc").arg(&source).arg("-o").arg(&program).args(flags));
        assert_eq!(loads(&program), is_shared);
        says_its_sandbox(&program, &first);
    }
    let version = pkg_config(&first, &["--modversion"]);
    assert_eq!(version, [env!("CARGO_PKG_VERSION")]);

    // CMake's files name no place, so the prefix can be moved.
    fs::rename(&first, &prefix).unwrap();
    let build = place.join("build");
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(root().join("tests/install")).arg("-B").arg(&build);
    configure.arg(format!("-DSOURCE={}", source.display())).arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display()));
    succeeded(&mut configure);
    succeeded(Command::new("cmake").arg("--build").arg(&build));
    for (name, is_shared) in [("shared", true), ("static", false)] {
        let program = build.join(name);
        assert_eq!(loads(&program), is_shared);
        says_its_sandbox(&program, &prefix);
    }
}

#[test]
fn what_is_staged_names_its_prefix_and_is_removed_whole() {
    let place = empty("install-staged");
    let variables =
        [format!("DESTDIR={}", place.display()), "PREFIX=/opt/box".into(), "LIBDIR=/opt/box/lib/x86_64".into()];
    make(&["library", "install"], &variables);
    let lib = place.join("opt/box/lib/x86_64");
    assert_eq!(fs::read_link(lib.join("libsandbox.so")).unwrap(), Path::new("libsandbox.so.0"));
    let versioned = format!("libsandbox.so.{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(fs::read_link(lib.join("libsandbox.so.0")).unwrap(), Path::new(&versioned));
    let pc = fs::read_to_string(lib.join("pkgconfig/sandbox.pc")).unwrap();
    assert!(pc.contains("prefix=/opt/box\n") && pc.contains("libdir=/opt/box/lib/x86_64\n"), "{pc}");
    assert!(!pc.contains(place.to_str().unwrap()) && !pc.contains('@'), "{pc}");
    let cmake = fs::read_to_string(lib.join("cmake/sandbox/sandbox-config.cmake")).unwrap();
    assert!(cmake.contains("/../../../../include\""), "{cmake}");
    make(&["uninstall"], &variables);
    let left = succeeded(Command::new("find").arg(&place).args(["!", "-type", "d"]));
    assert_eq!(left, "");
}

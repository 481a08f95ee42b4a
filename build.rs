//! Gives `libsandbox.so` its SONAME, refuses a libssh2 that is not the one built in, and tells the command which guest
//! to take in. Writes nothing into the tree.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBSSH2_SYS_USE_PKG_CONFIG");
    assert!(
        std::env::var_os("LIBSSH2_SYS_USE_PKG_CONFIG").is_none(),
        "unset LIBSSH2_SYS_USE_PKG_CONFIG: the system's libssh2 has holes that a hostile sandbox can reach"
    );
    // The number changes when the C ABI breaks, not with each version.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libsandbox.so.0");
    // Its threads run on when a program has closed it.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    take_in_guest();
}

/// The program that SANDBOX_GUEST_PROGRAM names becomes a part of the command `sandbox`, which can write its image
/// then.
fn take_in_guest() {
    println!("cargo:rustc-check-cfg=cfg(embeds_guest)");
    println!("cargo:rerun-if-env-changed=SANDBOX_GUEST_PROGRAM");
    let Some(program) = std::env::var_os("SANDBOX_GUEST_PROGRAM") else { return };
    let path = std::path::absolute(&program).ok().filter(|path| path.is_file());
    let Some(program) = path.as_deref().and_then(std::path::Path::to_str) else {
        panic!("SANDBOX_GUEST_PROGRAM names no file, or its path is not UTF-8: {}", program.display());
    };
    println!("cargo:rerun-if-changed={program}");
    println!("cargo:rustc-env=SANDBOX_GUEST_PROGRAM={program}");
    println!("cargo:rustc-cfg=embeds_guest");
}

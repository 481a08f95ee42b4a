//! Gives `libsandbox.so` its SONAME, and refuses a libssh2 that is not the one built in. Writes nothing into the tree.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBSSH2_SYS_USE_PKG_CONFIG");
    assert!(
        std::env::var_os("LIBSSH2_SYS_USE_PKG_CONFIG").is_none(),
        "unset LIBSSH2_SYS_USE_PKG_CONFIG: the system's libssh2 has holes that a hostile sandbox can reach"
    );
    // The number changes when the C ABI breaks, not with each version.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libsandbox.so.0");
}

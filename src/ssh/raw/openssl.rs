//! What libssh2's OpenSSL has to know, and when it comes to its end.

use std::ffi::c_int;
use std::sync::Once;

use crate::openssl_end;

#[expect(unsafe_code, reason = "a declaration of C functions")]
unsafe extern "C" {
    fn OPENSSL_atexit(handler: extern "C" fn()) -> c_int;
    #[cfg(feature = "vendored")]
    fn OPENSSL_init_crypto(options: u64, settings: *const std::ffi::c_void) -> c_int;
}

/// Prepares OpenSSL, before its first use, and has this process's threads stopped before its end.
pub(crate) fn init_openssl() {
    #[cfg(feature = "vendored")]
    ignore_settings();
    // Otherwise it cleans up at exit while other threads still use it.
    openssl::init();
    watch_end();
}

/// The machine's `openssl.cnf` is made for the machine's own OpenSSL. It may be of another version, and name providers
/// that the one which is built in does not have, such as FIPS: then this one could do nothing at all.
#[cfg(feature = "vendored")]
#[expect(unsafe_code, reason = "openssl declares no way to say it")]
fn ignore_settings() {
    const OPENSSL_INIT_NO_LOAD_CONFIG: u64 = 0x80;
    // SAFETY: it may be called at any time and from any thread; without settings, NULL is right.
    unsafe { OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, std::ptr::null()) };
}

#[expect(unsafe_code, reason = "registers a callback")]
fn watch_end() {
    static WATCHED: Once = Once::new();
    openssl_end::register_process();
    WATCHED.call_once(|| {
        // SAFETY: the function is there as long as the process: a shared library of this crate is not unloaded (see
        // build.rs). Without memory for the entry it is not called, which is as if it were not there.
        unsafe { OPENSSL_atexit(at_end) };
    });
}

extern "C" fn at_end() {
    openssl_end::stop_threads();
}

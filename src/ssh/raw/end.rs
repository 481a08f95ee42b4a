//! Being told when OpenSSL, which libssh2 uses, comes to its end.

use std::ffi::c_int;
use std::sync::Once;

use crate::openssl_end;

#[expect(unsafe_code, reason = "a declaration of a C function")]
unsafe extern "C" {
    fn OPENSSL_atexit(handler: extern "C" fn()) -> c_int;
}

/// Has this process's threads stopped before OpenSSL's end.
#[expect(unsafe_code, reason = "registers a callback")]
pub(crate) fn watch_openssl_end() {
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

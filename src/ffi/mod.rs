//! sandbox: disposable machines on your own Kubernetes.
//!
//! Create a Pod with SSH, run commands in it, move files in and out, delete it:
//!
//! ```c
//! sbx_client *client = NULL;
//! sbx_sandbox *sandbox = NULL;
//! sbx_output *output = NULL;
//! sbx_error *err = NULL;
//! if (sbx_client_new(NULL, &client, &err) != SBX_OK ||
//!     sbx_client_create(client, NULL, &sandbox, &err) != SBX_OK ||
//!     sbx_sandbox_execute(sandbox, "uname -a", &output, &err) != SBX_OK ||
//!     sbx_sandbox_delete(sandbox, &err) != SBX_OK)
//!     fprintf(stderr, "%s\n", sbx_error_message(err));
//! else
//!     printf("%s", (const char *)sbx_output_stdout(output, NULL));
//! sbx_output_free(output);
//! sbx_sandbox_free(sandbox);
//! sbx_client_free(client);
//! sbx_error_free(err);
//! ```
//!
//! What holds for all functions:
//!
//! Results. A function that can fail returns an sbx_status and takes `sbx_error **err` last. `err` may be NULL. Else
//! `*err` is always written: NULL on success, and on failure an error that the caller frees with sbx_error_free(); so
//! free one before the next call. Other results are written on success only and left as they were on failure. A
//! handle's place must not be NULL unless its function says so; a number's may be, but for the `len` of
//! sbx_child_read_stdout() and its like, and the positions of sbx_detached_stream(). Nothing is read from a place but
//! from those positions. Places must not overlap.
//!
//! Ownership. Every handle that a function gives out is freed once, with the function named sbx_..._free. Freeing NULL
//! does nothing. Handles keep alive what they need of each other, so any order of frees is right. Text and bytes that a
//! function returns are borrowed from its first argument: they stay until that is freed, are never freed themselves,
//! and have a NUL behind them, but for sbx_transferred_sha256(). What is handed in is copied, or used only during the
//! call.
//!
//! NULL and text. A NULL where something must be is answered with SBX_ERR_INVALID_ARGUMENT, and so is text that is not
//! UTF-8. Arguments, environment variables and paths of files are not text but bytes, as they are in the system itself.
//! Functions without a status answer a NULL handle with NULL, 0 or false.
//!
//! Units. Durations are seconds as a double. Where something may be without a limit, a negative number says so. Points
//! in time are seconds since 1970 as an int64_t.
//!
//! Threads. A function that takes its handle as const may be called with the same handle from several threads at once;
//! one that does not needs the handle to itself. A handle may be freed in another thread than it was made in. No
//! function needs to be called on a certain thread, and no state is kept by thread but what sbx_thread_on_wait()
//! registers. Calls block; none must be made in a signal handler. In a child of fork() that does not exec, handles of
//! the parent answer SBX_ERR_FORKED.
//!
//! The end. A program may end while calls of other threads or an sbx_child are under way.
//!
//! Descriptors. The library has descriptors of its own: of connections, and of its threads' ways to wake each other. A
//! program must close none that it did not open, as loops over all numbers do, not even those of 0 to 2 that it finds
//! taken: calls would hang, or write into what is opened next.
//!
//! Callbacks get their userdata first, run on the calling thread and during the call only, and return 0 to go on. Only
//! an sbx_log_fn runs on any thread, for as long as it is set.
//!
//! Bugs of the library end as SBX_ERR_PANIC; no Rust panic leaves it. Freeing a handle twice, using it afterwards, or a
//! pointer to something else is as undefined as everywhere in C.
//!
//! Versions. Within one SONAME functions and numbers are only added. A program can compare SBX_VERSION_NUMBER, which it
//! was compiled with, with sbx_version_number(), which it runs with. What has come since 0.1.0 says so; the files in
//! symbols/ list what each version has.
#![expect(unsafe_code, reason = "the C boundary: the exported names, and what boundary.rs does with C's pointers")]
#![expect(unreachable_pub, reason = "cbindgen takes only what is pub, and Rust programs have no use for it")]
#![expect(non_camel_case_types, reason = "types and enumerators have the names that C knows them by")]

mod boundary;
mod child;
mod client;
mod command;
mod config;
mod detached;
mod error;

// The header has the files in this order.
mod forward;
mod open_file;

mod files;
mod info;
mod keys;
mod logging;
mod pool;
mod sandbox;
mod spec;
mod thread;
mod transfer;
mod usage;

use std::ffi::{CStr, c_char};

/// The version with a NUL behind it.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");

/// The version of the library that runs, such as "0.1.0". The text is static.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_version() -> *const c_char {
    boundary::get_text(Some(&()), |()| CStr::from_bytes_with_nul(VERSION.as_bytes()).ok())
}

/// The version of the library that runs as a number like SBX_VERSION_NUMBER.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_version_number() -> u32 {
    boundary::get(Some(&()), 0, |()| {
        let part = |text: &str| text.parse::<u32>().unwrap_or(0);
        let (major, minor) = (part(env!("CARGO_PKG_VERSION_MAJOR")), part(env!("CARGO_PKG_VERSION_MINOR")));
        (major << 16) | (minor << 8) | part(env!("CARGO_PKG_VERSION_PATCH"))
    })
}

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
//! Results. A function that can fail returns an sbx_status and takes `sbx_error **err` as its last parameter. `err` may
//! be NULL. If it is not, `*err` is always written: NULL on success, and on failure an error that the caller frees with
//! sbx_error_free(). So free an error before passing its variable to the next call. Other output parameters are written
//! on success only and left unchanged on failure. An output parameter for a handle must not be NULL unless its function
//! says so. One for a number may be NULL, except the `len` of sbx_child_read_stdout(), sbx_child_read_stderr() and
//! sbx_file_read(), and the positions of sbx_detached_stream(). Those positions are the only output parameters that are
//! also read. Output parameters must not overlap.
//!
//! Ownership. Every handle that a function returns must be freed once, with the function named sbx_..._free. Freeing
//! NULL does nothing. A handle keeps alive what it needs of other handles, so they can be freed in any order. Text and
//! bytes that a function returns are borrowed from its first argument: they stay valid until that is freed, and must
//! not be freed themselves. All of them are followed by a NUL, except sbx_transferred_sha256(). Arguments are copied,
//! or used only during the call.
//!
//! Freeing. A `..._free` function does not wait for anything, with these exceptions: sbx_file_free() closes an open
//! file (up to 2 seconds), sbx_forward_free() breaks its connections (up to 2 seconds), sbx_pool_free() deletes the
//! sandboxes that are half created (up to 10 seconds if the API server does not answer), and whichever handle is
//! freed last stops the library's threads (up to 3 seconds). SSH sessions are closed without waiting for the
//! server.
//!
//! NULL and text. If a required argument is NULL, or a text is not UTF-8, the function fails with
//! SBX_ERR_INVALID_ARGUMENT. Arguments of commands, environment variables and file paths are bytes, not text, as they
//! are for Linux itself. Functions that return no status return NULL, 0 or false for a NULL handle.
//!
//! Units. Durations are seconds as a double. Where "no limit" is allowed, a negative number means it. Points in time
//! are seconds since 1970-01-01 UTC as an int64_t.
//!
//! Threads. A function that takes its handle as const may be called with the same handle from several threads at once.
//! A function that takes it as non-const must not run at the same time as another call with that handle. A handle may
//! be freed by another thread than the one that made it. Functions may be called on any thread, and the only state per
//! thread is what sbx_thread_on_wait() registers. Calls block, and must not be made in a signal handler. In a child of
//! fork() that does not exec, handles of the parent fail with SBX_ERR_FORKED.
//!
//! Exit. A program may exit while other threads are in calls or an sbx_child runs.
//!
//! File descriptors. The library opens descriptors for its connections and for waking its threads. A program must not
//! close descriptors that it did not open, as a loop over all numbers does, not even 0 to 2: calls would hang, or write
//! into a file that is opened later under the same number. Each call opens /dev/null for those of 0 to 2 that are
//! closed; they stay open.
//!
//! Callbacks get `userdata` as their first argument, run on the calling thread and only during the call, and return 0
//! to continue. An sbx_log_fn is the exception: it may run on any thread for as long as it is set.
//!
//! A bug in the library is reported as SBX_ERR_PANIC; no Rust panic leaves the library. Freeing a handle twice, using
//! it after it was freed, or passing a pointer to something else is undefined behavior, as everywhere in C.
//!
//! Versions. Within one SONAME, functions and enumerators are only added, never removed or renumbered. A program can
//! compare SBX_VERSION_NUMBER, the version that it was compiled with, with sbx_version_number(), the version that it
//! runs with. What was added after 0.1.0 says so; the files in symbols/ list the functions of each version.
#![expect(unsafe_code, reason = "the C boundary: the exported names, and what boundary.rs does with C's pointers")]
#![expect(unreachable_pub, reason = "cbindgen takes only what is pub, and Rust programs have no use for it")]
#![expect(non_camel_case_types, reason = "types and enumerators have the names that C knows them by")]

mod boundary;
mod changes;
mod child;
mod client;
mod command;
mod config;
mod detached;
mod doctor;
mod error;

// The header has the files in this order.
mod forward;
mod open_file;

mod files;
mod filter;
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

//! Local ports whose connections end in a sandbox.

use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;

use super::boundary::{self, require};
use super::error::{sbx_error, sbx_status};
use crate::Forward;

/// A local port or Unix socket whose connections end in a sandbox, made by sbx_sandbox_forward(). It has a thread of
/// its own and listens until it is closed or freed, or until its Pod has ended. It never connects to another Pod of the
/// same name. Its connections end with it. If the SSH session is lost, its open connections break and later ones use a
/// new session. It may be used from several threads. Freed with sbx_forward_free().
#[derive(Debug)]
pub struct sbx_forward {
    forward: Forward,
    local: CString,
}

impl sbx_forward {
    pub(super) fn new(forward: Forward) -> Self {
        Self { local: boundary::c_text(&forward.local().to_string()), forward }
    }
}

/// Where it listens, such as "127.0.0.1:8080" with the port that the system has chosen for 0, or a path.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_forward_local(forward: Option<&sbx_forward>) -> *const c_char {
    boundary::get_text(forward, |forward| Some(&forward.local))
}

/// The local port; 0 for a Unix socket and for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_forward_port(forward: Option<&sbx_forward>) -> u16 {
    boundary::get(forward, 0, |forward| forward.forward.port())
}

/// Connections that there are at this moment; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_forward_connections(forward: Option<&sbx_forward>) -> usize {
    boundary::get(forward, 0, |forward| forward.forward.connections())
}

/// Whether it still listens; false for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_forward_is_open(forward: Option<&sbx_forward>) -> bool {
    boundary::get(forward, false, |forward| forward.forward.is_open())
}

/// Returns true if a connection has failed, and then sets `*failure` to the error of the last one, such as
/// SBX_ERR_REFUSED because nothing listened in the sandbox. A connection that its local side breaks off does not count
/// as failed. The caller frees `*failure` with sbx_error_free(); `failure` may be NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_forward_last_failure(
    forward: Option<&sbx_forward>,
    failure: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> bool {
    boundary::get(forward, false, |forward| {
        let Some(error) = forward.forward.last_failure() else { return false };
        if let Some(place) = failure {
            boundary::write_handle(place, sbx_error::new(error));
        }
        true
    })
}

/// Waits until it has ended. SBX_OK if another thread has closed it.
///
/// Else the reason: SBX_ERR_NOT_FOUND, SBX_ERR_CLOSED or SBX_ERR_DISCONNECTED with the verdict where there is one,
/// because the Pod is gone or its sandbox was deleted.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_forward_wait(
    forward: Option<&sbx_forward>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || require(forward, "forward")?.forward.wait())
}

/// Stops listening and breaks the open connections, for which it waits up to 2 seconds. Does nothing if it is closed
/// already.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_forward_close(forward: Option<&sbx_forward>) {
    boundary::get(forward, (), |forward| forward.forward.close());
}

/// Frees a forward, and closes it as sbx_forward_close() does if it is open. No other thread may use it.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_forward_free(forward: Option<Box<sbx_forward>>) {
    boundary::free(forward);
}

//! What the calls of a thread ask while they wait.

use std::cell::Cell;
use std::ffi::c_void;

use tokio::runtime::Handle;

use super::boundary;
use crate::interruptible;

/// Tells whether to cancel the call of this library in which the thread waits. 0 continues. After anything else the
/// call fails with SBX_ERR_CANCELLED, and the function is not called again before that call has returned.
///
/// It is called on the waiting thread, as an ordinary function, not as a signal handler. It may call this library, but
/// must not change or free the objects that the waiting call belongs to. Its own calls are not cancelled by it; it may
/// register another function for them with sbx_thread_on_wait(), which stays registered until it returns. It must not
/// throw, longjmp or end its thread.
pub type sbx_interrupted_fn = Option<unsafe extern "C" fn(userdata: *mut c_void) -> i32>;

#[derive(Clone, Copy)]
struct CancelCheck(unsafe extern "C" fn(*mut c_void) -> i32, *mut c_void);

thread_local! {
    static REGISTERED: Cell<Option<CancelCheck>> = const { Cell::new(None) };
}

impl CancelCheck {
    fn ask(self) -> bool {
        REGISTERED.set(None);
        // SAFETY: the C caller registered a function of this type, for as long as it is registered.
        let answer = unsafe { self.0(self.1) };
        REGISTERED.set(Some(self));
        answer != 0
    }
}

/// Does the work of a call, which may be interrupted.
pub(super) fn with_cancellation<T>(work: impl FnOnce() -> T) -> T {
    match REGISTERED.get() {
        Some(check) => interruptible(move || check.ask(), work),
        None => work(),
    }
}

/// Whether the values of this thread that the runtime needs are gone already.
pub(super) fn is_at_its_end() -> bool {
    Handle::try_current().is_err_and(|e| e.is_thread_local_destroyed())
}

/// Registers a function that this thread's calls of the library call while they wait, with `userdata` as its argument,
/// to ask whether to cancel; NULL unregisters it. A thread has at most one: a new one replaces the previous one. It
/// must stay valid as long as it is registered.
///
/// So a signal, such as SIGINT from Ctrl-C, can cancel a call: its handler sets a flag, and the function returns the
/// flag. The function is called about ten times a second while a call waits, and in most waits as soon as a signal
/// handler has run on this thread. It is not called before a wait, nor by calls that do not wait. Calls of other
/// threads, and background work such as the command of an sbx_child, are not affected.
///
/// A cancelled call cleans up as it does after a timeout. A command is killed in the sandbox, and the call waits for
/// its end; the file that an upload would have replaced is unchanged; a Pod that was being created is deleted. This may
/// take some seconds if the sandbox does not answer. Any other change may or may not have been made, and the error's
/// message says so. A cancelled sbx_file can only be freed.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_thread_on_wait(is_interrupted: sbx_interrupted_fn, userdata: *mut c_void) {
    boundary::get(Some(&()), (), |()| REGISTERED.set(is_interrupted.map(|function| CancelCheck(function, userdata))));
}

//! What the calls of a thread ask while they wait.

use std::cell::Cell;
use std::ffi::c_void;

use tokio::runtime::Handle;

use super::boundary;
use crate::interruptible;

/// Says whether something has happened that is to end the call of this library that the thread waits in: 0 to go on;
/// after anything else the call fails with SBX_ERR_CANCELLED, and until it has returned nothing is asked any more.
///
/// It is called on the thread that waits, and is no signal handler: it may do what a function may. It may call this
/// library, but must not change or free the objects whose call it is in; calls that it makes are not asked about,
/// unless it registers a function for them with sbx_thread_on_wait(), which counts until it returns. It must not throw,
/// longjmp or end its thread.
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

/// Registers a function that the calls of this thread ask, with `userdata` as its argument, while they wait; NULL
/// unregisters it. There is one at most: a new one takes the place of the one before. It must stay callable as long as
/// it is registered.
///
/// With it a signal, such as SIGINT from Ctrl-C, can end a call: its handler sets a flag, and the function says whether
/// that is set. It is called about ten times a second while a call waits, whatever for, and in most waits as soon as a
/// signal handler has run on this thread; not before a wait, and not by calls that need none. Calls of other threads,
/// and what runs in the background, such as the command of an sbx_child, are not affected.
///
/// A call that ends so undoes what it can, as it does when its time runs out. A command's process group is killed in
/// the sandbox and its end awaited, the file that an upload would have replaced is as it was, a Pod that was to be
/// created is deleted. That may take some seconds if the sandbox does not answer. Whether any other change was made is
/// open, and the error's message says so. An sbx_file can only be freed then.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_thread_on_wait(is_interrupted: sbx_interrupted_fn, userdata: *mut c_void) {
    boundary::get(Some(&()), (), |()| REGISTERED.set(is_interrupted.map(|function| CancelCheck(function, userdata))));
}

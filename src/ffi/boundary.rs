//! The one boundary between C and Rust: what comes in is checked here, panics stop here, results go out here.
//!
//! Nearly all `unsafe` of the crate is in this file. The parameters of the exported functions carry the header's
//! contract in their types: `Option<&T>` for a handle, [`Text`] for a string, [`Out`] for a place to put a result. Such
//! values can only come from C, whose side promises what the header says.

use std::any::Any;
use std::borrow::Cow;
use std::ffi::{CStr, CString, OsStr, c_char};
use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::ptr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::{sbx_error, sbx_status};
use super::thread;
use crate::{Error, ErrorKind, Local, Result, Target};

#[cfg(not(panic = "unwind"))]
compile_error!("the C ABI turns panics into errors, which needs panic = \"unwind\"");

/// Runs the body of a function that can fail, and answers C with its status and its error.
pub(super) fn call(err: Out<'_, *mut sbx_error>, body: impl FnOnce() -> Result<()>) -> sbx_status {
    match guarded(|| at_any_time(|| thread::with_cancellation(body))).and_then(|result| result) {
        Ok(()) => {
            write_out(err, ptr::null_mut());
            sbx_status::SBX_OK
        }
        Err(error) => {
            let status = sbx_status::from(error.kind());
            if let Some(place) = err {
                write_handle(place, sbx_error::new(error));
            }
            status
        }
    }
}

/// Runs the body of a function that can't fail: `default` for a handle that is NULL, and in case of a panic.
pub(super) fn get<H, T>(handle: Option<&H>, default: T, body: impl FnOnce(&H) -> T) -> T {
    match handle {
        Some(handle) => guarded(|| body(handle)).unwrap_or(default),
        None => default,
    }
}

/// Runs the body of a function that gives a text out, borrowed from the handle; NULL if there is none.
pub(super) fn get_text<H>(handle: Option<&H>, body: impl FnOnce(&H) -> Option<&CStr>) -> *const c_char {
    get(handle, ptr::null(), |handle| body(handle).map_or(ptr::null(), CStr::as_ptr))
}

/// Runs the body of a function that gives bytes out, borrowed from the handle, and their number in `*len`; NULL and 0
/// if there are none.
pub(super) fn get_bytes<H>(
    handle: Option<&H>,
    len: Out<'_, usize>,
    body: impl FnOnce(&H) -> Option<&NulTerminated>,
) -> *const u8 {
    let (data, length) = get(handle, (ptr::null(), 0), |handle| {
        body(handle).map_or((ptr::null(), 0), |bytes| (bytes.0.as_ptr(), bytes.as_slice().len()))
    });
    write_out(len, length);
    data
}

/// Takes a handle back from C and drops it.
pub(super) fn free<T>(handle: Option<Box<T>>) {
    // Nobody is there to be told: the panic hook has written its line.
    drop(guarded(|| at_any_time(|| drop(handle))));
}

/// Does the work, on another thread if this one is at its very end: what is called by a destructor of a static object
/// in C++ or by atexit() comes after the thread's own values, without which the runtime can't wait for anything.
fn at_any_time<T>(work: impl FnOnce() -> T) -> T {
    struct Anywhere<T>(T);
    // SAFETY: this thread does nothing but wait while the other one has it.
    unsafe impl<T> Send for Anywhere<T> {}

    if !thread::is_at_its_end() {
        return work();
    }
    let mut slot = (Some(work), None);
    let shared = Anywhere(&mut slot);
    let ended = std::thread::scope(|scope| {
        let run = move || {
            // All of it, and not only its field.
            let Anywhere((work, result)) = { shared };
            *result = work.take().map(|work| work());
        };
        std::thread::Builder::new().name("sandbox-exit".to_owned()).spawn_scoped(scope, run).map(|thread| thread.join())
    });
    match (ended, slot) {
        (Ok(Err(payload)), _) => resume_unwind(payload),
        (_, (_, Some(result))) => result,
        // There is no other thread to be had, so that what needs none is done at least.
        (_, (Some(work), None)) => work(),
        (_, (None, None)) => unreachable!("the thread has ended without a result or a panic"),
    }
}

/// Turns a panic into an error. Unwind safety: an SSH session that was not finished is thrown away, the locks have no
/// poison, and every handle is changed by replacing a whole value.
fn guarded<T>(body: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|payload| {
        let message = panic_message(&*payload);
        // A payload may panic in its own drop.
        if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(another);
        }
        Error::new(ErrorKind::Panic, format!("a bug in the sandbox library: {message}"))
    })
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}

/// The argument of this name, which must not be NULL.
pub(super) fn require<T>(argument: Option<T>, name: &str) -> Result<T> {
    argument.ok_or_else(|| invalid(format!("{name} is NULL")))
}

pub(super) fn invalid(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

/// One of an enum's values from its number. An enum from C could hold any number, which Rust must never see.
pub(super) fn enum_from_i32<T: Copy>(number: i32, name: &str, known: &[(i32, T)]) -> Result<T> {
    let found = known.iter().find(|(known, _)| *known == number);
    found.map(|(_, value)| *value).ok_or_else(|| invalid(format!("{number} is not a valid {name}")))
}

/// A string from C: NULL, or bytes with a NUL at their end that stay as they are during the call.
///
/// What it lends can't outlive the parameter that it is, and so not the call. The header has `const char *` for it.
#[repr(transparent)]
pub struct Text(*const c_char);

impl Text {
    pub(super) fn bytes(&self, name: &str) -> Result<&OsStr> {
        if self.0.is_null() {
            return Err(invalid(format!("{name} is NULL")));
        }
        // SAFETY: not NULL, so the C caller promises a NUL-terminated string that lives during the call.
        Ok(OsStr::from_bytes(unsafe { CStr::from_ptr(self.0) }.to_bytes()))
    }

    pub(super) fn utf8(&self, name: &str) -> Result<&str> {
        self.bytes(name)?.to_str().ok_or_else(|| invalid(format!("{name} is not UTF-8")))
    }

    /// Something that takes connections in a sandbox. A path need not be UTF-8.
    pub(super) fn target(&self, name: &str) -> Result<Target> {
        let text = self.bytes(name)?;
        if is_path(text) { Ok(Path::new(text).into()) } else { self.utf8(name)?.parse() }
    }

    /// Where to listen on this machine.
    pub(super) fn local(&self, name: &str) -> Result<Local> {
        let text = self.bytes(name)?;
        if is_path(text) { Ok(Path::new(text).into()) } else { self.utf8(name)?.parse() }
    }
}

fn is_path(text: &OsStr) -> bool {
    text.as_bytes().contains(&b'/')
}

/// Bytes from C.
///
/// # Safety
/// `data` is NULL, or has `len` bytes that stay as they are for `'a`.
pub(super) unsafe fn bytes<'a>(data: *const u8, len: usize, name: &str) -> Result<&'a [u8]> {
    match (data.is_null(), len) {
        // A slice never begins at NULL, not even an empty one.
        (_, 0) => Ok(&[]),
        (true, _) => Err(invalid(format!("{name} is NULL, but its length is {len}"))),
        (false, len) if len > isize::MAX as usize => Err(invalid(format!("the length of {name} is negative"))),
        // SAFETY: the caller of this function vouches for the bytes; the length is in a slice's range.
        (false, len) => Ok(unsafe { std::slice::from_raw_parts(data, len) }),
    }
}

/// Fills a buffer of C with what `read` puts into one of ours, of at most `at_once` bytes, and returns how much that
/// is. Ours lies between because C's need not be initialised.
///
/// # Safety
/// `buffer` is NULL, or `capacity` bytes can be written there during the call.
pub(super) unsafe fn fill(
    buffer: *mut u8,
    capacity: usize,
    at_once: usize,
    read: impl FnOnce(&mut [u8]) -> Result<usize>,
) -> Result<usize> {
    if buffer.is_null() || capacity == 0 {
        return Err(invalid("buffer is NULL or its capacity is 0"));
    }
    let mut ours = vec![0; capacity.min(at_once)];
    let length = read(&mut ours)?;
    // SAFETY: the caller of this function vouches for the room, and ours is no longer than that.
    unsafe { ptr::copy_nonoverlapping(ours[..length].as_ptr(), buffer, length) };
    Ok(length)
}

/// A duplicate of C's descriptor, so that each side closes its own.
pub(super) fn duplicate(fd: i32, name: &str) -> Result<OwnedFd> {
    if fd < 0 {
        return Err(invalid(format!("{name} is {fd}")));
    }
    // SAFETY: the number is borrowed for this call only, and the system says so if it is no open descriptor.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    borrowed.try_clone_to_owned().map_err(|e| invalid(format!("{name} is {fd}, which is not open: {e}")))
}

/// A place of the C caller for a result, initialised or not; `None` for NULL. (In the exported functions the type is
/// spelled out: cbindgen would make a name of the alias.)
pub(super) type Out<'a, T> = Option<&'a mut MaybeUninit<T>>;

/// Puts a result where the caller wants it, if anywhere.
pub(super) fn write_out<T>(out: Out<'_, T>, value: T) {
    if let Some(place) = out {
        place.write(value);
    }
}

/// Puts a result that there may be, and says whether there is one.
pub(super) fn write_some<T>(out: Out<'_, T>, value: Option<T>) -> bool {
    value.map(|value| write_out(out, value)).is_some()
}

/// Hands a new handle over to the caller, who frees it.
pub(super) fn write_handle<T>(place: &mut MaybeUninit<*mut T>, handle: T) {
    place.write(Box::into_raw(Box::new(handle)));
}

/// Seconds from C; a negative number is `None`.
pub(super) fn optional_seconds(seconds: f64, name: &str) -> Result<Option<Duration>> {
    if seconds < 0.0 { Ok(None) } else { exact_seconds(seconds, name).map(Some) }
}

/// Seconds from C that can't be left out.
pub(super) fn exact_seconds(seconds: f64, name: &str) -> Result<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| invalid(format!("{name} is not a valid number of seconds: {seconds}")))
}

/// A point in time as C gets it: whole seconds since 1970.
pub(super) fn unix_time(time: SystemTime) -> i64 {
    let whole = |since: Duration| i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    time.duration_since(UNIX_EPOCH).map_or_else(|e| -whole(e.duration()), whole)
}

/// A text as C gets it. A NUL in it, which only a hostile sandbox writes, becomes `U+FFFD`.
pub(super) fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}

/// Bytes as C gets them: with a NUL behind them, for callers that know them to be text.
#[derive(Clone)]
pub(super) struct NulTerminated(Vec<u8>);

impl NulTerminated {
    pub(super) fn new(mut bytes: Vec<u8>) -> Self {
        // Growing by itself, it would double.
        bytes.reserve_exact(1);
        bytes.push(0);
        Self(bytes)
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.0[..self.0.len() - 1]
    }
}

impl fmt::Debug for NulTerminated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.as_slice().len())
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::super::{
        changes, child, client, command, config, detached, error, files, filter, forward, info, open_file, sandbox,
        spec, transfer,
    };
    use super::*;

    /// What C sees of a call: the status, and the error's message if there is one.
    fn called(body: impl FnOnce() -> Result<()>) -> (sbx_status, Option<String>) {
        let mut place = MaybeUninit::<*mut sbx_error>::uninit();
        let status = call(Some(&mut place), body);
        // SAFETY: `call` has written to its place.
        let handle = unsafe { place.assume_init() };
        // SAFETY: NULL, or a handle that belongs to this test from here on.
        let error = unsafe { handle.as_mut().map(|handle| Box::from_raw(handle)) };
        let message = error.as_deref().map(|error| {
            let text = Text(error::sbx_error_message(Some(error)));
            text.utf8("message").unwrap().to_owned()
        });
        free(error);
        (status, message)
    }

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        let (status, message) = called(|| panic!("number {}", 7));
        assert_eq!(
            (status, message.as_deref()),
            (sbx_status::SBX_ERR_PANIC, Some("a bug in the sandbox library: number 7"))
        );
        let (status, message) = called(|| panic!("plain"));
        assert_eq!(
            (status, message.as_deref()),
            (sbx_status::SBX_ERR_PANIC, Some("a bug in the sandbox library: plain"))
        );
        let (status, _) = called(|| panic_any(7));
        assert_eq!(status, sbx_status::SBX_ERR_PANIC);
        assert_eq!(get(Some(&()), 3, |()| panic!("in a getter")), 3);
    }

    #[test]
    fn a_payload_and_a_handle_may_panic_in_their_drop() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("in drop");
            }
        }
        assert_eq!(called(|| panic_any(Bomb)).0, sbx_status::SBX_ERR_PANIC);
        free(Some(Box::new(Bomb)));
    }

    #[test]
    fn the_end_of_a_thread_is_no_obstacle() {
        struct AtTheEnd(std::sync::mpsc::Sender<(sbx_status, Option<String>, bool)>);
        impl Drop for AtTheEnd {
            fn drop(&mut self) {
                let own = std::thread::current().id();
                let mut is_elsewhere = false;
                let (status, message) = called(|| {
                    is_elsewhere = std::thread::current().id() != own;
                    Err(invalid("no"))
                });
                self.0.send((status, message, is_elsewhere)).unwrap();
                assert_eq!(called(|| panic!("in the other thread")).0, sbx_status::SBX_ERR_PANIC);
                free(Some(Box::new(())));
            }
        }
        thread_local! {
            static LAST: std::cell::RefCell<Option<AtTheEnd>> = const { std::cell::RefCell::new(None) };
        }
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            // The first value of a thread that is used is the last one that ends.
            LAST.set(Some(AtTheEnd(sender)));
            assert_eq!(called(|| Ok(())), (sbx_status::SBX_OK, None));
        });
        thread.join().unwrap();
        assert_eq!(receiver.recv().unwrap(), (sbx_status::SBX_ERR_INVALID_ARGUMENT, Some("no".to_owned()), true));
    }

    #[test]
    fn err_is_null_on_success_and_may_be_missing() {
        assert_eq!(called(|| Ok(())), (sbx_status::SBX_OK, None));
        assert_eq!(call(None, || Err(invalid("no"))), sbx_status::SBX_ERR_INVALID_ARGUMENT);
        assert_eq!(called(|| Err(invalid("no"))), (sbx_status::SBX_ERR_INVALID_ARGUMENT, Some("no".to_owned())));
    }

    #[test]
    fn text_is_checked() {
        let kind = |result: Result<&str>| result.unwrap_err().kind();
        assert_eq!(kind(Text(ptr::null()).utf8("x")), ErrorKind::InvalidArgument);
        let (good, bad) = (Text(c"gr\u{fc}n".as_ptr()), Text(c"\xff".as_ptr()));
        assert_eq!(good.utf8("x").unwrap(), "gr\u{fc}n");
        assert_eq!(kind(bad.utf8("x")), ErrorKind::InvalidArgument);
        assert_eq!(bad.bytes("x").unwrap().as_bytes(), b"\xff");
    }

    #[test]
    fn bytes_are_checked() {
        let some = [1, 2, 3];
        // SAFETY: each pointer is NULL, or has as many bytes as said; the last length is refused without a look.
        let [two, none, null, wrong, huge] = unsafe {
            [
                bytes(some.as_ptr(), 2, "x"),
                bytes(some.as_ptr(), 0, "x"),
                bytes(ptr::null(), 0, "x"),
                bytes(ptr::null(), 1, "x"),
                bytes(some.as_ptr(), usize::MAX, "x"),
            ]
        };
        assert_eq!((two.unwrap(), none.unwrap(), null.unwrap()), (&some[..2], &[][..], &[][..]));
        assert_eq!(wrong.unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(huge.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn seconds_are_checked() {
        assert_eq!(optional_seconds(-1.0, "x").unwrap(), None);
        assert_eq!(optional_seconds(0.5, "x").unwrap(), Some(Duration::from_millis(500)));
        for seconds in [f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(optional_seconds(seconds, "x").unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
        assert!(exact_seconds(-1.0, "x").is_err());
    }

    #[test]
    fn what_goes_out_ends_with_a_nul() {
        assert_eq!(c_text("a\0b").to_bytes_with_nul(), "a\u{fffd}b\0".as_bytes());
        let (kept, mut len) = (NulTerminated::new(b"a\0b".to_vec()), MaybeUninit::uninit());
        let data = get_bytes(Some(&kept), Some(&mut len), |kept| Some(kept));
        // SAFETY: `get_bytes` has written the length, and there is one byte more than that.
        let lent = unsafe { std::slice::from_raw_parts(data, len.assume_init() + 1) };
        assert_eq!((lent, kept.as_slice()), (&b"a\0b\0"[..], &b"a\0b"[..]));
    }

    #[test]
    fn times_before_1970_are_negative() {
        assert_eq!(unix_time(UNIX_EPOCH + Duration::from_millis(1500)), 1);
        assert_eq!(unix_time(UNIX_EPOCH - Duration::from_secs(2)), -2);
    }

    #[test]
    fn bytes_are_kept_without_room_for_more() {
        let kept = NulTerminated::new(vec![1; 1000]);
        assert_eq!((kept.as_slice().len(), kept.0.len()), (1000, 1001));
        assert!(kept.0.capacity() < 2000);
    }

    /// What C gets: whether there are bytes, and how many it is told.
    fn got(
        handle: Option<&NulTerminated>,
        body: impl FnOnce(&NulTerminated) -> Option<&NulTerminated>,
    ) -> (bool, usize) {
        let mut len = MaybeUninit::new(7);
        let data = get_bytes(handle, Some(&mut len), body);
        // SAFETY: it was initialised.
        (!data.is_null(), unsafe { len.assume_init() })
    }

    #[test]
    fn where_no_bytes_are_their_number_is_0() {
        let kept = NulTerminated::new(b"some".to_vec());
        assert_eq!(got(Some(&kept), |kept| Some(kept)), (true, 4));
        assert_eq!(got(Some(&kept), |_| None), (false, 0));
        assert_eq!(got(None, |kept| Some(kept)), (false, 0));
    }

    #[test]
    fn handles_cross_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<config::sbx_config>();
        shared::<client::sbx_client>();
        shared::<spec::sbx_spec>();
        shared::<sandbox::sbx_sandbox>();
        shared::<files::sbx_bytes>();
        shared::<files::sbx_metadata>();
        shared::<files::sbx_dir_entries>();
        shared::<open_file::sbx_file>();
        shared::<transfer::sbx_transfer>();
        shared::<transfer::sbx_transferred>();
        shared::<transfer::sbx_tree_report>();
        shared::<command::sbx_command>();
        shared::<child::sbx_child>();
        shared::<detached::sbx_detached>();
        shared::<forward::sbx_forward>();
        shared::<command::sbx_output>();
        shared::<command::sbx_exit_status>();
        shared::<filter::sbx_filter>();
        shared::<changes::sbx_changes>();
        shared::<info::sbx_info>();
        shared::<info::sbx_info_list>();
        shared::<info::sbx_name_list>();
        shared::<sbx_error>();
    }
}

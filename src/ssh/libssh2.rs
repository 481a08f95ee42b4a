//! libssh2's channels and SFTP handles, which the `ssh2` crate offers without exit status, signals and atomic rename.
//!
//! The one file outside `ffi` with unsafe code. Every call here is non-blocking: [`Failure::would_block`] means "wait for the
//! socket and make the same call with the same arguments again". A handle keeps its session alive and locks it for each call,
//! so nothing here can be used from two threads at once.

use std::ffi::{c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use libssh2_sys as raw;
use parking_lot::Mutex;

use super::session::Stream;
use crate::deadline::Deadline;
use crate::error::Result;
use crate::interrupt;

/// libssh2's error number and message, copied before the next call overwrites them.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: c_int,
    /// The SFTP status (`SSH_FX_…`), where `code` says that the server reported one.
    pub(super) sftp_status: Option<u32>,
    pub(super) message: String,
}

pub(super) type Answer<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(super) fn would_block(&self) -> bool {
        self.code == raw::LIBSSH2_ERROR_EAGAIN
    }

    /// An answer to a read was shorter than what was asked for, so that those behind it are for other offsets than expected.
    pub(super) fn is_out_of_step(&self) -> bool {
        self.code == raw::LIBSSH2_ERROR_SFTP_PROTOCOL && self.message == "Read Packet At Unexpected Offset"
    }
}

impl From<ssh2::Error> for Failure {
    fn from(error: ssh2::Error) -> Self {
        let (code, sftp_status) = match error.code() {
            ssh2::ErrorCode::Session(code) => (code, None),
            ssh2::ErrorCode::SFTP(status) => (raw::LIBSSH2_ERROR_SFTP_PROTOCOL, u32::try_from(status).ok()),
        };
        Self { code, sftp_status, message: error.message().to_owned() }
    }
}

// Exported by the libssh2 that libssh2-sys builds, and not declared there. Releases up to 1.11.1, which have holes that a server
// can reach, lack the first one: a program with such a libssh2 does not link.
#[expect(unsafe_code, reason = "declarations of C functions")]
unsafe extern "C" {
    fn libssh2_session_callback_set2(
        session: *mut raw::LIBSSH2_SESSION,
        kind: c_int,
        callback: *mut c_void,
    ) -> *mut c_void;
    fn libssh2_session_set_read_timeout(session: *mut raw::LIBSSH2_SESSION, seconds: c_long);
    fn libssh2_channel_has_exit_status(channel: *mut raw::LIBSSH2_CHANNEL) -> c_int;
    fn libssh2_channel_signal_ex(channel: *mut raw::LIBSSH2_CHANNEL, name: *const c_char, name_len: usize) -> c_int;
    fn libssh2_sftp_posix_rename_ex(
        sftp: *mut raw::LIBSSH2_SFTP,
        source: *const c_char,
        source_len: usize,
        target: *const c_char,
        target_len: usize,
    ) -> c_int;
}

/// A stream that belongs to a session, as libssh2 sees it. None of libssh2's own loops looks at the time, and a hostile server can
/// keep each of them busy for ever; nor does libssh2 get over a packet that it can't send to its end: it can't even be freed then.
pub(super) struct Connection {
    stream: Stream,
    view: Mutex<View>,
}

/// What libssh2 is told.
struct View {
    /// After this time, that nothing has arrived.
    read_until: Deadline,
    /// The same, since there was nothing more: libssh2 asks several times for each packet that it sends.
    is_drained: bool,
    /// That the connection is broken.
    is_over: bool,
    /// The first part of a packet is sent. libssh2 does nothing else before the rest is.
    is_half_sent: bool,
    /// Something has arrived since libssh2 was last told that there is nothing.
    has_news: bool,
    /// How often something has arrived.
    arrivals: u64,
    /// While the answers of an SFTP server are awaited, the time until which they are.
    answers_until: Option<Deadline>,
    /// How many bytes more it may send than it was asked for.
    surplus: u64,
}

/// libssh2 keeps what an SFTP server says to nobody, and at each of its packets looks through all of that. Nothing honest is near this
/// limit: at most 8 MiB are on their way that were asked for.
const SURPLUS: u64 = 16 << 20;

impl Connection {
    /// Gives the session its stream, before the handshake.
    #[expect(unsafe_code, reason = "sets callbacks")]
    pub(super) fn attach(session: &mut ssh2::Session, stream: Stream) -> Arc<Self> {
        let view = View {
            read_until: Deadline::after(None),
            is_drained: false,
            is_over: false,
            is_half_sent: false,
            has_news: false,
            arrivals: 0,
            answers_until: None,
            surplus: SURPLUS,
        };
        let connection = Arc::new(Self { stream, view: Mutex::new(view) });
        session.set_tcp_stream(Arc::clone(&connection));
        locked(session, |raw| {
            // SAFETY: the session is locked and alive. What its abstract pointer points to is in an `Arc` that the session itself
            // holds until it has been freed. The callbacks have the types that the numbers ask for, which libssh2 restores.
            unsafe {
                *raw::libssh2_session_abstract(raw) = Arc::as_ptr(&connection).cast_mut().cast();
                libssh2_session_callback_set2(raw, CALLBACK_RECV, receive as *const () as *mut c_void);
                libssh2_session_callback_set2(raw, CALLBACK_SEND, send as *const () as *mut c_void);
                // Deadlines are ours. By itself libssh2 gives an answer up after a minute.
                libssh2_session_set_read_timeout(raw, c_int::MAX.into());
            }
        });
        connection
    }

    /// Grows with everything that libssh2 takes off the socket.
    pub(super) fn arrivals(&self) -> u64 {
        self.view.lock().arrivals
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// After this time, and once there is nothing more, libssh2 is told that nothing has arrived.
    pub(super) fn read_until(&self, deadline: Deadline) {
        let mut view = self.view.lock();
        (view.read_until, view.is_drained) = (deadline, false);
    }

    /// From now on what arrives is counted as answers of an SFTP server, and after this time the connection is at its end: what has
    /// arrived by then may be more than libssh2 can go through. `None` ends this.
    pub(super) fn await_answers(&self, until: Option<Deadline>) {
        self.view.lock().answers_until = until;
    }

    /// Whether the answer of an SFTP server is awaited that should have come.
    pub(super) fn is_late(&self) -> bool {
        self.view.lock().answers_until.is_some_and(Deadline::has_passed)
    }

    /// Takes so many bytes, which were asked for, off what the server has sent beyond that.
    pub(super) fn allow(&self, bytes: u64) {
        let mut view = self.view.lock();
        if view.surplus > 0 {
            view.surplus = view.surplus.saturating_add(bytes).min(SURPLUS);
        }
    }

    /// Whether the connection was ended because an SFTP server sent more than it was asked for.
    pub(super) fn is_flooded(&self) -> bool {
        self.view.lock().surplus == 0
    }

    /// From now on nothing is sent or read.
    pub(super) fn end(&self) {
        self.view.lock().is_over = true;
    }
}

// What ssh2 asks of a stream.
impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_fd().as_raw_fd()
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// `LIBSSH2_CALLBACK_SEND` and `LIBSSH2_CALLBACK_RECV`
const CALLBACK_SEND: c_int = 5;
const CALLBACK_RECV: c_int = 6;
/// `LIBSSH2_SFTP_SYMLINK`
const SYMLINK: c_int = 0;

const AGAIN: isize = -(libc::EAGAIN as isize);

/// Sends for libssh2: the number of bytes, or a negative error number.
///
/// # Safety
/// As libssh2 calls it: `buffer` has `length` bytes, and `context` points to what `Connection::attach` set.
#[expect(unsafe_code, reason = "called from C")]
unsafe extern "C" fn send(
    socket: c_int,
    buffer: *const c_void,
    length: usize,
    flags: c_int,
    context: *mut *mut c_void,
) -> isize {
    // SAFETY: see above.
    let connection = unsafe { &*(*context).cast::<Connection>() };
    let mut view = connection.view.lock();
    let number = if view.is_over {
        libc::EPIPE
    } else {
        // SAFETY: see above; the socket is the connection's and so open.
        let sent = unsafe { libc::send(socket, buffer, length, flags) };
        if let Ok(sent) = usize::try_from(sent) {
            view.is_half_sent = sent < length;
            return sent.cast_signed();
        }
        io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
    };
    if matches!(number, libc::EAGAIN | libc::EINTR) {
        view.is_half_sent = true;
        return AGAIN;
    }
    // The rest of a packet counts as sent, and the next read tells.
    if std::mem::take(&mut view.is_half_sent) { length.cast_signed() } else { -(number as isize) }
}

/// Reads for libssh2: bytes, 0 at the end, or a negative error number.
///
/// # Safety
/// As libssh2 calls it: `buffer` has `length` bytes, and `context` points to what `Connection::attach` set.
#[expect(unsafe_code, reason = "called from C")]
unsafe extern "C" fn receive(
    socket: c_int,
    buffer: *mut c_void,
    length: usize,
    flags: c_int,
    context: *mut *mut c_void,
) -> isize {
    // SAFETY: see above.
    let connection = unsafe { &*(*context).cast::<Connection>() };
    let mut view = connection.view.lock();
    if view.is_over || view.answers_until.is_some_and(Deadline::has_passed) {
        return 0;
    }
    if view.is_drained || view.read_until.has_passed() {
        return AGAIN;
    }
    // SAFETY: see above; the socket is the connection's and so open.
    let received = unsafe { libc::recv(socket, buffer, length, flags) };
    let error = io::Error::last_os_error().raw_os_error();
    if received > 0 {
        view.has_news = true;
        view.arrivals += 1;
        if view.answers_until.is_some() {
            view.surplus = view.surplus.saturating_sub(received.unsigned_abs() as u64);
            view.is_over |= view.surplus == 0;
        }
        return received;
    }
    // libssh2 hands over what came before the end only if it does not see the end at once.
    let had_news = std::mem::take(&mut view.has_news);
    view.is_drained = received < 0;
    match error {
        _ if had_news => AGAIN,
        _ if received == 0 => 0,
        Some(libc::EAGAIN | libc::EINTR) => AGAIN,
        number => -(number.unwrap_or(libc::EIO) as isize),
    }
}

/// Calls `f` with the session's pointer while its lock is held.
fn locked<T>(session: &ssh2::Session, f: impl FnOnce(*mut raw::LIBSSH2_SESSION) -> T) -> T {
    let mut guard = session.raw();
    f(&raw mut *guard)
}

#[expect(unsafe_code, reason = "reads C's last error")]
fn last_failure(session: *mut raw::LIBSSH2_SESSION) -> Failure {
    let (mut text, mut length) = (ptr::null_mut(), 0);
    // SAFETY: the caller holds the session's lock, so the session is alive and its message stays until it is copied here;
    // with want_buf 0 libssh2 lends its own buffer of `length` bytes.
    unsafe {
        let code = raw::libssh2_session_last_error(session, &raw mut text, &raw mut length, 0);
        let length = usize::try_from(length).unwrap_or(0);
        let bytes = if text.is_null() { &[][..] } else { std::slice::from_raw_parts(text.cast::<u8>(), length) };
        Failure { code, sftp_status: None, message: String::from_utf8_lossy(bytes).into_owned() }
    }
}

fn check(session: *mut raw::LIBSSH2_SESSION, code: c_int) -> Answer<()> {
    if code >= 0 { Ok(()) } else { Err(failure_with(session, code)) }
}

fn check_length(session: *mut raw::LIBSSH2_SESSION, length: isize) -> Answer<usize> {
    usize::try_from(length).map_err(|_| failure_with(session, c_int::try_from(length).unwrap_or(c_int::MIN)))
}

/// The failure that a call returned. Not every call leaves a message; then there is an older one of something else.
fn failure_with(session: *mut raw::LIBSSH2_SESSION, code: c_int) -> Failure {
    match last_failure(session) {
        failure if failure.code == code => failure,
        _ => Failure { code, sftp_status: None, message: format!("libssh2 fails with {code}") },
    }
}

/// For an answer that is none to what was asked, where libssh2 takes it.
fn no_answer() -> Failure {
    let message = "the server's answer is none to what it was asked".to_owned();
    Failure { code: raw::LIBSSH2_ERROR_SFTP_PROTOCOL, sftp_status: None, message }
}

/// Lengths that libssh2 takes as 32 bits.
fn short(length: usize) -> Answer<c_uint> {
    c_uint::try_from(length).map_err(|_| Failure {
        code: raw::LIBSSH2_ERROR_INVAL,
        sftp_status: None,
        message: "longer than 4 GiB".into(),
    })
}

/// An SSH channel. Dropping it leaves it to its session, which frees it at its own end.
pub(super) struct Channel {
    session: ssh2::Session,
    channel: NonNull<raw::LIBSSH2_CHANNEL>,
}

// SAFETY: libssh2 has no thread affinity; the pointer is only used under the session's lock, which `Channel` takes itself.
#[expect(unsafe_code, reason = "the pointer may move between threads")]
unsafe impl Send for Channel {}

#[expect(unsafe_code, reason = "calls into libssh2")]
impl Channel {
    pub(super) fn open(session: &ssh2::Session, window: u32) -> Answer<Self> {
        const KIND: &[u8] = b"session";
        const PACKET: c_uint = 32768;
        locked(session, |raw| {
            // SAFETY: the session is locked and alive; KIND outlives the call; no message is given.
            let channel =
                unsafe { raw::libssh2_channel_open_ex(raw, KIND.as_ptr().cast(), 7, window, PACKET, ptr::null(), 0) };
            match NonNull::new(channel) {
                Some(channel) => Ok(Self { session: session.clone(), channel }),
                None => Err(last_failure(raw)),
            }
        })
    }

    /// Calls `f` with the session locked and the channel's pointer, which is valid as long as `self`: only `close` frees it.
    fn with<T>(&self, f: impl FnOnce(*mut raw::LIBSSH2_SESSION, *mut raw::LIBSSH2_CHANNEL) -> T) -> T {
        locked(&self.session, |raw| f(raw, self.channel.as_ptr()))
    }

    /// Starts a subsystem of the server.
    pub(super) fn subsystem(&self, name: &str) -> Answer<()> {
        let length = short(name.len())?;
        // SAFETY: see `with`; "subsystem" and `name` outlive the call, and libssh2 copies both.
        self.with(|session, channel| unsafe {
            let (kind, name) = (c"subsystem".as_ptr(), name.as_ptr().cast());
            check(session, raw::libssh2_channel_process_startup(channel, kind, 9, name, length))
        })
    }

    /// Bytes of the channel's data read into `buffer`; 0 means that nothing more will come.
    pub(super) fn read(&self, buffer: &mut [u8]) -> Answer<usize> {
        // SAFETY: see `with`; the buffer is ours and as long as said.
        self.with(|session, channel| unsafe {
            let (bytes, length) = (buffer.as_mut_ptr().cast(), buffer.len());
            check_length(session, raw::libssh2_channel_read_ex(channel, 0, bytes, length))
        })
    }

    pub(super) fn write(&self, bytes: &[u8]) -> Answer<usize> {
        // SAFETY: see `with`; the bytes are ours and as many as said.
        self.with(|session, channel| unsafe {
            check_length(session, raw::libssh2_channel_write_ex(channel, 0, bytes.as_ptr().cast(), bytes.len()))
        })
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").finish_non_exhaustive()
    }
}

/// The SFTP subsystem of a session. Its last clone frees it: that of the session itself, which has shut the connection down by
/// then, or that of a file that is dropped even later.
#[derive(Clone)]
pub(super) struct Sftp(Arc<Subsystem>);

struct Subsystem {
    session: ssh2::Session,
    sftp: NonNull<raw::LIBSSH2_SFTP>,
    /// Files that were dropped while they were open. To free their memory takes the server's answer, or the connection's end.
    dropped: Mutex<Vec<NonNull<raw::LIBSSH2_SFTP_HANDLE>>>,
}

// SAFETY: as for `Channel`; the list has its own lock.
#[expect(unsafe_code, reason = "the pointers may move between threads")]
unsafe impl Send for Subsystem {}
// SAFETY: as for `Send`.
#[expect(unsafe_code, reason = "the pointers may be used by one thread after another")]
unsafe impl Sync for Subsystem {}

#[expect(unsafe_code, reason = "calls into libssh2")]
impl Drop for Subsystem {
    fn drop(&mut self) {
        // What the session's end leaves: files, and the answers that nobody waited for. Nothing is waited for here; each of these
        // has a few steps, and none of them blocks for long on a connection that is shut down.
        let again = |step: &dyn Fn() -> c_int| (0..4).any(|_| step() != raw::LIBSSH2_ERROR_EAGAIN);
        let mut is_freed = true;
        for handle in std::mem::take(&mut *self.dropped.lock()) {
            // SAFETY: the session is locked and alive, and the handle was left to us by the `SftpFile` that owned it. libssh2 frees
            // it unless the call would block.
            is_freed &=
                again(&|| locked(&self.session, |_| unsafe { raw::libssh2_sftp_close_handle(handle.as_ptr()) }));
        }
        // SAFETY: the session is locked and alive, no handle of the subsystem is left, and nobody else knows it any more. libssh2
        // frees it unless the call would block.
        is_freed =
            is_freed && again(&|| locked(&self.session, |_| unsafe { raw::libssh2_sftp_shutdown(self.sftp.as_ptr()) }));
        if !is_freed {
            log::debug!("libssh2 keeps the memory of an SFTP session");
        }
    }
}

/// What SFTP tells of a file; what the server left out is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) size: Option<u64>,
    /// File type and permission bits as in `st_mode`.
    pub(crate) mode: Option<u32>,
    /// Access and modification time in Unix seconds.
    pub(crate) times: Option<(u32, u32)>,
}

impl Attributes {
    fn to_raw(self) -> raw::LIBSSH2_SFTP_ATTRIBUTES {
        let mut flags = 0;
        if self.size.is_some() {
            flags |= raw::LIBSSH2_SFTP_ATTR_SIZE;
        }
        if self.mode.is_some() {
            flags |= raw::LIBSSH2_SFTP_ATTR_PERMISSIONS;
        }
        if self.times.is_some() {
            flags |= raw::LIBSSH2_SFTP_ATTR_ACMODTIME;
        }
        let (atime, mtime) = self.times.unwrap_or_default();
        raw::LIBSSH2_SFTP_ATTRIBUTES {
            flags,
            filesize: self.size.unwrap_or_default(),
            uid: 0,
            gid: 0,
            permissions: c_ulong::from(self.mode.unwrap_or_default()),
            atime: c_ulong::from(atime),
            mtime: c_ulong::from(mtime),
        }
    }

    fn from_raw(raw: &raw::LIBSSH2_SFTP_ATTRIBUTES) -> Self {
        let has = |flag| raw.flags & flag != 0;
        // On the wire these are 32 bits wide.
        let narrow = |value: c_ulong| u32::try_from(value).unwrap_or(u32::MAX);
        Self {
            size: has(raw::LIBSSH2_SFTP_ATTR_SIZE).then_some(raw.filesize),
            mode: has(raw::LIBSSH2_SFTP_ATTR_PERMISSIONS).then(|| narrow(raw.permissions)),
            times: has(raw::LIBSSH2_SFTP_ATTR_ACMODTIME).then(|| (narrow(raw.atime), narrow(raw.mtime))),
        }
    }
}

/// What the server has told of a file. libssh2 takes a status without an error for an answer too.
fn told(found: Attributes) -> Answer<Attributes> {
    if found == Attributes::default() { Err(no_answer()) } else { Ok(found) }
}

#[expect(unsafe_code, reason = "calls into libssh2")]
impl Sftp {
    pub(super) fn start(session: &ssh2::Session) -> Answer<Self> {
        locked(session, |raw| {
            // SAFETY: the session is locked and alive.
            match NonNull::new(unsafe { raw::libssh2_sftp_init(raw) }) {
                Some(sftp) => {
                    Ok(Self(Arc::new(Subsystem { session: session.clone(), sftp, dropped: Mutex::default() })))
                }
                None => Err(last_failure(raw)),
            }
        })
    }

    /// Calls `f` with the session locked and the subsystem's pointer, which lives as long as the session.
    fn with<T>(&self, f: impl FnOnce(*mut raw::LIBSSH2_SESSION, *mut raw::LIBSSH2_SFTP) -> T) -> T {
        locked(&self.0.session, |raw| f(raw, self.0.sftp.as_ptr()))
    }

    /// Adds the SFTP status to a failure that says there is one.
    fn explain(&self, failure: Failure) -> Failure {
        if failure.code != raw::LIBSSH2_ERROR_SFTP_PROTOCOL {
            return failure;
        }
        // SAFETY: see `with`.
        let status = self.with(|_, sftp| unsafe { raw::libssh2_sftp_last_error(sftp) });
        // 0 where the server's answer itself was no SFTP.
        Failure { sftp_status: u32::try_from(status).ok().filter(|status| *status != 0), ..failure }
    }

    /// Opens a file with `LIBSSH2_FXF_…` flags and, for a new one, permission bits.
    pub(super) fn open(&self, path: &[u8], flags: c_ulong, mode: u32) -> Answer<SftpFile> {
        self.open_handle(path, flags, mode, raw::LIBSSH2_SFTP_OPENFILE)
    }

    fn open_handle(&self, path: &[u8], flags: c_ulong, mode: u32, kind: c_int) -> Answer<SftpFile> {
        let length = short(path.len())?;
        let opened = self.with(|session, sftp| {
            let path = path.as_ptr().cast();
            // SAFETY: see `with`; libssh2 copies the path.
            let handle = unsafe { raw::libssh2_sftp_open_ex(sftp, path, length, flags, c_long::from(mode), kind) };
            NonNull::new(handle).ok_or_else(|| last_failure(session))
        });
        match opened {
            Ok(handle) => Ok(SftpFile { sftp: self.clone(), handle, is_freed: false }),
            Err(failure) => Err(self.explain(failure)),
        }
    }

    /// Opens a directory to list it.
    pub(super) fn open_dir(&self, path: &[u8]) -> Answer<SftpFile> {
        self.open_handle(path, 0, 0, raw::LIBSSH2_SFTP_OPENDIR)
    }

    /// Follows links.
    pub(super) fn stat(&self, path: &[u8]) -> Answer<Attributes> {
        told(self.stat_ex(path, raw::LIBSSH2_SFTP_STAT, Attributes::default())?)
    }

    /// Of a link itself.
    pub(super) fn lstat(&self, path: &[u8]) -> Answer<Attributes> {
        told(self.stat_ex(path, raw::LIBSSH2_SFTP_LSTAT, Attributes::default())?)
    }

    /// Sets what is not `None`, following links.
    pub(super) fn set_stat(&self, path: &[u8], attributes: Attributes) -> Answer<()> {
        // libssh2 takes attributes for an answer too, and forgets those that it was given.
        match self.stat_ex(path, raw::LIBSSH2_SFTP_SETSTAT, attributes)? {
            found if found == Attributes::default() => Ok(()),
            _ => Err(no_answer()),
        }
    }

    fn stat_ex(&self, path: &[u8], kind: c_int, attributes: Attributes) -> Answer<Attributes> {
        let length = short(path.len())?;
        let mut attributes = attributes.to_raw();
        // SAFETY: see `with`; libssh2 reads or fills the attributes, which are ours.
        self.with(|session, sftp| unsafe {
            let (path, attributes) = (path.as_ptr().cast(), &raw mut attributes);
            check(session, raw::libssh2_sftp_stat_ex(sftp, path, length, kind, attributes))
        })
        .map_err(|failure| self.explain(failure))?;
        Ok(Attributes::from_raw(&attributes))
    }

    pub(super) fn unlink(&self, path: &[u8]) -> Answer<()> {
        let length = short(path.len())?;
        // SAFETY: see `with`.
        self.with(|session, sftp| unsafe {
            check(session, raw::libssh2_sftp_unlink_ex(sftp, path.as_ptr().cast(), length))
        })
        .map_err(|failure| self.explain(failure))
    }

    pub(super) fn mkdir(&self, path: &[u8], mode: u32) -> Answer<()> {
        let length = short(path.len())?;
        // SAFETY: see `with`; libssh2 copies the path.
        self.with(|session, sftp| unsafe {
            check(session, raw::libssh2_sftp_mkdir_ex(sftp, path.as_ptr().cast(), length, c_long::from(mode)))
        })
        .map_err(|failure| self.explain(failure))
    }

    pub(super) fn rmdir(&self, path: &[u8]) -> Answer<()> {
        let length = short(path.len())?;
        // SAFETY: see `with`; libssh2 copies the path.
        self.with(|session, sftp| unsafe {
            check(session, raw::libssh2_sftp_rmdir_ex(sftp, path.as_ptr().cast(), length))
        })
        .map_err(|failure| self.explain(failure))
    }

    /// Makes `link` point to `original`.
    pub(super) fn symlink(&self, original: &[u8], link: &[u8]) -> Answer<()> {
        // OpenSSH takes the two in the other order than the protocol says, and libssh2 sends them as given.
        let (first, second) = (short(original.len())?, short(link.len())?);
        // A server can answer with a name instead of a status, and libssh2 writes it over the link's.
        let mut written = link.to_vec();
        // SAFETY: see `with`; libssh2 copies both paths, and writes no more than `second` bytes to the second one, which is ours.
        self.with(|session, sftp| unsafe {
            let (original, link) = (original.as_ptr().cast(), written.as_mut_ptr().cast());
            check(session, raw::libssh2_sftp_symlink_ex(sftp, original, first, link, second, SYMLINK))
        })
        .map_err(|failure| self.explain(failure))?;
        if written == link { Ok(()) } else { Err(no_answer()) }
    }

    /// What a link points to, or the path without links that `resolve` asks for; up to the length of `buffer`, less one.
    pub(super) fn read_link(&self, path: &[u8], resolve: bool, buffer: &mut [u8]) -> Answer<usize> {
        let (length, room) = (short(path.len())?, short(buffer.len())?);
        let kind = if resolve { raw::LIBSSH2_SFTP_REALPATH } else { raw::LIBSSH2_SFTP_READLINK };
        // SAFETY: see `with`; libssh2 copies the path; the buffer is ours and as long as said.
        self.with(|session, sftp| unsafe {
            let (path, target) = (path.as_ptr().cast(), buffer.as_mut_ptr().cast());
            let length = raw::libssh2_sftp_symlink_ex(sftp, path, length, target, room, kind);
            check_length(session, length as isize)
        })
        .map_err(|failure| self.explain(failure))
    }

    /// Renames over an existing target, in one step.
    pub(super) fn rename_over(&self, source: &[u8], target: &[u8]) -> Answer<()> {
        // SAFETY: see `with`; libssh2 copies both paths.
        self.with(|session, sftp| unsafe {
            let (from, to) = (source.as_ptr().cast(), target.as_ptr().cast());
            check(session, libssh2_sftp_posix_rename_ex(sftp, from, source.len(), to, target.len()))
        })
        .map_err(|failure| self.explain(failure))
    }
}

impl std::fmt::Debug for Sftp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sftp").finish_non_exhaustive()
    }
}

/// An open file or directory over SFTP. Dropping it without [`SftpFile::close`] leaves it to its session.
#[derive(Debug)]
pub(super) struct SftpFile {
    sftp: Sftp,
    handle: NonNull<raw::LIBSSH2_SFTP_HANDLE>,
    is_freed: bool,
}

impl Drop for SftpFile {
    fn drop(&mut self) {
        if !self.is_freed {
            self.sftp.0.dropped.lock().push(self.handle);
        }
    }
}

// SAFETY: as for `Channel`.
#[expect(unsafe_code, reason = "the pointer may move between threads")]
unsafe impl Send for SftpFile {}

#[expect(unsafe_code, reason = "calls into libssh2")]
impl SftpFile {
    /// Calls `f` with the session locked and the handle, which is valid as long as `self`: only `close` frees it.
    fn with<T>(
        &self,
        f: impl FnOnce(*mut raw::LIBSSH2_SESSION, *mut raw::LIBSSH2_SFTP_HANDLE) -> Answer<T>,
    ) -> Answer<T> {
        self.sftp.with(|session, _| f(session, self.handle.as_ptr())).map_err(|failure| self.sftp.explain(failure))
    }

    /// Bytes read into `buffer`, 0 at the end. libssh2 asks ahead for four times the buffer's length.
    pub(super) fn read(&self, buffer: &mut [u8]) -> Answer<usize> {
        // SAFETY: see `with`; the buffer is ours and as long as said.
        self.with(|session, handle| unsafe {
            check_length(session, raw::libssh2_sftp_read(handle, buffer.as_mut_ptr().cast(), buffer.len()))
        })
    }

    /// How many bytes from the front of `window` the server has acknowledged. All of it is on its way after the first call: the
    /// next call must begin with the first byte not acknowledged and may have more bytes behind it.
    pub(super) fn write(&self, window: &[u8]) -> Answer<usize> {
        // SAFETY: see `with`; the bytes are ours and as many as said.
        self.with(|session, handle| unsafe {
            check_length(session, raw::libssh2_sftp_write(handle, window.as_ptr().cast(), window.len()))
        })
    }

    pub(super) fn attributes(&self) -> Answer<Attributes> {
        told(self.attributes_ex(Attributes::default(), 0)?)
    }

    pub(super) fn set_attributes(&self, attributes: Attributes) -> Answer<()> {
        // libssh2 takes attributes for an answer too, and keeps those that it was given if there are none.
        if self.attributes_ex(attributes, 1)? == attributes { Ok(()) } else { Err(no_answer()) }
    }

    fn attributes_ex(&self, attributes: Attributes, set: c_int) -> Answer<Attributes> {
        let mut attributes = attributes.to_raw();
        // SAFETY: see `with`; libssh2 reads or fills the attributes, which are ours.
        self.with(|session, handle| unsafe {
            check(session, raw::libssh2_sftp_fstat_ex(handle, &raw mut attributes, set))
        })?;
        Ok(Attributes::from_raw(&attributes))
    }

    /// Where the next read or write begins. Throws away what was read ahead.
    pub(super) fn seek(&self, offset: u64) {
        let _ = self.with(|_, handle| {
            // libssh2 forgets that it saw the file's end only if the offset changes.
            for offset in [offset ^ 1, offset] {
                // SAFETY: see `with`.
                unsafe { raw::libssh2_sftp_seek64(handle, offset) };
            }
            Ok(())
        });
    }

    /// Has the server put the file's contents on its disk. An extension that only OpenSSH has.
    pub(super) fn sync(&self) -> Answer<()> {
        // SAFETY: see `with`.
        self.with(|session, handle| unsafe { check(session, raw::libssh2_sftp_fsync(handle)) })
    }

    /// The next entry of a directory: the length of its name in `name`, 0 after the last, and its attributes.
    pub(super) fn read_dir(&self, name: &mut [u8]) -> Answer<(usize, Attributes)> {
        let mut attributes = Attributes::default().to_raw();
        // An empty name, which is none, would look like the end.
        name[0] = b'/';
        // SAFETY: see `with`; the buffer is ours and as long as said, and so are the attributes; no long form is asked for.
        let length = self.with(|session, handle| unsafe {
            let (buffer, out) = (name.as_mut_ptr().cast(), &raw mut attributes);
            let length = raw::libssh2_sftp_readdir_ex(handle, buffer, name.len(), ptr::null_mut(), 0, out);
            check_length(session, length as isize)
        })?;
        match name[0] {
            0 => Err(Failure { code: raw::LIBSSH2_ERROR_PROTO, ..no_answer() }),
            _ => Ok((length, Attributes::from_raw(&attributes))),
        }
    }

    /// Closes the file; the server may report here what it could not write. Done once this returns anything but `would_block`;
    /// the file must not be used after.
    pub(super) fn close(&mut self) -> Answer<()> {
        // SAFETY: see `with`. libssh2 frees the handle unless the call would block; the one caller forgets it then.
        let closed = self.with(|session, handle| unsafe { check(session, raw::libssh2_sftp_close_handle(handle)) });
        self.is_freed = !closed.as_ref().is_err_and(Failure::would_block);
        closed
    }
}

/// What libssh2 waits for: readable, writable.
#[expect(unsafe_code, reason = "asks libssh2 for two bits")]
pub(super) fn waits_for(session: &ssh2::Session) -> (bool, bool) {
    // SAFETY: the session is locked and alive.
    let bits = locked(session, |raw| unsafe { raw::libssh2_session_block_directions(raw) });
    (bits & raw::LIBSSH2_SESSION_BLOCK_INBOUND != 0, bits & raw::LIBSSH2_SESSION_BLOCK_OUTBOUND != 0)
}

/// A descriptor to wait for, until it can be read or written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Awaited<'a> {
    pub(crate) descriptor: BorrowedFd<'a>,
    pub(crate) to_read: bool,
    pub(crate) to_write: bool,
}

impl<'a> Awaited<'a> {
    pub(crate) fn to_read(descriptor: BorrowedFd<'a>) -> Self {
        Self { descriptor, to_read: true, to_write: false }
    }

    pub(crate) fn to_write(descriptor: BorrowedFd<'a>) -> Self {
        Self { descriptor, to_read: false, to_write: true }
    }

    /// Waits until one of them is ready.
    pub(crate) fn wait(awaited: &[Self], deadline: Deadline, waiting_for: &str) -> Result<()> {
        loop {
            deadline.check(waiting_for)?;
            if poll(awaited, deadline.next_check().remaining_ms(Duration::MAX)) {
                return Ok(());
            }
        }
    }

    /// Whether this one is ready now.
    pub(crate) fn is_ready(&self) -> bool {
        poll(&[*self], 0)
    }
}

/// Waits at most `milliseconds` for one of the descriptors, and says whether one is ready. One that has failed counts too: the next
/// call on it says how.
#[expect(unsafe_code, reason = "poll")]
pub(super) fn poll(awaited: &[Awaited<'_>], milliseconds: u32) -> bool {
    let mut entries: Vec<_> = awaited
        .iter()
        .map(|one| {
            let events = if one.to_read { libc::POLLIN } else { 0 } | if one.to_write { libc::POLLOUT } else { 0 };
            libc::pollfd { fd: one.descriptor.as_raw_fd(), events, revents: 0 }
        })
        .collect();
    let milliseconds = c_int::try_from(milliseconds).unwrap_or(c_int::MAX);
    // SAFETY: the entries are ours and as many as said; the descriptors are borrowed and so open. A signal ends the wait early,
    // as it may: callers look again.
    let ready = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, milliseconds) };
    if ready < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {
        interrupt::signalled();
    }
    ready > 0
}

/// Closes another descriptor of a file: some file systems report only then what they could not write, and `File` does not tell.
#[expect(unsafe_code, reason = "close")]
pub(crate) fn close_one_of(file: &std::fs::File) -> io::Result<()> {
    let descriptor = file.try_clone()?.into_raw_fd();
    // SAFETY: the descriptor is ours, and nobody else's.
    match unsafe { libc::close(descriptor) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Bytes that have arrived, copied into `buffer` without being taken; 0 once the peer has closed.
#[expect(unsafe_code, reason = "recv")]
pub(super) fn peek(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: the buffer is ours and as long as said; the descriptor is borrowed and so open.
    let length = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), flags) };
    usize::try_from(length).map_err(|_| io::Error::last_os_error())
}

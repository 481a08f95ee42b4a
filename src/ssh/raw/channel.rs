//! SSH channels.

use std::ffi::{c_char, c_int, c_uint};
use std::ptr::{self, NonNull};

use libssh2_sys as sys;

use super::{Answer, check, check_length, last_failure, locked, short};

#[expect(unsafe_code, reason = "declarations of C functions")]
unsafe extern "C" {
    fn libssh2_channel_has_exit_status(channel: *mut sys::LIBSSH2_CHANNEL) -> c_int;
    fn libssh2_channel_signal_ex(channel: *mut sys::LIBSSH2_CHANNEL, name: *const c_char, name_len: usize) -> c_int;
}

/// One of the two output streams of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamId {
    Stdout = 0,
    Stderr = 1,
}

/// An SSH channel. Dropping it without a finished [`Channel::close`] leaves it to its session, which is then to be thrown away.
pub(in crate::ssh) struct Channel {
    session: ssh2::Session,
    channel: NonNull<sys::LIBSSH2_CHANNEL>,
}

// SAFETY: libssh2 has no thread affinity; the pointer is only used under the session's lock, which `Channel` takes itself.
#[expect(unsafe_code, reason = "the pointer may move between threads")]
unsafe impl Send for Channel {}

#[expect(unsafe_code, reason = "calls into libssh2")]
impl Channel {
    pub(in crate::ssh) fn open(session: &ssh2::Session, window: u32) -> Answer<Self> {
        const KIND: &[u8] = b"session";
        const PACKET: c_uint = 32768;
        locked(session, |raw| {
            // SAFETY: the session is locked and alive; KIND outlives the call; no message is given.
            let channel =
                unsafe { sys::libssh2_channel_open_ex(raw, KIND.as_ptr().cast(), 7, window, PACKET, ptr::null(), 0) };
            match NonNull::new(channel) {
                Some(channel) => Ok(Self { session: session.clone(), channel }),
                None => Err(last_failure(raw)),
            }
        })
    }

    /// Calls `f` with the session locked and the channel's pointer, which is valid as long as `self`: only `close` frees it.
    fn with<T>(&self, f: impl FnOnce(*mut sys::LIBSSH2_SESSION, *mut sys::LIBSSH2_CHANNEL) -> T) -> T {
        locked(&self.session, |raw| f(raw, self.channel.as_ptr()))
    }

    pub(in crate::ssh) fn request_pty(&self, kind: &str, columns: u16, rows: u16) -> Answer<()> {
        let length = short(kind.len())?;
        // SAFETY: see `with`; libssh2 copies the kind; no modes are given.
        self.with(|session, channel| unsafe {
            let (kind, columns, rows) = (kind.as_ptr().cast(), columns.into(), rows.into());
            let modes = ptr::null();
            check(session, sys::libssh2_channel_request_pty_ex(channel, kind, length, modes, 0, columns, rows, 0, 0))
        })
    }

    pub(in crate::ssh) fn resize_pty(&self, columns: u16, rows: u16) -> Answer<()> {
        // SAFETY: see `with`.
        self.with(|session, channel| unsafe {
            check(session, sys::libssh2_channel_request_pty_size_ex(channel, columns.into(), rows.into(), 0, 0))
        })
    }

    pub(in crate::ssh) fn exec(&self, line: &[u8]) -> Answer<()> {
        let length = short(line.len())?;
        // SAFETY: see `with`; "exec" and `line` outlive the call, and libssh2 copies both.
        self.with(|session, channel| unsafe {
            let (kind, line) = (c"exec".as_ptr(), line.as_ptr().cast());
            check(session, sys::libssh2_channel_process_startup(channel, kind, 4, line, length))
        })
    }

    /// Bytes read into `buffer`; 0 means that nothing more will come.
    pub(in crate::ssh) fn read(&self, stream: StreamId, buffer: &mut [u8]) -> Answer<usize> {
        // SAFETY: see `with`; the buffer is ours and as long as said.
        self.with(|session, channel| unsafe {
            let (bytes, length) = (buffer.as_mut_ptr().cast(), buffer.len());
            check_length(session, sys::libssh2_channel_read_ex(channel, stream as c_int, bytes, length))
        })
    }

    pub(in crate::ssh) fn write(&self, bytes: &[u8]) -> Answer<usize> {
        // SAFETY: see `with`; the bytes are ours and as many as said.
        self.with(|session, channel| unsafe {
            check_length(session, sys::libssh2_channel_write_ex(channel, 0, bytes.as_ptr().cast(), bytes.len()))
        })
    }

    pub(in crate::ssh) fn send_eof(&self) -> Answer<()> {
        // SAFETY: see `with`.
        self.with(|session, channel| unsafe { check(session, sys::libssh2_channel_send_eof(channel)) })
    }

    /// The server has closed its side of both streams, and everything that it sent has been read.
    pub(in crate::ssh) fn at_eof(&self) -> bool {
        // SAFETY: see `with`.
        self.with(|_, channel| unsafe { sys::libssh2_channel_eof(channel) == 1 })
    }

    /// Waits for the server to close the channel; allowed once it is at its end.
    pub(in crate::ssh) fn wait_closed(&self) -> Answer<()> {
        // SAFETY: see `with`.
        self.with(|session, channel| unsafe { check(session, sys::libssh2_channel_wait_closed(channel)) })
    }

    /// Asks the server for something that it refuses once a command was requested. Its answer comes after all that it sent before: one
    /// round trip.
    pub(in crate::ssh) fn ping(&self) -> Answer<()> {
        const NAME: &[u8] = b"SANDBOX_PING";
        // SAFETY: see `with`; libssh2 copies the name, and the value is empty.
        self.with(|session, channel| unsafe {
            let (name, length) = (NAME.as_ptr().cast(), NAME.len() as c_uint);
            match sys::libssh2_channel_setenv_ex(channel, name, length, name, 0) {
                sys::LIBSSH2_ERROR_CHANNEL_REQUEST_DENIED => Ok(()),
                code => check(session, code),
            }
        })
    }

    /// The exit code, if the server really sent one.
    pub(in crate::ssh) fn exit_code(&self) -> Option<i32> {
        // SAFETY: see `with`.
        self.with(|_, channel| unsafe {
            (libssh2_channel_has_exit_status(channel) != 0).then(|| sys::libssh2_channel_get_exit_status(channel))
        })
    }

    /// The name of the signal that ended the command, without `SIG`, if the server sent one.
    pub(in crate::ssh) fn exit_signal(&self) -> Option<String> {
        let (mut name, mut length) = (ptr::null_mut(), 0);
        // SAFETY: see `with`; libssh2 allocates `length` bytes for the name, which are copied and given back to it here. The
        // other outputs may be NULL.
        self.with(|session, channel| unsafe {
            let (name_out, length_out) = (&raw mut name, &raw mut length);
            let (text, text_length) = (ptr::null_mut(), ptr::null_mut());
            sys::libssh2_channel_get_exit_signal(channel, name_out, length_out, text, text_length, text, text_length);
            if name.is_null() {
                return None;
            }
            let text = String::from_utf8_lossy(std::slice::from_raw_parts(name.cast::<u8>(), length)).into_owned();
            sys::libssh2_free(session, name.cast());
            Some(text)
        })
    }

    /// Asks the server to send the command's process group a signal, named without `SIG`. There is no answer.
    pub(in crate::ssh) fn signal(&self, name: &str) -> Answer<()> {
        // SAFETY: see `with`; libssh2 copies the name.
        self.with(|session, channel| unsafe {
            check(session, libssh2_channel_signal_ex(channel, name.as_ptr().cast(), name.len()))
        })
    }

    /// Closes the channel on both sides. Done once this returns anything but `would_block`; the channel must not be used after.
    pub(in crate::ssh) fn close(&mut self) -> Answer<()> {
        // SAFETY: see `with`. libssh2 frees the channel if and only if it returns 0; the one caller forgets it then.
        self.with(|session, channel| unsafe { check(session, sys::libssh2_channel_free(channel)) })
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").finish_non_exhaustive()
    }
}

//! SSH channels.

use std::ffi::c_uint;
use std::ptr::{self, NonNull};

use libssh2_sys as sys;

use super::{Answer, check, check_length, last_failure, locked, short};

/// An SSH channel. It is never closed: its session frees it at its own end.
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
            let Some(channel) = NonNull::new(channel) else { return Err(last_failure(raw)) };
            // By default, the data of other streams would be kept until somebody asks for it. None is expected, so it may as well be
            // read like the rest.
            // SAFETY: the session is locked, and the channel was just opened. In this mode the call only sets it.
            let code = unsafe {
                sys::libssh2_channel_handle_extended_data2(channel.as_ptr(), sys::LIBSSH2_CHANNEL_EXTENDED_DATA_MERGE)
            };
            check(raw, code).map(|()| Self { session: session.clone(), channel })
        })
    }

    /// Calls `f` with the session locked and the channel's pointer, which is valid as long as the session.
    fn with<T>(&self, f: impl FnOnce(*mut sys::LIBSSH2_SESSION, *mut sys::LIBSSH2_CHANNEL) -> T) -> T {
        locked(&self.session, |raw| f(raw, self.channel.as_ptr()))
    }

    /// Starts a subsystem of the server.
    pub(in crate::ssh) fn subsystem(&self, name: &str) -> Answer<()> {
        let length = short(name.len())?;
        // SAFETY: see `with`; "subsystem" and `name` outlive the call, and libssh2 copies both.
        self.with(|session, channel| unsafe {
            let (kind, name) = (c"subsystem".as_ptr(), name.as_ptr().cast());
            check(session, sys::libssh2_channel_process_startup(channel, kind, 9, name, length))
        })
    }

    /// Bytes of the channel's data read into `buffer`; 0 means that nothing more will come.
    pub(in crate::ssh) fn read(&self, buffer: &mut [u8]) -> Answer<usize> {
        // SAFETY: see `with`; the buffer is ours and as long as said.
        self.with(|session, channel| unsafe {
            let (bytes, length) = (buffer.as_mut_ptr().cast(), buffer.len());
            check_length(session, sys::libssh2_channel_read_ex(channel, 0, bytes, length))
        })
    }

    /// Takes in what has arrived, as long as it is there, and leaves the channel's data where it is; fails with "again".
    pub(in crate::ssh) fn take_in(&self) -> Answer<()> {
        // SAFETY: see `with`.
        self.with(|session, channel| unsafe { check(session, sys::libssh2_channel_wait_eof(channel)) })
    }

    /// The last exit status that came; 0 before.
    pub(in crate::ssh) fn exit_status(&self) -> u32 {
        // SAFETY: see `with`.
        self.with(|_, channel| unsafe { sys::libssh2_channel_get_exit_status(channel) }).cast_unsigned()
    }

    pub(in crate::ssh) fn write(&self, bytes: &[u8]) -> Answer<usize> {
        // SAFETY: see `with`; the bytes are ours and as many as said.
        self.with(|session, channel| unsafe {
            check_length(session, sys::libssh2_channel_write_ex(channel, 0, bytes.as_ptr().cast(), bytes.len()))
        })
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").finish_non_exhaustive()
    }
}

//! SSH channels.

use std::ffi::c_uint;
use std::ptr::{self, NonNull};

use libssh2_sys as sys;

use super::{Answer, Failure, check, check_length, last_failure, locked, short};

/// An SSH channel. Dropping it does not close it: its session frees it at its own end, if [`Channel::free`] did not
/// before.
pub(in crate::ssh) struct Channel {
    session: ssh2::Session,
    channel: NonNull<sys::LIBSSH2_CHANNEL>,
}

// SAFETY: libssh2 has no thread affinity; the pointer is only used under the session's lock, which `Channel` takes
// itself.
#[expect(unsafe_code, reason = "the pointer may move between threads")]
unsafe impl Send for Channel {}

#[expect(unsafe_code, reason = "calls into libssh2")]
impl Channel {
    /// Opens a channel of a kind, with the message that belongs to the kind.
    pub(in crate::ssh) fn open(session: &ssh2::Session, kind: &str, message: &[u8], window: u32) -> Answer<Self> {
        const PACKET: c_uint = 32768;
        let (kind_length, length) = (short(kind.len())?, short(message.len())?);
        let (kind, message) = (kind.as_ptr().cast(), if length == 0 { ptr::null() } else { message.as_ptr().cast() });
        locked(session, |raw| {
            // SAFETY: the session is locked and alive; kind and message are as long as said and outlive the call.
            // libssh2 does not keep the message: while it can't be sent to its end, the same call is made again.
            let channel =
                unsafe { sys::libssh2_channel_open_ex(raw, kind, kind_length, window, PACKET, message, length) };
            let Some(channel) = NonNull::new(channel) else { return Err(last_failure(raw)) };
            // By default, the data of other streams would be kept until somebody asks for it. None is expected, so it
            // may as well be read like the rest.
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

    /// Takes in what has arrived, as long as it is there, and leaves the channel's data where it is; fails with
    /// "again".
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

#[expect(unsafe_code, reason = "calls into libssh2")]
impl Channel {
    /// Says that no more data comes.
    pub(in crate::ssh) fn end(&self) -> Answer<()> {
        // SAFETY: see `with`.
        self.with(|session, channel| unsafe { check(session, sys::libssh2_channel_send_eof(channel)) })
    }

    /// Fails with "again" while the server has not closed the channel, of which all data has been read.
    pub(in crate::ssh) fn is_closed(&self) -> Answer<()> {
        // SAFETY: see `with`.
        self.with(|session, channel| unsafe { check(session, sys::libssh2_channel_wait_closed(channel)) })
    }

    /// Closes the channel, and forgets it when the server has done so too. Until then it fails with "again" and gives
    /// the channel back.
    pub(in crate::ssh) fn free(self) -> std::result::Result<(), (Self, Failure)> {
        // SAFETY: see `with`. Once this succeeds, the channel is gone and so is this handle.
        let freed = self.with(|session, channel| unsafe { check(session, sys::libssh2_channel_free(channel)) });
        freed.map_err(|failure| (self, failure))
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").finish_non_exhaustive()
    }
}

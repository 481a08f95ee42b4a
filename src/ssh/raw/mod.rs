//! Bindings to libssh2: channels that wait for nothing, SFTP with atomic rename.
//!
//! Outside of `ffi`, nearly all unsafe code is here. Every call is non-blocking: [`Failure::would_block`] means "wait
//! for the socket and make the same call with the same arguments again". A handle keeps its session alive and locks it
//! for each call, so nothing here can be used from two threads at once.
//!
//! Some functions are exported by the libssh2 that libssh2-sys builds, and not declared there; the files here declare
//! what they use. Releases up to 1.11.1, which have holes that a server can reach, lack
//! `libssh2_channel_has_exit_status`: a program with such a libssh2 does not link.

mod channel;
mod connection;
mod openssl;
mod sftp;

use std::ffi::{c_int, c_uint};
use std::ptr;

use libssh2_sys as sys;

pub(super) use self::channel::Channel;
pub(super) use self::connection::Connection;
pub(crate) use self::openssl::init_openssl;
pub(crate) use self::sftp::Attributes;
pub(super) use self::sftp::{Sftp, SftpFile};

/// libssh2's error number and message, copied before the next call overwrites them.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) code: c_int,
    /// The SFTP status (`SSH_FX_…`), where `code` says that the server reported one.
    pub(super) sftp_status: Option<u32>,
    pub(super) message: String,
}

pub(super) type Answer<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(super) fn would_block(&self) -> bool {
        self.code == sys::LIBSSH2_ERROR_EAGAIN
    }

    /// An answer to a read was shorter than what was asked for, so that those behind it are for other offsets than
    /// expected.
    pub(super) fn is_out_of_step(&self) -> bool {
        self.code == sys::LIBSSH2_ERROR_SFTP_PROTOCOL && self.message == "Read Packet At Unexpected Offset"
    }
}

impl From<ssh2::Error> for Failure {
    fn from(error: ssh2::Error) -> Self {
        let (code, sftp_status) = match error.code() {
            ssh2::ErrorCode::Session(code) => (code, None),
            ssh2::ErrorCode::SFTP(status) => (sys::LIBSSH2_ERROR_SFTP_PROTOCOL, u32::try_from(status).ok()),
        };
        Self { code, sftp_status, message: error.message().to_owned() }
    }
}

/// Calls `f` with the session's pointer while its lock is held.
fn locked<T>(session: &ssh2::Session, f: impl FnOnce(*mut sys::LIBSSH2_SESSION) -> T) -> T {
    let mut guard = session.raw();
    f(&raw mut *guard)
}

#[expect(unsafe_code, reason = "reads C's last error")]
fn last_failure(session: *mut sys::LIBSSH2_SESSION) -> Failure {
    let (mut text, mut length) = (ptr::null_mut(), 0);
    // SAFETY: the caller holds the session's lock, so the session is alive and its message stays until it is copied
    // here; with want_buf 0 libssh2 lends its own buffer of `length` bytes.
    unsafe {
        let code = sys::libssh2_session_last_error(session, &raw mut text, &raw mut length, 0);
        let length = usize::try_from(length).unwrap_or(0);
        let bytes = if text.is_null() { &[][..] } else { std::slice::from_raw_parts(text.cast::<u8>(), length) };
        Failure { code, sftp_status: None, message: String::from_utf8_lossy(bytes).into_owned() }
    }
}

fn check(session: *mut sys::LIBSSH2_SESSION, code: c_int) -> Answer<()> {
    if code >= 0 { Ok(()) } else { Err(failure_with(session, code)) }
}

fn check_length(session: *mut sys::LIBSSH2_SESSION, length: isize) -> Answer<usize> {
    usize::try_from(length).map_err(|_| failure_with(session, c_int::try_from(length).unwrap_or(c_int::MIN)))
}

/// The failure that a call returned. Not every call leaves a message; then there is an older one of something else.
fn failure_with(session: *mut sys::LIBSSH2_SESSION, code: c_int) -> Failure {
    match last_failure(session) {
        failure if failure.code == code => failure,
        _ => Failure { code, sftp_status: None, message: format!("libssh2 fails with {code}") },
    }
}

/// For an answer that is none to what was asked, where libssh2 takes it.
fn unexpected_reply() -> Failure {
    let message = "the server's answer does not match the request".to_owned();
    Failure { code: sys::LIBSSH2_ERROR_SFTP_PROTOCOL, sftp_status: None, message }
}

/// Lengths that libssh2 takes as 32 bits.
fn short(length: usize) -> Answer<c_uint> {
    c_uint::try_from(length).map_err(|_| Failure {
        code: sys::LIBSSH2_ERROR_INVAL,
        sftp_status: None,
        message: "longer than 4 GiB".into(),
    })
}

/// What libssh2 waits for: readable, writable.
#[expect(unsafe_code, reason = "asks libssh2 for two bits")]
pub(super) fn waits_for(session: &ssh2::Session) -> (bool, bool) {
    // SAFETY: the session is locked and alive.
    let bits = locked(session, |raw| unsafe { sys::libssh2_session_block_directions(raw) });
    (bits & sys::LIBSSH2_SESSION_BLOCK_INBOUND != 0, bits & sys::LIBSSH2_SESSION_BLOCK_OUTBOUND != 0)
}

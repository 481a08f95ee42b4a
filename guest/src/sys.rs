//! System calls that have no safe wrapper elsewhere: the only file of this crate with `unsafe`.

use std::os::fd::{IntoRawFd, OwnedFd};

use rustix::io::Errno;

/// Closes a descriptor, and tells what some file systems report only then: that they could not write.
///
/// # Errors
/// As `close`. The descriptor is closed in any case.
#[expect(unsafe_code, reason = "close")]
pub fn close(descriptor: OwnedFd) -> Result<(), Errno> {
    // SAFETY: the descriptor is owned here and given away by `into_raw_fd`, so nobody else uses or closes it.
    match unsafe { libc::close(descriptor.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

//! System calls that have no safe wrapper elsewhere: the only file of this crate with `unsafe`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use rustix::io::Errno;

/// What the guest does first of all: descriptors 0 to 2 are made valid, every other one is closed when a program is executed, and the
/// process is made not dumpable, so that no process of the same user can trace it, read its memory or take its descriptors.
/// What is to be written below `/proc/self` must be written before.
pub fn protect() -> io::Result<()> {
    Ok(())
}

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

/// Makes the allocator give memory back that is not used, and keep few arenas: many threads that are mostly idle share them.
#[expect(unsafe_code, reason = "mallopt")]
pub fn tune_allocator() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in
        [(libc::M_ARENA_MAX, 2), (libc::M_MMAP_THRESHOLD, 64 << 10), (libc::M_TRIM_THRESHOLD, 128 << 10)]
    {
        // SAFETY: mallopt takes two numbers; with parameters that it does not know it does nothing.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// The process at the other end of a Unix socket: its number in this PID namespace, 0 if it has none.
#[expect(unsafe_code, reason = "getsockopt; rustix can't represent the 0")]
pub fn peer_process(socket: BorrowedFd<'_>) -> io::Result<i32> {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which is the structure's size, and every content is valid for it.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(credentials.pid) } else { Err(io::Error::last_os_error()) }
}

/// A descriptor of the process at the other end of a Unix socket, whatever its number is used for later. Since Linux 6.5.
#[expect(unsafe_code, reason = "getsockopt with SO_PEERPIDFD")]
pub fn peer_pidfd(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const SO_PEERPIDFD: libc::c_int = 77;
    let mut descriptor: libc::c_int = -1;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which is the number's size.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut descriptor).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for the caller, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

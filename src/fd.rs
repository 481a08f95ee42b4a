//! File descriptors: waiting until one of several is ready, looking at what has arrived, closing with an answer.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::RecvFlags;

use crate::deadline::Deadline;
use crate::error::Result;
use crate::interrupt;

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

/// How a descriptor was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    pub(crate) to_read: bool,
    pub(crate) to_write: bool,
    /// The peer takes and sends nothing more.
    pub(crate) is_hung_up: bool,
    pub(crate) has_failed: bool,
}

/// Waits at most `milliseconds` for one of the descriptors, and says whether one is ready. One that has failed counts
/// as ready: the next call on it reports the error. A signal ends the wait early.
pub(crate) fn poll(awaited: &[Awaited<'_>], milliseconds: u32) -> bool {
    poll_entries(awaited, milliseconds).iter().any(|entry| !entry.revents().is_empty())
}

/// As [`poll`], and says how each of them is.
pub(crate) fn poll_each(awaited: &[Awaited<'_>], milliseconds: u32) -> Vec<Readiness> {
    let readiness = |entry: &PollFd<'_>| {
        let found = entry.revents();
        Readiness {
            to_read: found.contains(PollFlags::IN),
            to_write: found.contains(PollFlags::OUT),
            is_hung_up: found.contains(PollFlags::HUP),
            has_failed: found.intersects(PollFlags::ERR | PollFlags::NVAL),
        }
    };
    poll_entries(awaited, milliseconds).iter().map(readiness).collect()
}

fn poll_entries<'a>(awaited: &[Awaited<'a>], milliseconds: u32) -> Vec<PollFd<'a>> {
    let events = |one: &Awaited<'_>| {
        let read = if one.to_read { PollFlags::IN } else { PollFlags::empty() };
        let write = if one.to_write { PollFlags::OUT } else { PollFlags::empty() };
        read | write
    };
    let mut entries: Vec<_> = awaited.iter().map(|one| PollFd::from_borrowed_fd(one.descriptor, events(one))).collect();
    let timeout =
        Timespec { tv_sec: i64::from(milliseconds / 1000), tv_nsec: i64::from(milliseconds % 1000) * 1_000_000 };
    if rustix::event::poll(&mut entries, Some(&timeout)) == Err(rustix::io::Errno::INTR) {
        interrupt::note_eintr();
    }
    entries
}

/// Bytes that have arrived, copied into `buffer` without being taken; 0 once the peer has closed.
pub(crate) fn peek(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let (length, _) = rustix::net::recv(socket, buffer, RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
    Ok(length)
}

/// Closes another descriptor of a file: some file systems report only then what they could not write, and `File`
/// ignores that.
#[expect(unsafe_code, reason = "no safe function reports what close() answers")]
pub(crate) fn close_one_of(file: &File) -> io::Result<()> {
    let descriptor = file.try_clone()?.into_raw_fd();
    // SAFETY: the descriptor was made here and is owned by nobody else.
    match unsafe { libc::close(descriptor) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Writes to what may be a pipe that nobody reads any more: that is an error, and no signal that ends the program.
#[expect(unsafe_code, reason = "no safe function blocks a signal for a while")]
pub(crate) fn write_without_signal(mut file: &File, bytes: &[u8]) -> io::Result<usize> {
    use std::io::Write;
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let (mut pending, mut before) = (set, set);
    // SAFETY: each set is initialised by a function that can't fail on it before another one reads it, and all are
    // ours.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
        libc::sigemptyset(pending.as_mut_ptr());
        libc::sigpending(pending.as_mut_ptr());
        libc::sigemptyset(before.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), before.as_mut_ptr());
    }
    let written = file.write(bytes);
    // SAFETY: as above. The signal is taken only if it is there because of this write, so that it waits for nobody
    // else.
    unsafe {
        if written.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
            && libc::sigismember(pending.as_ptr(), libc::SIGPIPE) == 0
        {
            let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            libc::sigtimedwait(set.as_ptr(), std::ptr::null_mut(), &raw const now);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut());
    }
    written
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn waits_for_what_is_asked_for() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let (reading, writing) = (Awaited::to_read(near.as_fd()), Awaited::to_write(near.as_fd()));
        assert!(!reading.is_ready() && writing.is_ready());
        assert!(!poll(&[reading], 5) && poll(&[reading, writing], 60_000));
        far.write_all(b"abc").unwrap();
        assert!(reading.is_ready());
        assert!(Awaited::wait(&[reading], Deadline::after(None), "a test").is_ok());
    }

    #[test]
    fn a_peek_takes_nothing_and_sees_the_end() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut buffer = [0; 2];
        assert_eq!(peek(near.as_fd(), &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        far.write_all(b"abc").unwrap();
        for _ in 0..2 {
            assert_eq!((peek(near.as_fd(), &mut buffer).unwrap(), buffer), (2, *b"ab"));
        }
        let (near, far) = UnixStream::pair().unwrap();
        drop(far);
        assert_eq!(peek(near.as_fd(), &mut buffer).unwrap(), 0);
    }

    #[test]
    fn a_closed_copy_leaves_the_file_open() {
        let mut file = File::open("/dev/null").unwrap();
        close_one_of(&file).unwrap();
        assert_eq!(io::Read::read(&mut file, &mut [0]).unwrap(), 0);
    }
}

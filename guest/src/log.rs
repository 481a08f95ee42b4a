//! The container's log: single lines on the standard error.

use std::fmt;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Writes one line. What the log does not take at once is dropped: nobody waits for a log.
pub(crate) fn write(message: fmt::Arguments<'_>) {
    let line = format!("sandbox-guest: {message}");
    // What a client chose, such as a file's name, must not look like a line of its own.
    let mut line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1000).collect();
    line.push('\n');
    let stderr = std::io::stderr();
    let mut descriptors = [PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(&mut descriptors, Some(&now)).is_ok_and(|count| count > 0) {
        let _ = rustix::io::write(stderr.as_fd(), line.as_bytes());
    }
}

/// Writes a line to the container's log, as `format!` makes it.
macro_rules! log {
    ($($argument:tt)*) => { $crate::log::write(::std::format_args!($($argument)*)) };
}

pub(crate) use log;

//! What process 1 owes its system: reaping, and ending when it is told to from outside.

use super::Spawner;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Receives the signals of the guest on its main thread.
#[derive(Debug)]
pub struct Reaper {
    signals: OwnedFd,
}

/// What a signal asks of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// SIGTERM or SIGINT from outside of the process namespace, that is, from the kubelet: end.
    Terminate,
}

impl Reaper {
    /// Blocks SIGCHLD, SIGTERM, SIGINT and SIGHUP in this thread, and so in those that it starts later: call it before any thread exists.
    pub fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Reads the signals that have come, reaps, and says what is asked. Call it when the descriptor is readable.
    pub fn handle(&self, spawner: &Spawner) -> Vec<Notice> {
        let _ = spawner;
        Vec::new()
    }
}

impl AsFd for Reaper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}

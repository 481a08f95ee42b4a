//! What process 1 owes its system: reaping, and ending when it is told to from outside.

use super::Spawner;
use crate::sys;
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
    /// SIGTERM, or what an image names as its stop signal, from outside of the process namespace, that is, from the
    /// kubelet: end.
    Terminate,
}

/// What ends the guest if it comes from outside. Images may name other stop signals than SIGTERM. Not the realtime
/// ones: those are queued, and a command could fill the queue (see `leave_room_for_signals` in zygote.rs).
const STOP: [i32; 9] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGWINCH,
    libc::SIGPWR,
];

/// The size of the kernel's `struct signalfd_siginfo`.
const RECORD: usize = 128;

impl Reaper {
    /// Blocks SIGCHLD and all stop signals in this thread, and so in those that it starts later: call it before any
    /// thread exists.
    pub fn new() -> io::Result<Self> {
        let signals = [&[libc::SIGCHLD][..], &STOP].concat();
        sys::block_signals(&signals)?;
        Ok(Self { signals: sys::signal_descriptor(&signals)? })
    }

    /// Reads the signals that have come, reaps, and says what is asked. Call it when the descriptor is readable.
    pub fn handle(&self, spawner: &Spawner) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut buffer = [0; 16 * RECORD];
        while let Ok(length) = rustix::io::read(&self.signals, &mut buffer) {
            notices.extend(buffer[..length].chunks_exact(RECORD).filter_map(notice));
            if length < buffer.len() {
                break;
            }
        }
        spawner.reap();
        notices
    }
}

fn notice(record: &[u8]) -> Option<Notice> {
    let number = |at: usize| Some(i32::from_le_bytes(record.get(at..at + 4)?.try_into().ok()?));
    let (signal, code, sender) = (number(0)?, number(8)?, number(12)?);
    // A sender in another namespace has no number here. One inside can write 0 itself, with rt_sigqueueinfo(2), but not
    // with this code. The kernel itself (SI_KERNEL) tells of the terminal that a container may have: its size, its end;
    // that is nobody's order to stop.
    let is_from_outside = sender == 0 && code == libc::SI_USER;
    (is_from_outside && STOP.contains(&signal)).then_some(Notice::Terminate)
}

impl AsFd for Reaper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_signals_from_outside_end_the_guest() {
        let record = |signal: i32, code: i32, sender: i32| {
            let mut record = [0; RECORD];
            record[..4].copy_from_slice(&signal.to_le_bytes());
            record[8..12].copy_from_slice(&code.to_le_bytes());
            record[12..16].copy_from_slice(&sender.to_le_bytes());
            record
        };
        assert_eq!(notice(&record(libc::SIGTERM, libc::SI_USER, 0)), Some(Notice::Terminate));
        assert_eq!(notice(&record(libc::SIGQUIT, libc::SI_USER, 0)), Some(Notice::Terminate));
        assert_eq!(notice(&record(libc::SIGWINCH, libc::SI_KERNEL, 0)), None, "a terminal's new size");
        assert_eq!(notice(&record(libc::SIGTERM, libc::SI_USER, 17)), None);
        assert_eq!(notice(&record(libc::SIGTERM, libc::SI_QUEUE, 0)), None, "a forged sender");
        assert_eq!(notice(&record(libc::SIGCHLD, libc::SI_USER, 0)), None);
        assert_eq!(notice(&record(libc::SIGCHLD, libc::CLD_EXITED, 5)), None);
    }
}

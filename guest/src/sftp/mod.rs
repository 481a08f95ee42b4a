//! The SFTP server: version 3 of the protocol (draft-ietf-secsh-filexfer-02) with OpenSSH's extensions and a few of our own.
//!
//! Bytes in, bytes out: the engine knows nothing of SSH. Requests are answered in the order in which they came, on the caller's
//! thread, and none of them keeps the caller for long: what could take long is done in steps or elsewhere, see [`Sftp::wait`].

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

/// How a server for one channel is to behave.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where relative paths begin.
    pub directory: PathBuf,
    /// What `~` means.
    pub home: PathBuf,
    /// Whose home that is: the user's name.
    pub user: Vec<u8>,
    /// Failures have the status `SFTP_ERRNO_BASE + errno` instead of the one of version 3 that fits best.
    pub detailed_status: bool,
    /// How many files and directories may be open at once.
    pub max_handles: usize,
    /// Requests are answered as long as there are fewer bytes of answers than this. One answer is at most 257 KiB long.
    pub output_limit: usize,
    /// How long a request waits for a named pipe or a terminal that has no data or no room, before it fails with `EAGAIN`.
    pub patience: Duration,
}

/// The SHA-256 of what passed through a handle that was opened with `SFTP_OPEN_DIGEST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The path that was opened, as the client gave it.
    pub path: Vec<u8>,
    /// The offset of the first byte.
    pub offset: u64,
    /// How many bytes there were.
    pub length: u64,
    /// `None` if they were not read or written in sequence, or if that failed.
    pub sha256: Option<[u8; 32]>,
}

/// The stream of requests makes no sense any more; the channel is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken(&'static str);

/// What the engine waits for.
#[derive(Clone, Copy, Debug)]
pub enum Wait<'a> {
    /// More input. With input there already: room in the output.
    Input,
    /// Nothing; a long request is being answered in steps. [`Sftp::handle`] is to be called again once others had their turn.
    Now,
    /// One of these events, or the time: then [`Sftp::handle`] is to be called again.
    Descriptor {
        /// What is to be polled.
        descriptor: BorrowedFd<'a>,
        /// For which events.
        events: PollFlags,
        /// When to call at the latest, if there is a limit.
        until: Option<Instant>,
    },
}

/// The server's side of one SFTP session.
#[derive(Debug)]
pub struct Sftp {
    options: Options,
}

impl Sftp {
    /// A server that has seen no request yet.
    pub fn new(options: Options) -> Self {
        Self { options }
    }

    /// Takes requests from `input` and appends answers to `output` while that is shorter than its limit; returns how many bytes of
    /// `input` were taken. The others are to be given again: once `output` has been drained, or as [`wait`](Self::wait) says.
    /// A part of a request at the end of `input` is taken and kept. `input` may be empty.
    ///
    /// # Errors
    /// If the stream of requests is no SFTP.
    pub fn handle(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<usize, Broken> {
        let _ = (input, output, &self.options);
        Ok(0)
    }

    /// What is to happen before [`handle`](Self::handle) is called again.
    pub fn wait(&self) -> Wait<'_> {
        Wait::Input
    }

    /// The digests of files that were closed since the last call, in the order of closing; the last 1024 of them.
    pub fn take_digests(&mut self) -> Vec<Digest> {
        Vec::new()
    }

    /// Gives memory back that is only needed while requests come in; for a channel that is idle.
    pub fn release_memory(&mut self) {}
}

//! Ends of the pipes and terminals of a command.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{self, Errno};
use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};
use rustix::termios::{SpecialCodeIndex, tcgetattr};

/// What a pipe is enlarged to once a command has filled it: more bytes a system call. Not before, since most commands
/// write little.
const LARGE_PIPE: usize = 1 << 20;

fn enlarge(pipe: BorrowedFd<'_>) {
    // A limit of the user's pages may forbid it; then it stays as it is.
    let _ = fcntl_setpipe_size(pipe, LARGE_PIPE);
}

/// Where a command's input is written to, and what it has not taken yet.
#[derive(Debug, Default)]
pub(crate) struct InputEnd {
    descriptor: Option<OwnedFd>,
    pending: Vec<u8>,
    /// How much of the beginning of `pending` has been written.
    written: usize,
    ends: bool,
    is_pipe: bool,
}

impl InputEnd {
    /// The writing end of a pipe.
    pub(crate) fn pipe(descriptor: Option<OwnedFd>) -> Self {
        Self { descriptor, is_pipe: true, ..Self::default() }
    }

    /// A terminal or a socket.
    pub(crate) fn other(descriptor: Option<OwnedFd>) -> Self {
        Self { descriptor, ..Self::default() }
    }

    /// Takes over what came for an end that had no descriptor yet, and says how many bytes need no memory any more.
    pub(crate) fn inherit(&mut self, early: Self) -> usize {
        if self.descriptor.is_none() {
            self.close();
            return early.pending();
        }
        self.pending = early.pending;
        let written = self.flush();
        if early.ends {
            self.end();
        }
        written
    }

    /// Writes bytes, keeps what is not taken, and says how many bytes need no memory any more.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> usize {
        if self.ends {
            return bytes.len();
        }
        let written = if self.pending.is_empty() { self.write(bytes) } else { 0 };
        // What has been written does not stay in memory if more comes all the time.
        if self.written > self.pending.len() / 2 {
            self.pending.drain(..self.written);
            self.written = 0;
        }
        self.pending.extend_from_slice(&bytes[written..]);
        written
    }

    /// Writes what was kept, and says how many bytes need no memory any more.
    pub(crate) fn flush(&mut self) -> usize {
        let pending = std::mem::take(&mut self.pending);
        let left = &pending[self.written..];
        let length = left.len();
        let count = self.write(left);
        if count < length {
            self.written += count;
            self.pending = pending;
        } else {
            self.written = 0;
        }
        self.close_if_done();
        count
    }

    /// Ends the input after what was kept.
    pub(crate) fn end(&mut self) {
        self.ends = true;
        self.close_if_done();
    }

    /// What a terminal's user types at the end of the input.
    pub(crate) fn end_of_file_character(&self) -> u8 {
        const CONTROL_D: u8 = 4;
        let settings = self.descriptor.as_ref().and_then(|terminal| tcgetattr(terminal).ok());
        settings.map_or(CONTROL_D, |settings| settings.special_codes[SpecialCodeIndex::VEOF])
    }

    /// Whether the input has ended and has been written, or nobody reads it any more.
    pub(crate) fn is_done(&self) -> bool {
        self.ends && self.pending.is_empty()
    }

    /// Bytes that are kept.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len() - self.written
    }

    /// What to wait for until more can be written.
    pub(crate) fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        if self.pending.is_empty() { None } else { self.descriptor.as_ref().map(AsFd::as_fd) }
    }

    /// Gives the descriptor up.
    pub(crate) fn close(&mut self) {
        *self = Self { ends: true, ..Self::default() };
    }

    fn close_if_done(&mut self) {
        if self.ends && self.pending.is_empty() {
            self.descriptor = None;
        }
    }

    /// How many bytes were taken. Nobody reads any more: all of them, into nothing.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let Some(descriptor) = &self.descriptor else { return 0 };
        let mut count = 0;
        while count < bytes.len() {
            match io::write(descriptor, &bytes[count..]) {
                Ok(written) => {
                    count += written;
                    if self.is_pipe && count < bytes.len() {
                        enlarge(descriptor.as_fd());
                        self.is_pipe = false;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return count,
                Err(_) => {
                    self.close();
                    return bytes.len();
                }
            }
        }
        count
    }
}

/// Where a command's output is read from.
#[derive(Debug, Default)]
pub(crate) struct OutputEnd {
    descriptor: Option<OwnedFd>,
    /// Whether reading may give something. A poll says so.
    ready: bool,
    /// How many bytes there are left to read, once the command has ended.
    left: Option<usize>,
    /// What the pipe holds, once it was asked. Nothing more is to be enlarged if it is as large as can be.
    size: Option<usize>,
    is_terminal: bool,
}

/// A terminal's buffers hold less.
const MOST_OF_A_TERMINAL: usize = 1 << 20;

impl OutputEnd {
    /// The reading end of a pipe.
    pub(crate) fn pipe(descriptor: Option<OwnedFd>) -> Self {
        Self { descriptor, ..Self::default() }
    }

    /// A terminal's master.
    pub(crate) fn terminal(descriptor: Option<OwnedFd>) -> Self {
        Self { descriptor, is_terminal: true, ..Self::default() }
    }

    /// What to wait for until there is something to read; none once it is known.
    pub(crate) fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        if self.ready { None } else { self.descriptor.as_ref().map(AsFd::as_fd) }
    }

    /// There is something to read.
    pub(crate) fn set_ready(&mut self) {
        self.ready = true;
    }

    /// Whether there is something to read.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready && self.descriptor.is_some()
    }

    /// Nothing more will be read.
    pub(crate) fn is_closed(&self) -> bool {
        self.descriptor.is_none()
    }

    /// The command has ended: what it has written is what is there now. What others write later does not count, so
    /// somebody who goes on writing for ever does not keep the command from being over.
    pub(crate) fn drain(&mut self) {
        let Some(descriptor) = &self.descriptor else { return };
        let there = if self.is_terminal {
            // How much that is can't be asked: a part is still on its way through the terminal. Reading waits for it.
            MOST_OF_A_TERMINAL
        } else {
            io::ioctl_fionread(descriptor).map_or(usize::MAX, |there| usize::try_from(there).unwrap_or(usize::MAX))
        };
        self.left = Some(there);
        self.ready = true;
    }

    /// Reads; 0 if there is nothing now, or nothing any more.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> usize {
        let Some(descriptor) = &self.descriptor else { return 0 };
        let most = self.left.unwrap_or(usize::MAX).min(buffer.len());
        let result = if most == 0 { Ok(0) } else { io::read(descriptor, &mut buffer[..most]) };
        match result {
            Ok(count) if count > 0 => {
                self.left = self.left.map(|left| left - count);
                if !self.is_terminal {
                    let size = *self.size.get_or_insert_with(|| fcntl_getpipe_size(descriptor).unwrap_or(LARGE_PIPE));
                    if count >= size && size < LARGE_PIPE {
                        enlarge(descriptor.as_fd());
                        self.size = Some(LARGE_PIPE);
                    }
                    // A pipe that gives less than it is asked for is empty now: a poll says when there is more, or the
                    // end. This spares every other read and poll of a command that writes small pieces.
                    self.ready = count == most || self.left.is_some();
                }
                count
            }
            Err(Errno::INTR) => 0,
            Err(Errno::AGAIN) if self.left.is_none() => {
                self.ready = false;
                0
            }
            _ => {
                self.close();
                0
            }
        }
    }

    /// Another descriptor of the same.
    pub(crate) fn duplicate(&self) -> Option<OwnedFd> {
        self.descriptor.as_ref().and_then(|descriptor| descriptor.try_clone().ok())
    }

    /// Gives the descriptor up. Who writes to it gets SIGPIPE, or on a terminal a hang-up.
    pub(crate) fn close(&mut self) {
        self.descriptor = None;
        self.ready = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    fn pipe() -> (OwnedFd, OwnedFd) {
        pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap()
    }

    #[test]
    fn what_does_not_fit_is_kept() {
        let (reader, writer) = pipe();
        let mut input = InputEnd::pipe(Some(writer));
        let bytes = vec![7; 3 << 20];
        let mut taken = input.push(&bytes);
        assert!(taken < bytes.len() && input.waits_for().is_some());
        input.end();
        let (mut buffer, mut read) = (vec![0; 1 << 20], 0);
        while taken < bytes.len() {
            read += io::read(&reader, &mut buffer[..]).unwrap();
            taken += input.flush();
        }
        assert_eq!((taken, input.pending()), (bytes.len(), 0));
        loop {
            match io::read(&reader, &mut buffer[..]).unwrap() {
                0 => break,
                count => read += count,
            }
        }
        assert_eq!(read, bytes.len());
    }

    #[test]
    fn input_that_nobody_reads_goes_nowhere() {
        let (reader, writer) = pipe();
        let mut early = InputEnd::default();
        assert_eq!(early.push(b"before"), 0);
        let mut input = InputEnd::pipe(Some(writer));
        drop(reader);
        assert_eq!(input.inherit(early), 6);
        assert_eq!(input.push(b"after"), 5);
        assert_eq!(input.pending(), 0);
    }

    #[test]
    fn draining_ends_though_somebody_writes_on() {
        let (reader, writer) = pipe();
        let mut output = OutputEnd::pipe(Some(reader));
        io::write(&writer, b"of the command").unwrap();
        output.drain();
        io::write(&writer, b" and of others").unwrap();
        let mut buffer = [0; 100];
        assert_eq!(output.read(&mut buffer), 14);
        assert_eq!(output.read(&mut buffer), 0);
        assert!(output.is_closed());
        assert_eq!(io::write(&writer, b"x"), Err(Errno::PIPE));
    }

    #[test]
    fn a_filled_pipe_is_enlarged() {
        let (reader, writer) = pipe();
        let size = fcntl_getpipe_size(&reader).unwrap();
        let mut output = OutputEnd::pipe(Some(reader));
        output.set_ready();
        let mut buffer = vec![0; LARGE_PIPE];
        io::write(&writer, &buffer[..100]).unwrap();
        assert_eq!(output.read(&mut buffer), 100);
        assert_eq!(fcntl_getpipe_size(&writer), Ok(size));
        assert_eq!(io::write(&writer, &buffer), Ok(size));
        assert_eq!(output.read(&mut buffer), size);
        assert_eq!(fcntl_getpipe_size(&writer), Ok(LARGE_PIPE));
    }
}

//! What a command reads.

use std::fmt;
use std::fs::File;
use std::io::{self, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::error::{Error, ErrorKind, Result};
use crate::fd::Awaited;
use crate::ssh::commands::Input;

/// One read of a source.
const BUFFER: usize = 64 << 10;

/// The standard input of a command, for [`Command::stdin`](crate::Command::stdin): bytes, an open file, a pipe or a
/// socket, or any [`Read`].
///
/// Bytes are sent again at each run of the command; everything else is consumed by the first run.
///
/// ```no_run
/// # fn show(sandbox: &sandbox::Sandbox) -> Result<(), Box<dyn std::error::Error>> {
/// use sandbox::Stdin;
///
/// sandbox.command("wc").stdin("five\n").output()?;
/// sandbox.command("wc").stdin(std::fs::File::open("words.txt")?).output()?;
/// sandbox.command("wc").stdin(Stdin::reader(std::io::repeat(b'x').take(1 << 30))).output()?;
/// # use std::io::Read;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Stdin(Source);

#[derive(Clone)]
enum Source {
    Bytes(Arc<[u8]>),
    /// Empty once a run has taken it.
    Descriptor(Arc<Mutex<Option<OwnedFd>>>),
    Reader(Arc<Mutex<Option<Box<dyn Read + Send>>>>),
}

impl Stdin {
    /// Input from any [`Read`], which a thread of its own reads while the command runs, up to 64 KiB ahead. A read that
    /// blocks does not delay the command's end or timeout; the thread ends with its next return.
    pub fn reader(reader: impl Read + Send + 'static) -> Self {
        Self(Source::Reader(Arc::new(Mutex::new(Some(Box::new(reader))))))
    }

    /// No input.
    pub(super) fn empty() -> Self {
        Self::from(&[][..])
    }

    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match &self.0 {
            Source::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The input for one run.
    pub(super) fn take(&self) -> Result<RunInput<'_>> {
        let is_there = match &self.0 {
            Source::Bytes(_) => true,
            Source::Descriptor(descriptor) => descriptor.lock().is_some(),
            Source::Reader(reader) => reader.lock().is_some(),
        };
        if is_there { Ok(RunInput { stdin: self, state: None }) } else { Err(used_up()) }
    }
}

fn used_up() -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        "the command's input was used up by an earlier run: only bytes can be read again",
    )
}

impl From<&[u8]> for Stdin {
    fn from(bytes: &[u8]) -> Self {
        Self(Source::Bytes(bytes.into()))
    }
}

impl<const LENGTH: usize> From<&[u8; LENGTH]> for Stdin {
    fn from(bytes: &[u8; LENGTH]) -> Self {
        Self::from(&bytes[..])
    }
}

impl From<Vec<u8>> for Stdin {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Source::Bytes(bytes.into()))
    }
}

impl From<&str> for Stdin {
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<String> for Stdin {
    fn from(text: String) -> Self {
        Self::from(text.into_bytes())
    }
}

/// Read from its position on.
impl From<File> for Stdin {
    fn from(file: File) -> Self {
        Self::from(OwnedFd::from(file))
    }
}

/// A descriptor is read when it has something; what the command does not want stays in it, up to 64 KiB less.
impl From<OwnedFd> for Stdin {
    fn from(descriptor: OwnedFd) -> Self {
        Self(Source::Descriptor(Arc::new(Mutex::new(Some(descriptor)))))
    }
}

impl fmt::Debug for Stdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the bytes: they may hold secrets.
        match &self.0 {
            Source::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Source::Descriptor(_) => f.write_str("a descriptor"),
            Source::Reader(_) => f.write_str("a reader"),
        }
    }
}

/// The input of one run. Nothing is read before the command has been requested.
pub(super) struct RunInput<'a> {
    stdin: &'a Stdin,
    state: Option<InputState>,
}

/// An input that flows.
enum InputState {
    Bytes { bytes: Arc<[u8]>, sent: usize },
    File { reader: FdReader, failure: Failure },
    End,
}

/// Why a reader's thread gave up.
type Failure = Option<Arc<Mutex<Option<io::Error>>>>;

/// What comes out of a descriptor, read when it has something and everything before is sent.
pub(super) struct FdReader {
    file: File,
    unsent: Vec<u8>,
    /// A pipe or socket, which other processes may read too: what one of them has taken in the meantime must not be
    /// waited for.
    is_shared: bool,
}

impl FdReader {
    pub(super) fn new(descriptor: impl Into<OwnedFd>) -> Self {
        let file = File::from(descriptor.into());
        let kind = file.metadata().map(|found| found.file_type());
        let is_shared = kind.is_ok_and(|kind| kind.is_fifo() || kind.is_socket());
        Self { file, unsent: Vec::new(), is_shared }
    }

    fn read(&mut self) -> io::Result<usize> {
        if !self.is_shared {
            return self.file.read(&mut self.unsent);
        }
        /// In the place of an offset: from where the file is.
        const HERE: u64 = u64::MAX;
        let mut buffer = [IoSliceMut::new(&mut self.unsent)];
        match preadv2(&self.file, &mut buffer, HERE, ReadWriteFlags::NOWAIT) {
            // An old kernel, or a socket of a kind that can't.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::SPIPE) => {
                self.is_shared = false;
                self.file.read(&mut self.unsent)
            }
            read => Ok(read?),
        }
    }

    /// Reads what has come, without blocking; false at the end.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        if !self.unsent.is_empty() || !Awaited::to_read(self.file.as_fd()).is_ready() {
            return Ok(true);
        }
        self.unsent.resize(BUFFER, 0);
        let read = self.read();
        self.unsent.truncate(*read.as_ref().unwrap_or(&0));
        match read {
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(true),
            read => read.map(|length| length > 0),
        }
    }

    pub(super) fn input(&self) -> Input<'_> {
        if self.unsent.is_empty() { Input::Later } else { Input::Bytes(&self.unsent) }
    }

    pub(super) fn sent(&mut self, length: usize) {
        self.unsent.drain(..length);
    }

    /// What to wait for if there was nothing.
    pub(super) fn awaited(&self) -> Option<Awaited<'_>> {
        self.unsent.is_empty().then(|| Awaited::to_read(self.file.as_fd()))
    }
}

impl RunInput<'_> {
    /// What there is to send; `None` after the end.
    pub(super) fn next(&mut self) -> Result<Option<Input<'_>>> {
        let state = match self.state.take() {
            Some(state) => state,
            None => InputState::open(self.stdin)?,
        };
        let state = self.state.insert(state);
        state.fill()?;
        Ok(match state {
            InputState::Bytes { bytes, sent } => Some(Input::Bytes(&bytes[*sent..])),
            InputState::File { reader, .. } => Some(reader.input()),
            InputState::End => None,
        })
    }

    pub(super) fn sent(&mut self, length: usize) {
        match &mut self.state {
            Some(InputState::Bytes { sent, .. }) => *sent += length,
            Some(InputState::File { reader, .. }) => reader.sent(length),
            Some(InputState::End) | None => {}
        }
    }

    pub(super) fn is_at_end(&self) -> bool {
        matches!(self.state, Some(InputState::End))
    }

    /// What to wait for if there was nothing.
    pub(super) fn awaited(&self) -> Option<Awaited<'_>> {
        match &self.state {
            Some(InputState::File { reader, .. }) => reader.awaited(),
            _ => None,
        }
    }
}

impl InputState {
    fn open(stdin: &Stdin) -> Result<Self> {
        match &stdin.0 {
            Source::Bytes(bytes) => Ok(Self::Bytes { bytes: Arc::clone(bytes), sent: 0 }),
            Source::Descriptor(descriptor) => {
                let descriptor = descriptor.lock().take().ok_or_else(used_up)?;
                Ok(Self::File { reader: FdReader::new(descriptor), failure: None })
            }
            Source::Reader(reader) => {
                let reader = reader.lock().take().ok_or_else(used_up)?;
                let (reader, failure) = pump(reader).map_err(|e| unreadable(&e))?;
                Ok(Self::File { reader, failure: Some(failure) })
            }
        }
    }

    /// Reads what has come, without blocking.
    fn fill(&mut self) -> Result<()> {
        let is_over = match self {
            Self::Bytes { bytes, sent } => *sent == bytes.len(),
            Self::File { reader, .. } => !reader.fill().map_err(|e| unreadable(&e))?,
            Self::End => false,
        };
        if !is_over {
            return Ok(());
        }
        match std::mem::replace(self, Self::End) {
            Self::File { failure: Some(failure), .. } => failure.lock().take().map_or(Ok(()), |e| Err(unreadable(&e))),
            _ => Ok(()),
        }
    }
}

fn unreadable(e: &io::Error) -> Error {
    Error::cancelled(format!("the command's input could not be read: {e}"))
}

/// Copies a reader into a socket on a thread of its own.
fn pump(mut reader: Box<dyn Read + Send>) -> io::Result<(FdReader, Arc<Mutex<Option<io::Error>>>)> {
    let (ours, mut theirs) = UnixStream::pair()?;
    let failure = Arc::new(Mutex::new(None));
    let told = Arc::clone(&failure);
    let copy = move || {
        let mut buffer = vec![0; BUFFER];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return,
                // Nobody wants any more.
                Ok(length) if theirs.write_all(&buffer[..length]).is_err() => return,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    *told.lock() = Some(e);
                    return;
                }
            }
        }
    };
    thread::Builder::new().name("sandbox-input".into()).spawn(copy)?;
    Ok((FdReader::new(ours), failure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_that_a_sibling_has_taken_is_not_waited_for() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let (pipe, mut writer) = io::pipe().unwrap();
        for (descriptor, to) in
            [(OwnedFd::from(near), &mut far as &mut dyn Write), (OwnedFd::from(pipe), &mut writer as &mut dyn Write)]
        {
            let mut reader = FdReader::new(descriptor);
            // As after a `poll` that saw what somebody else then read.
            reader.unsent.resize(BUFFER, 0);
            assert_eq!(reader.read().unwrap_err().kind(), io::ErrorKind::WouldBlock);
            reader.unsent.clear();
            assert!(reader.fill().unwrap() && reader.unsent.is_empty());
            to.write_all(b"here").unwrap();
            assert!(reader.fill().unwrap());
            assert_eq!(reader.unsent, b"here");
        }
    }
}

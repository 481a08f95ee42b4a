//! Files and trees of the sandbox, moved and looked at without any tool of its image: `sandbox-guest tree VERB …`.
//!
//! See [`sandbox_protocol::tree`] for the verbs and what they answer. The engines work on any stream; [`run`] gives
//! them the standard ones.

mod confined;
mod digest;
mod pack;
mod remove;
#[cfg(test)]
mod tests;
mod unpack;
mod walk;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use sandbox_protocol::tree::{Bytes, Failure, FailureKind, Outcome, Report, Request};

pub use self::digest::{digest_file, digest_tree};
pub use self::pack::pack;
pub use self::remove::{remove, remove_aside};
pub use self::unpack::{Limits, place, unpack};

/// Bytes that are moved at once.
const BUFFER: usize = 256 << 10;
/// How deep a tree may be: it takes a descriptor for each level, or two.
const DEEPEST: usize = 256;

/// Why something could not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeError {
    /// Who is at fault.
    pub kind: FailureKind,
    /// The error number of the system, if it is one.
    pub errno: Option<Errno>,
    /// The file that it is about.
    pub path: Vec<u8>,
    /// What there is to say, with the file's name.
    pub message: String,
}

impl TreeError {
    fn new(kind: FailureKind, path: &[u8], message: impl Into<String>) -> Self {
        Self { kind, errno: None, path: path.to_vec(), message: message.into() }
    }

    /// What the system did not let be done to a file.
    fn system(path: &[u8], done: &str, errno: Errno) -> Self {
        let why = io::Error::from(errno).to_string();
        let why = why.split(" (os error").next().unwrap_or_default();
        let message = format!("'{}' can't be {done}: {why}", shortened(path));
        Self { errno: Some(errno), ..Self::new(FailureKind::System, path, message) }
    }

    /// An archive that can't be read or written.
    fn stream(path: &[u8], e: &io::Error) -> Self {
        let kind = if e.kind() == io::ErrorKind::InvalidData { FailureKind::Refused } else { FailureKind::Stream };
        Self { errno: Errno::from_io_error(e), ..Self::new(kind, path, e.to_string()) }
    }

    fn into_failure(self, report: Report) -> Failure {
        let errno = self.errno.map(Errno::raw_os_error);
        Failure { kind: self.kind, errno, path: Bytes(self.path), message: self.message, report }
    }
}

impl std::fmt::Display for TreeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TreeError {}

/// A name in a message, which may be long.
fn shortened(name: &[u8]) -> String {
    let text = name[..name.len().min(200)].escape_ascii().to_string();
    if name.len() > 200 { format!("{text}…") } else { text }
}

/// Does what the arguments ask for, on the standard streams, and says on the standard error how it ended.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut report = Report::default();
    let done = match Request::from_args(args) {
        Ok(request) => perform(&request, &mut report),
        Err(e) => Err(TreeError::new(FailureKind::Usage, b"", e)),
    };
    let (outcome, code) = match done {
        Ok(()) => (Outcome::Done(report), ExitCode::SUCCESS),
        Err(trouble) => (Outcome::Failed(trouble.into_failure(report)), ExitCode::FAILURE),
    };
    let mut line = serde_json::to_vec(&outcome).unwrap_or_default();
    line.push(b'\n');
    // Whoever does not listen sees the code.
    let _ = io::stderr().write_all(&line);
    code
}

fn perform(request: &Request, report: &mut Report) -> Result<(), TreeError> {
    match request {
        Request::Pack { directory } => pack(directory, standard_output()?, report),
        Request::Unpack { part, target, merge, sync, digests, max_bytes, max_entries } => {
            let limits = Limits { bytes: max_bytes.unwrap_or(u64::MAX), entries: max_entries.unwrap_or(u64::MAX) };
            let mut output = standard_output()?;
            let sums: Option<&mut dyn Write> = if *digests { Some(&mut output) } else { None };
            unpack(standard_input()?, part, limits, sums, report)?;
            output.flush().map_err(|e| TreeError::stream(b"", &e))?;
            match target {
                Some(target) => put(part, target, *merge, *sync),
                None if *sync => synchronise(part, true),
                None => Ok(()),
            }
        }
        Request::Place { part, target, merge, sync } => put(part, target, *merge, *sync),
        Request::Remove { path, aside: false } => remove(path),
        Request::Remove { path, aside: true } => remove_aside(path),
        Request::Digest { path, length } => digest_file(path, *length, standard_output()?, report),
        Request::Digests { directory } => digest_tree(directory, standard_output()?, report),
        Request::Sync { path, file_system } => synchronise(path, *file_system),
    }
}

/// Puts a tree into its place, or removes it.
fn put(part: &Path, target: &Path, merge: bool, sync: bool) -> Result<(), TreeError> {
    place(part, target, merge).inspect_err(|_| {
        // The first failure is the one to tell.
        let _ = remove(part);
    })?;
    if sync { synchronise(target, true) } else { Ok(()) }
}

/// Returns once a file or directory, or all of its file system, is on the disk.
fn synchronise(path: &Path, file_system: bool) -> Result<(), TreeError> {
    let failed = |errno| TreeError::system(path.as_os_str().as_bytes(), "synced to disk", errno);
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = match fs::open(path, OFlags::RDONLY | flags, Mode::empty()) {
        // What may only be written.
        Err(Errno::ACCESS) => fs::open(path, OFlags::WRONLY | flags, Mode::empty()),
        opened => opened,
    };
    let file = opened.map_err(failed)?;
    if file_system { fs::syncfs(file) } else { fs::fsync(file) }.map_err(failed)
}

fn standard_input() -> Result<impl Read, TreeError> {
    Ok(BufReader::with_capacity(BUFFER, own(io::stdin().as_fd())?))
}

fn standard_output() -> Result<impl Write, TreeError> {
    Ok(BufWriter::with_capacity(BUFFER, own(io::stdout().as_fd())?))
}

/// The same stream without the buffers of the standard library.
fn own(stream: BorrowedFd<'_>) -> Result<File, TreeError> {
    // Fewer switches between both ends; not every pipe can be made larger.
    let _ = rustix::pipe::fcntl_setpipe_size(stream, 1 << 20);
    rustix::io::fcntl_dupfd_cloexec(stream, 3)
        .map(File::from)
        .map_err(|errno| TreeError::stream(b"", &io::Error::from(errno)))
}

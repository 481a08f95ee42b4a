//! Options of transfers, and how they report their progress.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Files;
use crate::error::Result;

/// A callback that draws is not called more often than eyes can see.
pub(super) const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);

/// Uploads and downloads with options; made by [`Files::transfer`].
///
/// By default nothing is resumed, nothing is synced to disk, and **no checksum is compared**: SSH protects every packet
/// with a MAC, and the guest acknowledges every write and replaces the target only if all of them succeeded. A checksum
/// also detects what goes wrong between the SSH layers and the files on both sides.
///
/// ```no_run
/// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
/// let moved = sandbox
///     .files()
///     .transfer()
///     .resume(true)
///     .progress(|progress| {
///         println!("{}: {} of {:?}", progress.path.display(), progress.done, progress.total);
///         Ok(())
///     })
///     .download("/data/model.bin", "model.bin")?;
/// println!("{} bytes, of which {} were here already", moved.bytes, moved.resumed);
/// # Ok(())
/// # }
/// ```
pub struct Transfer<'a> {
    pub(super) files: Files<'a>,
    pub(super) checksum: bool,
    pub(super) sync: bool,
    pub(super) resume: bool,
    pub(super) mode: Option<u32>,
    pub(super) max_bytes: Option<u64>,
    pub(super) max_entries: Option<u64>,
    pub(super) progress: Option<Box<Callback<'a>>>,
}

pub(super) type Callback<'a> = dyn FnMut(&Progress<'_>) -> Result<()> + 'a;

/// How far a transfer has come; see [`Transfer::progress`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress<'p> {
    /// The file that is read: as the caller named it, or below the root of a tree.
    pub path: &'p Path,
    /// Bytes that have arrived, in all files of a tree.
    pub done: u64,
    /// Bytes that will have arrived at the end, if that is known.
    pub total: Option<u64>,
}

/// What a transfer of one file did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transferred {
    /// Bytes of the file.
    pub bytes: u64,
    /// How many of them had been there already, from an earlier transfer.
    pub resumed: u64,
    /// The SHA-256 of the file, if it was compared.
    pub sha256: Option<[u8; 32]>,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(files: Files<'a>) -> Self {
        let (mode, max_bytes, max_entries) = (None, None, None);
        Self { files, checksum: false, sync: false, resume: false, mode, max_bytes, max_entries, progress: None }
    }

    /// Compares the SHA-256 of the source and of the copy before the copy gets its name; in a directory, for each file.
    /// The guest computes it while it writes and reads; only resumed parts and downloaded directories are read a second
    /// time. Default: no.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let moved = sandbox.files().transfer().checksum(true).upload("disk.img", "/data/disk.img")?;
    /// println!("{:02x?}", moved.sha256);
    /// # Ok(())
    /// # }
    /// ```
    pub fn checksum(mut self, checksum: bool) -> Self {
        self.checksum = checksum;
        self
    }

    /// Syncs contents and names to the receiving disk (fsync) before it returns. Default: no.
    pub fn sync(mut self, sync: bool) -> Self {
        self.sync = sync;
        self
    }

    /// Keeps the partial file when a transfer of a file fails, and continues from that of an earlier transfer. It is
    /// kept beside the target; its name depends on the target's, and for an upload also on the local file's size and
    /// modification time. It is used only if its SHA-256 matches the beginning of the source. Implies
    /// [`checksum`](Transfer::checksum). Default: no; the partial file is removed.
    ///
    /// Only files can be resumed: a download to a device or a pipe is refused with
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument), an upload to one begins at the start. The
    /// partial file's name has 30 bytes; a path that leaves no room for that is
    /// [`ErrorKind::NameTooLong`](crate::ErrorKind::NameTooLong).
    ///
    /// Of two such downloads to one target at the same time, the second is refused with
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy).
    pub fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// Permission bits of a new file that an upload makes, such as `0o600`, minus the sandbox's umask. An existing file
    /// keeps its own, and the files of a directory keep those they have locally. Default: those of the local file, or
    /// `0o666` if the source is a reader.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox, key: &[u8]) -> sandbox::Result<()> {
    /// sandbox.files().transfer().mode(0o600).upload_from(key, ".netrc")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    /// The most bytes of contents that a download may have; beyond that it fails. Default: no limit. Protects this
    /// machine's disk against untrusted sandboxes.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let report = sandbox.files().transfer().max_bytes(10 << 30).max_entries(100_000).download_dir("out", "out")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// The most files, directories and links that the download of a directory may have; beyond that it fails. Default:
    /// no limit.
    pub fn max_entries(mut self, entries: u64) -> Self {
        self.max_entries = Some(entries);
        self
    }

    /// Called on this thread at the beginning, at the end, and up to 20 times a second in between. An error, such as
    /// [`Error::cancelled`](crate::Error::cancelled), ends the transfer and is returned.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox, is_wanted: impl Fn() -> bool) -> sandbox::Result<()> {
    /// use sandbox::Error;
    ///
    /// let mut transfer = sandbox.files().transfer().progress(|_| match is_wanted() {
    ///     true => Ok(()),
    ///     false => Err(Error::cancelled("not wanted any more")),
    /// });
    /// transfer.upload("disk.img", "/data/disk.img")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn progress(mut self, progress: impl FnMut(&Progress<'_>) -> Result<()> + 'a) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }
}

impl fmt::Debug for Transfer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfer")
            .field("checksum", &self.checksum)
            .field("sync", &self.sync)
            .field("resume", &self.resume)
            .finish_non_exhaustive()
    }
}

/// Tells a callback how far a transfer has come.
pub(super) struct ProgressReporter<'m, 'a> {
    callback: Option<&'m mut Callback<'a>>,
    path: &'m Path,
    total: Option<u64>,
    last: Instant,
}

impl<'m, 'a> ProgressReporter<'m, 'a> {
    pub(super) fn new(callback: Option<&'m mut Callback<'a>>, path: &'m Path, total: Option<u64>) -> Self {
        Self { callback, path, total, last: Instant::now() }
    }

    pub(super) fn at(&mut self, done: u64) -> Result<()> {
        if self.callback.is_some() && self.last.elapsed() >= PROGRESS_INTERVAL { self.report(done) } else { Ok(()) }
    }

    pub(super) fn report(&mut self, done: u64) -> Result<()> {
        let Some(callback) = &mut self.callback else { return Ok(()) };
        self.last = Instant::now();
        let progress = Progress { path: self.path, done, total: self.total };
        callback(&progress)
            .map_err(|e| e.context(format_args!("{done} bytes of '{}' were transferred", self.path.display())))
    }
}

//! Directory trees, each as one stream of tar through one command of the guest.

mod download;
mod sums;
mod upload;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sandbox_protocol::tree::{MOST_NOTES, Report};

use super::options::{Callback, PROGRESS_INTERVAL};
use super::path::invalid;
use super::tool::shown;
use super::{Files, Progress, Transfer};
use crate::error::Result;

/// Bytes between this thread and the command's.
const BUFFER: usize = 256 << 10;

/// What the transfer of a directory did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TreeReport {
    /// Regular files, those with several names counted once for each.
    pub files: u64,
    /// Directories, with the root.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Bytes of all files, with their holes.
    pub bytes: u64,
    /// How many entries were left out.
    pub skipped: u64,
    /// What was left out and why, and which files were changed while they were read; the first 1000.
    pub notes: Vec<Note>,
}

/// Something about an entry of a tree; see [`TreeReport::notes`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Note {
    /// The entry, below the root of the tree.
    #[cfg_attr(feature = "serde", serde(serialize_with = "as_text"))]
    pub path: PathBuf,
    /// What there is to say, such as `a socket`.
    pub text: String,
}

/// Names are bytes, and serialized forms text.
#[cfg(feature = "serde")]
fn as_text<S: serde::Serializer>(path: &std::path::Path, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

impl TreeReport {
    pub(super) fn note(&mut self, path: &[u8], text: impl Into<String>) {
        if self.notes.len() < MOST_NOTES {
            self.notes.push(Note { path: PathBuf::from(OsStr::from_bytes(path)), text: text.into() });
        }
    }

    pub(super) fn skip(&mut self, path: &[u8], text: impl Into<String>) {
        self.skipped += 1;
        self.note(path, text);
    }

    /// Takes over what the sandbox left out, and noted.
    fn take_notes(&mut self, report: &Report) {
        self.skipped = self.skipped.saturating_add(report.skipped);
        for note in &report.notes {
            self.note(&note.path.0, shown(note.text.as_bytes()));
        }
    }
}

impl Files<'_> {
    /// Copies the local directory `local` with all that is in it to `remote`; see [`Transfer::upload_dir`].
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let report = sandbox.files().upload_dir("project", "/src/project")?;
    /// println!("{} files, {} bytes", report.files, report.bytes);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Transfer::upload_dir`].
    pub fn upload_dir(&self, local: impl AsRef<Path>, remote: impl AsRef<Path>) -> Result<TreeReport> {
        self.transfer().upload_dir(local, remote)
    }

    /// Copies the directory `remote` with all that is in it to the local directory `local`; see
    /// [`Transfer::download_dir`].
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let report = sandbox.files().download_dir("/src/project/out", "out")?;
    /// for note in &report.notes {
    ///     println!("{}: {}", note.path.display(), note.text);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Transfer::download_dir`].
    pub fn download_dir(&self, remote: impl AsRef<Path>, local: impl AsRef<Path>) -> Result<TreeReport> {
        self.transfer().download_dir(remote, local)
    }
}

impl Transfer<'_> {
    /// Copies the local directory `local` with all that is in it to `remote`, with modes, times of modification in
    /// nanoseconds, symbolic links as they are, empty directories, and the holes of sparse files. Sockets, pipes and
    /// devices are left out, and the report lists them. One stream, whatever the number of files.
    ///
    /// No file gets its name before everything has arrived. If `remote` does not exist, it appears complete. If it is a
    /// directory, the two are merged: files and links replace files and links, each atomically and with the modes of
    /// the tree, read-only ones too; directories get the modes and times of the local ones; what a link led to and what
    /// exists only in the target stay. The merge is refused before it begins if a directory is in the place of a file,
    /// if anything else is in the place of a directory, or if a device, pipe or socket would be replaced. On a file
    /// system without modes or links the rest is copied, and the report has a note.
    ///
    /// Until then the tree is in a directory with a name of 30 bytes, beside `remote` or in it if it exists; a path
    /// that leaves no room for that is [`ErrorKind::NameTooLong`](crate::ErrorKind::NameTooLong). Each level of
    /// directories takes an open file here.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let mut transfer = sandbox.files().transfer().progress(|progress| {
    ///     println!("{} of {:?}: {}", progress.done, progress.total, progress.path.display());
    ///     Ok(())
    /// });
    /// transfer.upload_dir("project", "/src/project")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`]; [`ErrorKind::NotADirectory`](crate::ErrorKind::NotADirectory) if a path exists that should be a
    /// directory and is not, [`ErrorKind::Transfer`](crate::ErrorKind::Transfer) if a local file shrinks while it is
    /// read, [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if it is to be resumed, which
    /// directories can't be. If the merge itself fails, it may be partly done.
    pub fn upload_dir(&mut self, local: impl AsRef<Path>, remote: impl AsRef<Path>) -> Result<TreeReport> {
        let (files, local, remote) = (self.files, local.as_ref(), remote.as_ref());
        files.link.call("upload directory", || self.send_tree(local, remote))
    }

    /// Copies the directory `remote` with all that is in it to the local directory `local`, as [`Transfer::upload_dir`]
    /// does in the other direction; directories that are there already keep their modes, and what is new gets modes
    /// less this process's umask.
    ///
    /// **Whatever the sandbox sends, nothing is written outside of `local`**, and what is kept in memory does not grow
    /// with the tree. Symbolic links that lead out of the directory are left out, and the report lists them, as
    /// sockets, pipes and devices are. Absolute names, names with `..`, files below a link, and hard links to files
    /// outside are errors: the guest itself never sends them. Set-user-id, set-group-id and sticky bits are not set.
    /// See [`max_bytes`](Transfer::max_bytes) for trees that are too large.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let report = sandbox.files().transfer().max_bytes(1 << 30).download_dir("results", "results")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`]; as [`Transfer::upload_dir`]. A file that grows while it is read gives its first bytes and a note.
    pub fn download_dir(&mut self, remote: impl AsRef<Path>, local: impl AsRef<Path>) -> Result<TreeReport> {
        let (files, remote, local) = (self.files, remote.as_ref(), local.as_ref());
        files.link.call("download directory", || self.fetch_tree(remote, local))
    }

    fn check_options(&self) -> Result<()> {
        match self.resume {
            true => Err(invalid("the transfer of a directory can't be resumed")),
            false => Ok(()),
        }
    }
}

/// A tree on its way.
struct TreeProgress<'m, 'a> {
    callback: Option<&'m mut Callback<'a>>,
    total: Option<u64>,
    last: Option<Instant>,
    /// The current entry.
    path: PathBuf,
    report: TreeReport,
}

impl<'m, 'a> TreeProgress<'m, 'a> {
    fn new(callback: Option<&'m mut Callback<'a>>, total: Option<u64>) -> Self {
        Self { callback, total, last: None, path: PathBuf::new(), report: TreeReport::default() }
    }

    /// Tells how far it has come, if the last time is long enough ago.
    fn report_progress(&mut self, is_end: bool) -> Result<()> {
        let Some(callback) = &mut self.callback else { return Ok(()) };
        if !is_end && self.last.is_some_and(|last| last.elapsed() < PROGRESS_INTERVAL) {
            return Ok(());
        }
        self.last = Some(Instant::now());
        callback(&Progress { path: &self.path, done: self.report.bytes, total: self.total })
    }

    /// How far it has come, for errors.
    fn so_far(&self) -> String {
        format!("'{}' and {} bytes", self.path.display(), self.report.bytes)
    }
}

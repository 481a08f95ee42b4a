//! Uploads and downloads of single files: whole or not at all, with progress, checksum, resumption.

use std::fmt;
use std::fs::{self, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use openssl::sha::Sha256;

use super::digest::{Summing, is_mismatch};
use super::{Files, Repeat, beside, file_bytes_of, invalid};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fd::close_one_of;
use crate::hex;
use crate::ssh::pool::Lease;
use crate::ssh::sftp::{Attributes, Client, DIRECTORY, Opened, Quoted, REGULAR, flags};

/// Permission bits; set-user-id and its like do not travel.
pub(super) const PERMISSIONS: u32 = 0o777;
/// What [`Files::read`] takes into memory.
const IN_MEMORY: usize = 1 << 30;
/// A callback that draws is not called more often than eyes can see.
pub(super) const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);

/// Uploads and downloads with options; made by [`Files::transfer`].
///
/// By default nothing is resumed or forced to a disk, and **no checksum is compared**: SSH guards every packet with a MAC, the
/// server acknowledges every write, and the size is always compared. A checksum guards against what is left, such as a failing
/// disk of the sandbox, and makes the sandbox read the whole file again.
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
        let (max_bytes, max_entries) = (None, None);
        Self { files, checksum: false, sync: false, resume: false, max_bytes, max_entries, progress: None }
    }

    /// Compares the SHA-256 of what was sent and of what has arrived, before it gets its name; of a tree, of each of its files. The
    /// sandbox needs `sha256sum`, and has it faster with `openssl`; a large file that is downloaded is summed up there meanwhile, on a
    /// second session. Default: no.
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

    /// Returns only when contents and names are on the receiving disk, as far as its system tells the truth. Default: no.
    pub fn sync(mut self, sync: bool) -> Self {
        self.sync = sync;
        self
    }

    /// Keeps what has arrived when a transfer of a file fails, and begins with what an earlier one has kept: in a file beside the
    /// target, whose name depends on the target's, and in an upload also on the local file's size and time of modification. What is
    /// there counts if its SHA-256 is that of the first bytes of the source. Includes [`checksum`](Transfer::checksum). Default: no;
    /// what has arrived is removed.
    ///
    /// Of two such downloads to one target at the same time, the second is refused with [`ErrorKind::Conflict`].
    pub fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// Downloads no more than so many bytes of contents; more are an error. Default: no limit but the time. For what comes from
    /// sandboxes that might fill this machine's disk.
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

    /// Downloads no more than so many files, directories and links of a tree; more are an error. Default: no limit but the time.
    pub fn max_entries(mut self, entries: u64) -> Self {
        self.max_entries = Some(entries);
        self
    }

    /// Called on this thread at the beginning, at the end, and up to 20 times a second in between. An error, such as
    /// [`Error::cancelled`], ends the transfer and is returned.
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

    /// Copies the local file `local` to `remote`, as [`Files::upload`].
    ///
    /// # Errors
    /// See [`Files`]; [`ErrorKind::Transfer`] if the checksums differ, [`ErrorKind::NotFound`] also for the local file.
    pub fn upload(&mut self, local: impl AsRef<Path>, remote: impl AsRef<Path>) -> Result<Transferred> {
        let (files, local, remote) = (self.files, local.as_ref(), remote.as_ref());
        files.link.call("upload file", || {
            // A named pipe would be waited for.
            let opened = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(local);
            let file = opened.map_err(|e| at_local(local, "opened", e))?;
            let metadata = file.metadata().map_err(|e| at_local(local, "read", e))?;
            if !metadata.is_file() {
                return Err(invalid(format!("'{}' on this machine is not a regular file", local.display())));
            }
            self.put(&mut Source::Local { file: &file, path: local, metadata: &metadata }, remote, metadata.mode())
        })
    }

    /// Copies all that `source` gives to `remote`, with permissions `rw-r--r--`. It can't be resumed.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let moved = sandbox.files().transfer().upload_from(std::io::stdin(), "/tmp/input")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Transfer::upload`], and [`ErrorKind::Transfer`] for what `source` says.
    pub fn upload_from(&mut self, mut source: impl Read, remote: impl AsRef<Path>) -> Result<Transferred> {
        let (files, remote) = (self.files, remote.as_ref());
        files.link.call("upload file", || self.put(&mut Source::Reader(&mut source), remote, super::FILE_MODE))
    }

    /// Copies `remote` to the local file `local`, as [`Files::download`].
    ///
    /// # Errors
    /// See [`Files`]; [`ErrorKind::Transfer`] if the checksums differ.
    pub fn download(&mut self, remote: impl AsRef<Path>, local: impl AsRef<Path>) -> Result<Transferred> {
        let (files, remote, local) = (self.files, remote.as_ref(), local.as_ref());
        files.link.call("download file", || {
            let (path, deadline) = (file_bytes_of(remote)?, self.files.deadline());
            let mut part = LocalPart::create(local, self.resume)?;
            let (resumed, hash) = match self.resume {
                true => self.kept_here(&mut part, path, deadline)?,
                false => (0, self.checksum.then(Sha256::new)),
            };
            let (transferred, mode) = self.get(remote, deadline, resumed, hash, &mut |bytes| part.write(bytes))?;
            part.put_in_place(mode, self.sync)?;
            Ok(transferred)
        })
    }

    /// Copies the contents of `remote` to `target`. What has been written when it fails stays written, and it can't be resumed.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let moved = sandbox.files().transfer().download_to("/tmp/report", std::io::stdout())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Transfer::download`], and [`ErrorKind::Transfer`] for what `target` says.
    pub fn download_to(&mut self, remote: impl AsRef<Path>, mut target: impl Write) -> Result<Transferred> {
        let files = self.files;
        files.link.call("download file", || {
            if self.resume {
                return Err(invalid("only a download to a file can be resumed"));
            }
            let remote = remote.as_ref();
            let unwritable = |e| {
                let path = Quoted(remote.as_os_str().as_bytes());
                at_stream(format_args!("what {path} is downloaded to can't be written"), e)
            };
            let mut write = |bytes: &[u8]| target.write_all(bytes).map_err(unwritable);
            let hash = self.checksum.then(Sha256::new);
            let (transferred, _) = self.get(remote, self.files.deadline(), 0, hash, &mut write)?;
            target.flush().map_err(unwritable)?;
            Ok(transferred)
        })
    }

    pub(super) fn put_bytes(&mut self, mut contents: &[u8], remote: &Path, mode: u32) -> Result<()> {
        self.put(&mut Source::Reader(&mut contents), remote, mode).map(drop)
    }

    pub(super) fn get_bytes(&mut self, remote: &Path) -> Result<Vec<u8>> {
        let mut contents = Vec::new();
        let mut keep = |bytes: &[u8]| {
            if contents.len() + bytes.len() > IN_MEMORY {
                let message = format!("{} has more than 1 GiB; download it", Quoted(remote.as_os_str().as_bytes()));
                return Err(Error::new(ErrorKind::Transfer, message));
            }
            contents.extend_from_slice(bytes);
            Ok(())
        };
        self.get(remote, self.files.deadline(), 0, None, &mut keep)?;
        Ok(contents)
    }

    /// Sends a file under another name, and renames it over its target when all has arrived. 4 round trips for a small file.
    fn put(&mut self, source: &mut Source<'_>, remote: &Path, mode: u32) -> Result<Transferred> {
        let (files, deadline, path, mode) =
            (self.files, self.files.deadline(), file_bytes_of(remote)?, mode & PERMISSIONS);
        // One name for all attempts, so that none leaves another file behind.
        let part = match (&*source, self.resume) {
            (_, false) => beside(remote),
            // Other contents get another name: two uploads at once would be mixed up.
            (Source::Local { metadata, .. }, true) => {
                stable_part(remote, format_args!("{} {} {}", metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
            }
            (Source::Reader(_), true) => return Err(invalid("only an upload of a file can be resumed")),
        };
        let (resumed, mut hash) = match &*source {
            Source::Local { file, path, .. } if self.resume => files.kept_there(file, path, &part, deadline)?,
            _ => (0, self.checksum.then(Sha256::new)),
        };
        let part = part.as_os_str().as_bytes();
        let how = flags::WRITE | flags::CREATE | if resumed == 0 { flags::TRUNCATE } else { 0 };
        // What is to be opened again must be writable.
        let first_mode = if self.resume { mode | 0o600 } else { mode };
        let begun = files.begin(deadline, path, Repeat::Harmless, |client| client.open(part, how, first_mode, path));
        let (mut lease, opened) = begun.map_err(|e| {
            if !self.resume && matches!(e.kind(), ErrorKind::Disconnected | ErrorKind::TimedOut | ErrorKind::Cancelled)
            {
                files.tidy(part, &e);
            }
            files.with_reason(e, remote)
        })?;
        let filled = Client::new(&mut lease, deadline)
            .and_then(|client| self.fill(&client, opened, source, resumed, &mut hash, mode, part, remote));
        let result = match filled {
            Ok(bytes) => {
                let finished = self.finish(lease, part, remote, bytes, hash, deadline);
                finished.map(|sha256| Transferred { bytes, resumed, sha256 })
            }
            Err(e) => {
                // Something may be on its way still, and what follows may need the place of this session.
                drop(lease);
                Err(files.with_reason(e, remote))
            }
        };
        result.inspect_err(|e| {
            // Contents that are wrong are no use to anybody.
            if !self.resume || is_mismatch(e) {
                files.tidy(part, e);
            }
        })
    }

    /// Writes, checks and closes the part.
    #[expect(clippy::too_many_arguments, reason = "the middle of one long function")]
    fn fill(
        &mut self,
        client: &Client<'_>,
        opened: Opened,
        source: &mut Source<'_>,
        resumed: u64,
        hash: &mut Option<Sha256>,
        mode: u32,
        part: &[u8],
        remote: &Path,
    ) -> Result<u64> {
        if resumed > 0 {
            opened.seek(resumed);
        }
        let (name, total) = match source {
            Source::Local { path, metadata, .. } => (*path, Some(metadata.len())),
            Source::Reader(_) => (remote, None),
        };
        let mut meter = Meter::new(self.progress.as_deref_mut(), name, total);
        meter.report(resumed)?;
        let mut sent = resumed;
        let mut read = |buffer: &mut [u8]| {
            let length = source.read(buffer, sent, remote)?;
            sent += length as u64;
            if let Some(hash) = hash {
                hash.update(&buffer[..length]);
            }
            Ok(length)
        };
        let size = client.upload(&opened, resumed, &mut read, &mut |reached| meter.at(reached))?;
        if self.sync {
            client.sync(&opened)?;
        }
        let found = client.close_and_look(opened, part)?;
        if found.size != Some(size) {
            let path = Quoted(remote.as_os_str().as_bytes());
            let message = format!("the sandbox has {:?} bytes of {path}, sent were {size}", found.size);
            return Err(Error::new(ErrorKind::Transfer, message));
        }
        // The server's umask has a say when a file is created.
        if found.mode.map(|mode| mode & PERMISSIONS) != Some(mode) {
            client.set_stat(part, Attributes { mode: Some(mode), ..Attributes::default() })?;
        }
        meter.report(size)?;
        Ok(size)
    }

    /// Compares what has arrived, and gives it its name.
    fn finish(
        &self,
        mut lease: Lease,
        part: &[u8],
        remote: &Path,
        size: u64,
        hash: Option<Sha256>,
        deadline: Deadline,
    ) -> Result<Option<[u8; 32]>> {
        let (files, path) = (self.files, file_bytes_of(remote)?);
        let mut digest = None;
        if let Some(hash) = hash {
            // One session has to be enough for everything.
            lease.finish();
            let ours = hash.finish();
            files.compare(part, ours, None, path, deadline)?;
            lease = files.lease(deadline).map_err(|e| e.context(Quoted(path)))?;
            digest = Some(ours);
        }
        files.put_in_place(lease, part, path, size, deadline)?;
        if self.sync {
            let directory = remote.parent().map(|parent| parent.as_os_str().as_bytes()).filter(|path| !path.is_empty());
            files.run("sync -- \"$1\"", &[directory.unwrap_or(b".")], path, "put on the disk", deadline)?;
        }
        Ok(digest)
    }

    /// Hands the contents of a file from `resumed` on to `sink`; returns what was done and the permission bits.
    fn get(
        &mut self,
        remote: &Path,
        deadline: Deadline,
        resumed: u64,
        mut hash: Option<Sha256>,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<(Transferred, u32)> {
        let (files, path) = (self.files, file_bytes_of(remote)?);
        let (mut lease, opened) =
            files.begin(deadline, path, Repeat::Harmless, |client| client.open(path, flags::READ, 0, path))?;
        let mut client = Client::new(&mut lease, deadline)?;
        let found = client.attributes_of(&opened)?;
        let mode = found.mode.unwrap_or(REGULAR | super::FILE_MODE);
        if !found.is(REGULAR) && found.mode.is_some() {
            let kind = if found.is(DIRECTORY) { "a directory" } else { "not a regular file" };
            client.abandon(opened);
            lease.finish();
            return Err(Error::new(ErrorKind::Transfer, format!("{} is {kind}", Quoted(path))));
        }
        // Files that claim to be empty, as those in /proc do, are read to their ends.
        let expected = found.size.filter(|size| *size > 0);
        let mut meter = Meter::new(self.progress.as_deref_mut(), remote, expected);
        meter.report(resumed)?;
        if resumed > 0 {
            opened.seek(resumed);
        }
        let mut reached = resumed;
        let limit = self.max_bytes.unwrap_or(u64::MAX);
        if expected.is_some_and(|expected| expected > limit) {
            return Err(too_much(path, limit));
        }
        let summing = match expected {
            Some(length) if hash.is_some() && Summing::is_worth(length) => Summing::start(files, path, deadline).ok(),
            _ => None,
        };
        let mut take = |bytes: &[u8]| {
            if let Some(hash) = &mut hash {
                hash.update(bytes);
            }
            reached += bytes.len() as u64;
            if reached > limit {
                return Err(too_much(path, limit));
            }
            sink(bytes)?;
            meter.at(reached)
        };
        let size = client.download(&opened, resumed, expected, &mut take)?;
        client.close_file(opened)?;
        lease.finish();
        meter.report(size)?;
        let sha256 = hash.map(Sha256::finish);
        if let Some(digest) = sha256 {
            let theirs = summing.map(|summing| summing.end(deadline)).transpose()?.flatten();
            files.compare(path, digest, theirs, path, deadline)?;
        }
        Ok((Transferred { bytes: size, resumed, sha256 }, mode & PERMISSIONS))
    }

    /// What an earlier download has left here, if it is the beginning of the file: its length, and its hash so far.
    fn kept_here(&self, part: &mut LocalPart<'_>, path: &[u8], deadline: Deadline) -> Result<(u64, Option<Sha256>)> {
        let length = part.length()?;
        if length > 0 {
            let hash = hash_of(&part.file, length, part.target)?;
            if self.files.digest(path, Some(length), path, deadline)? == Some(hash.clone().finish()) {
                return Ok((length, Some(hash)));
            }
        }
        part.restart()?;
        Ok((0, Some(Sha256::new())))
    }
}

impl Files<'_> {
    /// What an earlier upload has left there, if it is the beginning of the file: its length, and its hash so far. The file is
    /// read up to there.
    fn kept_there(
        &self,
        mut file: &fs::File,
        local: &Path,
        part: &Path,
        deadline: Deadline,
    ) -> Result<(u64, Option<Sha256>)> {
        let part = part.as_os_str().as_bytes();
        let kept = match self.ask(part, deadline, |client| client.lstat(part)) {
            Ok(found) if found.is(REGULAR) => found.size.unwrap_or(0),
            Ok(_) => return Err(Error::new(ErrorKind::Conflict, format!("{} is not a regular file", Quoted(part)))),
            Err(e) if e.kind() == ErrorKind::NotFound => 0,
            Err(e) => return Err(e),
        };
        if kept > 0 && file.metadata().is_ok_and(|metadata| metadata.len() >= kept) {
            let hash = hash_of(file, kept, local)?;
            // What its server has not written yet may follow still.
            if self.digest(part, Some(kept), part, deadline)? == Some(hash.clone().finish()) {
                return Ok((kept, Some(hash)));
            }
        }
        file.rewind().map_err(|e| at_local(local, "read", e))?;
        Ok((0, Some(Sha256::new())))
    }

    /// Renames a part of this size over its target. Where the connection is lost over that, another one tells whether it was done.
    fn put_in_place(&self, mut lease: Lease, part: &[u8], target: &[u8], size: u64, deadline: Deadline) -> Result<()> {
        let renamed = Client::new(&mut lease, deadline).and_then(|client| client.rename_as(part, target, target));
        match renamed {
            Ok(()) => {
                lease.finish();
                return Ok(());
            }
            Err(e) if e.kind() != ErrorKind::Disconnected => return Err(super::may_be_done(e)),
            Err(_) => drop(lease),
        }
        let again =
            self.begin(deadline, target, Repeat::Harmless, |client| match client.rename_as(part, target, target) {
                Err(e) if e.kind() == ErrorKind::NotFound => match client.lstat(target) {
                    Ok(found) if found.is(REGULAR) && found.size == Some(size) => Ok(()),
                    _ => Err(e),
                },
                renamed => renamed,
            });
        again.map(|(lease, ())| lease.finish()).map_err(super::may_be_done)
    }
}

pub(super) fn too_much(path: &[u8], limit: u64) -> Error {
    Error::new(ErrorKind::Transfer, format!("{} has more than the {limit} bytes that are allowed", Quoted(path)))
}

/// The hash of a local file's first bytes, which are read.
fn hash_of(mut file: &fs::File, length: u64, path: &Path) -> Result<Sha256> {
    let (mut hash, mut buffer, mut left) = (Sha256::new(), vec![0; 1 << 18], length);
    file.rewind().map_err(|e| at_local(path, "read", e))?;
    while left > 0 {
        let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match file.read(&mut buffer[..room]) {
            Ok(0) => return Err(at_local(path, "read", io::ErrorKind::UnexpectedEof.into())),
            Ok(length) => {
                hash.update(&buffer[..length]);
                left -= length as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(at_local(path, "read", e)),
        }
    }
    Ok(hash)
}

/// What is uploaded.
enum Source<'s> {
    Local { file: &'s fs::File, path: &'s Path, metadata: &'s fs::Metadata },
    Reader(&'s mut dyn Read),
}

impl Source<'_> {
    /// The bytes from `offset` on, 0 at the end: of a file, of the size that it had at the beginning.
    fn read(&mut self, buffer: &mut [u8], offset: u64, remote: &Path) -> Result<usize> {
        loop {
            let read = match self {
                Self::Local { file, metadata, .. } => {
                    let left = usize::try_from(metadata.len().saturating_sub(offset)).unwrap_or(usize::MAX);
                    // Files that claim to be empty, as those in /proc do, are read to their ends.
                    let room = if metadata.len() == 0 { buffer.len() } else { buffer.len().min(left) };
                    file.read(&mut buffer[..room])
                }
                Self::Reader(reader) => reader.read(buffer),
            };
            return match (read, &*self) {
                (Ok(0), Self::Local { path, metadata, .. }) if offset < metadata.len() => {
                    Err(cut_short(path, offset, metadata.len()))
                }
                (Ok(length), _) => Ok(length),
                (Err(e), _) if e.kind() == io::ErrorKind::Interrupted => continue,
                (Err(e), Self::Local { path, .. }) => Err(at_local(path, "read", e)),
                (Err(e), Self::Reader(_)) => {
                    let path = Quoted(remote.as_os_str().as_bytes());
                    Err(at_stream(format_args!("the source of {path} can't be read after {offset} bytes"), e))
                }
            };
        }
    }
}

/// Tells a callback how far a transfer has come.
struct Meter<'m, 'a> {
    callback: Option<&'m mut Callback<'a>>,
    path: &'m Path,
    total: Option<u64>,
    last: Instant,
}

impl<'m, 'a> Meter<'m, 'a> {
    pub(super) fn new(callback: Option<&'m mut Callback<'a>>, path: &'m Path, total: Option<u64>) -> Self {
        Self { callback, path, total, last: Instant::now() }
    }

    fn at(&mut self, done: u64) -> Result<()> {
        if self.callback.is_some() && self.last.elapsed() >= PROGRESS_INTERVAL { self.report(done) } else { Ok(()) }
    }

    fn report(&mut self, done: u64) -> Result<()> {
        let Some(callback) = &mut self.callback else { return Ok(()) };
        self.last = Instant::now();
        let progress = Progress { path: self.path, done, total: self.total };
        callback(&progress).map_err(|e| e.context(format_args!("'{}' is moved up to byte {done}", self.path.display())))
    }
}

/// The name under which a transfer to `path` waits to be resumed; another one for each `version`.
fn stable_part(path: &Path, version: impl fmt::Display) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().as_bytes().to_vec();
    name.extend_from_slice(format!("/{version}").as_bytes());
    path.with_file_name(format!(".sandbox-{}.part", hex::encode(&openssl::sha::sha256(&name)[..8])))
}

/// A local file that has ended before its size.
pub(super) fn cut_short(path: &Path, reached: u64, size: u64) -> Error {
    let path = path.display();
    let message = format!("'{path}' on this machine ended after {reached} bytes of {size}; it was changed meanwhile");
    Error::new(ErrorKind::Transfer, message)
}

pub(super) fn at_local(path: &Path, done: &str, e: io::Error) -> Error {
    let kind = match e.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::PermissionDenied,
        io::ErrorKind::AlreadyExists => ErrorKind::Conflict,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            ErrorKind::StorageFull
        }
        _ => ErrorKind::Transfer,
    };
    Error::new(kind, format!("'{}' on this machine can't be {done}: {e}", path.display())).with_source(e)
}

/// A failure of the caller's own stream; one of ours, such as that of another sandbox's file, stays what it is.
fn at_stream(what: impl fmt::Display, e: io::Error) -> Error {
    match e.downcast::<Error>() {
        Ok(error) => error.context(what),
        Err(e) => Error::new(ErrorKind::Transfer, format!("{what}: {e}")).with_source(e),
    }
}

/// A local file on its way to its name; removed again unless it gets there, or is to be resumed.
struct LocalPart<'a> {
    target: &'a Path,
    part: PathBuf,
    file: fs::File,
    length: u64,
    is_resumable: bool,
    is_in_place: bool,
}

impl<'a> LocalPart<'a> {
    fn create(target: &'a Path, resume: bool) -> Result<Self> {
        let part = if resume { stable_part(target, "") } else { beside(target) };
        let mut options = fs::OpenOptions::new();
        // Readable for nobody else until its own mode is known.
        options.read(resume).write(true).mode(0o600);
        match resume {
            true => options.create(true).truncate(false).custom_flags(libc::O_NOFOLLOW),
            false => options.create_new(true),
        };
        let file = options.open(&part).map_err(|e| at_local(target, "created", e))?;
        if resume {
            claim(&file, &part, target)?;
        }
        Ok(Self { target, part, file, length: 0, is_resumable: resume, is_in_place: false })
    }

    fn length(&mut self) -> Result<u64> {
        self.length = self.file.metadata().map_err(|e| at_local(self.target, "read", e))?.len();
        Ok(self.length)
    }

    /// Begins anew.
    fn restart(&mut self) -> Result<()> {
        self.length = 0;
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(|e| at_local(self.target, "written", e))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let done = || format!("written beyond byte {}", self.length);
        self.file.write_all(bytes).map_err(|e| at_local(self.target, &done(), e))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn put_in_place(mut self, mode: u32, sync: bool) -> Result<()> {
        self.file.set_permissions(Permissions::from_mode(mode)).map_err(|e| at_local(self.target, "finished", e))?;
        if sync {
            self.file.sync_all().map_err(|e| at_local(self.target, "put on the disk", e))?;
        }
        close_one_of(&self.file).map_err(|e| at_local(self.target, "closed", e))?;
        fs::rename(&self.part, self.target).map_err(|e| at_local(self.target, "put in place", e))?;
        self.is_in_place = true;
        if sync {
            sync_directory_of(self.target)?;
        }
        Ok(())
    }
}

/// Makes sure that nobody else writes to a part with a name that others know too.
fn claim(file: &fs::File, part: &Path, target: &Path) -> Result<()> {
    let is_same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino()) && a.is_file();
    let busy = || {
        let message = format!("'{}' on this machine is being written by another download", target.display());
        Error::new(ErrorKind::Conflict, message)
    };
    file.try_lock().map_err(|e| match e {
        fs::TryLockError::WouldBlock => busy(),
        fs::TryLockError::Error(e) => at_local(target, "locked", e),
    })?;
    // Whoever had the lock before may have put the file in its place.
    match (file.metadata(), fs::symlink_metadata(part)) {
        (Ok(ours), Ok(named)) if is_same(&ours, &named) => Ok(()),
        _ => Err(busy()),
    }
}

pub(super) fn sync_directory_of(path: &Path) -> Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = fs::File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|e| at_local(directory, "put on the disk", e))
}

impl Drop for LocalPart<'_> {
    fn drop(&mut self) {
        let is_of_use = self.is_resumable && self.file.metadata().is_ok_and(|found| found.len() > 0);
        if !self.is_in_place
            && !is_of_use
            && let Err(e) = fs::remove_file(&self.part)
        {
            log::warn!("the partial file '{}' is left: {e}", self.part.display());
        }
        // A process that this program starts at the same time may have the file, too, for a moment.
        let _ = self.file.unlock();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_failures_have_kinds_and_name_the_file() {
        for (number, kind) in [
            (libc::ENOSPC, ErrorKind::StorageFull),
            (libc::EDQUOT, ErrorKind::StorageFull),
            (libc::EACCES, ErrorKind::PermissionDenied),
            (libc::EROFS, ErrorKind::PermissionDenied),
            (libc::ENOENT, ErrorKind::NotFound),
            (libc::EIO, ErrorKind::Transfer),
        ] {
            let error = at_local(Path::new("some/file"), "written", io::Error::from_raw_os_error(number));
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().starts_with("'some/file' on this machine can't be written: "), "{error}");
        }
    }

    #[test]
    fn a_part_that_is_taken_or_replaced_is_not_written() {
        let place = std::env::temp_dir().join(format!("sandbox-part-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        let target = place.join("target");
        let first = LocalPart::create(&target, true).unwrap();
        assert_eq!(LocalPart::create(&target, true).err().unwrap().kind(), ErrorKind::Conflict);
        drop(first);
        LocalPart::create(&target, true).unwrap().put_in_place(0o640, true).unwrap();
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o777, 0o640);
        // Another one is not in the way, and goes when it is not put in place.
        drop(LocalPart::create(&target, false).unwrap());
        assert_eq!(fs::read_dir(&place).unwrap().count(), 1);
        fs::remove_dir_all(&place).unwrap();
    }
}

//! Uploads of single files: whole or not at all.

use std::fs;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use openssl::sha::Sha256;

use super::digest::is_mismatch;
use super::local::{PERMISSIONS, at_local, at_stream, cut_short, hash_of, stable_part};
use super::options::{ProgressReporter, Transfer, Transferred};
use super::path::{file_bytes_of, invalid, temp_path_beside};
use super::request::{Repeat, may_be_done};
use super::{FILE_MODE, Files};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::ssh::pool::Lease;
use crate::ssh::sftp::{Attributes, Client, Opened, Quoted, REGULAR, flags};

impl Transfer<'_> {
    /// Copies the local file `local` to `remote`, as [`Files::upload`].
    ///
    /// # Errors
    /// See [`Files`]; [`ErrorKind::Transfer`] if the checksums differ. The kinds of files are also for the local file.
    pub fn upload(&mut self, local: impl AsRef<Path>, remote: impl AsRef<Path>) -> Result<Transferred> {
        let (files, local, remote) = (self.files, local.as_ref(), remote.as_ref());
        files.link.call("upload file", || {
            // A named pipe would be waited for.
            let opened = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(local);
            let file = opened.map_err(|e| at_local(local, "opened", e))?;
            let metadata = file.metadata().map_err(|e| at_local(local, "read", e))?;
            if metadata.is_dir() {
                return Err(at_local(local, "uploaded as a file", io::Error::from_raw_os_error(libc::EISDIR)));
            }
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
        files.link.call("upload file", || self.put(&mut Source::Reader(&mut source), remote, FILE_MODE))
    }

    pub(super) fn put_bytes(&mut self, mut contents: &[u8], remote: &Path, mode: u32) -> Result<()> {
        self.put(&mut Source::Reader(&mut contents), remote, mode).map(drop)
    }

    /// Sends a file under another name, and renames it over its target when all has arrived. 4 round trips for a small file.
    fn put(&mut self, source: &mut Source<'_>, remote: &Path, mode: u32) -> Result<Transferred> {
        let (files, deadline, path, mode) =
            (self.files, self.files.deadline(), file_bytes_of(remote)?, mode & PERMISSIONS);
        // One name for all attempts, so that none leaves another file behind.
        let part = match (&*source, self.resume) {
            (_, false) => temp_path_beside(remote),
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
        let begun =
            files.start_request(deadline, path, Repeat::Harmless, |client| client.open(part, how, first_mode, path));
        let (mut lease, opened) = begun.map_err(|e| {
            if !self.resume && matches!(e.kind(), ErrorKind::Disconnected | ErrorKind::TimedOut | ErrorKind::Cancelled)
            {
                files.remove_part(part, &e);
            }
            e
        })?;
        let filled = Client::new(&mut lease, deadline)
            .and_then(|client| self.fill(&client, opened, source, resumed, &mut hash, mode, part, remote));
        let result = match filled {
            Ok(bytes) => {
                let finished = self.finish(lease, part, remote, bytes, hash, deadline);
                finished.map(|sha256| Transferred { bytes, resumed, sha256 })
            }
            Err(e) => {
                // Discard the session, on which requests may be in flight, and free its pool slot for the cleanup below.
                drop(lease);
                Err(e)
            }
        };
        result.inspect_err(|e| {
            // Contents that are wrong are no use to anybody.
            if !self.resume || is_mismatch(e) {
                files.remove_part(part, e);
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
        let mut reporter = ProgressReporter::new(self.progress.as_deref_mut(), name, total);
        reporter.report(resumed)?;
        let mut sent = resumed;
        let mut read = |buffer: &mut [u8]| {
            let length = source.read(buffer, sent, remote)?;
            sent += length as u64;
            if let Some(hash) = hash {
                hash.update(&buffer[..length]);
            }
            Ok(length)
        };
        let size = client.upload(&opened, resumed, &mut read, &mut |reached| reporter.at(reached))?;
        if self.sync {
            client.sync(&opened)?;
        }
        let found = client.close_and_stat(opened, part)?;
        if found.size != Some(size) {
            let path = Quoted(remote.as_os_str().as_bytes());
            let message = format!("the sandbox has {:?} bytes of {path}, sent were {size}", found.size);
            return Err(Error::new(ErrorKind::Transfer, message));
        }
        // The server's umask has a say when a file is created.
        if found.mode.map(|mode| mode & PERMISSIONS) != Some(mode) {
            client.set_stat(part, Attributes { mode: Some(mode), ..Attributes::default() })?;
        }
        reporter.report(size)?;
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
            Ok(_) => return Err(Error::new(ErrorKind::FileExists, format!("{} is not a regular file", Quoted(part)))),
            Err(e) if e.kind() == ErrorKind::FileNotFound => 0,
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
            Err(e) if e.kind() != ErrorKind::Disconnected => return Err(may_be_done(e)),
            Err(_) => drop(lease),
        }
        let again = self.start_request(deadline, target, Repeat::Harmless, |client| {
            match client.rename_as(part, target, target) {
                Err(e) if e.kind() == ErrorKind::FileNotFound => match client.lstat(target) {
                    Ok(found) if found.is(REGULAR) && found.size == Some(size) => Ok(()),
                    _ => Err(e),
                },
                renamed => renamed,
            }
        });
        again.map(|(lease, ())| lease.finish()).map_err(may_be_done)
    }
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

//! Uploads of single files: whole or not at all.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use openssl::sha::Sha256;
use sandbox_protocol::tree::Request;

use super::local::{PERMISSIONS, at_local, at_stream, cut_short, hash_of, stable_part};
use super::options::{ProgressReporter, Transfer, Transferred};
use super::path::{file_bytes_of, invalid, permission_bits};
use super::request::{Repeat, may_be_done, passed_digest};
use super::tool::{Work, mismatch};
use super::{FILE_MODE, Files};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::ssh::pool::Lease;
use crate::ssh::sftp::{Attributes, Client, Opened, Quoted, REGULAR, flags, is_refusal};

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

    /// Copies all that `source` gives to `remote`, which gets permissions as from [`Files::write`]. It can't be
    /// resumed.
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

    /// Sends a file that takes the place of the one that is there when all has arrived. 3 round trips for a small file.
    fn put(&mut self, source: &mut Source<'_>, remote: &Path, mode: u32) -> Result<Transferred> {
        let (files, deadline, path) = (self.files, self.files.deadline(), file_bytes_of(remote)?);
        let mode = permission_bits(self.mode.unwrap_or(mode & PERMISSIONS))? & PERMISSIONS;
        if self.resume {
            let Source::Local { metadata, .. } = source else {
                return Err(invalid("only an upload of a file can be resumed"));
            };
            // Other contents get another name: two uploads at once would be mixed up.
            let version = format!("{} {} {}", metadata.len(), metadata.mtime(), metadata.mtime_nsec());
            match files.replaced(path, deadline)? {
                Replaced::Stream => {}
                Replaced::File { path: real, kept } => {
                    let part = stable_part(Path::new(OsStr::from_bytes(&real)), version);
                    let place = Place { part: part.as_os_str().as_bytes(), real: &real, name: path, mode, kept };
                    return self.put_resumable(source, remote, place, deadline);
                }
            }
        }
        let (mut hash, is_summed) = (self.checksum.then(Sha256::new), self.checksum);
        let how = flags::WRITE | flags::CREATE | flags::TRUNCATE | flags::REPLACE;
        let how = how | if is_summed { flags::DIGEST } else { 0 };
        let begun = files.start_request(deadline, path, Repeat::Harmless, |client| client.open(path, how, mode, path));
        let (mut lease, opened) = begun.map_err(explained)?;
        // A failure discards the session. What has arrived goes away with it.
        let client = Client::new(&mut lease, deadline)?;
        let bytes = self.send(&client, &opened, source, 0, &mut hash, remote)?;
        if self.sync {
            match client.sync(&opened) {
                // A device or a pipe, of which nothing is on a disk.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {}
                synced => synced?,
            }
        }
        let sha256 = hash.map(Sha256::finish);
        if let Some(ours) = sha256
            && passed_digest(&mut lease, path, bytes, deadline)? != Some(ours)
        {
            return Err(mismatch(Quoted(path)));
        }
        Client::new(&mut lease, deadline)?.close_in_place(opened).map_err(may_be_done)?;
        lease.finish();
        self.finish(remote, deadline)?;
        Ok(Transferred { bytes, resumed: 0, sha256 })
    }

    /// Sends what is missing of a part, and renames it over its target when all has arrived.
    fn put_resumable(
        &mut self,
        source: &mut Source<'_>,
        remote: &Path,
        place: Place<'_>,
        deadline: Deadline,
    ) -> Result<Transferred> {
        let (files, Place { part, name, mode, .. }) = (self.files, place);
        let (resumed, mut hash) = match source {
            Source::Local { file, path, .. } => files.kept_there(file, path, part, deadline)?,
            Source::Reader(_) => (0, Some(Sha256::new())),
        };
        let how = flags::WRITE | flags::CREATE | if resumed == 0 { flags::TRUNCATE | flags::DIGEST } else { 0 };
        // What is to be opened again must be writable.
        let (mut lease, opened) = files
            .start_request(deadline, name, Repeat::Harmless, |client| client.open(part, how, mode | 0o600, name))?;
        let client = Client::new(&mut lease, deadline)?;
        let bytes = self.send(&client, &opened, source, resumed, &mut hash, remote)?;
        if self.sync {
            client.sync(&opened)?;
        }
        let found = client.close_and_stat(opened, part)?;
        if found.size != Some(bytes) {
            let message = format!("the sandbox has {:?} bytes of {}, but {bytes} were sent", found.size, Quoted(name));
            return Err(Error::new(ErrorKind::Transfer, message));
        }
        // The server's umask has a say when a file is created.
        let kept = place.kept.and_then(|kept| kept.mode);
        let wanted = kept.or(found.mode.map(|found| found & mode)).unwrap_or(mode) & PERMISSIONS;
        if found.mode.map(|mode| mode & PERMISSIONS) != Some(wanted) {
            client.set_stat(part, Attributes { mode: Some(wanted), ..Attributes::default() })?;
        }
        if let Some(owner) = place.kept.and_then(|kept| kept.owner).filter(|owner| found.owner != Some(*owner))
            && let Err(e) = client.set_stat(part, Attributes { owner: Some(owner), ..Attributes::default() })
            // Only root may give files away; whose it is now may write it already.
            && !is_refusal(&e)
        {
            return Err(e);
        }
        let sha256 = hash.map(Sha256::finish);
        if let Some(ours) = sha256 {
            let passed = if resumed == 0 { passed_digest(&mut lease, part, bytes, deadline)? } else { None };
            // One session has to be enough for everything.
            lease.finish();
            let theirs = match passed {
                Some(digest) => digest,
                None => files.digest(part, None, name, deadline)?,
            };
            if theirs != ours {
                let e = mismatch(Quoted(name));
                // Contents that are wrong are no use to anybody.
                files.remove_part(part, &e);
                return Err(e);
            }
            lease = files.lease(deadline).map_err(|e| e.context(Quoted(name)))?;
        }
        files.put_in_place(lease, place, bytes, deadline)?;
        self.finish(remote, deadline)?;
        Ok(Transferred { bytes, resumed, sha256 })
    }

    /// Writes all that the source gives behind what is there; returns how many bytes there are then.
    fn send(
        &mut self,
        client: &Client<'_>,
        opened: &Opened,
        source: &mut Source<'_>,
        resumed: u64,
        hash: &mut Option<Sha256>,
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
        let size = client.upload(opened, resumed, &mut read, &mut |reached| reporter.at(reached))?;
        reporter.report(size)?;
        Ok(size)
    }

    /// Puts the name on the disk, if that is wanted.
    fn finish(&self, remote: &Path, deadline: Deadline) -> Result<()> {
        if !self.sync {
            return Ok(());
        }
        let directory = remote.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let work = Work {
            name: remote.as_os_str().as_bytes(),
            path: directory.as_os_str().as_bytes(),
            done: "synced to disk",
        };
        let request = Request::Sync { path: directory.to_owned(), file_system: false };
        self.files.run_tool(&request, work, deadline).map(drop)
    }
}

/// What an upload that can be resumed replaces.
enum Replaced {
    /// A file, or nothing; by its path without links, and what it keeps.
    File { path: Vec<u8>, kept: Option<Attributes> },
    /// A device, a pipe or the like, which is written into from the beginning.
    Stream,
}

/// The names and modes of an upload that can be resumed.
#[derive(Clone, Copy)]
struct Place<'a> {
    part: &'a [u8],
    /// Where it goes, without links.
    real: &'a [u8],
    /// What errors call it.
    name: &'a [u8],
    /// Of a new file.
    mode: u32,
    /// Of the file that is there.
    kept: Option<Attributes>,
}

/// Says what a number of the system means for a file that is written.
fn explained(e: Error) -> Error {
    match e.raw_os_error() {
        Some(libc::ENXIO) => e.context("nobody reads from the named pipe, or there is no such device"),
        Some(libc::EOPNOTSUPP) => e.context("a socket can't be written as a file"),
        _ => e,
    }
}

impl Files<'_> {
    fn replaced(&self, path: &[u8], deadline: Deadline) -> Result<Replaced> {
        self.ask(path, deadline, |client| {
            let kept = match client.stat(path) {
                Ok(found) if found.is(REGULAR) => Some(found),
                // What refuses directories is the same for all uploads.
                Ok(_) => return Ok(Replaced::Stream),
                Err(e) if e.kind() == ErrorKind::FileNotFound => None,
                Err(e) => return Err(e),
            };
            let real = client.resolve(path)?;
            if kept.is_some() {
                // Nothing is to be sent to a file that may not be written.
                client.close_file(client.open(&real, flags::WRITE, 0, path)?)?;
            }
            Ok(Replaced::File { path: real, kept })
        })
    }

    /// What an earlier upload has left there, if it is the beginning of the file: its length, and its hash so far. The
    /// file is read up to there.
    fn kept_there(
        &self,
        mut file: &fs::File,
        local: &Path,
        part: &[u8],
        deadline: Deadline,
    ) -> Result<(u64, Option<Sha256>)> {
        let kept = match self.ask(part, deadline, |client| client.lstat(part)) {
            Ok(found) if found.is(REGULAR) => found.size.unwrap_or(0),
            Ok(_) => return Err(Error::new(ErrorKind::FileExists, format!("{} is not a regular file", Quoted(part)))),
            Err(e) if e.kind() == ErrorKind::FileNotFound => 0,
            Err(e) => return Err(e),
        };
        if kept > 0 && file.metadata().is_ok_and(|metadata| metadata.len() >= kept) {
            let hash = hash_of(file, kept, local)?;
            // What its server has not written yet may follow still.
            if self.digest(part, Some(kept), part, deadline)? == hash.clone().finish() {
                return Ok((kept, Some(hash)));
            }
        }
        file.rewind().map_err(|e| at_local(local, "read", e))?;
        Ok((0, Some(Sha256::new())))
    }

    /// Renames a part of this size over its target. Where the connection is lost over that, another one tells whether
    /// it was done.
    fn put_in_place(&self, mut lease: Lease, place: Place<'_>, size: u64, deadline: Deadline) -> Result<()> {
        let Place { part, real, name, .. } = place;
        let renamed = Client::new(&mut lease, deadline).and_then(|client| client.rename_as(part, real, name));
        match renamed {
            Ok(()) => {
                lease.finish();
                return Ok(());
            }
            Err(e) if e.kind() != ErrorKind::Disconnected => return Err(may_be_done(e)),
            Err(_) => drop(lease),
        }
        let again =
            self.start_request(deadline, name, Repeat::Harmless, |client| match client.rename_as(part, real, name) {
                Err(e) if e.kind() == ErrorKind::FileNotFound => match client.lstat(real) {
                    Ok(found) if found.is(REGULAR) && found.size == Some(size) => Ok(()),
                    _ => Err(e),
                },
                renamed => renamed,
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

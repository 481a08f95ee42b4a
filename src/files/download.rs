//! Downloads of single files: whole or not at all.

use std::fs::{self, Permissions};
use std::io::{Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use openssl::sha::Sha256;

use super::FILE_MODE;
use super::digest::RemoteDigest;
use super::local::{PERMISSIONS, at_local, at_stream, hash_of, stable_part, sync_directory_of};
use super::options::{ProgressReporter, Transfer, Transferred};
use super::path::{file_bytes_of, invalid, temp_path_beside};
use super::request::Repeat;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fd::close_one_of;
use crate::ssh::sftp::{Client, DIRECTORY, Quoted, REGULAR, flags};

/// What [`Files::read`](crate::Files::read) takes into memory.
const IN_MEMORY: usize = 1 << 30;

impl Transfer<'_> {
    /// Copies `remote` to the local file `local`, as [`Files::download`](crate::Files::download).
    ///
    /// # Errors
    /// See [`Files`](crate::Files); [`ErrorKind::Transfer`] if the checksums differ.
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
            files.start_request(deadline, path, Repeat::Harmless, |client| client.open(path, flags::READ, 0, path))?;
        let mut client = Client::new(&mut lease, deadline)?;
        let found = client.attributes_of(&opened)?;
        let mode = found.mode.unwrap_or(REGULAR | FILE_MODE);
        if !found.is(REGULAR) && found.mode.is_some() {
            let (kind, what) = match found.is(DIRECTORY) {
                true => (ErrorKind::IsADirectory, "a directory"),
                false => (ErrorKind::Transfer, "not a regular file"),
            };
            client.abandon(opened);
            lease.finish();
            return Err(Error::new(kind, format!("{} is {what}", Quoted(path))));
        }
        // Files that claim to be empty, as those in /proc do, are read to their ends.
        let expected = found.size.filter(|size| *size > 0);
        let mut reporter = ProgressReporter::new(self.progress.as_deref_mut(), remote, expected);
        reporter.report(resumed)?;
        if resumed > 0 {
            opened.seek(resumed);
        }
        let mut reached = resumed;
        let limit = self.max_bytes.unwrap_or(u64::MAX);
        if expected.is_some_and(|expected| expected > limit) {
            return Err(too_much(path, limit));
        }
        let remote_digest = match expected {
            Some(length) if hash.is_some() && RemoteDigest::is_worth(length) => {
                RemoteDigest::start(files, path, deadline).ok()
            }
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
            reporter.at(reached)
        };
        let size = client.download(&opened, resumed, expected, &mut take)?;
        client.close_file(opened)?;
        lease.finish();
        reporter.report(size)?;
        let sha256 = hash.map(Sha256::finish);
        if let Some(digest) = sha256 {
            let theirs = remote_digest.map(|remote_digest| remote_digest.end(deadline)).transpose()?.flatten();
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

pub(super) fn too_much(path: &[u8], limit: u64) -> Error {
    Error::new(ErrorKind::Transfer, format!("{} has more than the {limit} bytes that are allowed", Quoted(path)))
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
        let part = if resume { stable_part(target, "") } else { temp_path_beside(target) };
        let mut options = fs::OpenOptions::new();
        // Readable for nobody else until its own mode is known.
        options.read(resume).write(true).mode(0o600);
        match resume {
            true => options.create(true).truncate(false).custom_flags(libc::O_NOFOLLOW),
            false => options.create_new(true),
        };
        let file = options.open(&part).map_err(|e| at_local(target, "created", e))?;
        if resume {
            lock_part(&file, &part, target)?;
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
fn lock_part(file: &fs::File, part: &Path, target: &Path) -> Result<()> {
    let is_same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino()) && a.is_file();
    let busy = || {
        let message = format!("'{}' on this machine is being written by another download", target.display());
        Error::new(ErrorKind::Busy, message)
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

impl Drop for LocalPart<'_> {
    fn drop(&mut self) {
        let is_of_use = self.is_resumable && self.file.metadata().is_ok_and(|found| found.len() > 0);
        if !self.is_in_place
            && !is_of_use
            && let Err(e) = fs::remove_file(&self.part)
        {
            log::warn!("the partial file '{}' is left: {e}", self.part.display());
        }
        // Unlock explicitly: a child forked concurrently may briefly hold the descriptor, and with it the lock.
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_is_taken_or_replaced_is_not_written() {
        let place = std::env::temp_dir().join(format!("sandbox-part-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        let target = place.join("target");
        let first = LocalPart::create(&target, true).unwrap();
        assert_eq!(LocalPart::create(&target, true).err().unwrap().kind(), ErrorKind::Busy);
        drop(first);
        LocalPart::create(&target, true).unwrap().put_in_place(0o640, true).unwrap();
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o777, 0o640);
        // Another one is not in the way, and goes when it is not put in place.
        drop(LocalPart::create(&target, false).unwrap());
        assert_eq!(fs::read_dir(&place).unwrap().count(), 1);
        fs::remove_dir_all(&place).unwrap();
    }
}

//! Downloads of single files: whole or not at all.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use openssl::sha::Sha256;

use super::FILE_MODE;
use super::local::{PERMISSIONS, at_stream, hash_of};
use super::options::{ProgressReporter, Transfer, Transferred};
use super::path::{file_bytes_of, invalid};
use super::request::{Repeat, passed_digest};
use super::target::{LocalFile, Target};
use super::tool::mismatch;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
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
            let mut target = Target::open(local, self.resume, deadline)?;
            let (resumed, hash) = match &mut target {
                Target::File(file) if self.resume => self.kept_here(file, path, deadline)?,
                _ => (0, self.checksum.then(Sha256::new)),
            };
            let (transferred, mode) = self.get(remote, deadline, resumed, hash, &mut |bytes| target.write(bytes))?;
            match target {
                Target::File(file) => file.put_in_place(mode, self.sync)?,
                Target::Stream(stream) => stream.finish()?,
            }
            Ok(transferred)
        })
    }

    /// Copies the contents of `remote` to `target`. What has been written when it fails stays written, and it can't be
    /// resumed.
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
        // What was read before is not among what passes now.
        let is_summed = hash.is_some() && resumed == 0;
        let how = flags::READ | if is_summed { flags::DIGEST } else { 0 };
        let (mut lease, opened) =
            files.start_request(deadline, path, Repeat::Harmless, |client| client.open(path, how, 0, path))?;
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
        let passed = if is_summed { passed_digest(&mut lease, path, size, deadline)? } else { None };
        lease.finish();
        reporter.report(size)?;
        let sha256 = hash.map(Sha256::finish);
        if let Some(ours) = sha256 {
            let theirs = match passed {
                Some(digest) => digest,
                // What grows meanwhile has another one.
                None => files.digest(path, None, path, deadline)?,
            };
            if ours != theirs {
                return Err(mismatch(Quoted(path)));
            }
        }
        Ok((Transferred { bytes: size, resumed, sha256 }, mode & PERMISSIONS))
    }

    /// What an earlier download has left here, if it is the beginning of the file: its length, and its hash so far.
    fn kept_here(&self, part: &mut LocalFile<'_>, path: &[u8], deadline: Deadline) -> Result<(u64, Option<Sha256>)> {
        let name = part.path();
        let (file, length) = part.kept()?;
        if length > 0 {
            let hash = hash_of(file, length, name)?;
            if self.files.digest(path, Some(length), path, deadline)? == hash.clone().finish() {
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

//! Open files, after `std::fs::File`.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::path::{file_bytes_of, invalid, permission_bits};
use super::request::{Repeat, may_be_done};
use super::{Files, Metadata};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::link::Link;
use crate::ssh::pool::Lease;
use crate::ssh::sftp::{Attributes, Client, Opened, WINDOW, flags, is_refusal};

/// How long a dropped file may take to be closed.
const CLOSING: Duration = Duration::from_secs(2);

/// An open file of a sandbox; made by [`Files::open`] and [`Files::open_with`].
///
/// Each call is a request that the sandbox has answered when it returns: one round trip for up to 4 MB. So a
/// [`BufReader`](io::BufReader) or [`BufWriter`](io::BufWriter) around it is worth as much as around a file of this
/// machine. What is read may have been asked for ahead, by four times the length of the buffer. Errors are [`Error`]s
/// in an [`io::Error`], which [`io::Error::get_ref`] gives back.
///
/// It keeps an SSH session for itself until it is closed. The configured `transfer_timeout` applies to each call. After
/// a lost connection or a timeout it can only be dropped. **[`close`](File::close) it**: some file systems report only
/// then what they could not write. Dropping closes it too, for which it waits up to 2 seconds; its errors go to the log
/// only.
pub struct File {
    link: Link,
    path: PathBuf,
    /// `None` once it is closed, or has failed in a way that leaves its session in disorder.
    open: Option<(Lease, Opened)>,
    position: u64,
    /// What libssh2 has asked for ahead, or its memory of the file's end, does not hold for the next call.
    is_stale: bool,
    was_reading: bool,
    /// Asking twice writes twice.
    appends: bool,
    /// The position is the file's end, wherever that is now.
    is_at_end: bool,
}

/// How to open a file, after `std::fs::OpenOptions`.
///
/// ```
/// let options = sandbox::OpenOptions::new().read(true).write(true).create(true).mode(0o600).clone();
/// ```
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    read: bool,
    write: bool,
    append: bool,
    truncate: bool,
    create: bool,
    create_new: bool,
    mode: Option<u32>,
}

impl OpenOptions {
    /// Nothing is chosen; one of `read`, `write` and `append` has to be.
    pub fn new() -> Self {
        Self::default()
    }

    /// For reading.
    pub fn read(&mut self, read: bool) -> &mut Self {
        self.read = read;
        self
    }

    /// For writing, without truncating.
    pub fn write(&mut self, write: bool) -> &mut Self {
        self.write = write;
        self
    }

    /// For writing at the end of the file, even if it has grown meanwhile.
    pub fn append(&mut self, append: bool) -> &mut Self {
        self.append = append;
        self
    }

    /// Truncates an existing file. Needs `write`.
    pub fn truncate(&mut self, truncate: bool) -> &mut Self {
        self.truncate = truncate;
        self
    }

    /// Creates the file if it does not exist. Needs `write` or `append`.
    pub fn create(&mut self, create: bool) -> &mut Self {
        self.create = create;
        self
    }

    /// Creates the file, and fails if the name exists, even as a broken link. Needs `write` or `append`.
    pub fn create_new(&mut self, create_new: bool) -> &mut Self {
        self.create_new = create_new;
        self
    }

    /// Permission bits of a new file, minus the sandbox's umask. Default: `0o666`.
    pub fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = Some(mode);
        self
    }

    fn flags(&self) -> Result<std::ffi::c_ulong> {
        let writes = self.write || self.append;
        let contradiction = if !self.read && !writes {
            "a file is opened for reading, writing or appending"
        } else if self.truncate && (!self.write || self.append) {
            "only a file that is opened for writing, not appending, can be truncated"
        } else if (self.create || self.create_new) && !writes {
            "only a file that is opened for writing or appending can be created"
        } else {
            let chosen = [
                (self.read, flags::READ),
                (writes, flags::WRITE),
                (self.append, flags::APPEND),
                (self.truncate, flags::TRUNCATE),
                (self.create || self.create_new, flags::CREATE),
                (self.create_new, flags::EXCLUSIVE),
            ];
            return Ok(chosen.iter().filter(|(is_chosen, _)| *is_chosen).fold(0, |all, (_, flag)| all | flag));
        };
        Err(Error::new(ErrorKind::InvalidArgument, contradiction))
    }
}

impl File {
    pub(super) fn open(files: &Files<'_>, path: &Path, options: &OpenOptions, deadline: Deadline) -> Result<Self> {
        let (bytes, flags) = (file_bytes_of(path)?, options.flags()?);
        let mode = permission_bits(options.mode.unwrap_or(super::FILE_MODE))?;
        let repeat = if options.create_new { Repeat::Never } else { Repeat::Harmless };
        let open = files.start_request(deadline, bytes, repeat, |client| client.open(bytes, flags, mode, bytes))?;
        let (link, path, appends) = (files.link.clone(), path.to_owned(), options.append);
        let (is_stale, was_reading, is_at_end) = (false, false, false);
        Ok(Self { link, path, open: Some(open), position: 0, is_stale, was_reading, appends, is_at_end })
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is known about it now.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// println!("{} bytes", sandbox.files().open("core.dump")?.metadata()?.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`].
    pub fn metadata(&mut self) -> Result<Metadata> {
        self.request("get metadata", |client, opened| client.attributes_of(opened)).map(Metadata::new)
    }

    /// Truncates it to `size` bytes, or extends it with zeros.
    ///
    /// ```no_run
    /// # fn show(file: &mut sandbox::File) -> sandbox::Result<()> {
    /// file.set_len(0)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`].
    pub fn set_len(&mut self, size: u64) -> Result<()> {
        self.is_stale = true;
        let size = Attributes { size: Some(size), ..Attributes::default() };
        self.request("set length", |client, opened| client.set_attributes_of(opened, size))
    }

    /// Sets its permission bits, such as `0o755`.
    ///
    /// # Errors
    /// See [`Files`].
    pub fn set_permissions(&mut self, mode: u32) -> Result<()> {
        let mode = Attributes { mode: Some(permission_bits(mode)?), ..Attributes::default() };
        self.request("set permissions", |client, opened| client.set_attributes_of(opened, mode))
    }

    /// Syncs the contents to the sandbox's disk (fsync).
    ///
    /// ```no_run
    /// # fn show(file: &mut sandbox::File) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::io::Write;
    ///
    /// file.write_all(b"committed\n")?;
    /// file.sync_all()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Files`]; [`ErrorKind::Transfer`] if the file system does not support it.
    pub fn sync_all(&mut self) -> Result<()> {
        self.request("sync file", |client, opened| client.sync(opened))
    }

    /// Closes it and reports write errors.
    ///
    /// # Errors
    /// See [`Files`].
    pub fn close(mut self) -> Result<()> {
        let closed = self.close_now(self.deadline());
        closed.map_err(|e| self.link.report(e, "close file"))
    }

    pub(super) fn close_now(&mut self, deadline: Deadline) -> Result<()> {
        self.link.check_caller()?;
        let Some((mut lease, opened)) = self.open.take() else { return Err(closed()) };
        let closed = Client::new(&mut lease, deadline).and_then(|client| client.close_file(opened));
        closed.map_err(|e| self.or_done(e))?;
        lease.finish();
        Ok(())
    }

    pub(super) fn write_whole(&mut self, mut bytes: &[u8], deadline: Deadline) -> Result<()> {
        while !bytes.is_empty() {
            bytes = &bytes[self.write_some(bytes, deadline)?..];
        }
        Ok(())
    }

    fn write_some(&mut self, bytes: &[u8], deadline: Deadline) -> Result<usize> {
        let bytes = &bytes[..bytes.len().min(WINDOW)];
        self.turn(false);
        let (position, mut sent) = (self.position, 0);
        self.attempt(deadline, |client, opened| {
            while sent < bytes.len() {
                sent += client.write(opened, &bytes[sent..], position + sent as u64)?;
            }
            Ok(())
        })
        .map_err(|e| self.or_done(e))?;
        self.position += bytes.len() as u64;
        self.is_at_end = self.appends;
        Ok(bytes.len())
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let position = self.find_position()?;
        self.turn(true);
        let length = self.attempt(self.deadline(), |client, opened| client.read(opened, buffer, position))?;
        self.position += length as u64;
        // libssh2 would go on saying that this is the end.
        self.is_stale = length == 0;
        Ok(length)
    }

    fn seek_to(&mut self, target: SeekFrom) -> Result<u64> {
        let (from, by) = match target {
            SeekFrom::Start(position) => (position, 0),
            SeekFrom::Current(by) => (self.find_position()?, by),
            SeekFrom::End(by) => (self.size()?, by),
        };
        let position = from.checked_add_signed(by).ok_or_else(|| invalid("a seek to before the file's start"))?;
        if i64::try_from(position).is_err() {
            return Err(invalid("a seek beyond byte 2^63 - 1, the last that a file can have"));
        }
        self.is_stale |= position != self.position;
        (self.position, self.is_at_end) = (position, false);
        Ok(position)
    }

    /// After something was appended, only the server knows where that ended.
    fn find_position(&mut self) -> Result<u64> {
        if self.is_at_end {
            self.position = self.size()?;
            (self.is_at_end, self.is_stale) = (false, true);
        }
        Ok(self.position)
    }

    fn size(&mut self) -> Result<u64> {
        let found = self.ask(self.deadline(), |client, opened| client.attributes_of(opened), is_refusal)?;
        Ok(found.size.unwrap_or(0))
    }

    /// Makes libssh2 begin at the position, where it would not by itself.
    fn turn(&mut self, to_reading: bool) {
        if let Some((_, opened)) = &self.open
            && (self.is_stale || self.was_reading != to_reading)
        {
            opened.seek(self.position);
        }
        (self.is_stale, self.was_reading) = (false, to_reading);
    }

    fn request<T>(
        &mut self,
        operation: &'static str,
        ask: impl FnOnce(&Client<'_>, &Opened) -> Result<T>,
    ) -> Result<T> {
        let answer = self.ask(self.deadline(), ask, is_refusal);
        answer.map_err(|e| self.link.report(e, operation))
    }

    /// Moves contents. A failure in the middle leaves the session in disorder, also if the server just said no.
    fn attempt<T>(&mut self, deadline: Deadline, ask: impl FnOnce(&Client<'_>, &Opened) -> Result<T>) -> Result<T> {
        self.ask(deadline, ask, |_| false)
    }

    fn ask<T>(
        &mut self,
        deadline: Deadline,
        ask: impl FnOnce(&Client<'_>, &Opened) -> Result<T>,
        is_harmless: impl FnOnce(&Error) -> bool,
    ) -> Result<T> {
        // In a forked child the session is the parent's.
        self.link.check_caller()?;
        let Some((lease, opened)) = &mut self.open else { return Err(closed()) };
        let result = Client::new(lease, deadline).and_then(|client| ask(&client, opened));
        result.inspect_err(|e| {
            if !is_harmless(e) {
                self.open = None;
            }
        })
    }

    fn or_done(&self, e: Error) -> Error {
        if self.appends { may_be_done(e) } else { e }
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.link.transfer_timeout())
    }

    fn unwritten(&self, e: Error) -> io::Error {
        self.link.report(e, "write file").into()
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the file was closed by an earlier failure")
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_some(buffer).map_err(|e| self.link.report(e, "read file").into())
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_some(bytes, self.deadline()).map_err(|e| self.unwritten(e))
    }

    /// One call with one timeout, however many bytes there are.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_whole(bytes, self.deadline()).map_err(|e| self.unwritten(e))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for File {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        self.seek_to(target).map_err(|e| self.link.report(e, "seek file").into())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if let Some((mut lease, opened)) = self.open.take()
            && self.link.check_caller().is_ok()
        {
            match Client::new(&mut lease, Deadline::after(Some(CLOSING))).and_then(|client| client.close_file(opened)) {
                Ok(()) => lease.finish(),
                Err(e) => log::warn!("a dropped file of sandbox {}: {e}", self.link.name()),
            }
        }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("path", &self.path).field("position", &self.position).finish_non_exhaustive()
    }
}

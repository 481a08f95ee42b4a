//! Files over SFTP: its requests one by one, and whole files at the speed of the link.
//!
//! SFTP is fast only when many requests are on their way. libssh2 sends as many as fit into what one call is given, so
//! both directions use buffers of megabytes; an upload slides its window forward by what the server has acknowledged.

use std::cell::Cell;
use std::ffi::c_ulong;
use std::fmt;
use std::time::Duration;

use sandbox_protocol::SFTP_ERRNO_BASE;

pub(crate) use super::raw::Attributes;
use super::raw::{Answer, Sftp, SftpFile};
use super::session::{DriveError, Session, is_lost};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, LARGEST_ERRNO, Result, os_text};

/// Bytes that are added to an upload's window at a time, for one packet that was acknowledged: libssh2's packets have
/// up to 30 000, and the server's system writes whole pages faster.
const PIECE: usize = 6 * 4096;
/// Bytes of an upload that may be unacknowledged at first, in packets of 30 000. As many packets of one piece are 2.4
/// MB, a little more than the 2 MiB that OpenSSH's server lets be on their way.
pub(crate) const WINDOW: usize = 120 * PIECE;
/// Bytes that an upload's window moves over before it goes back to the front, with what is in it.
const BUFFER: usize = 4 * WINDOW;
/// Bytes of one read; libssh2 asks ahead for four times as many.
const READ_BUFFER: usize = 1 << 20;
/// With this buffer libssh2 asks for 30 000 bytes at a time and for nothing ahead. What has no size of its own, as the
/// files in `/proc`, may answer with less than was asked for, and what was asked ahead is at the wrong offset then, or
/// beyond the end.
const CAUTIOUS_READ_BUFFER: usize = 7500;
/// How long tidying up after a failure may take.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(2);

/// The most that libssh2 asks for ahead of what one call reads, beside a last answer.
const MOST_AHEAD: u64 = 8 << 20;
const LONGEST_ANSWER: u64 = 30_000;
/// For so many bytes of contents, one more may come: packets have headers.
const CONTENTS: u64 = 16;

/// File type bits of `st_mode`, and three of its values.
pub(crate) const KIND: u32 = 0o170_000;
pub(crate) const REGULAR: u32 = 0o100_000;
pub(crate) const DIRECTORY: u32 = 0o040_000;
pub(crate) const LINK: u32 = 0o120_000;

/// The longest path that Linux takes, and of a listing the most entries and bytes of names: a hostile server could go
/// on for ever.
pub(crate) const LONGEST_PATH: usize = 4095;
const LISTED_ENTRIES: usize = 1 << 20;
const LISTED_BYTES: usize = 64 << 20;

/// The ways to open a file.
pub(crate) mod flags {
    pub(crate) use libssh2_sys::{
        LIBSSH2_FXF_APPEND as APPEND, LIBSSH2_FXF_CREAT as CREATE, LIBSSH2_FXF_EXCL as EXCLUSIVE,
        LIBSSH2_FXF_READ as READ, LIBSSH2_FXF_TRUNC as TRUNCATE, LIBSSH2_FXF_WRITE as WRITE,
    };

    /// The guest hashes what passes.
    pub(crate) const DIGEST: std::ffi::c_ulong = sandbox_protocol::SFTP_OPEN_DIGEST as std::ffi::c_ulong;
    /// The guest writes another file, which takes the place of this one when it is closed.
    pub(crate) const REPLACE: std::ffi::c_ulong = sandbox_protocol::SFTP_OPEN_REPLACE as std::ffi::c_ulong;
}

/// SFTP on one session, for one operation. Each request is one round trip.
#[derive(Debug)]
pub(crate) struct Client<'s> {
    session: &'s Session,
    sftp: Sftp,
    deadline: Deadline,
}

/// An open file in a sandbox.
#[derive(Debug)]
pub(crate) struct Opened {
    file: SftpFile,
    /// What errors call it.
    name: Vec<u8>,
    /// Answers have been shorter than what was asked for.
    answers_short: Cell<bool>,
    /// Bytes that may be on their way, asked for ahead, and of those the ones that nobody waits for any more.
    ahead: Cell<u64>,
    unwanted: Cell<u64>,
}

impl<'s> Client<'s> {
    /// 3 round trips at a session's first use of SFTP, none later.
    pub(crate) fn new(session: &'s mut Session, deadline: Deadline) -> Result<Self> {
        let sftp = session.sftp(deadline)?;
        Ok(Self { session, sftp, deadline })
    }

    /// Makes one request about the file of this name.
    fn ask<T>(&self, name: &[u8], done: impl fmt::Display, mut step: impl FnMut(&Sftp) -> Answer<T>) -> Result<T> {
        self.drive("the SFTP server's answer", || step(&self.sftp))
            .map_err(|stop| self.marking_unusable(failed(name, done, stop)))
    }

    fn drive<T>(&self, waiting_for: &str, mut step: impl FnMut() -> Answer<T>) -> std::result::Result<T, DriveError> {
        self.session.await_answer(self.deadline, || self.session.drive(self.deadline, waiting_for, |_| step()))
    }

    /// Sees to it that the session is not used again, unless the server just said no: libssh2 would take the next
    /// request of the same kind for the one that is not answered.
    fn marking_unusable(&self, e: Error) -> Error {
        if !is_refusal(&e) {
            self.session.mark_unusable();
        }
        e
    }

    /// Follows links.
    pub(crate) fn stat(&self, path: &[u8]) -> Result<Attributes> {
        self.ask(path, "looked at", |sftp| sftp.stat(path))
    }

    /// Of a link itself.
    pub(crate) fn lstat(&self, path: &[u8]) -> Result<Attributes> {
        self.ask(path, "looked at", |sftp| sftp.lstat(path))
    }

    pub(crate) fn set_stat(&self, path: &[u8], attributes: Attributes) -> Result<()> {
        self.ask(path, "changed", |sftp| sftp.set_stat(path, attributes))
    }

    pub(crate) fn create_dir(&self, path: &[u8], mode: u32) -> Result<()> {
        self.ask(path, "created", |sftp| sftp.mkdir(path, mode))
    }

    pub(crate) fn remove_file(&self, path: &[u8]) -> Result<()> {
        self.ask(path, "removed", |sftp| sftp.unlink(path))
    }

    pub(crate) fn remove_dir(&self, path: &[u8]) -> Result<()> {
        self.ask(path, "removed", |sftp| sftp.rmdir(path))
    }

    /// Renames over an existing target, in one step.
    pub(crate) fn rename(&self, from: &[u8], to: &[u8]) -> Result<()> {
        self.rename_as(from, to, from)
    }

    /// The same for a file that errors call `name`.
    pub(crate) fn rename_as(&self, from: &[u8], to: &[u8], name: &[u8]) -> Result<()> {
        let done = format!("renamed to '{}'", to.escape_ascii());
        self.ask(name, done, |sftp| sftp.rename_over(from, to))
    }

    /// Makes `link` point to `original`.
    pub(crate) fn symlink(&self, original: &[u8], link: &[u8]) -> Result<()> {
        self.ask(link, "created", |sftp| sftp.symlink(original, link))
    }

    pub(crate) fn read_link(&self, path: &[u8]) -> Result<Vec<u8>> {
        self.name_of(path, false).map_err(|e| match e.raw_os_error() {
            Some(libc::EINVAL) => {
                Error::new(e.kind(), format!("{} is not a symbolic link", Quoted(path))).with_errno(libc::EINVAL)
            }
            _ => e,
        })
    }

    /// The absolute path without links.
    pub(crate) fn resolve(&self, path: &[u8]) -> Result<Vec<u8>> {
        self.name_of(path, true)
    }

    fn name_of(&self, path: &[u8], resolve: bool) -> Result<Vec<u8>> {
        let mut buffer = vec![0; LONGEST_PATH + 2];
        let length = self.ask(path, "read", |sftp| sftp.read_link(path, resolve, &mut buffer))?;
        buffer.truncate(length);
        self.session.credit(3 * length as u64);
        // A status without an error looks like an empty one.
        if buffer.is_empty() || buffer.contains(&0) || (resolve && buffer[0] != b'/') {
            let why = format!("'{}' is no path", buffer.escape_ascii());
            return Err(Error::new(ErrorKind::Transfer, format!("{} can't be read: {why}", Quoted(path))));
        }
        Ok(buffer)
    }

    /// All entries of a directory but `.` and `..`, in the order of the server: complete, or an error. One round trip
    /// per 100 entries and 3 more.
    pub(crate) fn list(&self, path: &[u8]) -> Result<Vec<(Vec<u8>, Attributes)>> {
        let mut directory = self.ask(path, "listed", |sftp| sftp.open_dir(path))?;
        let listed = self.list_opened(&mut directory, path);
        match listed {
            Err(e) if !is_refusal(&e) => Err(self.marking_unusable(e)),
            // After the server's own "no" the session is used again.
            _ => self.close(&mut directory, path).and(listed),
        }
    }

    fn list_opened(&self, directory: &mut SftpFile, path: &[u8]) -> Result<Vec<(Vec<u8>, Attributes)>> {
        let (mut entries, mut bytes, mut buffer) = (Vec::new(), 0, vec![0; LONGEST_PATH + 1]);
        let refused = |what: &str| Error::new(ErrorKind::Transfer, format!("{} can't be listed: {what}", Quoted(path)));
        loop {
            let next = self.drive("the listing", || directory.read_dir(&mut buffer));
            let (length, attributes) = next.map_err(|stop| match stop {
                DriveError::Failed(failure) if failure.code == libssh2_sys::LIBSSH2_ERROR_PROTO => {
                    refused("an entry is malformed, or its name empty or longer than any path")
                }
                stop => failed(path, format_args!("listed beyond {} entries", entries.len()), stop),
            })?;
            self.deadline.check("the listing").map_err(|e| e.context(Quoted(path)))?;
            self.session.credit(3 * length as u64);
            match &buffer[..length] {
                b"" => return Ok(entries),
                b"." | b".." => continue,
                name if name.contains(&b'/') || name.contains(&0) => {
                    return Err(refused(&format!("'{}' is no name of an entry", name.escape_ascii())));
                }
                name => entries.push((name.to_vec(), attributes)),
            }
            bytes += length;
            if entries.len() > LISTED_ENTRIES || bytes > LISTED_BYTES {
                return Err(refused("it has more than a million entries, or 64 MiB of names"));
            }
        }
    }

    /// Opens a file with [`flags`]; `mode` is for a new one. Errors call it `name`.
    pub(crate) fn open(&self, path: &[u8], flags: c_ulong, mode: u32, name: &[u8]) -> Result<Opened> {
        let done = if flags & flags::CREATE == 0 { "opened" } else { "created" };
        let file = self.ask(name, done, |sftp| sftp.open(path, flags, mode))?;
        let (answers_short, ahead, unwanted) = Default::default();
        Ok(Opened { file, name: name.to_vec(), answers_short, ahead, unwanted })
    }

    pub(crate) fn attributes_of(&self, opened: &Opened) -> Result<Attributes> {
        self.ask(&opened.name, "looked at", |_| opened.file.attributes())
    }

    pub(crate) fn set_attributes_of(&self, opened: &Opened, attributes: Attributes) -> Result<()> {
        self.ask(&opened.name, "changed", |_| opened.file.set_attributes(attributes))
    }

    /// Puts the file's contents on the server's disk.
    pub(crate) fn sync(&self, opened: &Opened) -> Result<()> {
        self.ask(&opened.name, "synced to disk", |_| opened.file.sync())
    }

    /// Closes a file; what the server could not write may be reported here.
    pub(crate) fn close_file(&self, mut opened: Opened) -> Result<()> {
        self.close(&mut opened.file, &opened.name)
    }

    /// Closes a file that was opened with [`flags::REPLACE`], which puts it in place.
    pub(crate) fn close_in_place(&self, mut opened: Opened) -> Result<()> {
        self.ask(&opened.name, "moved into place", |_| opened.file.close()).map_err(|e| match e.kind() {
            ErrorKind::Busy => e.context("a mount point can be written by appending or opening it, not replaced"),
            _ => e,
        })
    }

    /// Closes a file and looks at it by its path, in one round trip for both: OpenSSH answers one request after the
    /// other.
    pub(crate) fn close_and_stat(&self, mut opened: Opened, path: &[u8]) -> Result<Attributes> {
        let Opened { file, name, .. } = &mut opened;
        let close = || self.session.attempt(self.deadline, "the SFTP server's answer", || file.close());
        let is_closed = self
            .session
            .await_answer(self.deadline, close)
            .map_err(|stop| self.marking_unusable(failed(name, "closed", stop)))?
            .is_some();
        let found = self.ask(name, "looked at", |sftp| sftp.lstat(path));
        if !is_closed {
            self.close(file, name)?;
        }
        found
    }

    fn close(&self, file: &mut SftpFile, name: &[u8]) -> Result<()> {
        self.ask(name, "closed", |_| file.close())
    }

    /// Closes a file that has failed already.
    pub(crate) fn abandon(&mut self, opened: Opened) {
        self.deadline = Deadline::after(Some(CLEANUP_TIMEOUT));
        if let Err(e) = self.close_file(opened) {
            log::debug!("{e}");
        }
    }

    /// Bytes read at `offset`, which is where the last read ended or what the file was sought to; 0 at its end, once
    /// the server has said so to a question for nothing but the next bytes.
    pub(crate) fn read(&self, opened: &Opened, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let is_ahead = buffer.len() > CAUTIOUS_READ_BUFFER && !opened.answers_short.get();
        let room = if is_ahead { buffer.len() } else { buffer.len().min(CAUTIOUS_READ_BUFFER) };
        let unwanted = opened.unwanted.take();
        self.session.credit(unwanted + unwanted / CONTENTS);
        opened.ahead.set(opened.ahead.get().max(MOST_AHEAD.min(4 * room as u64) + LONGEST_ANSWER));
        let length = match self.drive("the SFTP server's answer", || opened.file.read(&mut buffer[..room])) {
            Ok(0) if is_ahead => return self.read_cautiously(opened, buffer, offset),
            Err(DriveError::Failed(failure)) if is_ahead && failure.is_out_of_step() => {
                return self.read_cautiously(opened, buffer, offset);
            }
            read => read.map_err(|stop| {
                self.marking_unusable(failed(&opened.name, format_args!("read beyond byte {offset}"), stop))
            })?,
        };
        opened.ahead.set(opened.ahead.get().saturating_sub(length as u64));
        self.session.credit(length as u64 + length as u64 / CONTENTS);
        Ok(length)
    }

    fn read_cautiously(&self, opened: &Opened, buffer: &mut [u8], offset: u64) -> Result<usize> {
        opened.answers_short.set(true);
        opened.seek(offset);
        let length = self.read(opened, buffer, offset)?;
        // That was the end indeed; the file may grow.
        opened.answers_short.set(length > 0);
        Ok(length)
    }

    /// How many bytes from the front of `window` the server has acknowledged; see [`SftpFile::write`].
    pub(crate) fn write(&self, opened: &Opened, window: &[u8], offset: u64) -> Result<usize> {
        let done = format_args!("written beyond byte {offset}");
        let length = self.ask(&opened.name, done, |_| opened.file.write(window))?;
        self.session.credit(length as u64 / CONTENTS);
        Ok(length)
    }

    /// Writes all that `source` gives through a window that moves with the server's acknowledgements. `offset` is where
    /// the file was sought to; `acknowledged` is told the offset that is reached. Returns the offset of the end.
    pub(crate) fn upload(
        &self,
        opened: &Opened,
        offset: u64,
        source: &mut dyn FnMut(&mut [u8]) -> Result<usize>,
        acknowledged: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<u64> {
        // Much more than the window, so that unacknowledged bytes are seldom moved to the front.
        let mut buffer = Vec::new();
        let (mut start, mut end, mut reached) = (0, 0, offset);
        let mut at_end = false;
        loop {
            while !at_end && end - start <= WINDOW - PIECE {
                if buffer.len() - end < WINDOW / 2 {
                    if start > 0 {
                        buffer.copy_within(start..end, 0);
                        (start, end) = (0, end - start);
                    }
                    // Small files get by with a small buffer.
                    let wanted = (buffer.len() * 4).clamp(64 << 10, BUFFER);
                    buffer.resize(wanted.max(buffer.len()), 0);
                }
                let most = if end - start < WINDOW / 2 { start + WINDOW } else { end + PIECE };
                let room = buffer.len().min(most);
                match source(&mut buffer[end..room])? {
                    0 => at_end = true,
                    length => end += length,
                }
                // Let the first bytes go before more is read.
                if end - start >= WINDOW / 2 {
                    break;
                }
            }
            if start == end {
                return Ok(reached);
            }
            let length = self.write(opened, &buffer[start..end], reached)?;
            start += length;
            reached += length as u64;
            acknowledged(reached)?;
            self.check(opened, reached)?;
        }
    }

    /// Reads from `offset`, where the file was sought to, to its end into `sink`, and returns the offset of the end.
    ///
    /// What a file is expected to hold is what is read: one that grows meanwhile gives its first bytes, one that
    /// shrinks is an error. `None` reads until the server says that there is no more.
    pub(crate) fn download(
        &self,
        opened: &Opened,
        offset: u64,
        expected: Option<u64>,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<u64> {
        let left = |reached| {
            let left = expected.map_or(u64::MAX, |expected| expected.saturating_sub(reached));
            usize::try_from(left).unwrap_or(usize::MAX)
        };
        let wanted = if expected.is_some() { left(offset).min(READ_BUFFER) } else { CAUTIOUS_READ_BUFFER };
        let mut buffer = vec![0; wanted];
        let mut reached = offset;
        while left(reached) > 0 {
            let length = self.read(opened, &mut buffer, reached)?;
            if length == 0 {
                break;
            }
            let length = length.min(left(reached));
            sink(&buffer[..length])?;
            reached += length as u64;
            self.check(opened, reached)?;
        }
        match expected.filter(|expected| *expected != reached) {
            None => Ok(reached),
            Some(expected) => {
                let why = format!(
                    "ended after {reached} bytes of {expected}; it was changed meanwhile, or has no true size, as in /sys"
                );
                Err(Error::new(ErrorKind::Transfer, format!("{} {why}", Quoted(&opened.name))))
            }
        }
    }

    fn check(&self, opened: &Opened, reached: u64) -> Result<()> {
        self.deadline
            .check("the transfer")
            .map_err(|e| e.context(format_args!("{reached} bytes of {} were transferred", Quoted(&opened.name))))
    }
}

impl Opened {
    /// Where the next read or write begins.
    pub(crate) fn seek(&self, offset: u64) {
        self.unwanted.set(self.unwanted.get() + self.ahead.take());
        self.file.seek(offset);
    }
}

impl Attributes {
    pub(crate) fn is(&self, kind: u32) -> bool {
        self.mode.is_some_and(|mode| mode & KIND == kind)
    }
}

/// A path in a message.
pub(crate) struct Quoted<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' in the sandbox", self.0.escape_ascii())
    }
}

/// Statuses of SFTP version 3.
const NO_SUCH_FILE: u32 = 2;
const PERMISSION_DENIED: u32 = 3;
const NOT_SUPPORTED: u32 = 8;
const BAD_MESSAGE: u32 = 5;

/// True if the server itself said no: the session is as good as before.
pub(crate) fn is_refusal(error: &Error) -> bool {
    error.raw_os_error().is_some() || error.ssh_code().is_some_and(|code| code > 0)
}

/// The error number of Linux in a status of the guest.
fn errno_of(status: u32) -> Option<i32> {
    let errno = i32::try_from(status.checked_sub(SFTP_ERRNO_BASE)?).ok()?;
    (1..=LARGEST_ERRNO).contains(&errno).then_some(errno)
}

/// An error that names the file and what could not be done to it.
fn failed(name: &[u8], done: impl fmt::Display, stop: DriveError) -> Error {
    let what = format!("{} can't be {done}", Quoted(name));
    let failure = match stop {
        DriveError::Ended(e) => return e.context(what),
        DriveError::Failed(failure) => failure,
    };
    let Some(status) = failure.sftp_status else {
        let (kind, why) = match is_lost(&failure) {
            true => (ErrorKind::Disconnected, format!("the connection was lost: {}", failure.message)),
            false => (ErrorKind::Transfer, failure.message),
        };
        return Error::new(kind, format!("{what}: {why}")).with_ssh_code(failure.code);
    };
    if let Some(errno) = errno_of(status) {
        return Error::new(ErrorKind::of_file(errno), format!("{what}: {}", os_text(errno))).with_errno(errno);
    }
    // A server that is not the guest.
    let (kind, why) = match status {
        NO_SUCH_FILE => (ErrorKind::FileNotFound, "no such file or directory".to_owned()),
        PERMISSION_DENIED => (ErrorKind::PermissionDenied, "permission denied".to_owned()),
        BAD_MESSAGE => (ErrorKind::Transfer, "the SFTP server finds the request invalid".to_owned()),
        NOT_SUPPORTED => (ErrorKind::Transfer, "the SFTP server can't do that".to_owned()),
        _ => (ErrorKind::Transfer, format!("the SFTP server answers with status {status}")),
    };
    Error::new(kind, format!("{what}: {why}")).with_ssh_code(i32::try_from(status).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::raw::Failure;
    use super::*;

    fn refused(status: u32) -> Error {
        let (code, message) = (libssh2_sys::LIBSSH2_ERROR_SFTP_PROTOCOL, String::new());
        let failure = Failure { code, sftp_status: Some(status), message };
        failed(b"a\xff", "opened", DriveError::Failed(failure))
    }

    #[test]
    fn the_guest_says_the_systems_own_error() {
        for (errno, kind, text) in [
            (libc::ENOENT, ErrorKind::FileNotFound, "No such file or directory"),
            (libc::EEXIST, ErrorKind::FileExists, "File exists"),
            (libc::EISDIR, ErrorKind::IsADirectory, "Is a directory"),
            (libc::ENOTDIR, ErrorKind::NotADirectory, "Not a directory"),
            (libc::ENOTEMPTY, ErrorKind::DirectoryNotEmpty, "Directory not empty"),
            (libc::EROFS, ErrorKind::ReadOnly, "Read-only file system"),
            (libc::EBUSY, ErrorKind::Busy, "Device or resource busy"),
            (libc::ENAMETOOLONG, ErrorKind::NameTooLong, "File name too long"),
            (libc::EDQUOT, ErrorKind::StorageFull, "Disk quota exceeded"),
            (libc::EACCES, ErrorKind::PermissionDenied, "Permission denied"),
            (libc::EXDEV, ErrorKind::Transfer, "Invalid cross-device link"),
        ] {
            let error = refused(SFTP_ERRNO_BASE + errno.unsigned_abs());
            assert_eq!(error.to_string(), format!("'a\\xff' in the sandbox can't be opened: {text}"));
            assert_eq!((error.kind(), error.raw_os_error(), error.ssh_code()), (kind, Some(errno), None));
            assert!(is_refusal(&error));
        }
    }

    #[test]
    fn what_is_no_error_number_is_a_status() {
        for (status, kind, text) in [
            (2, ErrorKind::FileNotFound, "no such file or directory"),
            (3, ErrorKind::PermissionDenied, "permission denied"),
            (4, ErrorKind::Transfer, "the SFTP server answers with status 4"),
            (SFTP_ERRNO_BASE, ErrorKind::Transfer, "the SFTP server answers with status 65536"),
            (SFTP_ERRNO_BASE + 4096, ErrorKind::Transfer, "the SFTP server answers with status 69632"),
            (u32::MAX, ErrorKind::Transfer, "the SFTP server answers with status 4294967295"),
        ] {
            let error = refused(status);
            assert!(error.kind() == kind && error.to_string().ends_with(text), "{error}");
            assert!(is_refusal(&error) && error.ssh_code().is_some());
        }
    }
}

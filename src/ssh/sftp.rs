//! Files over SFTP: whole or not at all.
//!
//! SFTP is fast only when many requests are on their way. libssh2 sends as many as fit into what one call is given, so both
//! directions use buffers of megabytes; an upload slides its window forward by what the server has acknowledged.

use std::io::{Read, Write};
use std::time::Duration;

use super::libssh2::{Attributes, Failure, Sftp, SftpFile};
use super::session::{Session, Stop, is_lost};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};

/// Bytes of an upload that may be unacknowledged. libssh2 cuts them into packets of 30 000 bytes.
const WINDOW: usize = 140 * 30_000;
/// Bytes of one read; libssh2 asks ahead for four times as many.
const READ_BUFFER: usize = 1 << 20;
/// How long tidying up after a failure may take.
const TIDY: Duration = Duration::from_secs(2);

/// Permission bits; set-user-id and its like do not travel.
const PERMISSIONS: u32 = 0o777;
/// File type bits of `st_mode`, and two of its values.
const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;

/// An open file in a sandbox.
#[derive(Debug)]
pub(crate) struct Opened {
    sftp: Sftp,
    file: SftpFile,
    path: Vec<u8>,
}

/// Creates the new file `part` for an upload. One round trip on a session that has used SFTP before.
pub(crate) fn create(session: &mut Session, part: &[u8], deadline: Deadline) -> Result<Opened> {
    let flags = libssh2_sys::LIBSSH2_FXF_WRITE | libssh2_sys::LIBSSH2_FXF_CREAT | libssh2_sys::LIBSSH2_FXF_EXCL;
    open_with(session, part, flags, "created", deadline)
}

/// Opens `path` for a download. One round trip on a session that has used SFTP before.
pub(crate) fn open(session: &mut Session, path: &[u8], deadline: Deadline) -> Result<Opened> {
    open_with(session, path, libssh2_sys::LIBSSH2_FXF_READ, "opened", deadline)
}

fn open_with(
    session: &mut Session,
    path: &[u8],
    flags: std::ffi::c_ulong,
    done: &str,
    deadline: Deadline,
) -> Result<Opened> {
    let sftp = session.sftp(deadline)?;
    let file = session
        .drive(deadline, "the opening of the file", |_| sftp.open(path, flags, 0o600))
        .map_err(|stop| stop.into_error(|failure| refused(done, path, failure)))?;
    Ok(Opened { sftp, file, path: path.to_vec() })
}

/// Writes all of `source` to the created file, renames it over `path` once its size is right, and returns the number of bytes:
/// whoever looks at `path` sees the old file or the new one. A failure removes the created file where the connection still
/// allows it. 4 round trips beside the data.
pub(crate) fn upload(
    session: &Session,
    part: Opened,
    source: &mut dyn Read,
    path: &[u8],
    mode: u32,
    deadline: Deadline,
) -> Result<u64> {
    let Opened { sftp, mut file, path: part } = part;
    let result = fill(session, &mut file, source, &part, mode, deadline)
        .and_then(|size| put_in_place(session, &sftp, &part, path, deadline).map(|()| size));
    if result.as_ref().is_err_and(|e| e.kind() != ErrorKind::Disconnected) {
        let tidy = Deadline::after(Some(TIDY));
        if session.drive(tidy, "the removal of the partial file", |_| sftp.unlink(&part)).is_err() {
            log::debug!("the partial file '{}' may be left in the sandbox", part.escape_ascii());
        }
    }
    result
}

fn put_in_place(session: &Session, sftp: &Sftp, part: &[u8], path: &[u8], deadline: Deadline) -> Result<()> {
    session.drive(deadline, "the rename", |_| sftp.rename_over(part, path)).map_err(|stop| {
        // OpenSSH answers just "failure"; this is the usual cause.
        let at_target = session.drive(deadline, "the target's attributes", |_| sftp.stat(path));
        if at_target.is_ok_and(|found| found.mode.is_some_and(|mode| mode & KIND == DIRECTORY)) {
            let message = format!("'{}' in the sandbox is a directory", path.escape_ascii());
            return Error::new(ErrorKind::Transfer, message);
        }
        stop.into_error(|failure| refused("put in place", path, failure))
    })
}

fn fill(
    session: &Session,
    file: &mut SftpFile,
    source: &mut dyn Read,
    part: &[u8],
    mode: u32,
    deadline: Deadline,
) -> Result<u64> {
    let size = slide(session, file, source, part, deadline)?;
    let step = |stop: Stop| stop.into_error(|failure| refused("finished", part, failure));
    // The server's umask has a say when a file is created, not here.
    let exact = Attributes { mode: Some(mode & PERMISSIONS), ..Attributes::default() };
    session.drive(deadline, "the file's mode", |_| file.set_attributes(exact)).map_err(step)?;
    let written = session.drive(deadline, "the file's size", |_| file.attributes()).map_err(step)?;
    close(session, file, deadline).map_err(step)?;
    if written.size != Some(size) {
        return Err(Error::new(
            ErrorKind::Transfer,
            format!("the sandbox has {:?} bytes of '{}', sent were {size}", written.size, part.escape_ascii()),
        ));
    }
    Ok(size)
}

/// Sends `source` through a window that moves with the server's acknowledgements.
fn slide(session: &Session, file: &SftpFile, source: &mut dyn Read, part: &[u8], deadline: Deadline) -> Result<u64> {
    // Twice the window, so that unacknowledged bytes are moved to the front only once per window.
    let mut buffer = Vec::new();
    let (mut start, mut end, mut size) = (0, 0, 0u64);
    let mut at_end = false;
    loop {
        while !at_end && end - start < WINDOW {
            if buffer.len() - end < WINDOW / 2 {
                if start > 0 {
                    buffer.copy_within(start..end, 0);
                    (start, end) = (0, end - start);
                }
                // Small files get by with a small buffer.
                let wanted = (buffer.len() * 4).clamp(64 << 10, 2 * WINDOW);
                buffer.resize(wanted.max(buffer.len()), 0);
            }
            let room = buffer.len().min(start + WINDOW);
            match source.read(&mut buffer[end..room]) {
                Ok(0) => at_end = true,
                Ok(length) => {
                    end += length;
                    size += length as u64;
                    // Let the first bytes go before more is read.
                    if end - start >= WINDOW / 2 {
                        break;
                    }
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    let message = format!("the local data can't be read after {size} bytes: {e}");
                    return Err(Error::new(ErrorKind::Transfer, message).with_source(e));
                }
            }
        }
        if start == end {
            return Ok(size);
        }
        let acknowledged = session
            .drive(deadline, "the upload", |_| file.write(&buffer[start..end]))
            .map_err(|stop| stop.into_error(|failure| refused("written", part, failure)))?;
        start += acknowledged;
        deadline.check("the upload")?;
    }
}

/// Reads all of an opened file into `target`; returns the number of bytes and the permission bits. 2 round trips beside the
/// data.
///
/// What a file holds when it is opened is what is read: one that grows meanwhile gives its first bytes, one that shrinks is an
/// error. A file that claims to be empty, as those in `/proc` do, is read to its end.
pub(crate) fn download(
    session: &Session,
    opened: Opened,
    target: &mut dyn Write,
    deadline: Deadline,
) -> Result<(u64, u32)> {
    let Opened { mut file, path, .. } = opened;
    let path = &path[..];
    let attributes = session
        .drive(deadline, "the file's attributes", |_| file.attributes())
        .map_err(|stop| stop.into_error(|failure| refused("read", path, failure)))?;
    let mode = attributes.mode.unwrap_or(REGULAR | 0o644);
    let read = if mode & KIND == REGULAR {
        read_all(session, &file, path, attributes.size.filter(|size| *size > 0), target, deadline)
    } else {
        let kind = if mode & KIND == DIRECTORY { "a directory" } else { "not a regular file" };
        Err(Error::new(ErrorKind::Transfer, format!("'{}' in the sandbox is {kind}", path.escape_ascii())))
    };
    match read {
        Ok(size) => {
            close(session, &mut file, deadline)
                .map_err(|stop| stop.into_error(|failure| refused("closed", path, failure)))?;
            Ok((size, mode & PERMISSIONS))
        }
        Err(e) => {
            if e.kind() != ErrorKind::Disconnected {
                let _ = close(session, &mut file, Deadline::after(Some(TIDY)));
            }
            Err(e)
        }
    }
}

fn read_all(
    session: &Session,
    file: &SftpFile,
    path: &[u8],
    expected: Option<u64>,
    target: &mut dyn Write,
    deadline: Deadline,
) -> Result<u64> {
    let wanted = expected.map_or(READ_BUFFER, |size| usize::try_from(size).unwrap_or(usize::MAX).min(READ_BUFFER));
    let mut buffer = vec![0; wanted];
    let mut size = 0;
    while expected != Some(size) {
        let length = session
            .drive(deadline, "the download", |_| file.read(&mut buffer))
            .map_err(|stop| stop.into_error(|failure| refused("read", path, failure)))?;
        if length == 0 {
            break;
        }
        let left = expected.map_or(u64::MAX, |expected| expected - size);
        let length = length.min(usize::try_from(left).unwrap_or(usize::MAX));
        target.write_all(&buffer[..length]).map_err(|e| {
            Error::new(ErrorKind::Transfer, format!("the local side can't be written after {size} bytes: {e}"))
                .with_source(e)
        })?;
        size += length as u64;
        deadline.check("the download")?;
    }
    match expected.filter(|expected| *expected != size) {
        None => Ok(size),
        Some(expected) => Err(Error::new(
            ErrorKind::Transfer,
            format!("'{}' ended after {size} bytes of {expected}; it was changed meanwhile", path.escape_ascii()),
        )),
    }
}

fn close(session: &Session, file: &mut SftpFile, deadline: Deadline) -> std::result::Result<(), Stop> {
    session.drive(deadline, "the closing of the file", |_| file.close())
}

/// The statuses of SFTP version 3 that have a kind of their own.
const NO_SUCH_FILE: u32 = 2;
const PERMISSION_DENIED: u32 = 3;

/// An error that names the file and what could not be done to it.
fn refused(done: &str, path: &[u8], failure: Failure) -> Error {
    let path = path.escape_ascii();
    let (kind, why) = match failure.sftp_status {
        Some(NO_SUCH_FILE) => (ErrorKind::NotFound, "no such file or directory".to_owned()),
        Some(PERMISSION_DENIED) => (ErrorKind::PermissionDenied, "permission denied".to_owned()),
        Some(status) => (ErrorKind::Transfer, format!("the SFTP server answers with status {status}")),
        None if is_lost(&failure) => (ErrorKind::Disconnected, format!("the connection was lost: {}", failure.message)),
        None => (ErrorKind::Transfer, failure.message.clone()),
    };
    let code = failure.sftp_status.and_then(|status| i32::try_from(status).ok()).unwrap_or(failure.code);
    Error::new(kind, format!("'{path}' in the sandbox can't be {done}: {why}")).with_ssh_code(code)
}

//! What transfers do with local files: the names of parts, hashes, and errors in this library's terms.

use std::fmt;
use std::fs;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use openssl::sha::Sha256;

use crate::error::{Error, ErrorKind, Result, os_text};
use crate::text;

/// Permission bits; set-user-id and its like do not travel.
pub(super) const PERMISSIONS: u32 = 0o777;

/// The name under which a transfer to `path` waits to be resumed; another one for each `version`.
pub(super) fn stable_part(path: &Path, version: impl fmt::Display) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().as_bytes().to_vec();
    name.extend_from_slice(format!("/{version}").as_bytes());
    path.with_file_name(format!(".sandbox-{}.part", text::hex(&openssl::sha::sha256(&name)[..8])))
}

/// The hash of a local file's first bytes, which are read.
pub(super) fn hash_of(mut file: &fs::File, length: u64, path: &Path) -> Result<Sha256> {
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

/// A local file that has ended before its size.
pub(super) fn cut_short(path: &Path, reached: u64, size: u64) -> Error {
    let path = path.display();
    let message = format!("'{path}' on this machine ended after {reached} bytes of {size}; it was changed meanwhile");
    Error::new(ErrorKind::Transfer, message)
}

pub(super) fn at_local(path: &Path, done: &str, e: io::Error) -> Error {
    let what = format!("'{}' on this machine can't be {done}", path.display());
    match e.raw_os_error() {
        Some(errno) => {
            let message = format!("{what}: {}", os_text(errno));
            Error::new(ErrorKind::of_file(errno), message).with_errno(errno).with_source(e)
        }
        None => {
            let kind = match e.kind() {
                io::ErrorKind::NotFound => ErrorKind::FileNotFound,
                io::ErrorKind::AlreadyExists => ErrorKind::FileExists,
                io::ErrorKind::NotADirectory => ErrorKind::NotADirectory,
                io::ErrorKind::IsADirectory => ErrorKind::IsADirectory,
                io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
                _ => ErrorKind::Transfer,
            };
            Error::new(kind, format!("{what}: {e}")).with_source(e)
        }
    }
}

/// A failure of the caller's own stream; one of ours, such as that of another sandbox's file, stays what it is.
pub(super) fn at_stream(what: impl fmt::Display, e: io::Error) -> Error {
    match e.downcast::<Error>() {
        Ok(error) => error.context(what),
        Err(e) => Error::new(ErrorKind::Transfer, format!("{what}: {e}")).with_source(e),
    }
}

/// The bits that this process withholds from the files that it makes.
pub(super) fn umask() -> u32 {
    // There is no call that only asks for it.
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    mask.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o022) & PERMISSIONS
}

/// Whether an error means that a file system has no modes, or no links.
pub(super) fn lacks_modes(errno: i32) -> bool {
    matches!(errno, libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_failures_have_kinds_and_name_the_file() {
        for (number, kind, text) in [
            (libc::ENOSPC, ErrorKind::StorageFull, "No space left on device"),
            (libc::EDQUOT, ErrorKind::StorageFull, "Disk quota exceeded"),
            (libc::EACCES, ErrorKind::PermissionDenied, "Permission denied"),
            (libc::EROFS, ErrorKind::ReadOnly, "Read-only file system"),
            (libc::ENOENT, ErrorKind::FileNotFound, "No such file or directory"),
            (libc::EEXIST, ErrorKind::FileExists, "File exists"),
            (libc::EISDIR, ErrorKind::IsADirectory, "Is a directory"),
            (libc::ENOTDIR, ErrorKind::NotADirectory, "Not a directory"),
            (libc::ENAMETOOLONG, ErrorKind::NameTooLong, "File name too long"),
            (libc::ETXTBSY, ErrorKind::Busy, "Text file busy"),
            (libc::EIO, ErrorKind::Transfer, "Input/output error"),
        ] {
            let error = at_local(Path::new("some/file"), "written", io::Error::from_raw_os_error(number));
            assert_eq!((error.kind(), error.raw_os_error()), (kind, Some(number)));
            assert_eq!(error.to_string(), format!("'some/file' on this machine can't be written: {text}"));
        }
    }
}

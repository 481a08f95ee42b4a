//! Paths in a sandbox: checked, and as bytes.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::ssh::sftp;
use crate::text;

/// What stands before the last name of a path. `Path::parent` leaves out a `.` at the end, too.
pub(super) fn directory_of(path: &[u8]) -> Option<&[u8]> {
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    let end = path[..slash].iter().rposition(|byte| *byte != b'/')?;
    Some(&path[..=end])
}

pub(super) fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

/// The bytes of a path, or of what a link points to.
pub(super) fn checked(path: &Path) -> Result<&[u8]> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(invalid(format!("'{}' is not a valid path: it is empty or has a NUL byte", path.display())));
    }
    if bytes.len() > sftp::LONGEST_PATH {
        let start = bytes[..64].escape_ascii();
        let message = format!("'{start}…' has {} bytes, and a path at most {}", bytes.len(), sftp::LONGEST_PATH);
        return Err(Error::new(ErrorKind::NameTooLong, message));
    }
    Ok(bytes)
}

/// The bytes of a path of anything; slashes at its end mean nothing.
pub(super) fn bytes_of(path: &Path) -> Result<&[u8]> {
    let bytes = checked(path)?;
    let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(1, |last| last + 1);
    Ok(&bytes[..end])
}

/// The bytes of a path of a file.
pub(super) fn file_bytes_of(path: &Path) -> Result<&[u8]> {
    let bytes = checked(path)?;
    if bytes.ends_with(b"/") {
        return Err(invalid(format!("'{}' does not name a file: it has a '/' at its end", path.display())));
    }
    Ok(bytes)
}

pub(super) fn permission_bits(mode: u32) -> Result<u32> {
    if mode & !0o7777 == 0 {
        Ok(mode)
    } else {
        Err(invalid(format!("{mode:o} is not a valid mode: there are bits beyond 7777")))
    }
}

/// A name that nobody else uses.
pub(super) fn temp_name() -> String {
    format!(".sandbox-{}.part", text::nonce())
}

/// A name that nobody else uses, in the same directory.
pub(super) fn temp_path_beside(path: &Path) -> PathBuf {
    path.with_file_name(temp_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_a_directory_before_its_last_name() {
        for (path, directory) in
            [("a/b", Some("a")), ("/a//b/.", Some("/a//b")), ("/a//b", Some("/a")), ("a", None), ("/a", None)]
        {
            assert_eq!(directory_of(path.as_bytes()), directory.map(str::as_bytes), "{path}");
        }
    }
}

//! What is known about a file.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::ssh::sftp::{Attributes, DIRECTORY, KIND, LINK, REGULAR};

/// What is known about a file of a sandbox; see [`Files::metadata`](crate::Files::metadata).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata(Attributes);

/// An entry of a directory; see [`Files::read_dir`](crate::Files::read_dir).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirEntry {
    /// Its name, without the directory: bytes without NUL and `/`.
    pub name: OsString,
    /// What is known about it; of a link itself.
    pub metadata: Metadata,
}

impl DirEntry {
    pub(super) fn new(name: Vec<u8>, found: Attributes) -> Self {
        Self { name: OsString::from_vec(name), metadata: Metadata(found) }
    }
}

impl Metadata {
    pub(super) fn new(found: Attributes) -> Self {
        Self(found)
    }

    /// Its size in bytes. Files that the system makes up, as in `/proc`, say 0.
    #[expect(clippy::len_without_is_empty, reason = "after std::fs::Metadata")]
    pub fn len(&self) -> u64 {
        self.0.size.unwrap_or(0)
    }

    /// Its permission bits, such as `0o644`, with those for set-user-id, set-group-id and sticky.
    pub fn mode(&self) -> u32 {
        self.0.mode.unwrap_or(0) & 0o7777
    }

    /// True for a regular file.
    pub fn is_file(&self) -> bool {
        self.0.is(REGULAR)
    }

    /// True for a directory.
    pub fn is_dir(&self) -> bool {
        self.0.is(DIRECTORY)
    }

    /// True for a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.0.is(LINK)
    }

    /// The bits of `st_mode` that say what it is, as the system has them: for a named pipe, a socket, a device.
    pub fn kind(&self) -> u32 {
        self.0.mode.unwrap_or(0) & KIND
    }

    /// When its contents were changed last, in whole seconds. SFTP has 32 bits for it: times before 1970 and after 2106
    /// come as the nearest that it can tell.
    pub fn modified(&self) -> Option<SystemTime> {
        self.0.times.map(|(_, modified)| UNIX_EPOCH + Duration::from_secs(modified.into()))
    }

    /// When it was read last, as far as the sandbox's system keeps account of that; see
    /// [`modified`](Metadata::modified).
    pub fn accessed(&self) -> Option<SystemTime> {
        self.0.times.map(|(accessed, _)| UNIX_EPOCH + Duration::from_secs(accessed.into()))
    }
}

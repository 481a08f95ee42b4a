//! Goes through a tree from one open directory to the next, and follows no link.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use sandbox_protocol::tree::FailureKind;

use super::{DEEPEST, TreeError};

pub(super) const DIRECTORY: OFlags =
    OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// A way through a tree.
#[derive(Debug)]
pub(super) struct Walk {
    levels: Vec<Level>,
    /// The current entry, below the root.
    path: Vec<u8>,
}

#[derive(Debug)]
struct Level {
    directory: Dir,
    /// How much of the path is the directory's.
    length: usize,
}

impl Walk {
    /// Begins in a directory; returns what is known about it. Links to it are followed.
    pub(super) fn begin(root: &Path) -> Result<(Self, Stat), TreeError> {
        let unreadable = |errno| TreeError::system(root.as_os_str().as_bytes(), "read", errno);
        let flags = OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let root = fs::open(root, flags, Mode::empty()).map_err(unreadable)?;
        let found = fs::fstat(&root).map_err(unreadable)?;
        let directory = Dir::new(root).map_err(unreadable)?;
        Ok((Self { levels: vec![Level { directory, length: 0 }], path: Vec::new() }, found))
    }

    /// The next entry, before those in it and behind those of the directory that was entered last; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<FileType>, TreeError> {
        while let Some(Level { directory, length }) = self.levels.last_mut() {
            self.path.truncate(*length);
            let Some(entry) = directory.read() else {
                self.levels.pop();
                continue;
            };
            let entry = entry.map_err(|errno| TreeError::system(&self.path, "listed", errno))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            if *length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            return match entry.file_type() {
                // Some file systems do not tell.
                FileType::Unknown => match self.look() {
                    Ok(found) => Ok(Some(FileType::from_raw_mode(found.st_mode))),
                    Err(Errno::NOENT) => Ok(Some(FileType::Unknown)),
                    Err(errno) => Err(TreeError::system(&self.path, "read", errno)),
                },
                kind => Ok(Some(kind)),
            };
        }
        Ok(None)
    }

    /// The current entry, below the root.
    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    /// The directory of the current entry.
    pub(super) fn parent(&self) -> Result<BorrowedFd<'_>, Errno> {
        self.levels.last().ok_or(Errno::BADF)?.directory.fd()
    }

    /// The name of the current entry in its directory.
    pub(super) fn name(&self) -> &OsStr {
        let start = self.levels.last().map_or(0, |level| if level.length > 0 { level.length + 1 } else { 0 });
        OsStr::from_bytes(self.path.get(start..).unwrap_or_default())
    }

    /// What is known about the current entry itself.
    pub(super) fn look(&self) -> Result<Stat, Errno> {
        fs::statat(self.parent()?, self.name(), AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Goes on in the current entry; returns what is known about it.
    pub(super) fn enter(&mut self) -> Result<Stat, TreeError> {
        if self.levels.len() > DEEPEST {
            let message = format!("the tree is deeper than {DEEPEST} directories");
            return Err(TreeError::new(FailureKind::Limit, &self.path, message));
        }
        let unreadable = |path: &[u8], errno| TreeError::system(path, "read", errno);
        let opened = self.parent().and_then(|parent| fs::openat(parent, self.name(), DIRECTORY, Mode::empty()));
        let opened = opened.map_err(|errno| unreadable(&self.path, errno))?;
        let found = fs::fstat(opened.as_fd()).map_err(|errno| unreadable(&self.path, errno))?;
        let directory = Dir::new(opened).map_err(|errno| unreadable(&self.path, errno))?;
        self.levels.push(Level { directory, length: self.path.len() });
        Ok(found)
    }
}

/// Whether an entry that was there a moment ago is so no more.
pub(super) fn is_gone(errno: Errno) -> bool {
    // A directory that became something else is gone, too.
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

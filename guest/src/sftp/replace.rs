//! Files that take the place of others when they are complete.
//!
//! What a path leads to is decided once, when it is opened; from then on names are looked up in an open directory only,
//! so that a partial file's name is never what makes a path too long.

use std::fmt::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, Access, AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use super::errors::Failure;

const MOST_LINKS: usize = 40;
/// Set-user-id and its like are not kept: who wrote the new contents is another question.
const PERMISSIONS: u32 = 0o777;

/// A new file on its way to its name. It is removed again if it does not get there.
#[derive(Debug)]
pub(super) struct Replacement {
    directory: OwnedFd,
    part: String,
    name: Vec<u8>,
    /// Of the file that is there.
    mode: Option<Mode>,
    /// Something could not be written.
    is_incomplete: bool,
    is_in_place: bool,
}

/// What a path leads to.
pub(super) enum Target {
    /// A file, or nothing yet.
    File(Place),
    /// Something that can only be written into.
    Stream,
}

pub(super) struct Place {
    directory: OwnedFd,
    name: Vec<u8>,
    found: Option<Stat>,
}

impl Target {
    /// Follows a path to what may be replaced, and refuses what may not be written.
    pub(super) fn find(base: BorrowedFd<'_>, path: &[u8]) -> Result<Self, Failure> {
        match fs::statat(base, path, AtFlags::empty()) {
            Ok(found) => match FileType::from_raw_mode(found.st_mode) {
                FileType::RegularFile => {}
                FileType::Directory => return Err(Errno::ISDIR.into()),
                _ => return Ok(Self::Stream),
            },
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let (directory, name) = place_of(base, path)?;
        let found = match fs::statat(&directory, &name[..], AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile => {
                fs::accessat(&directory, &name[..], Access::WRITE_OK, AtFlags::EACCESS)?;
                Some(found)
            }
            // It was changed meanwhile.
            Ok(_) => return Err(Errno::AGAIN.into()),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(errno.into()),
        };
        Ok(Self::File(Place { directory, name, found }))
    }
}

/// The directory and the name that a path leads to, with its last name followed if that is a link.
fn place_of(base: BorrowedFd<'_>, path: &[u8]) -> Result<(OwnedFd, Vec<u8>), Errno> {
    let open = |at: BorrowedFd<'_>, path: &[u8]| {
        fs::openat(at, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    };
    let (mut directory, mut path) = (open(base, b".")?, path.to_vec());
    for _ in 0..MOST_LINKS {
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..=slash], &path[slash + 1..]),
            None => (&b""[..], &path[..]),
        };
        if matches!(name, b"" | b"." | b"..") {
            // No file has such a name, also if no directory has it.
            return Err(if path.is_empty() { Errno::NOENT } else { Errno::ISDIR });
        }
        if !parent.is_empty() {
            directory = open(directory.as_fd(), parent)?;
        }
        match fs::readlinkat(&directory, name, Vec::new()) {
            Ok(target) => path = target.into_bytes(),
            Err(Errno::INVAL | Errno::NOENT) => return Ok((directory, name.to_vec())),
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::LOOP)
}

impl Place {
    /// Opens a new file beside, with these flags for reading and writing; `mode` is what it has if there is none to be
    /// replaced.
    pub(super) fn begin(self, flags: OFlags, mode: Mode) -> Result<(OwnedFd, Replacement), Failure> {
        let Self { directory, name, found } = self;
        let part = part_name()?;
        let flags = flags & OFlags::RWMODE | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Who may read the file that is there says its mode, which comes last.
        let first = if found.is_some() { Mode::RUSR | Mode::WUSR } else { mode };
        let file = fs::openat(&directory, &part[..], flags, first)?;
        let (is_incomplete, is_in_place) = (false, false);
        let kept = found.map(|found| Mode::from_raw_mode(found.st_mode & PERMISSIONS));
        let this = Replacement { directory, part, name, mode: kept, is_incomplete, is_in_place };
        if let Some(found) = found
            && let Ok(new) = fs::fstat(&file)
            && (new.st_uid, new.st_gid) != (found.st_uid, found.st_gid)
        {
            // Only root may give files away; whose it is now may write it already.
            let _ = fs::fchown(&file, Some(Uid::from_raw(found.st_uid)), Some(Gid::from_raw(found.st_gid)));
        }
        Ok((file, this))
    }
}

impl Replacement {
    /// It is never moved into place now.
    pub(super) fn mark_incomplete(&mut self) {
        self.is_incomplete = true;
    }

    /// Gives the file its mode, before it is closed.
    pub(super) fn finish(&self, file: BorrowedFd<'_>) -> Result<(), Failure> {
        if self.is_incomplete {
            return Err(Failure::Explained(Errno::CANCELED, "Something of the file could not be written"));
        }
        match self.mode.map(|mode| fs::fchmod(file, mode)) {
            // The file system has no modes.
            Some(Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS)) | None => Ok(()),
            Some(set) => Ok(set?),
        }
    }

    /// Gives the file its name, after it is closed.
    pub(super) fn put_in_place(mut self) -> Result<(), Errno> {
        fs::renameat(&self.directory, &self.part[..], &self.directory, &self.name[..])?;
        self.is_in_place = true;
        Ok(())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.is_in_place {
            let _ = fs::unlinkat(&self.directory, &self.part[..], AtFlags::empty());
        }
    }
}

/// A name that nobody else uses.
fn part_name() -> Result<String, Errno> {
    let mut bytes = [0; 8];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    let mut name = ".sandbox-".to_owned();
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(name, "{byte:02x}");
    }
    Ok(name + ".part")
}

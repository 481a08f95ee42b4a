//! The removal of trees.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Dir, Mode};
use rustix::io::Errno;

use super::TreeError;
use super::walk::DIRECTORY;

/// How many directories are open at once. What is deeper is moved up first.
const OPEN: usize = 64;
/// How often a directory is emptied again into which somebody else writes meanwhile.
const ROUNDS: usize = 8;

/// Removes whatever has this name, and all that is in it; links are removed and not followed. Directories whose modes
/// forbid it are opened up. What can't be removed does not keep the rest.
///
/// # Errors
/// The first that the system refuses; also if there is no such file.
pub fn remove(path: &Path) -> Result<(), TreeError> {
    let bytes = path.as_os_str().as_bytes();
    let unremovable = |errno| TreeError::system(bytes, "removed", errno);
    let refusal = match fs::unlink(path) {
        Err(refusal) if is_directory(refusal) => refusal,
        removed => return removed.map_err(unremovable),
    };
    let opened = open(fs::CWD, path.as_os_str(), refusal).map_err(unremovable)?;
    let mut removal = Removal { root: opened, path: bytes.to_vec(), failure: None, moved: 0 };
    removal.empty();
    match fs::rmdir(path) {
        Ok(()) => Ok(()),
        Err(errno) => Err(removal.failure.unwrap_or_else(|| unremovable(errno))),
    }
}

/// The same, after it has got another name, so that it does not get its own one any more from whoever is at work on it.
/// If it is not there, it has been removed, or has its other name already.
///
/// # Errors
/// As [`remove`].
pub fn remove_aside(path: &Path) -> Result<(), TreeError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".gone");
    let aside = PathBuf::from(name);
    match fs::rename(path, &aside) {
        // What an earlier attempt has left there.
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::ISDIR | Errno::NOTDIR) => {
            remove(&aside)?;
            fs::rename(path, &aside)
                .map_err(|errno| TreeError::system(path.as_os_str().as_bytes(), "removed", errno))?;
        }
        // It is tried under its own name.
        Err(errno) if errno != Errno::NOENT => return remove(path),
        _ => {}
    }
    match remove(&aside) {
        Err(trouble) if trouble.errno == Some(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

struct Removal {
    root: OwnedFd,
    path: Vec<u8>,
    failure: Option<TreeError>,
    /// How many directories were moved up.
    moved: u64,
}

struct Level {
    directory: Dir,
    /// In the directory above; the root has none.
    name: OsString,
    rounds: usize,
    has_failed: bool,
}

impl Removal {
    /// Removes all that is in the root. What is kept in memory does not depend on how deep that is.
    fn empty(&mut self) {
        let root = self.root.as_fd().try_clone_to_owned().map_err(|_| Errno::MFILE).and_then(Dir::new);
        let directory = match root {
            Ok(directory) => directory,
            Err(errno) => return self.fail(&[], OsStr::new(""), errno),
        };
        let mut levels = vec![Level { directory, name: OsString::new(), rounds: 0, has_failed: false }];
        while let Some(level) = levels.last_mut() {
            match level.directory.read() {
                Some(Ok(entry)) => {
                    let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
                    if name != "." && name != ".." {
                        self.entry(&mut levels, name);
                    }
                }
                Some(Err(errno)) => {
                    level.has_failed = true;
                    self.fail(&levels, OsStr::new(""), errno);
                    self.end(&mut levels);
                }
                None => self.end(&mut levels),
            }
        }
    }

    fn entry(&mut self, levels: &mut Vec<Level>, name: OsString) {
        let depth = levels.len();
        let Some(level) = levels.last_mut() else { return };
        let removed = level.directory.fd().and_then(|parent| match fs::unlinkat(parent, &name, AtFlags::empty()) {
            Err(Errno::ISDIR) if depth >= OPEN => {
                let aside = format!(".removed-{}-{}", std::process::id(), self.moved);
                self.moved += 1;
                // The same directory can't be moved twice: it is at the top then.
                fs::renameat(parent, &name, &self.root, aside).map(|()| None)
            }
            Err(refusal) if is_directory(refusal) => open(parent, &name, refusal).map(Some),
            Ok(()) | Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        });
        match removed.and_then(|opened| opened.map(Dir::new).transpose()) {
            Ok(None) => {}
            Ok(Some(directory)) => levels.push(Level { directory, name, rounds: 0, has_failed: false }),
            Err(errno) => {
                level.has_failed = true;
                self.fail(levels, &name, errno);
            }
        }
    }

    /// Removes the directory whose entries are all seen.
    fn end(&mut self, levels: &mut Vec<Level>) {
        let Some(level) = levels.pop() else { return };
        let Some(above) = levels.last_mut() else {
            // The root is the caller's; something may have been moved up behind where the listing was.
            if !level.has_failed && level.rounds < ROUNDS && self.is_filled() {
                levels.push(again(level, self.moved));
            }
            return;
        };
        match above.directory.fd().and_then(|parent| fs::unlinkat(parent, &level.name, AtFlags::REMOVEDIR)) {
            Ok(()) | Err(Errno::NOENT) => {}
            // A failure in it has been told.
            Err(Errno::NOTEMPTY) if level.has_failed => above.has_failed = true,
            Err(Errno::NOTEMPTY) if level.rounds < ROUNDS => levels.push(again(level, 0)),
            Err(errno) => {
                above.has_failed = true;
                self.fail(levels, &level.name, errno);
            }
        }
    }

    fn is_filled(&mut self) -> bool {
        let listed = Dir::read_from(&self.root).ok();
        listed.is_some_and(|mut listed| {
            listed.any(|entry| entry.is_ok_and(|entry| !matches!(entry.file_name().to_bytes(), b"." | b"..")))
        })
    }

    fn fail(&mut self, levels: &[Level], name: &OsStr, errno: Errno) {
        if self.failure.is_none() {
            let mut path = PathBuf::from(OsStr::from_bytes(&self.path));
            path.extend(levels.iter().map(|level| &level.name).filter(|name| !name.is_empty()));
            if !name.is_empty() {
                path.push(name);
            }
            self.failure = Some(TreeError::system(path.as_os_str().as_bytes(), "removed", errno));
        }
    }
}

/// A directory to be listed once more. What was moved up, into the root, is no reason to give up.
fn again(mut level: Level, moved: u64) -> Level {
    level.directory.rewind();
    level.rounds = if moved > 0 { level.rounds } else { level.rounds + 1 };
    level
}

/// Whether that may be the answer to the attempt to remove a directory like a file. EPERM may also mean what it says.
fn is_directory(refusal: Errno) -> bool {
    matches!(refusal, Errno::ISDIR | Errno::PERM)
}

/// Opens a directory, also one whose mode forbids to list or change it. For what is none, `refusal` is why it was not
/// removed.
fn open(parent: BorrowedFd<'_>, name: &OsStr, refusal: Errno) -> Result<OwnedFd, Errno> {
    let opened = match fs::openat(parent, name, DIRECTORY, Mode::empty()) {
        // For its owner's user alone, whose power ends at what is its own: that the name may be a link by now harms
        // nobody.
        Err(Errno::ACCESS) => {
            fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            fs::openat(parent, name, DIRECTORY, Mode::empty())?
        }
        Err(Errno::NOTDIR | Errno::LOOP) => return Err(refusal),
        opened => opened?,
    };
    let found = fs::fstat(&opened)?;
    if found.st_mode & 0o700 != 0o700 {
        // It may be somebody else's, and let itself be changed all the same.
        let _ = fs::fchmod(&opened, Mode::from_raw_mode(found.st_mode & 0o7777 | 0o700));
    }
    Ok(opened)
}

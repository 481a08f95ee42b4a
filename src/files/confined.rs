//! Writes a tree of files from an untrusted source below one local directory, and nowhere else.
//!
//! Each step goes from an open directory to a name in it and follows no link, so that what is below the root is decided
//! by the kernel and not by a look at names. Names are looked at too, for a clear word on what is wrong with them.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use openssl::sha::Sha256;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use sandbox_protocol::tar::Time;
use sandbox_protocol::tree::MOST_NOTES;

use super::local::{PERMISSIONS, lacks_modes};
use super::path::temp_name;
use crate::fd::close_one_of;

/// A directory that things are written below.
pub(super) struct Root {
    root: OwnedFd,
    /// The directory that was used last.
    current: Option<(Vec<u8>, OwnedFd)>,
    /// Directories that are being filled: they get their own modes and times when something comes that is not below
    /// them.
    unfinished: Vec<(Vec<u8>, Attributes)>,
    umask: u32,
    /// Names whose modes the file system did not take: the first of them.
    without_mode: Vec<Vec<u8>>,
}

/// What a file is to have once it is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) modified: Time,
}

/// How deep a tree may be: a merge takes three descriptors for each level, and many programs may have 1024.
const DEEPEST: usize = 256;
/// How many names of a directory are in memory at once.
const NAMES_AT_ONCE: usize = 1024;

/// A name below the root, or why it is none.
pub(super) fn name_below(path: &[u8]) -> Result<Vec<u8>, &'static str> {
    if path.starts_with(b"/") {
        return Err("an absolute name");
    }
    if path.contains(&0) {
        return Err("a name with a NUL byte");
    }
    let parts: Vec<_> = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.contains(&&b".."[..]) {
        return Err("a name with '..'");
    }
    if parts.len() > DEEPEST {
        return Err("a name of more than 256 directories");
    }
    Ok(parts.join(&b'/'))
}

/// Whether a link of this name leads to something below the root, whatever other such links are there.
///
/// After the name of another link a `..` could lead anywhere, so it may stand at the beginning only.
pub(super) fn leads_inside(name: &[u8], target: &[u8]) -> bool {
    let depth = name.iter().filter(|byte| **byte == b'/').count();
    let parts = || target.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let climbs = parts().take_while(|part| *part == b"..").count();
    !target.starts_with(b"/") && climbs <= depth && !parts().skip(climbs).any(|part| part == b"..")
}

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::RDONLY).union(OFlags::CLOEXEC);
/// Until it is finished, a directory is its owner's alone.
const PRIVATE: Mode = Mode::RWXU;

fn open_dir(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    fs::openat(parent, OsStr::from_bytes(name), DIRECTORY, Mode::empty()).map_err(|e| match e {
        Errno::LOOP | Errno::NOTDIR => {
            io::Error::new(io::ErrorKind::NotADirectory, "something else than a directory is in the way")
        }
        e => e.into(),
    })
}

impl Attributes {
    /// False if the file system has no modes.
    fn apply(self, file: impl AsFd) -> io::Result<bool> {
        let is_set = match fs::fchmod(&file, Mode::from_raw_mode(self.mode & PERMISSIONS)) {
            Err(e) if lacks_modes(e.raw_os_error()) => false,
            set => set.map(|()| true)?,
        };
        // A time that the file system can't store is no reason to lose the file.
        let _ = fs::futimens(&file, &self.times());
        Ok(is_set)
    }

    fn times(self) -> Timestamps {
        let time = Timespec { tv_sec: self.modified.seconds, tv_nsec: self.modified.nanoseconds.into() };
        Timestamps { last_access: time, last_modification: time }
    }
}

impl Root {
    /// What is made below it gets modes less this mask.
    pub(super) fn open(path: &Path, umask: u32) -> io::Result<Self> {
        let root = fs::openat(fs::CWD, path, DIRECTORY, Mode::empty())?;
        Ok(Self { root, current: None, unfinished: Vec::new(), umask, without_mode: Vec::new() })
    }

    /// The names whose modes could not be set since the file system has none: the first of them.
    pub(super) fn without_mode(&self) -> &[Vec<u8>] {
        &self.without_mode
    }

    fn apply(&mut self, file: impl AsFd, name: &[u8], attributes: Attributes) -> io::Result<()> {
        let is_set = Attributes { mode: attributes.mode & !self.umask, ..attributes }.apply(file)?;
        if !is_set && self.without_mode.len() < MOST_NOTES {
            self.without_mode.push(name.to_vec());
        }
        Ok(())
    }

    /// Makes a directory below the root, or takes one that is there.
    pub(super) fn directory(&mut self, name: &[u8], attributes: Attributes) -> io::Result<()> {
        self.begin(name)?;
        self.enter(name)?;
        self.unfinished.push((name.to_vec(), attributes));
        Ok(())
    }

    /// A new file, which replaces what had its name.
    pub(super) fn file(&mut self, name: &[u8]) -> io::Result<std::fs::File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.replace(name, |parent, name| fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR))?;
        Ok(file.into())
    }

    /// Ends a file.
    pub(super) fn finish_file(&mut self, file: &std::fs::File, name: &[u8], attributes: Attributes) -> io::Result<()> {
        self.apply(file, name, attributes)?;
        close_one_of(file)
    }

    /// False if the file system has no links.
    pub(super) fn symbolic_link(&mut self, name: &[u8], target: &[u8], attributes: Attributes) -> io::Result<bool> {
        let target = OsStr::from_bytes(target);
        self.replace(name, |parent, name| {
            match fs::symlinkat(target, parent, name) {
                Err(e) if lacks_modes(e.raw_os_error()) => return Ok(false),
                made => made?,
            }
            let _ = fs::utimensat(parent, name, &attributes.times(), AtFlags::SYMLINK_NOFOLLOW);
            Ok(true)
        })
    }

    /// Gives a file below the root another name there. Of a symbolic link it only returns the target, which means
    /// something else from another directory.
    pub(super) fn hard_link(&mut self, name: &[u8], original: &[u8]) -> io::Result<Option<Vec<u8>>> {
        if name == original {
            return Ok(None);
        }
        let (directory, file) = split(original);
        let source = self.walk(directory, false)?;
        let file = OsStr::from_bytes(file);
        let found = fs::statat(&source, file, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => {
                self.replace(name, |parent, name| fs::linkat(&source, file, parent, name, AtFlags::empty()))?;
                Ok(None)
            }
            FileType::Symlink => Ok(Some(fs::readlinkat(&source, file, Vec::new())?.into_bytes())),
            _ => Err(io::Error::other("a link to what is no file")),
        }
    }

    /// The SHA-256 of a file.
    pub(super) fn digest(&self, name: &[u8], buffer: &mut [u8]) -> io::Result<[u8; 32]> {
        let (directory, file) = split(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let directory = self.walk(directory, false)?;
        let mut file = std::fs::File::from(fs::openat(directory, OsStr::from_bytes(file), flags, Mode::empty())?);
        let mut hash = Sha256::new();
        loop {
            match file.read(buffer) {
                Ok(0) => return Ok(hash.finish()),
                Ok(length) => hash.update(&buffer[..length]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Finishes the directories.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        while let Some((name, attributes)) = self.unfinished.pop() {
            self.apply(self.walk(&name, false)?, &name, attributes)?;
        }
        Ok(())
    }

    /// Gives the root its own mode and time: once it is moved, for which it must be writable.
    pub(super) fn finish_root(&mut self, attributes: Attributes) -> io::Result<()> {
        self.apply(self.root.try_clone()?, b"", attributes)
    }

    /// Moves all that is in it into another directory. After a failure, `path` is what it is about, below that.
    pub(super) fn merge_into(&self, target: &Path, path: &mut Vec<u8>) -> io::Result<()> {
        // Where the caller's own path leads is the caller's business.
        let target = fs::openat(fs::CWD, target, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        check(self.root.as_fd(), target.as_fd(), path)?;
        merge(self.root.as_fd(), target.as_fd(), path)
    }

    /// Makes `name` by `make`, in the place of what is there, unless that is a directory.
    fn replace<T>(
        &mut self,
        name: &[u8],
        make: impl Fn(BorrowedFd<'_>, &OsStr) -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        self.begin(name)?;
        let (directory, name) = split(name);
        if name.is_empty() {
            return Err(io::Error::other("the root can't be a file"));
        }
        let (parent, name) = (self.enter(directory)?, OsStr::from_bytes(name));
        match make(parent, name) {
            Err(Errno::EXIST) => {
                fs::unlinkat(parent, name, AtFlags::empty())?;
                Ok(make(parent, name)?)
            }
            result => Ok(result?),
        }
    }

    /// Finishes the directories that `name` is not below.
    fn begin(&mut self, name: &[u8]) -> io::Result<()> {
        while let Some((last, attributes)) =
            self.unfinished.pop_if(|(last, _)| !(name.starts_with(last) && name[last.len()..].starts_with(b"/")))
        {
            self.apply(self.walk(&last, false)?, &last, attributes)?;
        }
        Ok(())
    }

    /// The directory of this name, made if it is not there.
    fn enter(&mut self, name: &[u8]) -> io::Result<BorrowedFd<'_>> {
        if name.is_empty() {
            return Ok(self.root.as_fd());
        }
        if self.current.as_ref().is_none_or(|(current, _)| current != name) {
            self.current = Some((name.to_vec(), self.walk(name, true)?));
        }
        match &self.current {
            Some((_, directory)) => Ok(directory.as_fd()),
            None => unreachable!("just set"),
        }
    }

    fn walk(&self, name: &[u8], make: bool) -> io::Result<OwnedFd> {
        let mut directory = self.root.try_clone()?;
        for part in name.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            let made = if make { fs::mkdirat(&directory, OsStr::from_bytes(part), PRIVATE) } else { Ok(()) };
            match made {
                Ok(()) | Err(Errno::EXIST) => directory = open_dir(directory.as_fd(), part)?,
                Err(e) => return Err(e.into()),
            }
        }
        Ok(directory)
    }
}

/// Directory and name.
fn split(name: &[u8]) -> (&[u8], &[u8]) {
    match name.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&name[..slash], &name[slash + 1..]),
        None => (b"", name),
    }
}

/// How what is in the place of an entry is dealt with.
enum Meeting {
    /// Both are directories.
    Merge,
    /// Nothing is there, or a file or a link that is replaced.
    Move,
}

/// What is to be done with an entry, or why it can't be: `found` is moved, `there` is in its place.
fn meet(found: FileType, there: Option<FileType>) -> io::Result<Meeting> {
    let clash = |errno: i32, what: &str| Err(io::Error::new(io::Error::from_raw_os_error(errno).kind(), what));
    match (found == FileType::Directory, there) {
        (true, Some(FileType::Directory)) => Ok(Meeting::Merge),
        (_, None) | (false, Some(FileType::RegularFile | FileType::Symlink)) => Ok(Meeting::Move),
        (true, Some(_)) => clash(libc::ENOTDIR, "something else is where a directory should go"),
        (false, Some(FileType::Directory)) => clash(libc::EISDIR, "a directory is where a file should go"),
        (false, Some(_)) => clash(libc::EEXIST, "a device, pipe or socket is where a file should go"),
    }
}

fn kind_of(directory: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<FileType> {
    fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map(|found| FileType::from_raw_mode(found.st_mode))
}

/// Does something with an entry, whose name is added to the path that a failure is about.
fn within(path: &mut Vec<u8>, name: &[u8], work: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<()> {
    let length = path.len();
    if length > 0 {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    work(path)?;
    path.truncate(length);
    Ok(())
}

/// Looks for what is in the way of a merge, so that none is begun that can't be ended.
fn check(from: BorrowedFd<'_>, to: BorrowedFd<'_>, path: &mut Vec<u8>) -> io::Result<()> {
    for entry in fs::Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        within(path, name, |path| {
            let there = match kind_of(to, OsStr::from_bytes(name)) {
                Err(Errno::NOENT) => None,
                there => Some(there?),
            };
            match meet(kind_of(from, OsStr::from_bytes(name))?, there)? {
                Meeting::Move => Ok(()),
                Meeting::Merge => check(open_dir(from, name)?.as_fd(), open_dir(to, name)?.as_fd(), path),
            }
        })?;
    }
    Ok(())
}

/// Moves all that is in `from` into `to`: files replace files, directories are merged and stay what they were. Follows
/// no link on either side.
fn merge(from: BorrowedFd<'_>, to: BorrowedFd<'_>, path: &mut Vec<u8>) -> io::Result<()> {
    let mut directory = fs::Dir::read_from(from)?;
    loop {
        // Some names first, since the directory changes while they are moved: out of it, all of them.
        let mut names = Vec::new();
        while names.len() < NAMES_AT_ONCE
            && let Some(entry) = directory.read()
        {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            within(path, &name, |path| move_into(from, to, &name, path))?;
        }
        directory.rewind();
    }
}

/// Moves what has this name: a file to the place of another one, what is in a directory into one that is there.
fn move_into(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &[u8], path: &mut Vec<u8>) -> io::Result<()> {
    let file = OsStr::from_bytes(name);
    let found = kind_of(from, file)?;
    match meet(found, kind_of(to, file).ok())? {
        Meeting::Merge => {
            let (source, target) = (open_dir(from, name)?, open_dir(to, name)?);
            // Where there are no modes, none forbids it.
            let _ = fs::fchmod(&source, PRIVATE);
            merge(source.as_fd(), target.as_fd(), path)?;
            Ok(fs::unlinkat(from, file, AtFlags::REMOVEDIR)?)
        }
        Meeting::Move => match fs::renameat(from, file, to, file) {
            // A directory gets another parent only if it may be written.
            Err(Errno::ACCESS) if found == FileType::Directory => {
                let directory = open_dir(from, name)?;
                let found = fs::fstat(&directory)?;
                let _ = fs::fchmod(&directory, PRIVATE);
                fs::renameat(from, file, to, file)?;
                let nanoseconds = u32::try_from(found.st_mtime_nsec).unwrap_or(0);
                let modified = Time { seconds: found.st_mtime, nanoseconds };
                Attributes { mode: found.st_mode, modified }.apply(directory).map(drop)
            }
            moved => Ok(moved?),
        },
    }
}

/// Removes a tree, also directories whose modes forbid it, and one that is deeper than there are descriptors.
pub(super) fn remove_all(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EMFILE | libc::ENFILE)) => {
            remove_in_turns(path)
        }
        result => result,
    }
}

/// Does it with the few descriptors of two levels, of which the lower one's directories are moved into the upper one.
fn remove_in_turns(path: &Path) -> io::Result<()> {
    let root = fs::openat(fs::CWD, path, DIRECTORY, Mode::empty())?;
    fs::fchmod(&root, PRIVATE)?;
    let remove_directory = |_: BorrowedFd<'_>, name: &OsStr| {
        // What can't be opened can't be removed either.
        let _ = fs::chmodat(&root, name, PRIVATE, AtFlags::empty());
        let directory = open_dir(root.as_fd(), name.as_bytes())?;
        empty(directory.as_fd(), |directory, name| {
            // A directory gets another parent only if it may be written.
            let _ = fs::chmodat(directory, name, PRIVATE, AtFlags::empty());
            Ok(fs::renameat(directory, name, &root, temp_name())?)
        })?;
        Ok(fs::unlinkat(&root, name, AtFlags::REMOVEDIR)?)
    };
    while empty(root.as_fd(), remove_directory)? {}
    std::fs::remove_dir(path)
}

/// Removes what is in a directory, and its directories by `remove_directory`. False if nothing was in it.
fn empty(
    directory: BorrowedFd<'_>,
    remove_directory: impl Fn(BorrowedFd<'_>, &OsStr) -> io::Result<()>,
) -> io::Result<bool> {
    let mut was_filled = false;
    for entry in fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        was_filled = true;
        match fs::unlinkat(directory, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => remove_directory(directory, name)?,
            removed => removed?,
        }
    }
    Ok(was_filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_descriptors_remove_what_is_deep_and_closed() {
        let place = std::env::temp_dir().join(format!("sandbox-deep-{}", std::process::id()));
        for branch in ["a", "b"] {
            let deepest = place.join(branch).join("d/".repeat(300));
            std::fs::create_dir_all(&deepest).unwrap();
            std::fs::write(deepest.join("file"), "").unwrap();
            std::os::unix::fs::symlink("/etc", deepest.join("link")).unwrap();
            for closed in [deepest.as_path(), &place.join(branch)] {
                std::fs::set_permissions(closed, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
            }
        }
        remove_in_turns(&place).unwrap();
        assert!(!place.exists() && Path::new("/etc/passwd").exists());
    }

    #[test]
    fn names_stay_below_the_root() {
        for (path, name) in [("./a//b/./c/", "a/b/c"), ("a", "a"), ("./", ""), ("", ""), ("..a/b..", "..a/b..")] {
            assert_eq!(name_below(path.as_bytes()).unwrap(), name.as_bytes());
        }
        let deep = "d/".repeat(DEEPEST + 1);
        for path in ["/a", "..", "a/../b", "./..", "a/..", "//", "a\0b", &deep] {
            assert!(name_below(path.as_bytes()).is_err(), "{path}");
        }
        assert!(name_below(&deep.as_bytes()[2..]).is_ok());
    }

    #[test]
    fn links_lead_inside_or_not() {
        let leads = |name: &str, target: &str| leads_inside(name.as_bytes(), target.as_bytes());
        for (name, target) in
            [("a", "b"), ("a", "b/c"), ("d/a", "../b"), ("d/e/a", "../../b"), ("a", "."), ("d/a", "..")]
        {
            assert!(leads(name, target), "{name} -> {target}");
        }
        for (name, target) in
            [("a", "/etc"), ("a", ".."), ("a", "../b"), ("d/a", "../../b"), ("a", "b/../.."), ("d/a", "b/..")]
        {
            assert!(!leads(name, target), "{name} -> {target}");
        }
    }
}

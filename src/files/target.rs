//! Where a download goes on this machine: a file that is replaced as a whole, or a device, pipe or terminal that is
//! written into.
//!
//! What the path leads to is decided once, before anything is moved. Links are followed, as scp and `pathlib` do.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, AtFlags, Mode, OFlags, accessat, openat, readlinkat, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::local::{PERMISSIONS, at_local, lacks_modes, stable_part, umask};
use super::path::{invalid, temp_name};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fd::{Awaited, close_one_of, write_without_signal};

/// As many as the system follows itself.
const MOST_LINKS: usize = 40;
/// How often it is looked whether somebody reads from a named pipe.
const READER_INTERVAL: Duration = Duration::from_millis(10);
/// What a pipe takes at once if it has room at all.
const PIPE_BUF: usize = 4096;

/// Where the contents of a download go.
#[derive(Debug)]
pub(super) enum Target<'a> {
    File(LocalFile<'a>),
    Stream(LocalStream<'a>),
}

impl<'a> Target<'a> {
    /// Decides what `path` leads to, and opens it or a part beside it. A named pipe waits for a reader.
    pub(super) fn open(path: &'a Path, resume: bool, deadline: Deadline) -> Result<Self> {
        let unwritable = |e: io::Error| at_local(path, "written", e);
        let found = match fs::metadata(path) {
            Ok(found) => Some(found),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(unwritable(e)),
        };
        let own = found.as_ref().and_then(|_| own_descriptor(path));
        match &found {
            Some(found) if found.is_dir() => Err(unwritable(io::Error::from_raw_os_error(libc::EISDIR))),
            Some(found) if !found.is_file() || own.is_some() => {
                if resume {
                    return Err(invalid("only a download to a file can be resumed"));
                }
                LocalStream::open(path, found, own, deadline).map(Self::Stream)
            }
            _ => LocalFile::open(path, resume).map(Self::File),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stream(stream) => stream.write(bytes),
        }
    }
}

/// The number of this process's own descriptor that a path such as `/dev/stdout` stands for. Its file was opened by
/// somebody else, who would not see another one in its place.
fn own_descriptor(path: &Path) -> Option<u32> {
    let descriptors = fs::canonicalize("/proc/self/fd").ok()?;
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let place = fs::canonicalize(parent).ok()?.join(path.file_name()?);
        if place.parent() == Some(&descriptors) {
            return place.file_name()?.to_str()?.parse().ok();
        }
        path = place.parent()?.join(fs::read_link(&place).ok()?);
    }
    None
}

/// The directory and the name that a path leads to, if its last name is a link or not.
fn place_of(path: &Path) -> std::result::Result<(OwnedFd, OsString), Errno> {
    let directory = |at: &dyn AsFd, path: &Path| {
        openat(at.as_fd(), path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    };
    let (mut place, mut path) = (directory(&rustix::fs::CWD, Path::new("."))?, path.to_owned());
    for _ in 0..MOST_LINKS {
        // A directory is no file, also if it is not there.
        let (Some(name), false) = (path.file_name(), path.as_os_str().as_bytes().ends_with(b"/")) else {
            return Err(Errno::ISDIR);
        };
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            place = directory(&place, parent)?;
        }
        match readlinkat(&place, name, Vec::new()) {
            Ok(target) => path = PathBuf::from(OsStr::from_bytes(target.as_bytes())),
            Err(Errno::INVAL | Errno::NOENT) => return Ok((place, name.to_owned())),
            Err(e) => return Err(e),
        }
    }
    Err(Errno::LOOP)
}

/// A local file that gets its name when it is whole; what has arrived is removed again unless it is to be resumed.
#[derive(Debug)]
pub(super) struct LocalFile<'a> {
    /// As the caller names it, for errors.
    path: &'a Path,
    /// By descriptor and names, so that a longer name than the target's does not make a path too long.
    directory: OwnedFd,
    name: OsString,
    part: OsString,
    file: fs::File,
    length: u64,
    /// What the file in its place has: mode, user, group.
    replaced: Option<(u32, u32, u32)>,
    is_resumable: bool,
    is_in_place: bool,
}

impl<'a> LocalFile<'a> {
    fn open(path: &'a Path, resume: bool) -> Result<Self> {
        let unwritable = |e: Errno| at_local(path, "written", e.into());
        let (directory, name) = place_of(path).map_err(unwritable)?;
        let replaced = match statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => {
                accessat(&directory, &name, Access::WRITE_OK, AtFlags::EACCESS).map_err(unwritable)?;
                Some((found.st_mode & PERMISSIONS, found.st_uid, found.st_gid))
            }
            Err(Errno::NOENT) => None,
            Err(e) => return Err(unwritable(e)),
        };
        let part = if resume { stable_part(Path::new(&name), "").into_os_string() } else { temp_name().into() };
        let flags = OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let flags = flags | if resume { OFlags::RDWR } else { OFlags::WRONLY | OFlags::EXCL };
        // Readable for nobody else until its own mode is known.
        let file = openat(&directory, &part, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| at_local(path, "created", e.into()))?;
        let (length, is_in_place) = Default::default();
        let file = fs::File::from(file);
        let this = Self { path, directory, name, part, file, length, replaced, is_resumable: resume, is_in_place };
        if resume {
            this.lock()?;
        }
        Ok(this)
    }

    /// What an earlier download has left: its file and its length.
    pub(super) fn kept(&mut self) -> Result<(&fs::File, u64)> {
        self.length = self.file.metadata().map_err(|e| at_local(self.path, "read", e))?.len();
        Ok((&self.file, self.length))
    }

    /// As the caller names it.
    pub(super) fn path(&self) -> &'a Path {
        self.path
    }

    /// Begins anew.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.length = 0;
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(|e| at_local(self.path, "written", e))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let done = || format!("written beyond byte {}", self.length);
        self.file.write_all(bytes).map_err(|e| at_local(self.path, &done(), e))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Gives it its name: with the mode and owner of the file that is there, or else with this mode, less the umask.
    pub(super) fn put_in_place(mut self, mode: u32, sync: bool) -> Result<()> {
        if let Some((_, user, group)) = self.replaced
            && let Ok(found) = self.file.metadata()
            && (found.uid(), found.gid()) != (user, group)
        {
            // Only root may give files away; whose it is now may write it already.
            let _ = std::os::unix::fs::fchown(&self.file, Some(user), Some(group));
        }
        let mode = self.replaced.map_or(mode & PERMISSIONS & !umask(), |(mode, ..)| mode);
        match self.file.set_permissions(Permissions::from_mode(mode)) {
            Err(e) if e.raw_os_error().is_some_and(lacks_modes) => {
                log::warn!("'{}' on this machine does not get the mode {mode:o}: {e}", self.path.display());
            }
            set => set.map_err(|e| at_local(self.path, "given its mode", e))?,
        }
        if sync {
            self.file.sync_all().map_err(|e| at_local(self.path, "synced to disk", e))?;
        }
        close_one_of(&self.file).map_err(|e| at_local(self.path, "closed", e))?;
        renameat(&self.directory, &self.part, &self.directory, &self.name).map_err(|e| match e {
            Errno::BUSY => {
                at_local(self.path, "replaced, since it is a mount point: write to it as a stream", e.into())
            }
            e => at_local(self.path, "moved into place", e.into()),
        })?;
        self.is_in_place = true;
        if sync {
            let directory =
                openat(&self.directory, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
            let synced = directory.and_then(rustix::fs::fsync);
            synced.map_err(|e| at_local(self.path, "synced to disk", e.into()))?;
        }
        Ok(())
    }

    /// Makes sure that nobody else writes to a part with a name that others know too.
    fn lock(&self) -> Result<()> {
        let busy = || {
            let message = format!("'{}' on this machine is being written by another download", self.path.display());
            Error::new(ErrorKind::Busy, message)
        };
        self.file.try_lock().map_err(|e| match e {
            fs::TryLockError::WouldBlock => busy(),
            fs::TryLockError::Error(e) => at_local(self.path, "locked", e),
        })?;
        // Whoever had the lock before may have put the file in its place.
        match (self.file.metadata(), statat(&self.directory, &self.part, AtFlags::SYMLINK_NOFOLLOW)) {
            (Ok(ours), Ok(named)) if (ours.dev(), ours.ino()) == (named.st_dev, named.st_ino) && ours.is_file() => {
                Ok(())
            }
            _ => Err(busy()),
        }
    }
}

impl Drop for LocalFile<'_> {
    fn drop(&mut self) {
        let is_of_use = self.is_resumable && self.file.metadata().is_ok_and(|found| found.len() > 0);
        if !self.is_in_place
            && !is_of_use
            && let Err(e) = unlinkat(&self.directory, &self.part, AtFlags::empty())
        {
            log::warn!("the partial file '{}' of '{}' is left: {e}", self.part.display(), self.path.display());
        }
        // Unlock explicitly: a child forked concurrently may briefly hold the descriptor, and with it the lock.
        let _ = self.file.unlock();
    }
}

/// A local device, named pipe or terminal, or one of this process's own streams.
#[derive(Debug)]
pub(super) struct LocalStream<'a> {
    path: &'a Path,
    file: fs::File,
    /// How much is written at once: a stream that is shared with others may block.
    piece: usize,
    deadline: Deadline,
}

impl<'a> LocalStream<'a> {
    fn open(path: &'a Path, found: &fs::Metadata, own: Option<u32>, deadline: Deadline) -> Result<Self> {
        let unwritable = |e: io::Error| at_local(path, "written", e);
        // Opened again, a file would be written from its beginning.
        if let (Some(own), true) = (own, found.is_file() || found.file_type().is_socket()) {
            let shared = match own {
                1 => io::stdout().as_fd().try_clone_to_owned(),
                2 => io::stderr().as_fd().try_clone_to_owned(),
                _ => fs::OpenOptions::new().append(true).open(path).map(OwnedFd::from),
            };
            let file = shared.map_err(unwritable)?.into();
            return Ok(Self { path, file, piece: PIPE_BUF, deadline });
        }
        if found.file_type().is_socket() {
            let message = format!("'{}' on this machine is a socket, which can't be written as a file", path.display());
            return Err(Error::new(ErrorKind::Transfer, message).with_errno(libc::ENXIO));
        }
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        loop {
            match fs::OpenOptions::new().write(true).custom_flags(flags).open(path) {
                Ok(file) => return Ok(Self { path, file, piece: usize::MAX, deadline }),
                Err(e) if e.raw_os_error() == Some(libc::ENXIO) && found.file_type().is_fifo() => {
                    deadline.check(&format!("a reader of the named pipe '{}'", path.display()))?;
                    std::thread::sleep(READER_INTERVAL);
                }
                Err(e) => return Err(unwritable(e)),
            }
        }
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let what = || format!("the reader of '{}' on this machine", self.path.display());
            Awaited::wait(&[Awaited::to_write(self.file.as_fd())], self.deadline, &what())?;
            match write_without_signal(&self.file, &bytes[..bytes.len().min(self.piece)]) {
                Ok(0) => return Err(at_local(self.path, "written", io::ErrorKind::WriteZero.into())),
                Ok(length) => bytes = &bytes[length..],
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(e) => return Err(at_local(self.path, "written", e)),
            }
        }
        Ok(())
    }

    /// Waits for what the system reports only at the end.
    pub(super) fn finish(self) -> Result<()> {
        close_one_of(&self.file).map_err(|e| at_local(self.path, "closed", e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &Path, resume: bool) -> Result<LocalFile<'_>> {
        match Target::open(path, resume, Deadline::after(None))? {
            Target::File(file) => Ok(file),
            Target::Stream(_) => panic!("a stream"),
        }
    }

    #[test]
    fn a_part_that_is_taken_or_replaced_is_not_written() {
        let place = std::env::temp_dir().join(format!("sandbox-part-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        let target = place.join("target");
        let first = file(&target, true).unwrap();
        assert_eq!(file(&target, true).err().unwrap().kind(), ErrorKind::Busy);
        drop(first);
        file(&target, true).unwrap().put_in_place(0o640, true).unwrap();
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o777, 0o640 & !umask());
        // Another one is not in the way, and goes when it is not moved into place.
        drop(file(&target, false).unwrap());
        assert_eq!(fs::read_dir(&place).unwrap().count(), 1);
        fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn own_streams_are_known_by_any_path() {
        let place = std::env::temp_dir().join(format!("sandbox-own-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        std::os::unix::fs::symlink("/dev/stdout", place.join("link")).unwrap();
        for (path, own) in [
            (Path::new("/dev/stdout"), Some(1)),
            (Path::new("/dev/fd/2"), Some(2)),
            (Path::new("/proc/self/fd/7"), Some(7)),
            (&place.join("link"), Some(1)),
            (Path::new("/dev/null"), None),
            (&place, None),
            (&place.join("nothing"), None),
            (Path::new("/"), None),
        ] {
            assert_eq!(own_descriptor(path), own, "{}", path.display());
        }
        fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn a_file_that_is_a_stream_of_this_process_is_written_where_the_stream_is() {
        let path = std::env::temp_dir().join(format!("sandbox-shared-{}", std::process::id()));
        fs::write(&path, "before ").unwrap();
        let shared = fs::OpenOptions::new().append(true).open(&path).unwrap();
        let own = PathBuf::from(format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&shared)));
        let Target::Stream(mut stream) = Target::open(&own, false, Deadline::after(None)).unwrap() else { panic!() };
        stream.write(b"after").unwrap();
        stream.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before after");
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_reader_that_goes_away_is_an_error_and_no_signal() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let own = PathBuf::from(format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writer)));
        let Target::Stream(mut stream) =
            Target::open(&own, false, Deadline::after(Some(Duration::from_secs(9)))).unwrap()
        else {
            panic!()
        };
        let error = stream.write(b"x").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPIPE), "{error}");
    }
}

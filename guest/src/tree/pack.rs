//! A tree as an archive.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{self, FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;
use sandbox_protocol::tar::{Entry, Kind, LONGEST_PATH, MOST_SEGMENTS, Segment, Time, Writer};
use sandbox_protocol::tree::{FailureKind, Report};

use super::walk::{Walk, is_gone};
use super::{BUFFER, TreeError};

/// How many bytes of names of files with several names are kept in memory. Further ones are sent as files of their own.
const NAMES: usize = 8 << 20;

/// Writes all that is in `directory`, and the directory itself as `./`, to `output`. Sockets, named pipes and devices
/// are left out and noted, and so is what is removed meanwhile.
///
/// # Errors
/// If something can't be read, if a file shrinks while it is read, or if the output can't be written.
pub fn pack(directory: &Path, output: impl Write, report: &mut Report) -> Result<(), TreeError> {
    let (mut walk, root) = Walk::begin(directory)?;
    let mut packing =
        Packing { writer: Writer::new(output), report, names: HashMap::new(), room: NAMES, buffer: vec![0; BUFFER] };
    packing.begin(&described(b"./", Kind::Directory, &root))?;
    packing.report.directories += 1;
    while let Some(kind) = walk.next()? {
        packing.entry(&mut walk, kind)?;
    }
    packing.writer.finish().map_err(|e| TreeError::stream(b"", &e))?;
    Ok(())
}

struct Packing<'r, W> {
    writer: Writer<W>,
    report: &'r mut Report,
    /// The first name of each file with several, by device and inode.
    names: HashMap<(u64, u64), Vec<u8>>,
    room: usize,
    buffer: Vec<u8>,
}

impl<W: Write> Packing<'_, W> {
    fn begin(&mut self, entry: &Entry) -> Result<(), TreeError> {
        if entry.path.len() > LONGEST_PATH {
            let message = format!("'{}' has a name of {} bytes", super::shortened(&entry.path), entry.path.len());
            return Err(TreeError::new(FailureKind::Limit, &entry.path, message));
        }
        self.writer.begin(entry).map_err(|e| TreeError::stream(&entry.path, &e))
    }

    fn entry(&mut self, walk: &mut Walk, kind: FileType) -> Result<(), TreeError> {
        match kind {
            FileType::Directory => match walk.enter() {
                Ok(found) => {
                    self.begin(&described(&[walk.path(), b"/"].concat(), Kind::Directory, &found))?;
                    self.report.directories += 1;
                }
                Err(trouble) if trouble.errno.is_some_and(is_gone) => {
                    self.report.skip(walk.path(), "removed meanwhile")
                }
                Err(trouble) => return Err(trouble),
            },
            FileType::RegularFile => {
                let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                let opened = walk.parent().and_then(|parent| fs::openat(parent, walk.name(), flags, Mode::empty()));
                if let Some(file) = self.unless_gone(walk.path(), opened)? {
                    self.file(walk.path(), file)?;
                }
            }
            FileType::Symlink => {
                let target = walk.parent().and_then(|parent| fs::readlinkat(parent, walk.name(), Vec::new()));
                let target = target.and_then(|target| Ok((target, walk.look()?)));
                if let Some((target, found)) = self.unless_gone(walk.path(), target)? {
                    let link = target.into_bytes();
                    self.begin(&Entry { link, ..described(walk.path(), Kind::SymbolicLink, &found) })?;
                    self.report.symlinks += 1;
                }
            }
            FileType::Socket => self.report.skip(walk.path(), "a socket"),
            FileType::Fifo => self.report.skip(walk.path(), "a named pipe"),
            FileType::CharacterDevice | FileType::BlockDevice => self.report.skip(walk.path(), "a device"),
            FileType::Unknown => self.report.skip(walk.path(), "removed meanwhile"),
        }
        Ok(())
    }

    /// What was found under a name; `None` if it is gone again, which is noted.
    fn unless_gone<T>(&mut self, path: &[u8], found: Result<T, Errno>) -> Result<Option<T>, TreeError> {
        match found {
            Ok(found) => Ok(Some(found)),
            // What is no link any more.
            Err(errno) if is_gone(errno) || errno == Errno::INVAL => {
                self.report.skip(path, "removed meanwhile");
                Ok(None)
            }
            Err(errno) => Err(TreeError::system(path, "read", errno)),
        }
    }

    fn file(&mut self, path: &[u8], file: OwnedFd) -> Result<(), TreeError> {
        let unreadable = |errno| TreeError::system(path, "read", errno);
        let found = fs::fstat(&file).map_err(unreadable)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            self.report.skip(path, "changed meanwhile to something else than a file");
            return Ok(());
        }
        if found.st_nlink > 1 {
            let key = (found.st_dev, found.st_ino);
            if let Some(first) = self.names.get(&key) {
                let entry = Entry { link: first.clone(), ..described(path, Kind::HardLink, &found) };
                self.begin(&entry)?;
                self.report.files += 1;
                return Ok(());
            }
            if path.len() <= self.room {
                self.room -= path.len();
                self.names.insert(key, path.to_vec());
            }
        }
        let mut entry = described(path, Kind::File, &found);
        entry.segments = segments(&file, &found).map_err(unreadable)?;
        self.begin(&entry)?;
        let file = File::from(file);
        match &entry.segments {
            None => self.contents(path, Segment { offset: 0, length: entry.size }, |buffer, _| (&file).read(buffer))?,
            Some(segments) => {
                for segment in segments {
                    self.contents(path, *segment, |buffer, offset| file.read_at(buffer, offset))?;
                }
            }
        }
        self.report.bytes += entry.size;
        self.report.files += 1;
        let now = fs::fstat(&file).map_err(unreadable)?;
        let state = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
        if state(&now) != state(&found) {
            self.report.note(path, "changed while it was read");
        }
        Ok(())
    }

    fn contents(
        &mut self,
        path: &[u8],
        segment: Segment,
        mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
    ) -> Result<(), TreeError> {
        let (mut offset, end) = (segment.offset, segment.offset + segment.length);
        while offset < end {
            let room = self.buffer.len().min(usize::try_from(end - offset).unwrap_or(usize::MAX));
            let length = match read(&mut self.buffer[..room], offset) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    return Err(TreeError::system(path, "read", Errno::from_io_error(&e).unwrap_or(Errno::IO)));
                }
                Ok(0) => {
                    let message = format!(
                        "'{}' ended after {offset} bytes of {end}; it was changed meanwhile",
                        super::shortened(path)
                    );
                    return Err(TreeError::new(FailureKind::Changed, path, message));
                }
                Ok(length) => length,
            };
            self.writer.write(&self.buffer[..length]).map_err(|e| TreeError::stream(path, &e))?;
            offset += length as u64;
        }
        Ok(())
    }
}

/// The parts of a file between its holes, if it has any that are worth it.
fn segments(file: &OwnedFd, found: &Stat) -> Result<Option<Vec<Segment>>, Errno> {
    let size = found.st_size.unsigned_abs();
    if found.st_blocks.unsigned_abs().saturating_mul(512) >= size {
        return Ok(None);
    }
    let (mut segments, mut end, mut stored) = (Vec::new(), 0, 0);
    while end < size {
        let offset = match fs::seek(file, SeekFrom::Data(end)) {
            Ok(offset) => offset,
            Err(Errno::NXIO) => break,
            // The file system does not tell.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        end = match segments.len() + 1 {
            MOST_SEGMENTS.. => size,
            _ => fs::seek(file, SeekFrom::Hole(offset))?.min(size),
        };
        if offset < end {
            segments.push(Segment { offset, length: end - offset });
            stored += end - offset;
        }
    }
    fs::seek(file, SeekFrom::Start(0))?;
    // Some claim fewer blocks than they have contents: compressed ones, or those in memory.
    Ok((stored < size).then_some(segments))
}

fn described(path: &[u8], kind: Kind, found: &Stat) -> Entry {
    let size = if kind == Kind::File { found.st_size.unsigned_abs() } else { 0 };
    let nanoseconds = u32::try_from(found.st_mtime_nsec).unwrap_or(0);
    let modified = Time { seconds: found.st_mtime, nanoseconds };
    Entry { path: path.to_vec(), kind, mode: found.st_mode & 0o7777, size, modified, link: Vec::new(), segments: None }
}

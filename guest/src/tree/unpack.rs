//! A tree from an archive.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ring::digest::{Context, SHA256};
use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use sandbox_protocol::tar::{Entry, Kind, Reader};
use sandbox_protocol::tree::{Digest, FailureKind, Report};

use super::confined::{self, Attributes, Root};
use super::remove::remove;
use super::{BUFFER, TreeError, shortened};

/// How much an archive may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of contents, holes counted too.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: u64::MAX, entries: u64::MAX }
    }
}

/// Reads an archive into the new directory `part`, with modes and times. What has no place in a tree that is moved, a
/// device or a pipe, is left out and noted. If `sums` are wanted, the digests of the files are written there as they
/// arrive.
///
/// Nothing is written outside of `part`, whatever the archive says and whoever changes something there meanwhile. After
/// a failure it is removed.
///
/// # Errors
/// If the archive is none, or says what must not be, or the system refuses something.
pub fn unpack<'u>(
    input: impl Read,
    part: &Path,
    limits: Limits,
    sums: Option<&'u mut dyn Write>,
    report: &'u mut Report,
) -> Result<(), TreeError> {
    let name = part.as_os_str().as_bytes();
    fs::mkdir(part, Mode::RWXU).map_err(|errno| match errno {
        Errno::EXIST => TreeError::new(FailureKind::Conflict, name, format!("'{}' is there already", shortened(name))),
        errno => TreeError::system(name, "created", errno),
    })?;
    fill(input, part, limits, sums, report).inspect_err(|_| {
        // The first failure is the one to tell.
        let _ = remove(part);
    })
}

fn fill<'u>(
    input: impl Read,
    part: &Path,
    limits: Limits,
    sums: Option<&'u mut dyn Write>,
    report: &'u mut Report,
) -> Result<(), TreeError> {
    let root = Root::open(part).map_err(|e| unwritable(part.as_os_str().as_bytes(), e))?;
    let mut unpacking = Unpacking { root, limits, sums, report, buffer: vec![0; BUFFER], own: None };
    let mut reader = Reader::new(input);
    let mut entries = 0;
    while let Some(entry) = reader.next().map_err(|e| TreeError::stream(b"", &e))? {
        entries += 1;
        if entries > limits.entries {
            let message = format!("more than the {} entries that are allowed", limits.entries);
            return Err(TreeError::new(FailureKind::Limit, &entry.path, message));
        }
        unpacking.entry(&entry, &mut reader)?;
    }
    let Unpacking { mut root, own, report, .. } = unpacking;
    let finished = root.finish().and_then(|()| own.map_or(Ok(()), |own| root.finish_root(own)));
    finished.map_err(|e| unwritable(part.as_os_str().as_bytes(), e))?;
    for name in root.without_mode() {
        report.note(name, "its mode can't be set");
    }
    Ok(())
}

/// Renames the tree `part` to `target`, or merges it with the directory `target`; see
/// [`Request::Place`](sandbox_protocol::tree::Request::Place).
///
/// # Errors
/// If something else is in the way, or the system refuses it. A part of a merge may be done then.
pub fn place(part: &Path, target: &Path, merge: bool) -> Result<(), TreeError> {
    let (name, from) = (target.as_os_str().as_bytes(), part.as_os_str().as_bytes());
    let refused = |errno| match errno {
        Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::ISDIR => {
            TreeError { kind: FailureKind::Conflict, ..TreeError::system(name, "moved into place", errno) }
        }
        errno => TreeError::system(name, "moved into place", errno),
    };
    if !merge {
        return match fs::rename(part, target) {
            // A directory gets another parent only if it may be written.
            Err(Errno::ACCESS) => {
                let directory = Root::open(part).map_err(|e| unwritable(from, e))?;
                directory.rename(part, target).map_err(refused)
            }
            renamed => renamed.map_err(refused),
        };
    }
    let root = Root::open(part).map_err(|e| unwritable(from, e))?;
    // Where the caller's own path leads is the caller's business.
    let directory = fs::open(target, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(refused)?;
    let mut path = name.to_vec();
    root.merge_into(directory.as_fd(), &mut path).map_err(|e| trouble(&path, "moved into place", e))?;
    fs::rmdir(part).map_err(|errno| TreeError::system(from, "removed", errno))
}

struct Unpacking<'u> {
    root: Root,
    limits: Limits,
    sums: Option<&'u mut dyn Write>,
    report: &'u mut Report,
    buffer: Vec<u8>,
    /// What the root itself is to have.
    own: Option<Attributes>,
}

impl Unpacking<'_> {
    fn entry(&mut self, entry: &Entry, reader: &mut Reader<impl Read>) -> Result<(), TreeError> {
        let refused = |why: &str| {
            let message = format!("the archive has '{}', which is refused: {why}", shortened(&entry.path));
            TreeError::new(FailureKind::Refused, &entry.path, message)
        };
        let name = confined::name_below(&entry.path).map_err(refused)?;
        let attributes = Attributes { mode: entry.mode, modified: entry.modified };
        let unwritable = |e| unwritable(&name, e);
        match entry.kind {
            Kind::Directory => {
                self.report.directories += 1;
                match name.is_empty() {
                    true => self.own = Some(attributes),
                    false => self.root.directory(&name, attributes).map_err(unwritable)?,
                }
            }
            _ if name.is_empty() => return Err(refused("the root of a tree is a directory")),
            Kind::File => {
                if entry.size > self.limits.bytes.saturating_sub(self.report.bytes) {
                    let message = format!(
                        "'{}' and what is before it have more than the {} bytes that are allowed",
                        shortened(&name),
                        self.limits.bytes
                    );
                    return Err(TreeError::new(FailureKind::Limit, &name, message));
                }
                let file = self.root.file(&name).map_err(unwritable)?;
                self.contents(&name, &file, entry, reader)?;
                self.root.finish_file(file, &name, attributes).map_err(unwritable)?;
                self.report.files += 1;
            }
            Kind::HardLink => {
                let original = confined::name_below(&entry.link)
                    .map_err(|why| refused(&format!("a link to '{}', {why}", shortened(&entry.link))))?;
                match self.root.hard_link(&name, &original) {
                    Ok(None) => self.report.files += 1,
                    Ok(Some(target)) => self.link(&name, &target, attributes)?,
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {
                        self.report.skip(&name, "another name of what is left out");
                    }
                    Err(e) => return Err(unwritable(e)),
                }
            }
            Kind::SymbolicLink if entry.link.is_empty() || entry.link.contains(&0) => {
                return Err(refused("a link to nothing"));
            }
            Kind::SymbolicLink => self.link(&name, &entry.link, attributes)?,
            Kind::Device => self.report.skip(&name, "a device"),
            Kind::Pipe => self.report.skip(&name, "a named pipe"),
            Kind::Unknown(kind) => self.report.skip(&name, format!("of the unknown type {kind}")),
        }
        Ok(())
    }

    fn link(&mut self, name: &[u8], target: &[u8], attributes: Attributes) -> Result<(), TreeError> {
        match self.root.symbolic_link(name, target, attributes).map_err(|e| unwritable(name, e))? {
            true => self.report.symlinks += 1,
            false => self.report.skip(name, "a symbolic link, which the file system can't hold"),
        }
        Ok(())
    }

    fn contents(
        &mut self,
        name: &[u8],
        file: &File,
        entry: &Entry,
        reader: &mut Reader<impl Read>,
    ) -> Result<(), TreeError> {
        let mut hash = self.sums.is_some().then(|| Context::new(&SHA256));
        let mut end = 0;
        while let Some((offset, length)) = reader.read(&mut self.buffer).map_err(|e| TreeError::stream(name, &e))? {
            let bytes = &self.buffer[..length];
            if let Some(hash) = &mut hash {
                hash_zeros(hash, offset - end);
                hash.update(bytes);
            }
            file.write_all_at(bytes, offset).map_err(|e| unwritable(name, e))?;
            end = offset + length as u64;
        }
        if end < entry.size {
            file.set_len(entry.size).map_err(|e| unwritable(name, e))?;
        }
        self.report.bytes += entry.size;
        if let (Some(mut hash), Some(sums)) = (hash, &mut self.sums) {
            hash_zeros(&mut hash, entry.size - end);
            super::digest::tell(*sums, &Digest::new(name, hash.finish().as_ref(), entry.size))?;
        }
        Ok(())
    }
}

/// A hole counts as what it reads as.
fn hash_zeros(hash: &mut Context, mut length: u64) {
    const ZEROS: [u8; 4096] = [0; 4096];
    while length > 0 {
        let piece = length.min(ZEROS.len() as u64);
        hash.update(&ZEROS[..usize::try_from(piece).unwrap_or(0)]);
        length -= piece;
    }
}

fn unwritable(name: &[u8], e: io::Error) -> TreeError {
    trouble(name, "written", e)
}

fn trouble(name: &[u8], done: &str, e: io::Error) -> TreeError {
    if let Some(errno) = Errno::from_io_error(&e) {
        return TreeError::system(name, done, errno);
    }
    let errno = match e.kind() {
        io::ErrorKind::AlreadyExists => Some(Errno::EXIST),
        io::ErrorKind::NotADirectory => Some(Errno::NOTDIR),
        io::ErrorKind::IsADirectory => Some(Errno::ISDIR),
        _ => None,
    };
    let message = format!("'{}' can't be {done}: {e}", shortened(name));
    TreeError { errno, ..TreeError::new(FailureKind::Conflict, name, message) }
}

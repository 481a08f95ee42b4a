//! SHA-256 of files.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ring::digest::{Context, SHA256};
use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::io::{self, Errno};
use sandbox_protocol::tree::{Digest, FailureKind, Report};

use super::walk::{Walk, is_gone};
use super::{BUFFER, TreeError};

const FLAGS: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Writes the digest of a file, or of its first bytes, as a line to `output`.
///
/// # Errors
/// If it can't be read, or is no regular file.
pub fn digest_file(
    path: &Path,
    length: Option<u64>,
    mut output: impl Write,
    report: &mut Report,
) -> Result<(), TreeError> {
    let name = path.as_os_str().as_bytes();
    let file = fs::open(path, FLAGS, Mode::empty()).map_err(|errno| TreeError::system(name, "read", errno))?;
    let digest = sum(name, &file, length.unwrap_or(u64::MAX), &mut vec![0; BUFFER])?;
    (report.files, report.bytes) = (1, digest.size);
    tell(&mut output, &digest)?;
    output.flush().map_err(|e| TreeError::stream(b"", &e))
}

/// Writes the digests of all regular files of a tree as lines to `output`. What is removed meanwhile is noted.
///
/// # Errors
/// If something can't be read.
pub fn digest_tree(directory: &Path, mut output: impl Write, report: &mut Report) -> Result<(), TreeError> {
    let (mut walk, _) = Walk::begin(directory)?;
    let mut buffer = vec![0; BUFFER];
    report.directories += 1;
    while let Some(kind) = walk.next()? {
        match kind {
            FileType::Directory => match walk.enter() {
                Ok(_) => report.directories += 1,
                Err(trouble) if trouble.errno.is_some_and(is_gone) => report.skip(walk.path(), "removed meanwhile"),
                Err(trouble) => return Err(trouble),
            },
            FileType::RegularFile => {
                let flags = FLAGS | OFlags::NOFOLLOW;
                match walk.parent().and_then(|parent| fs::openat(parent, walk.name(), flags, Mode::empty())) {
                    Ok(file) => {
                        let digest = sum(walk.path(), &file, u64::MAX, &mut buffer)?;
                        (report.files, report.bytes) = (report.files + 1, report.bytes + digest.size);
                        tell(&mut output, &digest)?;
                    }
                    Err(errno) if is_gone(errno) => report.skip(walk.path(), "removed meanwhile"),
                    Err(errno) => return Err(TreeError::system(walk.path(), "read", errno)),
                }
            }
            _ => {}
        }
    }
    output.flush().map_err(|e| TreeError::stream(b"", &e))
}

fn sum(path: &[u8], file: &OwnedFd, most: u64, buffer: &mut [u8]) -> Result<Digest, TreeError> {
    let unreadable = |errno| TreeError::system(path, "read", errno);
    match FileType::from_raw_mode(fs::fstat(file).map_err(unreadable)?.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(unreadable(Errno::ISDIR)),
        _ => {
            let message = format!("'{}' is not a regular file", super::shortened(path));
            return Err(TreeError::new(FailureKind::Refused, path, message));
        }
    }
    let (mut hash, mut size) = (Context::new(&SHA256), 0);
    while size < most {
        let room = buffer.len().min(usize::try_from(most - size).unwrap_or(usize::MAX));
        match io::read(file, &mut buffer[..room]) {
            Ok(0) => break,
            Ok(length) => {
                hash.update(&buffer[..length]);
                size += length as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(unreadable(errno)),
        }
    }
    Ok(Digest::new(path, hash.finish().as_ref(), size))
}

/// Writes a digest as a line.
pub(super) fn tell(output: &mut (impl Write + ?Sized), digest: &Digest) -> Result<(), TreeError> {
    let line = serde_json::to_vec(digest).map(|mut line| {
        line.push(b'\n');
        line
    });
    let written = line.map_err(std::io::Error::from).and_then(|line| output.write_all(&line));
    written.map_err(|e| TreeError::stream(&digest.path.0, &e))
}

//! Comparing the SHA-256 of all files of two trees.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::tool::stream;
use super::{BUFFER, TreeProgress, shortened};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::files::Files;
use crate::files::confined::{self, Root};
use crate::files::digest::{digest_of, mismatch};
use crate::files::local::at_local;
use crate::ssh::sftp::{LONGEST_PATH, Quoted};

impl Files<'_> {
    /// Compares the SHA-256 of all files of a tree in the sandbox, which errors call `name`, with those of a tree here: the sandbox
    /// lists its own, so that no list has to be kept.
    pub(super) fn compare_trees(
        &self,
        tree: &[u8],
        name: &[u8],
        root: &Root,
        progress: &mut TreeProgress<'_, '_>,
        deadline: Deadline,
    ) -> Result<()> {
        let line = "export LC_ALL=C; cd -- \"$1\" && exec find . -type f -exec sha256sum {} +";
        let command = self.shell(line).arg(OsStr::from_bytes(tree)).timeout(deadline.remaining());
        let (mut buffer, mut files) = (vec![0; BUFFER], 0);
        let ended = stream(command.spawn().map_err(Error::within_operation)?, |child| {
            child.stdin = None;
            let Some(stdout) = child.stdout.take() else { return Ok(()) };
            let mut lines = BufReader::with_capacity(BUFFER, stdout);
            while let Some((digest, path)) = read_sum(&mut lines)? {
                progress.path = PathBuf::from(OsStr::from_bytes(&path));
                match root.digest(&path, &mut buffer) {
                    Ok(ours) if ours == digest => {}
                    Err(e) if e.kind() != io::ErrorKind::NotFound => {
                        return Err(at_local(&progress.path, "checked", e).into());
                    }
                    _ => return Err(mismatch(format_args!("'{}' in {}", shortened(&path), Quoted(name))).into()),
                }
                files += 1;
            }
            Ok(())
        });
        ended.into_result(progress, name, "checked")?;
        if files == progress.report.files {
            return Ok(());
        }
        let message = format!("{} has {files} files, moved were {}", Quoted(name), progress.report.files);
        Err(Error::new(ErrorKind::Transfer, message))
    }
}

/// A line of `sha256sum`: the sum, and the name below the root. `None` at the end.
fn read_sum(lines: &mut impl BufRead) -> io::Result<Option<([u8; 32], Vec<u8>)>> {
    // A backslash, the sum, two signs, and a name each of whose bytes may be escaped.
    const LONGEST: u64 = 1 + 64 + 2 + 2 * (LONGEST_PATH as u64 + 2) + 1;
    let mut line = Vec::new();
    lines.take(LONGEST).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "what sha256sum says can't be understood");
    let line = line.strip_suffix(b"\n").ok_or_else(wrong)?;
    let (line, is_escaped) = line.strip_prefix(b"\\").map_or((line, false), |line| (line, true));
    let (sum, name) = line.split_at_checked(66).ok_or_else(wrong)?;
    let sum = digest_of(sum).ok_or_else(wrong)?;
    let mut path = Vec::with_capacity(name.len());
    let mut bytes = name.iter().copied();
    while let Some(byte) = bytes.next() {
        path.push(match byte {
            b'\\' if is_escaped => match bytes.next() {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b'\\') => b'\\',
                _ => return Err(wrong()),
            },
            byte => byte,
        });
    }
    Ok(Some((sum, confined::name_below(&path).map_err(|_| wrong())?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_sha256sum_are_understood() {
        let sum = "0f".repeat(32);
        let lines = format!("{sum}  ./a b\n\\{sum}  ./x\\n\\\\y\n{sum} *./c\n");
        let (mut lines, mut names) = (lines.as_bytes(), Vec::new());
        while let Some((digest, name)) = read_sum(&mut lines).unwrap() {
            assert_eq!(digest, [15; 32]);
            names.push(name);
        }
        assert_eq!(names, [&b"a b"[..], b"x\n\\y", b"c"]);
        for line in [format!("{sum}  ../x\n"), format!("{sum}  x"), "no sum\n".to_owned(), "x".repeat(100_000)] {
            assert!(read_sum(&mut line.as_bytes()).is_err(), "{line}");
        }
    }
}

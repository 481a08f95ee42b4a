//! Comparing the SHA-256 of all files of two trees, with what the sandbox tells of its own.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use parking_lot::Mutex;
use sandbox_protocol::tree::{Digest, Request};

use super::{BUFFER, TreeProgress};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::files::Files;
use crate::files::confined::{self, Root};
use crate::files::local::at_local;
use crate::files::tool::{Streamed, Work, mismatch, next_digest, shortened, stream};
use crate::ssh::sftp::Quoted;

impl Files<'_> {
    /// Compares a tree of the sandbox with one here: the sandbox lists its own, so that no list has to be kept.
    pub(super) fn compare_trees(
        &self,
        tree: &[u8],
        root: &Root,
        progress: &mut TreeProgress<'_, '_>,
        deadline: Deadline,
    ) -> Result<()> {
        let command = self.tool(&Request::Digests { directory: OsStr::from_bytes(tree).into() }, deadline);
        let (mut buffer, mut files) = (vec![0; BUFFER], 0);
        let ended = stream(command.spawn().map_err(Error::within_operation)?, |child| {
            child.stdin = None;
            let Some(stdout) = child.stdout.take() else { return Ok(()) };
            let mut lines = BufReader::with_capacity(BUFFER, stdout);
            while let Some((path, digest)) = next_sum(&mut lines)? {
                progress.path = PathBuf::from(OsStr::from_bytes(&path));
                match root.digest(&path, &mut buffer) {
                    Ok(ours) if ours == digest => {}
                    Err(e) if e.kind() != io::ErrorKind::NotFound => {
                        return Err(at_local(&progress.path, "checked", e).into());
                    }
                    _ => return Err(mismatch(format_args!("'{}' in {}", shortened(&path), Quoted(tree))).into()),
                }
                files += 1;
            }
            Ok(())
        });
        let work = Work { name: tree, path: tree, done: "checked" };
        ended.into_report(work, || progress.so_far()).map_err(|e| match e.kind() {
            // Nothing is changed by looking.
            ErrorKind::OutcomeUnknown => e.with_kind(ErrorKind::Disconnected),
            _ => e,
        })?;
        same_number(tree, files, progress.report.files)
    }
}

/// The sums of files that were sent and that the sandbox has not told of yet, in the order in which they were sent.
#[derive(Default)]
pub(super) struct Sums(Mutex<State>);

#[derive(Default)]
struct State {
    expected: VecDeque<(Vec<u8>, [u8; 32])>,
    /// Nobody takes them any more.
    is_closed: bool,
}

impl Sums {
    pub(super) fn sent(&self, path: &[u8], sum: [u8; 32]) {
        let mut state = self.0.lock();
        if !state.is_closed {
            state.expected.push_back((path.to_vec(), sum));
        }
    }

    /// Compares what the sandbox tells, up to the end. The sandbox has a file as a whole only after it was sent.
    pub(super) fn compare(&self, mut lines: impl BufRead, name: &[u8]) -> Streamed<()> {
        let compared = (|| {
            while let Some((path, sum)) = next_sum(&mut lines)? {
                match self.0.lock().expected.pop_front() {
                    Some((ours, expected)) if ours == path && expected == sum => {}
                    _ => return Err(mismatch(format_args!("'{}' in {}", shortened(&path), Quoted(name))).into()),
                }
            }
            Ok(())
        })();
        self.0.lock().is_closed = true;
        compared
    }

    /// Fails if there are files that the sandbox did not tell of.
    pub(super) fn finish(&self, name: &[u8], files: u64) -> Result<()> {
        same_number(name, files - self.0.lock().expected.len() as u64, files)
    }
}

fn same_number(name: &[u8], told: u64, moved: u64) -> Result<()> {
    if told == moved {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Transfer, format!("{} has {told} files, but {moved} were transferred", Quoted(name))))
}

/// A file below the root, and its sum. `None` at the end.
fn next_sum(lines: &mut impl BufRead) -> io::Result<Option<(Vec<u8>, [u8; 32])>> {
    let Some(digest) = next_digest(lines)? else { return Ok(None) };
    let sum = digest.bytes();
    let Digest { path, .. } = digest;
    match (confined::name_below(&path.0), sum) {
        (Ok(path), Some(sum)) if !path.is_empty() => Ok(Some((path, sum))),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a digest from the sandbox has no name or no sum")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tool::StreamError;

    fn lines(digests: &[(&str, [u8; 32])]) -> Vec<u8> {
        let line = |(path, sum): &(&str, [u8; 32])| {
            let digest = Digest::new(path.as_bytes(), sum, 1);
            format!("{}\n", serde_json::to_string(&digest).unwrap()).into_bytes()
        };
        digests.iter().flat_map(line).collect()
    }

    #[test]
    fn what_is_told_is_compared_with_what_was_sent() {
        let sums = Sums::default();
        let all = [("a", [1; 32]), ("d/x\n", [2; 32])];
        all.iter().for_each(|(path, sum)| sums.sent(path.as_bytes(), *sum));
        sums.compare(&lines(&all)[..], b"t").unwrap();
        sums.finish(b"t", 2).unwrap();
        for wrong in [
            &[("a", [2; 32])][..],
            &[("b", [1; 32])],
            &[("d/x\n", [2; 32])],
            &[("a", [1; 32]), ("d/x\n", [2; 32]), ("more", [3; 32])],
        ] {
            let sums = Sums::default();
            all.iter().for_each(|(path, sum)| sums.sent(path.as_bytes(), *sum));
            let StreamError::Local(e) = sums.compare(&lines(wrong)[..], b"t").unwrap_err() else { panic!() };
            assert!(e.to_string().contains("the SHA-256 of"), "{e}");
        }
        let sums = Sums::default();
        all.iter().for_each(|(path, sum)| sums.sent(path.as_bytes(), *sum));
        sums.compare(&lines(&all[..1])[..], b"t").unwrap();
        assert_eq!(
            sums.finish(b"t", 2).unwrap_err().message(),
            "'t' in the sandbox has 1 files, but 2 were transferred"
        );
    }

    #[test]
    fn what_is_no_digest_is_refused_and_what_has_no_end_too() {
        let sum = "0f".repeat(32);
        let good = format!("{{\"path\":\"./a\",\"sha256\":\"{sum}\",\"size\":1}}\n");
        assert_eq!(next_sum(&mut good.as_bytes()).unwrap(), Some((b"a".to_vec(), [15; 32])));
        assert_eq!(next_sum(&mut &b""[..]).unwrap(), None);
        for wrong in [
            good.replace("./a", "../a"),
            good.replace("./a", "/a"),
            good.replace("./a", "."),
            good.replace("0f0f", "xf0f"),
            good.replace("0f0f", "0f"),
            good.trim_end().to_owned(),
            "no sum\n".to_owned(),
            "\n".to_owned(),
            format!("{{\"path\":\"{}\"}}\n", "x".repeat(100_000)),
            "[".repeat(10_000) + "\n",
        ] {
            let error = next_sum(&mut wrong.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{wrong}");
        }
    }
}

//! The guest's tool for files and trees: what it is asked for, its streams, and how it ended.
//!
//! What it says is what a sandbox says: its one line is read up to a limit, and its texts are shown without control
//! characters.

use std::ffi::OsStr;
use std::io::{self, BufRead, Read};
use std::os::unix::ffi::OsStrExt;
use std::thread;

use sandbox_protocol::tree::{Digest, Failure, FailureKind, Outcome, Report, Request, TOOL};

use super::Files;
use crate::command::{Child, Command};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result, os_text};
use crate::exit_status::ExitStatus;
use crate::ssh::sftp::{LONGEST_PATH, Quoted};

/// How much of what the tool says is read: all notes of a report, with paths that take four characters for each byte.
const SAID: usize = 24 << 20;
/// The line of a digest: a path with four characters for each byte, the sum, and the rest.
const LONGEST_LINE: u64 = 4 * LONGEST_PATH as u64 + 1024;
/// How much of a text of the tool is shown.
const SHOWN: usize = 500;

/// What the tool works on, for errors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work<'a> {
    /// What errors call the file or tree.
    pub(super) name: &'a [u8],
    /// The path that the request names in its place, which may be that of a part.
    pub(super) path: &'a [u8],
    /// What is done to it, such as `written`.
    pub(super) done: &'a str,
}

impl Work<'_> {
    fn what(&self) -> String {
        format!("{} can't be {}", Quoted(self.name), self.done)
    }

    /// The tool's failure in this library's terms.
    fn failed(&self, failure: &Failure) -> Error {
        let kind = match (failure.kind, failure.errno) {
            (FailureKind::System | FailureKind::Conflict, Some(errno)) => ErrorKind::of_file(errno),
            (FailureKind::Conflict, None) => ErrorKind::FileExists,
            _ => ErrorKind::Transfer,
        };
        let (place, said) = (self.place(&failure.path.0), shown(failure.message.as_bytes()));
        let place = place.map(|place| format!("'{}': ", shortened(place))).unwrap_or_default();
        // Of a stream, whoever is at its other end knows why it ends.
        let error = match failure.errno.filter(|_| failure.kind != FailureKind::Stream) {
            // Its own words say more than the number: those behind what can't be done.
            Some(_) if failure.kind == FailureKind::Conflict => {
                let why = said.rsplit(": ").next().unwrap_or_default();
                Error::new(kind, format!("{}: {place}{why}", self.what()))
            }
            Some(errno) => Error::new(kind, format!("{}: {place}{}", self.what(), os_text(errno))),
            None => return Error::new(kind, format!("{}: {said}", self.what())),
        };
        error.with_errno(failure.errno.unwrap_or_default())
    }

    /// A path below the one that this is about.
    fn place<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        for known in [self.path, self.name] {
            match path.strip_prefix(known) {
                Some(b"") => return None,
                Some([b'/', rest @ ..]) => return Some(rest),
                _ => {}
            }
        }
        Some(path).filter(|path| !path.is_empty())
    }
}

/// A name in a message, which a hostile sandbox may have made long.
pub(super) fn shortened(name: &[u8]) -> String {
    let text = name[..name.len().min(200)].escape_ascii().to_string();
    if name.len() > 200 { format!("{text}…") } else { text }
}

/// A text of the sandbox in a message.
pub(super) fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(4 * SHOWN)]);
    text.trim().chars().take(SHOWN).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

impl Files<'_> {
    pub(super) fn tool(&self, request: &Request, deadline: Deadline) -> Command {
        let args = request.to_args();
        let words: Vec<_> = [OsStr::new(TOOL)].into_iter().chain(args.iter().map(AsRef::as_ref)).collect();
        Command::guest_tool(self.link.clone(), &words).timeout(deadline.remaining()).output_limit(SAID)
    }

    /// Has the tool do something, and returns its report and what it wrote to its standard output.
    pub(super) fn run_tool(&self, request: &Request, work: Work<'_>, deadline: Deadline) -> Result<(Report, Vec<u8>)> {
        let output = self.tool(request, deadline).output();
        let output = output.map_err(|e| e.within_operation().context(work.what()))?;
        Ok((report(&output.stderr, &output.status, work)?, output.stdout))
    }

    /// The SHA-256 of a file in the sandbox, or of its first bytes.
    pub(super) fn digest(&self, path: &[u8], length: Option<u64>, name: &[u8], deadline: Deadline) -> Result<[u8; 32]> {
        let work = Work { name, path, done: "checked" };
        let request = Request::Digest { path: OsStr::from_bytes(path).into(), length };
        let (_, said) = self.run_tool(&request, work, deadline).map_err(|e| match e.kind() {
            // Nothing is changed by looking.
            ErrorKind::OutcomeUnknown => e.with_kind(ErrorKind::Disconnected),
            _ => e,
        })?;
        let digest = next_digest(&mut &said[..]).ok().flatten().and_then(|digest| digest.bytes());
        digest.ok_or_else(|| not_understood(work, &said))
    }
}

/// The next digest that the tool tells, `None` at the end.
pub(super) fn next_digest(lines: &mut impl BufRead) -> io::Result<Option<Digest>> {
    let mut line = Vec::new();
    lines.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    let wrong = |what: &dyn std::fmt::Display| {
        let message = format!("a digest from the sandbox is invalid: {what}");
        io::Error::new(io::ErrorKind::InvalidData, message)
    };
    let line = line.strip_suffix(b"\n").ok_or_else(|| wrong(&"its line has no end"))?;
    serde_json::from_slice(line).map(Some).map_err(|e| wrong(&e))
}

/// What the tool's last line says.
fn report(said: &[u8], status: &ExitStatus, work: Work<'_>) -> Result<Report> {
    let line = said.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    match (serde_json::from_slice(line), status.success()) {
        (Ok(Outcome::Done(report)), true) => Ok(report),
        (Ok(Outcome::Failed(failure)), false) => Err(work.failed(&failure)),
        (_, true) => Err(not_understood(work, line)),
        (_, false) => {
            let said = if line.is_empty() { String::new() } else { format!(", and printed '{}'", shown(line)) };
            Err(Error::new(ErrorKind::Transfer, format!("{}: the guest's tool ended with {status}{said}", work.what())))
        }
    }
}

fn not_understood(work: Work<'_>, said: &[u8]) -> Error {
    let message = format!("{}: the output of the guest's tool is invalid: '{}'", work.what(), shown(said));
    Error::new(ErrorKind::Transfer, message)
}

/// What ends a stream early.
#[derive(Debug)]
pub(super) enum StreamError {
    /// The cause is on this side.
    Local(Error),
    /// The stream is at fault; whoever is at its other end knows why.
    Remote(io::Error),
}

impl From<io::Error> for StreamError {
    fn from(e: io::Error) -> Self {
        // This library's own is not from the stream.
        e.downcast().map_or_else(Self::Remote, Self::Local)
    }
}

impl From<Error> for StreamError {
    fn from(e: Error) -> Self {
        Self::Local(e)
    }
}

impl StreamError {
    /// Whatever the tool has to say makes no difference: it may have no end.
    fn is_final(&self) -> bool {
        match self {
            Self::Local(_) => true,
            Self::Remote(e) => e.kind() == io::ErrorKind::InvalidData,
        }
    }
}

pub(super) type Streamed<T> = std::result::Result<T, StreamError>;

/// How both sides of a stream ended, and what the tool said.
#[derive(Debug)]
pub(super) struct Ended {
    local: Streamed<()>,
    remote: Result<ExitStatus>,
    said: Vec<u8>,
}

/// Works on a tool's streams and waits for its end.
pub(super) fn stream(child: Child, work: impl FnOnce(&mut Child) -> Streamed<()>) -> Ended {
    thread::scope(|scope| {
        // Gone when `work` panics, so that the listener's stream ends.
        let mut child = child;
        let stderr = child.stderr.take();
        let listener = scope.spawn(move || {
            let mut said = Vec::new();
            if let Some(mut stderr) = stderr {
                // A lost connection ends the stream; the reason comes from `wait`.
                let _ = (&mut stderr).take(SAID as u64).read_to_end(&mut said);
                let _ = io::copy(&mut stderr, &mut io::sink());
            }
            said
        });
        let local = work(&mut child);
        if local.as_ref().is_err_and(StreamError::is_final) {
            let _ = child.kill();
        }
        let remote = child.wait().map_err(Error::within_operation);
        if remote.as_ref().is_err_and(|e| e.kind() == ErrorKind::Cancelled) {
            let _ = child.kill().and_then(|()| child.wait());
        }
        Ended { local, remote, said: listener.join().unwrap_or_default() }
    })
}

impl Ended {
    /// Whether this side has done all of its part.
    pub(super) fn is_complete_here(&self) -> bool {
        self.local.is_ok()
    }

    /// The tool's report. `so_far` says how far it has come, for errors.
    pub(super) fn into_report(self, work: Work<'_>, so_far: impl Fn() -> String) -> Result<Report> {
        let so_far = || format!("{} beyond {}", work.what(), so_far());
        let unreadable = |e: io::Error| Error::new(ErrorKind::Transfer, format!("{}: {e}", so_far())).with_source(e);
        match (self.local, self.remote) {
            (Err(StreamError::Local(e)), _) if e.kind() == ErrorKind::Cancelled => Err(e.context(so_far())),
            (Err(StreamError::Local(e)), _) => Err(e),
            (Err(StreamError::Remote(e)), _) if e.kind() == io::ErrorKind::InvalidData => Err(unreadable(e)),
            (_, Err(e)) => Err(e.context(so_far())),
            (local, Ok(status)) => {
                let report = report(&self.said, &status, work)?;
                match local {
                    Err(StreamError::Remote(e)) => Err(unreadable(e)),
                    _ => Ok(report),
                }
            }
        }
    }
}

/// The error of contents that are not those that were moved.
pub(super) fn mismatch(what: impl std::fmt::Display) -> Error {
    let message = format!(
        "the SHA-256 of {what} differs from that of the transferred bytes; it was changed meanwhile, or is corrupt"
    );
    Error::new(ErrorKind::Transfer, message)
}

#[cfg(test)]
mod tests {
    use sandbox_protocol::tree::Bytes;

    use super::*;

    fn status(code: i32) -> ExitStatus {
        let status = sandbox_protocol::Status::Code(code);
        ExitStatus::new(&sandbox_protocol::Ended { status, ..Default::default() }).unwrap()
    }

    const WORK: Work<'_> = Work { name: b"t", path: b".sandbox-1.part", done: "written" };

    fn failure(kind: FailureKind, errno: Option<i32>, path: &str, message: &str) -> Error {
        let failure = Failure {
            kind,
            errno,
            path: Bytes(path.as_bytes().to_vec()),
            message: message.into(),
            report: Report::default(),
        };
        let line = serde_json::to_string(&Outcome::Failed(failure)).unwrap();
        report(format!("{line}\n").as_bytes(), &status(1), WORK).unwrap_err()
    }

    #[test]
    fn failures_have_kinds_numbers_and_names() {
        use FailureKind::{Changed, Conflict, Limit, Refused, Stream, System, Usage};
        for (kind, errno, path, message, expected, text) in [
            (System, Some(28), "d/f", "no matter", ErrorKind::StorageFull, "'d/f': No space left on device"),
            (System, Some(13), ".sandbox-1.part", "", ErrorKind::PermissionDenied, "Permission denied"),
            (System, Some(2), ".sandbox-1.part/a", "", ErrorKind::FileNotFound, "'a': No such file or directory"),
            (System, Some(30), "t", "", ErrorKind::ReadOnly, "Read-only file system"),
            (System, Some(5), "t/x", "", ErrorKind::Transfer, "'x': Input/output error"),
            (
                Conflict,
                Some(17),
                "t/p",
                "'t/p' can't be moved into place: a pipe",
                ErrorKind::FileExists,
                "'p': a pipe",
            ),
            (Conflict, None, "", "something is there", ErrorKind::FileExists, "something is there"),
            (Refused, None, "x", "a\tname", ErrorKind::Transfer, "a\u{fffd}name"),
            (Stream, Some(32), "", "broken pipe", ErrorKind::Transfer, "broken pipe"),
            (Limit, None, "", "too much", ErrorKind::Transfer, "too much"),
            (Changed, None, "", "it grew", ErrorKind::Transfer, "it grew"),
            (Usage, None, "", "no verb", ErrorKind::Transfer, "no verb"),
        ] {
            let error = failure(kind, errno, path, message);
            assert_eq!(error.message(), format!("'t' in the sandbox can't be written: {text}"));
            assert_eq!(error.kind(), expected, "{error}");
            assert_eq!(
                error.raw_os_error(),
                errno.filter(|_| matches!(kind, System | Conflict)).or(expected_number(&error))
            );
        }
    }

    fn expected_number(error: &Error) -> Option<i32> {
        (error.kind() == ErrorKind::FileExists).then_some(libc::EEXIST)
    }

    #[test]
    fn what_a_tool_says_is_believed_only_if_it_is_an_outcome() {
        let done = serde_json::to_string(&Outcome::Done(Report { files: 3, ..Report::default() })).unwrap();
        assert_eq!(report(format!("a warning\n{done}\n").as_bytes(), &status(0), WORK).unwrap().files, 3);
        for (said, code, text) in [
            (&done[..], 1, "the guest's tool ended with exit code 1, and printed '{"),
            ("", 101, "the guest's tool ended with exit code 101"),
            ("no \x1b[31mtool\n", 2, "and printed 'no \u{fffd}[31mtool'"),
            ("", 0, "tool is invalid: ''"),
            ("{\"done\":{\"files\":-1}}", 0, "tool is invalid: '{"),
            (&"x".repeat(1 << 20), 0, "tool is invalid: 'xxx"),
        ] {
            let error = report(said.as_bytes(), &status(code), WORK).unwrap_err();
            assert!(error.kind() == ErrorKind::Transfer && error.message().contains(text), "{error}");
            assert!(error.message().len() < 1000);
        }
    }
}

//! How an operation on files makes its requests: on a leased session, repeated where that is harmless, with the reason for a
//! failure that SFTP does not give, and with the removal of what a failed transfer has left.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use super::Files;
use super::path::bytes_of;
use crate::command::{Command, Output};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::exit_status::ExitStatus;
use crate::ssh::pool::Lease;
use crate::ssh::sftp::{self, Client, Quoted};

/// How long the removal of what is left of a failed upload may take: many may have lost their connections at once. A server that
/// kept silent until the time was over is not given as much again.
pub(super) const CLEANUP_TIMEOUT: Duration = Duration::from_secs(10);
const CLEANUP_TIMEOUT_AFTER_SILENCE: Duration = Duration::from_secs(5);

/// Whether a request may be made again when the connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    Harmless,
    /// A session that may have died unnoticed is first asked something harmless.
    Never,
}

impl Files<'_> {
    pub(super) fn deadline(&self) -> Deadline {
        Deadline::after(self.link.transfer_timeout())
    }

    pub(super) fn lease(&self, deadline: Deadline) -> Result<Lease> {
        self.link.lease(deadline)
    }

    /// Asks about the file `name` what may be asked twice.
    pub(super) fn ask<T>(&self, name: &[u8], deadline: Deadline, ask: impl Fn(&Client<'_>) -> Result<T>) -> Result<T> {
        let (lease, answer) = self.start_request(deadline, name, Repeat::Harmless, |client| ask(client))?;
        lease.finish();
        Ok(answer)
    }

    /// Changes something at `path`, once.
    pub(super) fn change(
        &self,
        operation: &'static str,
        path: &Path,
        change: impl Fn(&Client<'_>, &[u8]) -> Result<()>,
    ) -> Result<()> {
        self.link.call(operation, || {
            let bytes = bytes_of(path)?;
            let (lease, ()) =
                self.start_request(self.deadline(), bytes, Repeat::Never, |client| change(client, bytes))?;
            lease.finish();
            Ok(())
        })
    }

    /// Makes requests about the file `name` on a session that stays with the caller; on another one if the first was idle and its
    /// peer had gone away.
    pub(super) fn start_request<T>(
        &self,
        deadline: Deadline,
        name: &[u8],
        repeat: Repeat,
        ask: impl Fn(&mut Client<'_>) -> Result<T>,
    ) -> Result<(Lease, T)> {
        let unreached = |e: Error| e.context(Quoted(name));
        loop {
            let mut lease = self.lease(deadline).map_err(unreached)?;
            let (is_reused, mut is_asked) = (lease.is_reused(), false);
            let result = Client::new(&mut lease, deadline).map_err(unreached).and_then(|mut client| {
                if repeat == Repeat::Never {
                    if is_reused
                        && let Err(e) = client.lstat(name)
                        && !sftp::is_refusal(&e)
                    {
                        return Err(e);
                    }
                    is_asked = true;
                }
                ask(&mut client)
            });
            match result {
                Ok(value) => return Ok((lease, value)),
                Err(e) if is_asked && !sftp::is_refusal(&e) => return Err(may_be_done(e)),
                Err(e) if e.kind() == ErrorKind::Disconnected && is_reused => {}
                Err(e) => {
                    if sftp::is_refusal(&e) {
                        lease.finish();
                    }
                    return Err(e);
                }
            }
        }
    }

    pub(super) fn shell(&self, line: &str) -> Command {
        Command::shell(self.link.clone(), line.as_ref())
    }

    /// A line of the sandbox's shell.
    pub(super) fn tool(&self, line: &str, args: &[&[u8]], deadline: Deadline) -> Command {
        let args = args.iter().map(|arg| OsStr::from_bytes(arg));
        // Messages that can be understood here.
        let command = self.shell(&format!("export LC_ALL=C; {line}")).args(args);
        command.timeout(deadline.remaining()).output_limit(1 << 20)
    }

    /// Runs a line of the sandbox's shell that works on the file `name`; `done` is what should be done to it. Tools must succeed.
    pub(super) fn run(
        &self,
        line: &str,
        args: &[&[u8]],
        name: &[u8],
        done: &str,
        deadline: Deadline,
    ) -> Result<Output> {
        let what = || format!("{} can't be {done}", Quoted(name));
        let output = self.tool(line, args, deadline).output().map_err(|e| e.within_operation().context(what()))?;
        match output.status.success() {
            true => Ok(output),
            false => Err(tool_failure(&output.stderr_text(), &output.status, name, done)),
        }
    }

    /// Removes what is left of a transfer that failed with `e`, as far as the sandbox can be reached.
    pub(super) fn remove_part(&self, part: &[u8], e: &Error) {
        match self.start_request(cleanup_deadline(e), part, Repeat::Harmless, |client| client.remove_file(part)) {
            Ok((lease, ())) => lease.finish(),
            Err(e) if e.kind() == ErrorKind::FileNotFound => {}
            Err(e) => log::warn!("a partial file is left in sandbox {}: {e}", self.link.name()),
        }
    }
}

pub(super) fn cleanup_deadline(e: &Error) -> Deadline {
    let was_silent = matches!(e.kind(), ErrorKind::TimedOut | ErrorKind::Cancelled);
    Deadline::after(Some(if was_silent { CLEANUP_TIMEOUT_AFTER_SILENCE } else { CLEANUP_TIMEOUT }))
}

/// A lost connection, a timeout or an interruption after a change was asked for.
pub(super) fn may_be_done(e: Error) -> Error {
    let kind = match e.kind() {
        ErrorKind::Connect | ErrorKind::Disconnected => ErrorKind::OutcomeUnknown,
        kind @ (ErrorKind::TimedOut | ErrorKind::Cancelled) => kind,
        _ => return e,
    };
    e.with_kind(kind).context("it may have been done")
}

/// What a tool's last words say of a file.
pub(super) fn tool_failure(said: &str, status: &ExitStatus, name: &[u8], done: &str) -> Error {
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    // tar's last line says only that there were others.
    let why = lines().find(|line| reason(line).is_some()).or_else(|| lines().next());
    let kind = why.and_then(reason).unwrap_or(ErrorKind::Transfer);
    let shown = |line: &str| line.chars().take(500).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    let why = why.map_or_else(|| status.to_string(), shown);
    Error::new(kind, format!("{} can't be {done}: {why}", Quoted(name)))
}

/// The kind of what a tool says, in the words of the C library.
pub(super) fn reason(line: &str) -> Option<ErrorKind> {
    const WORDS: [(&str, ErrorKind); 16] = [
        ("No space left on device", ErrorKind::StorageFull),
        ("Disk quota exceeded", ErrorKind::StorageFull),
        ("File too large", ErrorKind::StorageFull),
        // tar, for the last bytes that a disk had room for.
        ("Wrote only", ErrorKind::StorageFull),
        ("Permission denied", ErrorKind::PermissionDenied),
        ("Operation not permitted", ErrorKind::PermissionDenied),
        ("Read-only file system", ErrorKind::ReadOnly),
        ("No such file or directory", ErrorKind::FileNotFound),
        ("File exists", ErrorKind::FileExists),
        ("Is a directory", ErrorKind::IsADirectory),
        ("Not a directory", ErrorKind::NotADirectory),
        ("Directory not empty", ErrorKind::DirectoryNotEmpty),
        ("Device or resource busy", ErrorKind::Busy),
        ("Text file busy", ErrorKind::Busy),
        ("File name too long", ErrorKind::NameTooLong),
        // mv and cp, whose own words these are.
        ("cannot overwrite non-directory", ErrorKind::NotADirectory),
    ];
    WORDS.iter().find(|(words, _)| line.contains(words)).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tools_say_has_a_kind() {
        for (said, kind) in [
            // dash, where there is no inode left; GNU tools.
            ("sh: 1: cannot create a/b: No space left on device", ErrorKind::StorageFull),
            ("head: error writing 'standard output': Disk quota exceeded", ErrorKind::StorageFull),
            ("tar: ./f: Cannot open: Read-only file system\ntar: Exiting with failure", ErrorKind::ReadOnly),
            ("cp: cannot overwrite non-directory 'a' with directory 'b'", ErrorKind::NotADirectory),
            ("tar: ./f: Cannot open: File name too long", ErrorKind::NameTooLong),
            ("rm: cannot remove 'a': Operation not permitted", ErrorKind::PermissionDenied),
            ("tar: ./f: Cannot close: Input/output error", ErrorKind::Transfer),
        ] {
            let error = tool_failure(said, &ExitStatus::exited(2), b"a", "written");
            assert_eq!(error.kind(), kind, "{error}");
            let why = said.lines().next().unwrap();
            assert_eq!(error.message(), format!("'a' in the sandbox can't be written: {why}"));
        }
    }
}

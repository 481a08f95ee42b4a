//! Commands that outlive their connection, found again by key. `detached.sh` and `runner.sh` do the work in the sandbox.

use std::time::{Duration, Instant};

use super::line::NEVER_RAN;
use super::{Command, ExitStatus, Output, OutputStream};
use crate::deadline::Deadline;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::link::Link;
use crate::text;

const SCRIPT: &str = include_str!("detached.sh");
const RUNNER: &str = include_str!("runner.sh");
/// Its exit codes.
const NO_SUCH_COMMAND: i32 = 66;
const CONFLICT: i32 = 67;
/// Connections that may be lost soon after they were made before a call gives up.
const LOSSES: u32 = 3;
const SOON: Duration = Duration::from_secs(10);

/// A command that was started by [`Command::detach`]; made there or by
/// [`Sandbox::detached`](crate::Sandbox::detached).
///
/// It runs in the sandbox whether anybody is connected or not, until it ends, is killed, or the sandbox goes. Its output and its
/// status stay until [`Detached::remove`]. All methods may be called from many threads and processes, again and again; each is
/// one command in the sandbox, under the configured `command_timeout` where nothing else is said. One whose connection is lost is
/// repeated, which is harmless here. **Dropping this does nothing** to the command.
#[derive(Clone, Debug)]
pub struct Detached {
    link: Link,
    key: String,
}

/// How much of a detached command's output has been read, in bytes from its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Bytes of the standard output.
    pub stdout: u64,
    /// Bytes of the standard error.
    pub stderr: u64,
}

impl Position {
    fn of(&mut self, stream: OutputStream) -> &mut u64 {
        match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        }
    }
}

/// Starts a command under a key, unless the key has it already.
pub(super) fn start(command: &Command, key: &str) -> Result<Detached> {
    let invalid = |message: &'static str| Error::new(ErrorKind::InvalidArgument, message);
    let detached = Detached::new(command.link.clone(), key.to_owned())?;
    if command.terminal.is_some() {
        return Err(invalid("a detached command has no terminal"));
    }
    let Some(input) = command.input.bytes() else {
        return Err(invalid(
            "the input of a detached command is bytes; write other input to a file in the sandbox first",
        ));
    };
    let line = command.line(key);
    let text = line.text()?;
    let limit = command.timeout.flatten().map_or_else(String::new, |limit| limit.as_secs_f64().to_string());
    let mut digest = openssl::sha::Sha256::new();
    for part in [&text, input, limit.as_bytes()] {
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let digest = text::hex(&digest.finish());
    let (text_length, input_length) = (text.len().to_string(), input.len().to_string());
    let sweep = line.kill_stragglers();
    let upload = [&text, input].concat();
    let args = [&text_length, &input_length, &digest, &sweep, RUNNER, &limit];
    detached.ask(detached.time(), &detached.script("start", &args).stdin(upload))?;
    Ok(detached)
}

impl Detached {
    pub(crate) fn new(link: Link, key: String) -> Result<Self> {
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let begins_well = key.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if begins_well && key.len() <= 64 && key.bytes().all(is_fit) {
            return Ok(Self { link, key });
        }
        Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("{key:?} is no key: 1 to 64 letters, digits, '.', '_' and '-', the first a letter or digit"),
        ))
    }

    /// The key that it was started with.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The status if the command has ended, `None` if it runs.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if no command has this key; [`ErrorKind::TimedOut`] if its own timeout ended it;
    /// [`ErrorKind::Command`] if it did not run; [`ErrorKind::OutcomeUnknown`] if what watches over it in the sandbox was killed;
    /// and those of a connection.
    pub fn try_wait(&self) -> Result<Option<ExitStatus>> {
        let output = self.ask(self.time(), &self.script("look", &[]))?;
        self.status(&output).map_err(|e| self.named(e))
    }

    /// Waits until the command has ended, at most for `timeout`; `None` is for ever.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// use std::time::Duration;
    ///
    /// let status = sandbox.detached("run-7")?.wait(Duration::from_secs(3600))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Detached::try_wait`], and [`ErrorKind::TimedOut`] if it still runs; it goes on then.
    pub fn wait(&self, timeout: impl Into<Option<Duration>>) -> Result<ExitStatus> {
        let output = self.ask(timeout.into(), &self.script("wait", &[]));
        let output = output.map_err(|e| match e.kind() {
            ErrorKind::TimedOut => {
                self.named(Error::new(ErrorKind::TimedOut, format!("the command '{}' still runs", self.key)))
            }
            _ => e,
        })?;
        let status = self.status(&output).map_err(|e| self.named(e))?;
        status.ok_or_else(|| self.named(Error::new(ErrorKind::OutcomeUnknown, "the sandbox gave no status")))
    }

    /// What the command has written to a stream by now from the byte `offset` on, at most `limit` bytes. It does not wait: none
    /// means that there is nothing there yet, or no more once the command has ended.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// use sandbox::OutputStream;
    ///
    /// let detached = sandbox.detached("run-7")?;
    /// let more = detached.read(OutputStream::Stdout, 4096, 1 << 20)?;
    /// println!("the next time, begin at {}", 4096 + more.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if no command has this key, and those of a connection.
    pub fn read(&self, stream: OutputStream, offset: u64, limit: usize) -> Result<Vec<u8>> {
        let name = match stream {
            OutputStream::Stdout => "stdout",
            OutputStream::Stderr => "stderr",
        };
        let (from, length) = (from(offset), limit.to_string());
        let script = self.script("read", &[name, &from, &length]).output_limit(limit);
        let output = self.ask(self.time(), &script)?;
        Ok(output.stdout)
    }

    /// Hands the output over as it comes, from `position` on, until the command has ended, and moves `position` along: after an
    /// error, the same call goes on where this one stopped. An error from `receive` ends the call, not the command.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// use std::io::Write;
    /// use sandbox::{Error, Position};
    ///
    /// let mut position = Position::default();
    /// let status = sandbox.detached("run-7")?.stream(&mut position, |_, bytes| {
    ///     std::io::stdout().write_all(bytes).map_err(|e| Error::cancelled(e.to_string()))
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Detached::try_wait`], and what `receive` returns.
    pub fn stream(
        &self,
        position: &mut Position,
        mut receive: impl FnMut(OutputStream, &[u8]) -> Result<()>,
    ) -> Result<ExitStatus> {
        let mut stopped = None;
        let result = self.follow(position, |stream, bytes| {
            receive(stream, bytes).map_err(|e| Error::cancelled(stopped.insert(e).message().to_owned()))
        });
        // The command that hands the output over was killed, not this one.
        stopped.map_or(result, |e| Err(self.named(e.context("the command itself goes on"))))
    }

    fn follow(
        &self,
        position: &mut Position,
        mut receive: impl FnMut(OutputStream, &[u8]) -> Result<()>,
    ) -> Result<ExitStatus> {
        let mut hand_over = |position: &mut Position, stream, bytes: &[u8]| {
            receive(stream, bytes)?;
            *position.of(stream) += bytes.len() as u64;
            Ok(())
        };
        self.patiently(None, |timeout| {
            let command = self.script("follow", &[&from(position.stdout), &from(position.stderr)]).timeout(timeout);
            let status = command.stream(|stream, bytes| hand_over(position, stream, bytes))?;
            self.check_exit(Output { status, stdout: Vec::new(), stderr: Vec::new(), truncated: 0 })
        })?;
        // What came at the very end.
        for stream in [OutputStream::Stdout, OutputStream::Stderr] {
            loop {
                const PIECE: usize = 16 << 20;
                let bytes = self.read(stream, *position.of(stream), PIECE)?;
                if bytes.is_empty() {
                    break;
                }
                hand_over(position, stream, &bytes)?;
            }
        }
        self.wait(self.time())
    }

    /// Kills the command and all its processes, those that left its process group too, and returns when they are gone. One that
    /// has ended needs no killing.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if no command has this key; [`ErrorKind::Command`] if some process can't be killed; and those of a
    /// connection.
    pub fn kill(&self) -> Result<()> {
        self.ask(self.time(), &self.script("kill", &[])).map(drop)
    }

    /// Sends the command's process group a signal, named without `SIG`, such as `INT` or `TERM`. One that has ended needs none.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if this is no name of a signal, else as [`Detached::try_wait`].
    pub fn signal(&self, name: &str) -> Result<()> {
        super::child::check_signal(name)?;
        self.ask(self.time(), &self.script("signal", &[name])).map(drop)
    }

    /// Removes the output and the status of a command that has ended. Its key is free again.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if it runs; [`ErrorKind::NotFound`] if no command has this key; and those of a connection.
    pub fn remove(&self) -> Result<()> {
        self.ask(self.time(), &self.script("remove", &[])).map(drop)
    }

    fn time(&self) -> Option<Duration> {
        self.link.command_timeout()
    }

    fn script(&self, verb: &str, args: &[&str]) -> Command {
        Command::shell(self.link.clone(), SCRIPT.as_ref()).args([verb, &self.key]).args(args)
    }

    fn ask(&self, timeout: Option<Duration>, script: &Command) -> Result<Output> {
        self.patiently(timeout, |left| self.check_exit(script.clone().timeout(left).output()?))
    }

    /// Repeats what lost its connection.
    fn patiently<T>(
        &self,
        timeout: Option<Duration>,
        mut attempt: impl FnMut(Option<Duration>) -> Result<T>,
    ) -> Result<T> {
        let (deadline, mut losses) = (Deadline::after(timeout), 0);
        loop {
            let began = Instant::now();
            let error = match attempt(deadline.remaining()) {
                // What was killed is only what asked.
                Err(e) if e.kind() == ErrorKind::Cancelled => {
                    return Err(self.named(Error::cancelled("interrupted; the command itself goes on")));
                }
                Err(e) if matches!(e.kind(), ErrorKind::OutcomeUnknown | ErrorKind::Disconnected) => {
                    e.with_kind(ErrorKind::Disconnected)
                }
                result => return result,
            };
            let has_ended = error.verdict().is_some_and(|verdict| verdict.cause != Cause::Pending);
            losses = if began.elapsed() < SOON { losses + 1 } else { 1 };
            if has_ended || losses >= LOSSES || deadline.has_passed() {
                return Err(error);
            }
            log::debug!("asking for the command '{}' again: {error}", self.key);
        }
    }

    /// The output of a script that did what it should.
    fn check_exit(&self, output: Output) -> Result<Output> {
        let key = &self.key;
        let (kind, message) = match output.status.code() {
            Some(0) => return Ok(output),
            Some(NO_SUCH_COMMAND) => (ErrorKind::NotFound, format!("there is no detached command '{key}'")),
            Some(CONFLICT) => (ErrorKind::Conflict, format!("'{key}' runs, or is the key of another command")),
            _ => (ErrorKind::Command, format!("'{key}': {}: {}", output.status, output.stderr_text().trim())),
        };
        Err(self.named(Error::new(kind, message)))
    }

    /// What the script's `look` says.
    fn status(&self, output: &Output) -> Result<Option<ExitStatus>> {
        let text = output.stdout_text();
        let (before, last) = text.trim_end().rsplit_once('\n').unwrap_or(("", text.trim_end()));
        let before = before.trim();
        let status = match last.split_once(' ') {
            None if last == "running" => return Ok(None),
            Some(("code", code)) => code.parse().ok().map(ExitStatus::exited),
            Some(("signal", name)) => Some(ExitStatus::killed_by(name)),
            _ => None,
        };
        match status {
            Some(status) if status.code() == Some(NEVER_RAN) && !before.is_empty() => {
                Err(Error::new(ErrorKind::Command, format!("the command did not run: {before}")))
            }
            Some(status) if status.signal().is_some() && before == "expired" => Err(Error::new(
                ErrorKind::TimedOut,
                "the command reached its timeout and was killed with all its processes",
            )),
            Some(status) => Ok(Some(status)),
            None => Err(Error::new(
                ErrorKind::OutcomeUnknown,
                format!("how the command '{}' ended is lost: what watched over it in the sandbox was killed", self.key),
            )),
        }
    }

    fn named(&self, error: Error) -> Error {
        error.during("detached command").on(self.link.name())
    }
}

/// As `tail` counts.
fn from(offset: u64) -> String {
    offset.saturating_add(1).to_string()
}

//! Commands that outlive their connection, found again by key. The guest keeps them.

use std::time::Duration;

use sandbox_protocol::{
    Cause, DetachedFollow, DetachedInfo, DetachedKey, DetachedRead, DetachedSignal, DetachedStart, DetachedWait,
    Request, Response, Stream,
};

use super::request::{milliseconds, never_ran};
use super::streams::{Collector, PrefixedStreams, Receiver};
use super::{Command, ExitStatus, NOT_PROVED, OutputStream, Stdin, failed, is_gone};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::link::Link;
use crate::ssh::commands::{self, Answer, NoStreams, Streams};

/// How long the guest's answer to a wait may take beyond the wait.
const ANSWER: Duration = Duration::from_secs(5);
const OPERATION: &str = "detached command";

/// A command that was started by [`Command::detach`]; made there or by
/// [`Sandbox::detached`](crate::Sandbox::detached).
///
/// It runs in the sandbox whether anybody is connected or not, until it ends, is killed, or the sandbox goes. Its
/// output and its status stay until [`Detached::remove`]. All methods may be called from many threads and processes,
/// again and again; each is one request to the sandbox, under the configured `command_timeout` where nothing else is
/// said. Requests that change nothing are repeated after a lost connection. [`Detached::signal`] and
/// [`Detached::remove`] are not: their error is [`ErrorKind::OutcomeUnknown`]. **Dropping this does nothing** to the
/// command.
#[derive(Clone, Debug)]
pub struct Detached {
    link: Link,
    key: String,
}

/// How much of a detached command's output has been read, in bytes from its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Position {
    /// Bytes of the standard output.
    pub stdout: u64,
    /// Bytes of the standard error.
    pub stderr: u64,
}

impl Position {
    /// So many bytes of each stream have been read.
    pub fn new(stdout: u64, stderr: u64) -> Self {
        Self { stdout, stderr }
    }

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
    let input = Stdin::from(input);
    let request = Request::DetachedStart(DetachedStart {
        key: key.to_owned(),
        run: command.request(command.timeout.flatten())?,
        output_limit: Some(command.output_limit as u64),
    });
    detached.link.repeatedly(detached.time(), |deadline| {
        let mut streams = NoStreams;
        match detached.ask(&request, &mut PrefixedStreams::new(input.take()?, &mut streams), deadline)? {
            Response::Detached(_) => Ok(()),
            _ => Err(commands::not_an_answer()),
        }
    })?;
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
            format!(
                "{key:?} is not a valid key: it must have 1 to 64 letters, digits, '.', '_' and '-', the first a letter or digit"
            ),
        ))
    }

    /// The key that it was started with.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The status if the command has ended, `None` if it runs.
    ///
    /// # Errors
    /// [`ErrorKind::DetachedNotFound`] if no command has this key; [`ErrorKind::TimedOut`] if its own timeout ended it;
    /// [`ErrorKind::Command`] if it did not run; [`ErrorKind::OutcomeUnknown`] if the process that supervises it in the
    /// sandbox was killed; and those of a connection.
    pub fn try_wait(&self) -> Result<Option<ExitStatus>> {
        self.link.call(OPERATION, || self.status(&self.info(&Request::DetachedStatus(self.named()))?))
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
        let timeout = timeout.into();
        self.link.call(OPERATION, || {
            let info = self.link.repeatedly(timeout, |deadline| {
                let timeout_ms = deadline.remaining().map(milliseconds);
                let request = Request::DetachedWait(DetachedWait { key: self.key.clone(), timeout_ms });
                // The guest answers at the timeout by itself.
                let answer = deadline.later(ANSWER);
                match self.ask(&request, &mut NoStreams, answer)? {
                    Response::Detached(info) => Ok(*info),
                    _ => Err(commands::not_an_answer()),
                }
            })?;
            self.status(&info)?
                .ok_or_else(|| Error::new(ErrorKind::TimedOut, format!("the command '{}' still runs", self.key)))
        })
    }

    /// Reads what the command has written so far to a stream, starting at byte `offset`: at most `limit` bytes. It does
    /// not wait. No bytes means that there is no more output yet, or none at all if the command has ended.
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
    /// [`ErrorKind::DetachedNotFound`] if no command has this key, and those of a connection.
    pub fn read(&self, stream: OutputStream, offset: u64, limit: usize) -> Result<Vec<u8>> {
        let stream = match stream {
            OutputStream::Stdout => Stream::Stdout,
            OutputStream::Stderr => Stream::Stderr,
        };
        let request =
            Request::DetachedRead(DetachedRead { key: self.key.clone(), stream, offset, limit: Some(limit as u64) });
        self.link.call(OPERATION, || {
            self.link.repeatedly(self.time(), |deadline| {
                let mut read = Collector::up_to(limit);
                let Response::Followed(followed) = self.ask(&request, &mut read, deadline)? else {
                    return Err(commands::not_an_answer());
                };
                let (bytes, end) = match stream {
                    Stream::Stdout => (read.stdout, followed.stdout),
                    Stream::Stderr => (read.stderr, followed.stderr),
                };
                let is_all = read.dropped == 0 && offset.checked_add(bytes.len() as u64) == Some(end);
                if is_all { Ok(bytes) } else { Err(commands::not_an_answer()) }
            })
        })
    }

    /// Passes the output to `receive` as it arrives, from `position` on, until the command has ended. It updates
    /// `position`, so that after an error the same call continues where this one stopped. An error from `receive` ends
    /// the call, not the command.
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
        self.link.call(OPERATION, || {
            let mut has_failed = false;
            let info = self.link.repeatedly(None, |deadline| {
                let request = Request::DetachedFollow(DetachedFollow {
                    key: self.key.clone(),
                    stdout: position.stdout,
                    stderr: position.stderr,
                });
                let mut receiver = Receiver::new(|stream, bytes: &[u8]| {
                    receive(stream, bytes).inspect_err(|_| has_failed = true)?;
                    *position.of(stream) += bytes.len() as u64;
                    Ok(())
                });
                let Response::Followed(followed) = self.ask(&request, &mut receiver, deadline)? else {
                    return Err(commands::not_an_answer());
                };
                let end = Position { stdout: followed.stdout, stderr: followed.stderr };
                if end == *position { Ok(followed.command) } else { Err(commands::not_an_answer()) }
            });
            // What ended is the request that hands the output over, not the command.
            let info = info.map_err(|e| if has_failed { e.context("the command itself goes on") } else { e })?;
            self.status(&info)?.ok_or_else(|| Error::new(ErrorKind::OutcomeUnknown, "the sandbox gave no status"))
        })
    }

    /// Kills the command and all its descendants, also those that left its process group, and returns when they are
    /// gone. Does nothing if the command has ended.
    ///
    /// # Errors
    /// [`ErrorKind::DetachedNotFound`] if no command has this key; [`ErrorKind::Command`] if some process can't be
    /// killed; and those of a connection.
    pub fn kill(&self) -> Result<()> {
        self.link.call(OPERATION, || {
            let info = self.info(&Request::DetachedKill(self.named()))?;
            match &info.ended {
                Some(ended) if ended.cause == Cause::Cancelled && !is_gone(ended) => {
                    Err(Error::new(ErrorKind::Command, format!("'{}' was killed; {NOT_PROVED}", self.key)))
                }
                Some(_) => Ok(()),
                None => Err(Error::new(ErrorKind::Command, format!("'{}' still runs", self.key))),
            }
        })
    }

    /// Sends the command's process group a signal, named without `SIG`, such as `INT` or `TERM`. Does nothing if the
    /// command has ended.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if there is no signal of this name, else as [`Detached::try_wait`].
    pub fn signal(&self, name: &str) -> Result<()> {
        super::child::check_signal(name)?;
        let signal = DetachedSignal { key: self.key.clone(), signal: name.to_owned(), all: false };
        self.once(&Request::DetachedSignal(signal))
    }

    /// Removes the output and the status of a command that has ended. Its key is free again.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if it runs; [`ErrorKind::DetachedNotFound`] if no command has this key; and those of a
    /// connection.
    pub fn remove(&self) -> Result<()> {
        self.once(&Request::DetachedRemove(self.named()))
    }

    fn named(&self) -> DetachedKey {
        DetachedKey { key: self.key.clone() }
    }

    fn time(&self) -> Option<Duration> {
        self.link.command_timeout()
    }

    /// Asks once, for what must not be done twice.
    fn once(&self, request: &Request) -> Result<()> {
        let deadline = Deadline::after(self.time());
        self.link.call(OPERATION, || match self.ask(request, &mut NoStreams, deadline)? {
            Response::Done => Ok(()),
            _ => Err(commands::not_an_answer()),
        })
    }

    /// Asks for what tells how the command is.
    fn info(&self, request: &Request) -> Result<DetachedInfo> {
        self.link.repeatedly(self.time(), |deadline| match self.ask(request, &mut NoStreams, deadline)? {
            Response::Detached(info) => Ok(*info),
            _ => Err(commands::not_an_answer()),
        })
    }

    fn ask(&self, request: &Request, streams: &mut impl Streams, deadline: Deadline) -> Result<Response> {
        let Answer { response, cancelled } = self.link.request(request, streams, deadline)?;
        if let Some(e) = cancelled {
            return Err(match e.kind() {
                ErrorKind::Cancelled if !streams.is_stopped() => e.context("the command itself goes on"),
                _ => e,
            });
        }
        match response {
            Response::NeverRan(reason) => Err(never_ran(&reason)),
            Response::Failed(failure) => Err(failed(&failure)),
            response => Ok(response),
        }
    }

    fn status(&self, info: &DetachedInfo) -> Result<Option<ExitStatus>> {
        match &info.ended {
            None => Ok(None),
            Some(ended) if ended.cause == Cause::TimeLimit => {
                let proof = match is_gone(ended) {
                    true => "it was killed with all its processes".to_owned(),
                    false => format!("it was killed; {NOT_PROVED}"),
                };
                Err(Error::new(ErrorKind::TimedOut, format!("the command reached its timeout; {proof}")))
            }
            Some(ended) => ExitStatus::new(ended).map(Some),
        }
    }
}

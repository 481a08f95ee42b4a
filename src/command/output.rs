//! What a command wrote, and how it ended.

use std::borrow::Cow;
use std::fmt;

use sandbox_protocol as protocol;

use crate::error::{Error, ErrorKind, Result};

/// What a command wrote and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// How the command ended.
    pub status: ExitStatus,
    /// The bytes of its standard output, up to the limit.
    pub stdout: Vec<u8>,
    /// The bytes of its standard error, up to the limit.
    pub stderr: Vec<u8>,
    /// How many bytes of both streams were beyond the limit and are lost.
    pub truncated: u64,
}

/// How a command ended: with an exit code, or by a signal. The sandbox's main process saw it; nothing is made up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitStatus(Ended);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Ended {
    Code(i32),
    /// Without `SIG`.
    Signal(String),
}

/// One of the two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl ExitStatus {
    /// How the guest says that a command ended.
    pub(super) fn new(ended: &protocol::Ended) -> Result<Self> {
        match &ended.status {
            protocol::Status::Code(code) => Ok(Self(Ended::Code(*code))),
            protocol::Status::Signal(name) => Ok(Self(Ended::Signal(name.clone()))),
            protocol::Status::Lost => Err(Error::new(
                ErrorKind::OutcomeUnknown,
                "how the command ended is lost: something in the sandbox killed what kept the command",
            )),
        }
    }

    /// True for exit code 0.
    pub fn success(&self) -> bool {
        self.code() == Some(0)
    }

    /// The exit code, unless a signal ended the command.
    pub fn code(&self) -> Option<i32> {
        match self.0 {
            Ended::Code(code) => Some(code),
            Ended::Signal(_) => None,
        }
    }

    /// The name of the signal that ended the command, without `SIG`, such as `KILL`.
    pub fn signal(&self) -> Option<&str> {
        match &self.0 {
            Ended::Code(_) => None,
            Ended::Signal(name) => Some(name),
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ended::Code(code) => write!(f, "exit code {code}"),
            Ended::Signal(name) => write!(f, "signal {name}"),
        }
    }
}

impl Output {
    /// The standard output as text; bytes that are not UTF-8 become `U+FFFD`.
    pub fn stdout_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }

    /// The standard error as text; bytes that are not UTF-8 become `U+FFFD`.
    pub fn stderr_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stderr)
    }

    /// The output of a command that succeeded, else an error that has it.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let version = sandbox.command("gcc").arg("--version").output()?.check()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::CommandFailed`] with the status and the last line of the standard error.
    pub fn check(self) -> Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        let text = self.stderr_text();
        let message = match text.trim_end().lines().next_back() {
            Some(line) => format!("the command ended with {}: {line}", self.status),
            None => format!("the command ended with {}", self.status),
        };
        Err(Error::new(ErrorKind::CommandFailed, message).with_output(self.stdout, self.stderr))
    }
}

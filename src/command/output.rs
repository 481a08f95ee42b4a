//! What a command wrote, and how it ended.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind, Result};
use crate::exit_status::ExitStatus;

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

/// One of the two output streams. A process has no others, so this never gets more variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
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

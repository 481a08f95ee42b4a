//! How a command ended.

use std::fmt;

/// How a command ended: with an exit code, or by a signal. The server really said so; nothing is made up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitStatus(Exit);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Exit {
    Code(i32),
    /// Without `SIG`.
    Signal(String),
}

impl ExitStatus {
    pub(crate) fn exited(code: i32) -> Self {
        Self(Exit::Code(code))
    }

    /// By this signal, named without `SIG`.
    pub(crate) fn killed_by(signal: impl Into<String>) -> Self {
        Self(Exit::Signal(signal.into()))
    }

    /// True for exit code 0.
    pub fn success(&self) -> bool {
        self.code() == Some(0)
    }

    /// The exit code, unless a signal ended the command.
    pub fn code(&self) -> Option<i32> {
        match self.0 {
            Exit::Code(code) => Some(code),
            Exit::Signal(_) => None,
        }
    }

    /// The name of the signal that ended the command, without `SIG`, such as `KILL`.
    pub fn signal(&self) -> Option<&str> {
        match &self.0 {
            Exit::Code(_) => None,
            Exit::Signal(name) => Some(name),
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(name) => write!(f, "signal {name}"),
        }
    }
}

//! A command as the guest gets it: program, arguments and environment as data.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use sandbox_protocol::{self as protocol, Bytes, NeverRan, Stage};

use super::{Command, Terminal};
use crate::error::{Error, ErrorKind, Result};
use crate::text;

/// The shell of a shell line.
const SHELL: &str = "/bin/sh";

#[derive(Clone, Debug)]
pub(super) enum Program {
    /// A program and its arguments.
    Words(Vec<OsString>),
    /// A line for the sandbox's shell.
    Shell { line: OsString, args: Vec<OsString> },
    /// One of the guest's own tools and its arguments.
    Guest(Vec<OsString>),
}

/// Where an output stream of a command goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum OutputMode {
    #[default]
    Kept,
    Discarded,
    /// The standard error goes where the standard output goes.
    Merged,
}

impl From<OutputMode> for protocol::Output {
    fn from(mode: OutputMode) -> Self {
        match mode {
            OutputMode::Kept => Self::Frames,
            OutputMode::Discarded => Self::Discarded,
            OutputMode::Merged => Self::Merged,
        }
    }
}

impl Command {
    /// The command for the guest, which kills it after `time_limit`.
    pub(super) fn request(&self, time_limit: Option<Duration>) -> Result<protocol::Run> {
        let (shell, name, words) = match &self.program {
            Program::Words(words) | Program::Guest(words) => (None, None, words),
            Program::Shell { line, args } => (Some(argument(line)?), Some(OsStr::new("sh")), args),
        };
        let argv: Result<_> = name.into_iter().chain(words.iter().map(OsString::as_os_str)).map(argument).collect();
        let env = self.env.iter().map(|(name, value)| {
            if name.is_empty() || name.as_bytes().contains(&b'=') {
                return Err(invalid("the name of an environment variable is empty or has a '='"));
            }
            Ok((argument(name)?, argument(value)?))
        });
        let terminal = self.terminal.as_ref().map(|Terminal { kind, size }| protocol::Terminal {
            kind: kind.clone(),
            columns: size.columns,
            rows: size.rows,
        });
        Ok(protocol::Run {
            argv: argv?,
            shell,
            guest_tool: matches!(self.program, Program::Guest(_)),
            env: env.collect::<Result<_>>()?,
            cwd: self.directory.as_deref().map(argument).transpose()?,
            user: self.user.as_ref().map(|name| protocol::User::Name(name.clone())),
            stdin: if self.has_input() { protocol::Input::Frames } else { protocol::Input::Empty },
            stdout: self.stdout.into(),
            stderr: self.stderr.into(),
            terminal,
            time_limit_ms: time_limit.map(milliseconds),
            ..protocol::Run::default()
        })
    }
}

/// At least one, and rounded up: a limit never ends before its time.
pub(super) fn milliseconds(time: Duration) -> u64 {
    let whole = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    whole.saturating_add(u64::from(!time.subsec_nanos().is_multiple_of(1_000_000))).max(1)
}

/// The error of a command that never ran.
pub(super) fn never_ran(reason: &NeverRan) -> Error {
    let advice = match &reason.path {
        Some(path) if reason.stage == Stage::Program && path.as_ref() == SHELL.as_bytes() => {
            "; a shell line takes a shell in the image, a program with arguments does not"
        }
        None if reason.stage == Stage::User && reason.errno == libc::EPERM => {
            "; only a sandbox that runs as root allows another user"
        }
        _ => "",
    };
    let message = format!("the command did not run: {}{advice}", text::shown(&reason.message));
    Error::new(ErrorKind::Command, message).with_errno(reason.errno)
}

fn invalid(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidArgument, what)
}

/// A text that can be handed to a process.
fn argument(text: &OsStr) -> Result<Bytes> {
    let bytes = text.as_bytes();
    if bytes.contains(&0) {
        return Err(invalid("a command, argument or variable has a NUL byte"));
    }
    Ok(bytes.into())
}

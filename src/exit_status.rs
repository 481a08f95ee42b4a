//! How a command ended.

use std::fmt;

use sandbox_protocol as protocol;

use crate::error::{Error, ErrorKind, Result};

/// How a command ended: with an exit code, or by a signal. It is always what the sandbox's main process observed, never
/// a default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExitStatus(Exit);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Exit {
    Code(i32),
    Signal(SignalName),
}

/// The name of a signal without `SIG`, such as `KILL` or `RTMIN+3`, with zeros behind it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct SignalName([u8; 16]);

impl SignalName {
    fn new(name: &str) -> Option<Self> {
        let is_fit = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'+';
        let mut bytes = [0; 16];
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        (!name.is_empty() && name.bytes().all(is_fit)).then_some(Self(bytes))
    }

    fn as_str(&self) -> &str {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        std::str::from_utf8(&self.0[..end]).unwrap_or_default()
    }
}

impl fmt::Debug for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl ExitStatus {
    /// How the guest says that a command ended.
    pub(crate) fn new(ended: &protocol::Ended) -> Result<Self> {
        let unknown = |message: &'static str| Error::new(ErrorKind::OutcomeUnknown, message);
        match &ended.status {
            protocol::Status::Code(code @ 0..=255) => Ok(Self(Exit::Code(*code))),
            protocol::Status::Signal(name) if let Some(name) = SignalName::new(name) => Ok(Self(Exit::Signal(name))),
            protocol::Status::Code(_) | protocol::Status::Signal(_) => {
                Err(unknown("the sandbox reports an exit status that does not exist"))
            }
            protocol::Status::Lost => Err(unknown(
                "how the command ended is not known, and it is not proved that all its processes are gone: the process \
                 that supervised it was killed from inside the sandbox",
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
            Exit::Code(code) => Some(code),
            Exit::Signal(_) => None,
        }
    }

    /// The name of the signal that ended the command, without `SIG`, such as `KILL`.
    pub fn signal(&self) -> Option<&str> {
        match &self.0 {
            Exit::Code(_) => None,
            Exit::Signal(name) => Some(name.as_str()),
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(name) => write!(f, "signal {}", name.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use sandbox_protocol::{Ended, Status};

    use super::*;

    fn status(status: Status) -> Result<ExitStatus> {
        ExitStatus::new(&Ended { status, ..Ended::default() })
    }

    #[test]
    fn what_no_process_ends_with_is_no_status() {
        assert!(status(Status::Code(0)).unwrap().success());
        assert_eq!(status(Status::Code(255)).unwrap().code(), Some(255));
        for name in ["KILL", "RTMIN+30", "65", "ABCDEFGHIJKLMNOP"] {
            let status = status(Status::Signal(name.to_owned())).unwrap();
            let copy = status;
            assert_eq!((copy.signal(), copy.code(), status.success()), (Some(name), None, false));
            assert_eq!((status.to_string(), copy), (format!("signal {name}"), status));
            assert_eq!(format!("{status:?}"), format!("ExitStatus(Signal({name:?}))"));
        }
        for code in [-1, 256, i32::MIN, i32::MAX] {
            assert_eq!(status(Status::Code(code)).unwrap_err().kind(), ErrorKind::OutcomeUnknown);
        }
        for name in ["", "kill", "KI LL", "KI\0LL", "\u{1b}[2J", "ABCDEFGHIJKLMNOPQ"] {
            assert_eq!(status(Status::Signal(name.to_owned())).unwrap_err().kind(), ErrorKind::OutcomeUnknown);
        }
        assert_eq!(status(Status::Lost).unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    }
}

//! How the guest's own process ends, for the kubelet and who asks it.

/// Exit codes of the guest as the main process of its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// It was asked to end from outside of the sandbox.
    Stopped = 0,
    /// It could not start. The termination log has the reason.
    CannotStart = 81,
    /// Its lifetime was over.
    Expired = 82,
    /// Nothing had used it for its idle timeout.
    Idle = 83,
}

impl ExitCode {
    /// What the termination log says, if it is always the same.
    pub const fn message(self) -> Option<&'static str> {
        match self {
            Self::Expired => Some("expired"),
            Self::Idle => Some("idle"),
            Self::Stopped | Self::CannotStart => None,
        }
    }

    /// The number for the system.
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// The exit code with this number.
    pub const fn from_code(code: i32) -> Option<Self> {
        match code {
            0 => Some(Self::Stopped),
            81 => Some(Self::CannotStart),
            82 => Some(Self::Expired),
            83 => Some(Self::Idle),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ExitCode;

    #[test]
    fn numbers_round_trip() {
        for code in [ExitCode::Stopped, ExitCode::CannotStart, ExitCode::Expired, ExitCode::Idle] {
            assert_eq!(ExitCode::from_code(code.code()), Some(code));
        }
        assert_eq!(ExitCode::from_code(1), None);
    }
}

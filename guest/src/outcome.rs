//! How a command ends, from what its keeper reports.

use std::time::Duration;

use sandbox_protocol::{Cause, Ended, Status, signal_name};

use crate::expiry::{milliseconds, now};
use crate::process::{self, Exit, Report};

/// What is known of a command's end.
#[derive(Debug)]
pub(crate) struct Outcome {
    began: Duration,
    exit: Option<(Exit, Duration)>,
    timed_out: bool,
    cancelled: bool,
    killed: Option<(bool, u32)>,
    gone: Option<bool>,
}

impl Outcome {
    /// Of a command that begins now.
    pub(crate) fn new() -> Self {
        Self { began: now(), exit: None, timed_out: false, cancelled: false, killed: None, gone: None }
    }

    /// Of a command of which it is not known whether it ran.
    pub(crate) fn lost() -> Self {
        Self { gone: Some(false), ..Self::new() }
    }

    /// Adds what the keeper reports.
    pub(crate) fn add(&mut self, report: Report) {
        match report {
            Report::TimedOut => self.timed_out = true,
            Report::Exited(exit) => self.exit = Some((exit, now())),
            Report::Killed { proved, left } => self.killed = Some((proved, left)),
            Report::Gone { proved } => self.gone = Some(proved),
        }
    }

    /// The command is being killed by request.
    pub(crate) fn cancel(&mut self) {
        self.cancelled |= self.exit.is_none();
        self.killed = None;
    }

    /// Whether the main process has ended, or what kept it.
    pub(crate) fn has_ended(&self) -> bool {
        self.exit.is_some() || self.gone.is_some()
    }

    /// Whether there is an answer to a kill, or nothing left to kill.
    pub(crate) fn is_kill_answered(&self) -> bool {
        self.killed.is_some() || self.gone.is_some()
    }

    /// Whether nothing of the command is left that could be killed.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.is_some()
    }

    /// Whether all is known that is to be told, except for output.
    pub(crate) fn is_complete(&self) -> bool {
        self.has_ended() && (!(self.timed_out || self.cancelled) || self.is_kill_answered())
    }

    /// The end, for the client.
    pub(crate) fn ended(&self, stdout: u64, stderr: u64, tampered: bool) -> Ended {
        let status = match self.exit {
            Some((Exit::Code(code), _)) => Status::Code(code),
            Some((Exit::Signal { number, .. }, _)) => Status::Signal(signal_name(number).into_owned()),
            None => Status::Lost,
        };
        let (proved, left) = match (self.killed, self.gone) {
            (_, Some(false)) => (false, self.killed.map_or(0, |(_, left)| left)),
            (Some(answer), _) => answer,
            (None, gone) => (gone == Some(true), 0),
        };
        let cause = if self.timed_out {
            Cause::TimeLimit
        } else if self.cancelled {
            Cause::Cancelled
        } else {
            Cause::Itself
        };
        let end = self.exit.map_or_else(now, |(_, at)| at);
        Ended {
            status,
            cause,
            proved,
            left,
            tampered: tampered || self.gone == Some(false),
            stdout,
            stderr,
            run_time_ms: milliseconds(end.saturating_sub(self.began)),
        }
    }
}

/// Why a command never ran, for the client. `excess` says what of it may be too long.
pub(crate) fn never_ran(reason: &process::NeverRan, excess: Option<&str>) -> sandbox_protocol::NeverRan {
    use sandbox_protocol::Stage;
    let stage = match reason.stage {
        process::Stage::Directory => Stage::Directory,
        process::Stage::Program => Stage::Program,
        process::Stage::Interpreter => Stage::Interpreter,
        process::Stage::Arguments => Stage::Arguments,
        process::Stage::User => Stage::User,
        process::Stage::Limits => Stage::Limits,
        process::Stage::Terminal => Stage::Terminal,
        process::Stage::Stdio | process::Stage::Resources => Stage::Resources,
    };
    sandbox_protocol::NeverRan {
        stage,
        errno: reason.errno,
        path: reason.path.clone().map(Into::into),
        message: match excess {
            Some(excess) if (reason.stage, reason.errno) == (process::Stage::Arguments, libc::E2BIG) => {
                format!("{excess}: Argument list too long")
            }
            _ => reason.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_end() {
        let mut outcome = Outcome::new();
        assert!(!outcome.is_complete());
        outcome.add(Report::Exited(Exit::Code(3)));
        assert!(outcome.is_complete());
        let ended = outcome.ended(1, 2, false);
        assert_eq!((ended.status, ended.cause, ended.tampered), (Status::Code(3), Cause::Itself, false));
        assert_eq!((ended.stdout, ended.stderr), (1, 2));
    }

    #[test]
    fn a_kill_waits_for_its_proof() {
        let mut outcome = Outcome::new();
        outcome.cancel();
        outcome.add(Report::Exited(Exit::Signal { number: 9, core_dumped: false }));
        assert!(outcome.has_ended() && !outcome.is_complete());
        outcome.add(Report::Killed { proved: true, left: 0 });
        assert!(outcome.is_complete());
        let ended = outcome.ended(0, 0, false);
        assert_eq!(
            (ended.status, ended.cause, ended.proved),
            (Status::Signal("KILL".to_owned()), Cause::Cancelled, true)
        );
    }

    #[test]
    fn a_killed_keeper_proves_nothing() {
        let mut outcome = Outcome::new();
        outcome.add(Report::TimedOut);
        outcome.add(Report::Gone { proved: false });
        assert!(outcome.is_complete());
        let ended = outcome.ended(0, 0, false);
        assert_eq!(
            (ended.status, ended.cause, ended.proved, ended.tampered),
            (Status::Lost, Cause::TimeLimit, false, true)
        );
    }

    #[test]
    fn killing_what_a_command_left_does_not_change_its_end() {
        let mut outcome = Outcome::new();
        outcome.add(Report::Exited(Exit::Code(0)));
        outcome.cancel();
        assert!(outcome.is_complete() && !outcome.is_kill_answered());
        outcome.add(Report::Killed { proved: true, left: 0 });
        let ended = outcome.ended(0, 0, false);
        assert_eq!((ended.status, ended.cause, ended.proved), (Status::Code(0), Cause::Itself, true));
    }
}

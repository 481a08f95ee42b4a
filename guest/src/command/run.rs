//! A command that runs while its client is there.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use rustix::event::PollFlags;
use sandbox_protocol::{
    Ended, Failure, FailureKind, FrameKind, Input, NeverRan, Output, Response, Run, STDIN_WINDOW, Stage, Started, User,
};

use super::frames::{Outbox, send_stream};
use crate::environment::Account;
use crate::outcome::{Outcome, never_ran};
use crate::process::{self, Running as Process, SpawnError, Spec, Starting, Stdio, Stream, Terminal, Whom};
use crate::server::Shared;
use crate::server::channel::{Context, Link, Slots};
use crate::server::pipe::{InputEnd, OutputEnd};

/// What a request to run leads to.
pub(super) fn spec(shared: &Shared, run: &Run) -> Result<Spec, Box<Response>> {
    let invalid =
        |message: String| Box::new(Response::Failed(Failure { kind: FailureKind::Invalid, message, errno: None }));
    let environment = &shared.environment;
    let additions = run.env.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
    if let Some((name, _)) = run.env.iter().find(|(name, _)| name.0.is_empty() || name.0.contains(&b'=')) {
        return Err(invalid(format!("{name:?} is no name of a variable")));
    }
    if run.stdout == Output::Merged {
        return Err(invalid("only the standard error can be merged, into the standard output".to_owned()));
    }
    let mut env = environment.variables(run.clear_env, additions);
    let user = user(run.user.as_ref()).map_err(|reason| Box::new(Response::NeverRan(reason)))?;
    let user = match user {
        Some((user, Some(account))) => {
            let said = |name: &str| run.env.iter().any(|(of, _)| of.0 == name.as_bytes());
            if !said("HOME") && !run.clear_env {
                environment.adapt(&mut env, &account);
            }
            Some(user)
        }
        Some((user, None)) => Some(user),
        None => None,
    };
    let stream = |output: Output| match output {
        Output::Frames => Stream::Pipe,
        Output::Discarded => Stream::Null,
        Output::Merged => Stream::Stdout,
    };
    let stdio = match &run.terminal {
        Some(terminal) => Stdio::Terminal(Terminal {
            term: terminal.kind.clone().into_bytes(),
            columns: terminal.columns,
            rows: terminal.rows,
            ..Terminal::default()
        }),
        None => Stdio::Streams {
            stdin: if run.stdin == Input::Frames { Stream::Pipe } else { Stream::Null },
            stdout: stream(run.stdout),
            stderr: stream(run.stderr),
        },
    };
    Ok(Spec {
        program: None,
        argv: run.argv.iter().map(|argument| argument.0.clone()).collect(),
        env,
        directory: Some(environment.resolve(run.cwd.as_ref().map(AsRef::as_ref)).as_os_str().as_bytes().to_vec()),
        user,
        umask: run.umask,
        limits: shared.limits.for_command(&run.limits).map_err(|name| invalid(format!("{name:?} is no resource")))?,
        // Those on a terminal are hung up on.
        kill_on_close: run.terminal.is_none(),
        time_limit: run.time_limit_ms.map(std::time::Duration::from_millis),
        stdio,
    })
}

/// Whom to run as, if it is not who the guest is.
fn user(wanted: Option<&User>) -> Result<Option<(process::User, Option<Account>)>, NeverRan> {
    let (user, account) = match wanted {
        None => return Ok(None),
        Some(User::Name(name)) => {
            let Some(account) = Account::by_name(name.as_bytes()) else {
                return Err(NeverRan {
                    stage: Stage::User,
                    errno: libc::ENOENT,
                    path: Some(name.as_str().into()),
                    message: format!("/etc/passwd has no user '{name}'"),
                });
            };
            let groups = account.groups();
            (process::User { uid: account.uid, gid: account.gid, groups }, Some(account))
        }
        Some(User::Ids { uid, gid, groups }) => (process::User { uid: *uid, gid: *gid, groups: groups.clone() }, None),
    };
    let own = rustix::process::geteuid().as_raw();
    // Only root can take on another user; and nobody needs to take on his own.
    Ok((own == 0 || user.uid != own).then_some((user, account)))
}

#[derive(Debug)]
enum State {
    Starting(Starting),
    Running(Process),
    /// The keeper has nothing more to say.
    Over,
}

/// A command and its streams.
#[derive(Debug)]
pub(super) struct Command {
    state: State,
    outcome: Outcome,
    has_terminal: bool,
    input: InputEnd,
    input_ready: bool,
    /// Bytes of input that the client has not been credited yet.
    credit: usize,
    stdout: OutputEnd,
    stderr: OutputEnd,
    sent: [u64; 2],
    is_cancelled: bool,
    is_draining: bool,
}

const INPUT: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const CONTROL: u8 = 3;

impl Command {
    pub(super) fn start(context: &Context, run: &Run) -> Result<Self, Box<Response>> {
        let spec = spec(&context.shared, run)?;
        let mut input = InputEnd::default();
        if run.terminal.is_none() && run.stdin == Input::Empty {
            input.close();
        }
        let mut command = Self {
            state: State::Over,
            outcome: Outcome::new(),
            has_terminal: run.terminal.is_some(),
            input,
            input_ready: false,
            credit: 0,
            stdout: OutputEnd::default(),
            stderr: OutputEnd::default(),
            sent: [0; 2],
            is_cancelled: false,
            is_draining: false,
        };
        match context.shared.begin(spec) {
            Ok(starting) => command.state = State::Starting(starting),
            Err(SpawnError::NeverRan(reason)) => return Err(Box::new(Response::NeverRan(never_ran(&reason)))),
            Err(SpawnError::Lost) => command.outcome = Outcome::lost(),
        }
        Ok(command)
    }

    /// Input from the client. `false`: it sent more than it may.
    pub(super) fn input(&mut self, bytes: &[u8]) -> bool {
        self.credit += self.input.push(bytes);
        self.input.pending() <= STDIN_WINDOW
    }

    pub(super) fn end_input(&mut self) {
        // A terminal has no end of input beside what its user types.
        if !self.has_terminal {
            self.input.end();
        }
    }

    pub(super) fn signal(&self, number: i32) {
        if let State::Running(process) = &self.state {
            process.signal(number, Whom::Group);
        }
    }

    pub(super) fn resize(&self, columns: u16, rows: u16) {
        if let State::Running(process) = &self.state {
            // It may have closed its terminal.
            let _ = process.resize(columns, rows, 0, 0);
        }
    }

    pub(super) fn cancel(&mut self) {
        self.is_cancelled = true;
        if let State::Running(process) = &mut self.state {
            self.outcome.cancel();
            process.kill_all();
        }
    }

    pub(super) fn register<'a>(&'a self, room: usize, slots: &mut Slots<'_, 'a>) {
        if let Some(input) = self.input.waits_for() {
            slots.add(INPUT, input, PollFlags::OUT);
        }
        match &self.state {
            State::Starting(starting) => {
                slots.add(CONTROL, starting.as_fd(), PollFlags::IN);
                slots.until(Some(starting.wake_at()));
            }
            State::Running(process) => {
                slots.add(CONTROL, process.as_fd(), PollFlags::IN);
                slots.until(process.wake_at());
            }
            State::Over => {}
        }
        if room <= sandbox_protocol::HEADER_LENGTH {
            return;
        }
        for (slot, end) in [(STDOUT, &self.stdout), (STDERR, &self.stderr)] {
            if end.is_ready() {
                slots.at_once();
            } else if let Some(descriptor) = end.waits_for() {
                slots.add(slot, descriptor, PollFlags::IN);
            }
        }
    }

    pub(super) fn ready(&mut self, slot: u8) {
        match slot {
            INPUT => self.input_ready = true,
            STDOUT => self.stdout.set_ready(),
            STDERR => self.stderr.set_ready(),
            _ => {}
        }
    }

    /// The result, once there is one.
    pub(super) fn progress(&mut self, link: &mut Link<'_>, outbox: &mut Outbox) -> Option<Response> {
        if let Some(response) = self.look_at_start(link, outbox) {
            return Some(response);
        }
        self.look_at_reports();
        if std::mem::take(&mut self.input_ready) {
            self.credit += self.input.flush();
        }
        if self.credit >= STDIN_WINDOW / 4 && !self.input.is_done() {
            let credit = u32::try_from(std::mem::take(&mut self.credit)).unwrap_or(u32::MAX);
            outbox.add(FrameKind::StdinCredit, &credit.to_be_bytes());
        }
        outbox.flush(link);
        if outbox.is_empty() {
            let ends = [(&mut self.stdout, FrameKind::Stdout), (&mut self.stderr, FrameKind::Stderr)];
            for ((end, kind), sent) in ends.into_iter().zip(&mut self.sent) {
                if end.is_ready() {
                    *sent += send_stream(link, kind, |buffer| end.read(buffer)) as u64;
                }
            }
        }
        let is_over = self.outcome.is_complete() && self.stdout.is_closed() && self.stderr.is_closed();
        is_over.then(|| Response::Ended(self.ended(link.context)))
    }

    fn ended(&self, context: &Context) -> Ended {
        let [stdout, stderr] = self.sent;
        self.outcome.ended(stdout, stderr, context.shared.is_tampered_with())
    }

    fn look_at_start(&mut self, link: &mut Link<'_>, outbox: &mut Outbox) -> Option<Response> {
        let State::Starting(starting) = &mut self.state else { return None };
        match starting.poll()? {
            Ok(mut process) => {
                link.context.shared.started(&process, link.context);
                outbox.add_json(FrameKind::Started, &Started { id: process.id, pid: process.pid });
                let input = if self.has_terminal {
                    self.stdout =
                        OutputEnd::terminal(process.terminal.as_ref().and_then(|master| master.try_clone().ok()));
                    InputEnd::other(self.stdout.duplicate())
                } else {
                    self.stdout = OutputEnd::pipe(process.stdout.take());
                    self.stderr = OutputEnd::pipe(process.stderr.take());
                    InputEnd::pipe(process.stdin.take())
                };
                let early = std::mem::replace(&mut self.input, input);
                self.credit += self.input.inherit(early);
                if self.is_cancelled {
                    self.outcome.cancel();
                    process.kill_all();
                }
                self.state = State::Running(process);
                None
            }
            Err(SpawnError::NeverRan(reason)) => Some(Response::NeverRan(never_ran(&reason))),
            Err(SpawnError::Lost) => {
                self.outcome = Outcome::lost();
                self.state = State::Over;
                None
            }
        }
    }

    fn look_at_reports(&mut self) {
        if let State::Running(process) = &mut self.state {
            while !self.outcome.is_gone()
                && let Some(report) = process.report()
            {
                self.outcome.add(report);
            }
        }
        if self.outcome.is_gone() {
            self.state = State::Over;
        }
        // What a command that is being killed wrote before its end is its output, too, so this waits for the end of all.
        if self.outcome.is_complete() && !self.is_draining {
            self.is_draining = true;
            self.input.close();
            self.stdout.drain();
            self.stderr.drain();
        }
    }
}

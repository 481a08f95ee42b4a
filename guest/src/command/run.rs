//! A command that runs while its client is there.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use sandbox_protocol::{
    Ended, Failure, FailureKind, FrameKind, Input, NeverRan, Output, Response, Run, STDIN_WINDOW, Stage, Started, User,
};

use super::frames::{Outbox, send_stream};
use crate::identity::Identity;
use crate::outcome::{Outcome, never_ran};
use crate::process::{self, Pending, Running as Process, SpawnError, Spec, Starting, Stdio, Stream, Terminal, Whom};
use crate::server::Shared;
use crate::server::channel::{Context, Link, Slots};
use crate::server::pipe::{InputEnd, OutputEnd};

/// The shell of a shell line.
const SHELL: &[u8] = b"/bin/sh";
/// Linux executes nothing with a longer argument, the zero byte at its end included.
const LONGEST_ARGUMENT: usize = 32 * 4096;

/// The arguments of a command, and the file that it gets as its descriptor 3.
type Arguments = (Vec<Vec<u8>>, Option<OwnedFd>);

fn arguments(run: &Run) -> Result<Arguments, Box<Response>> {
    let words = run.argv.iter().map(|argument| argument.0.clone());
    let Some(line) = &run.shell else {
        let name = run.guest_tool.then(|| b"sandbox-guest".to_vec());
        return Ok((name.into_iter().chain(words).collect(), None));
    };
    let shell = |line: &[u8]| vec![SHELL.to_vec(), b"-c".to_vec(), line.to_vec()];
    if line.0.len() < LONGEST_ARGUMENT || line.0.contains(&0) {
        return Ok((shell(&line.0).into_iter().chain(words).collect(), None));
    }
    let no_memory = |errno: Errno| {
        let message = format!("the shell line can't be kept: {errno}");
        Box::new(Response::Failed(Failure { kind: FailureKind::Other, message, errno: Some(errno.raw_os_error()) }))
    };
    let file = memfd_create(c"shell line", MemfdFlags::CLOEXEC).map_err(no_memory)?;
    let mut file = File::from(file);
    // The shell reads from a descriptor of its own then. On the line's first line, so that the numbers of lines are
    // right.
    let written = file.write_all(b"exec 3<&-; ").and_then(|()| file.write_all(&line.0));
    written.map_err(|e| no_memory(Errno::from_io_error(&e).unwrap_or(Errno::NOMEM)))?;
    Ok((shell(b". /proc/self/fd/3").into_iter().chain(words).collect(), Some(file.into())))
}

/// What of a command is too long for Linux, if something may be.
pub(super) fn excess(spec: &Spec) -> Option<String> {
    let lengths = |list: &[Vec<u8>]| list.iter().map(Vec::len).sum::<usize>();
    let argv = lengths(&spec.argv);
    let env: usize = spec.env.iter().map(|(name, value)| name.len() + value.len() + 1).sum();
    if argv + env < LONGEST_ARGUMENT / 2 {
        return None;
    }
    let argument = spec.argv.iter().enumerate().find(|(_, argument)| argument.len() >= LONGEST_ARGUMENT);
    if let Some((number, argument)) = argument {
        return Some(format!("argument {number} has {} bytes, Linux takes {}", argument.len(), LONGEST_ARGUMENT - 1));
    }
    let length = |(name, value): &(Vec<u8>, Vec<u8>)| name.len() + value.len() + 1;
    if let Some(variable) = spec.env.iter().find(|variable| length(variable) >= LONGEST_ARGUMENT) {
        let name = String::from_utf8_lossy(&variable.0);
        return Some(format!(
            "the variable {name} has {} bytes, Linux takes {}",
            length(variable),
            LONGEST_ARGUMENT - 1
        ));
    }
    Some(format!("the arguments have {argv} bytes and the environment {env}, more than Linux takes"))
}

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
    let identity = identity(run.user.as_ref()).map_err(|reason| Box::new(Response::NeverRan(reason)))?;
    if let Some(account) = identity.as_ref().and_then(|identity| identity.account.as_ref()) {
        let said = |name: &str| run.env.iter().any(|(of, _)| of.0 == name.as_bytes());
        if !said("HOME") && !run.clear_env {
            environment.adapt(&mut env, account);
        }
    }
    let user = identity.or_else(|| shared.commands_as.clone()).map(|identity| identity.user);
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
    let (argv, script) = arguments(run)?;
    Ok(Spec {
        // In the child that executes it, this is the guest's own file, whose path it needs not know.
        program: run.guest_tool.then(|| b"/proc/self/exe".to_vec()),
        argv,
        env,
        directory: Some(environment.resolve(run.cwd.as_ref().map(AsRef::as_ref)).as_os_str().as_bytes().to_vec()),
        user,
        umask: run.umask,
        limits: shared.limits.for_command(&run.limits).map_err(|name| invalid(format!("{name:?} is no resource")))?,
        // Those on a terminal are hung up on.
        kill_on_close: run.terminal.is_none(),
        // Its input, or what a person types, does not wait for it.
        announce_late: run.announce_late && run.terminal.is_none() && run.stdin == Input::Empty,
        time_limit: run.time_limit_ms.map(std::time::Duration::from_millis),
        stdio,
        script,
    })
}

/// Whom the client wants it to run as, if that is not who the guest is.
fn identity(wanted: Option<&User>) -> Result<Option<Identity>, NeverRan> {
    let identity = match wanted {
        None => return Ok(None),
        Some(User::Name(name)) => Identity::by_name(name).ok_or_else(|| NeverRan {
            stage: Stage::User,
            errno: libc::ENOENT,
            path: Some(name.as_str().into()),
            message: format!("/etc/passwd has no user '{name}'"),
        })?,
        Some(User::Ids { uid, gid, groups }) => {
            Identity { user: process::User { uid: *uid, gid: *gid, groups: groups.clone() }, account: None }
        }
    };
    let own = rustix::process::geteuid().as_raw();
    // Only root can take on another user; and nobody needs to take on his own.
    Ok((own == 0 || identity.user.uid != own).then_some(identity))
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
    /// What of it may be too long for Linux.
    excess: Option<String>,
    input: InputEnd,
    /// Whether the input so far ends with a whole line, or there is none.
    input_ends_line: bool,
    input_ready: bool,
    /// Whether the keeper may have said something. Not asking in vain saves most system calls of a short command.
    control_ready: bool,
    /// Bytes of input that the client has not been credited yet.
    credit: usize,
    stdout: OutputEnd,
    stderr: OutputEnd,
    sent: [u64; 2],
    pending: Pending,
    is_cancelled: bool,
    is_draining: bool,
    /// Its number, once it runs.
    id: u64,
    /// Whether the client was told of the end before its output is sent.
    is_announced: bool,
}

/// Output from which on a client may have stopped reading before its end.
const MUCH_OUTPUT: u64 = 256 << 10;

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
            excess: excess(&spec),
            input,
            input_ends_line: true,
            input_ready: false,
            control_ready: false,
            credit: 0,
            stdout: OutputEnd::default(),
            stderr: OutputEnd::default(),
            sent: [0; 2],
            pending: Pending::default(),
            is_cancelled: false,
            is_draining: false,
            id: 0,
            is_announced: false,
        };
        match context.shared.begin(spec) {
            Ok(starting) => command.state = State::Starting(starting),
            Err(SpawnError::NeverRan(reason)) => {
                return Err(Box::new(Response::NeverRan(never_ran(&reason, command.excess.as_deref()))));
            }
            Err(SpawnError::Lost) => command.outcome = Outcome::lost(),
        }
        Ok(command)
    }

    /// Input from the client. `false`: it sent more than it may.
    pub(super) fn input(&mut self, bytes: &[u8]) -> bool {
        self.credit += self.input.push(bytes);
        if let Some(last) = bytes.last() {
            self.input_ends_line = matches!(last, b'\n' | b'\r');
        }
        self.input.pending() <= STDIN_WINDOW
    }

    pub(super) fn end_input(&mut self) {
        if !self.has_terminal {
            self.input.end();
            return;
        }
        // A terminal has no end of input beside what its user types: once at the beginning of a line, else twice.
        let character = self.input.end_of_file_character();
        let typed = if self.input_ends_line { &[character][..] } else { &[character, character] };
        self.input.push(typed);
    }

    pub(super) fn signal(&mut self, number: i32) {
        match &self.state {
            State::Starting(_) => self.pending.signal(number),
            State::Running(process) => {
                process.signal(number, Whom::Group);
            }
            State::Over => {}
        }
    }

    pub(super) fn resize(&mut self, columns: u16, rows: u16) {
        match &self.state {
            State::Starting(_) => self.pending.resize(columns, rows, 0, 0),
            // It may have closed its terminal.
            State::Running(process) => drop(process.resize(columns, rows, 0, 0)),
            State::Over => {}
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
            _ => self.control_ready = true,
        }
    }

    /// The result, once there is one.
    pub(super) fn progress(&mut self, link: &mut Link<'_>, outbox: &mut Outbox) -> Option<Response> {
        if self.is_keeper_due() {
            if let Some(response) = self.look_at_start(link, outbox) {
                return Some(response);
            }
            self.look_at_reports();
        }
        self.drain_if_over();
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
        self.announce_end(link);
        let is_over = self.outcome.is_complete() && self.stdout.is_closed() && self.stderr.is_closed();
        is_over.then(|| Response::Ended(self.ended(link.context)))
    }

    /// Tells a client that may not read any more, since nobody takes the output from it: the result would wait behind
    /// that.
    fn announce_end(&mut self, link: &mut Link<'_>) {
        if self.is_draining && !self.is_announced && self.sent.iter().any(|sent| *sent > MUCH_OUTPUT) {
            self.is_announced = true;
            link.connection.exit_status(link.id, self.id as u32);
        }
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
                self.id = process.id;
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
                self.pending.hand_over(&process);
                if self.is_cancelled {
                    self.outcome.cancel();
                    process.kill_all();
                }
                self.state = State::Running(process);
                None
            }
            Err(SpawnError::NeverRan(reason)) => Some(Response::NeverRan(never_ran(&reason, self.excess.as_deref()))),
            Err(SpawnError::Lost) => {
                self.outcome = Outcome::lost();
                self.state = State::Over;
                None
            }
        }
    }

    /// Whether there may be something to read from the keeper, or it is late.
    fn is_keeper_due(&mut self) -> bool {
        let wake_at = match &self.state {
            State::Starting(starting) => Some(starting.wake_at()),
            State::Running(process) => process.wake_at(),
            State::Over => None,
        };
        std::mem::take(&mut self.control_ready) || wake_at.is_some_and(|at| at <= Instant::now())
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
    }

    fn drain_if_over(&mut self) {
        // What a command that is being killed wrote before its end is its output, too, so this waits for the end of
        // all.
        if self.outcome.is_complete() && !self.is_draining {
            self.is_draining = true;
            self.input.close();
            self.stdout.drain();
            self.stderr.drain();
        }
    }
}

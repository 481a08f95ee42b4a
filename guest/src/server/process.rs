//! What people run by SSH: a line for their shell, or the shell itself, with or without a terminal. As sshd does it,
//! except that no start-up file of a login changes the image's environment.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::io::Errno;
use sandbox_protocol::{signal_name, signal_number};

use super::channel::{Channel, Context, Link, Slots};
use super::pipe::{InputEnd, OutputEnd};
use super::session::clamp;
use crate::process::{
    Exit, NeverRan, Pending, Report, Running, SpawnError, Spec, Stage, Starting, Stdio, Stream, Terminal, Whom,
};
use crate::ssh::{DataStream, Request as ChannelRequest};

/// What is to be run.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// For the shell; the shell alone if there is none.
    pub(crate) line: Option<Vec<u8>>,
    pub(crate) env: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) terminal: Option<Terminal>,
}

#[derive(Debug)]
enum State {
    Starting(Starting),
    Running(Running),
    /// The main process has ended. What runs on in the background is nobody's here.
    Ended,
}

/// A session channel in which something runs.
#[derive(Debug)]
pub(crate) struct Process {
    state: State,
    pending: Pending,
    has_terminal: bool,
    input: InputEnd,
    stdout: OutputEnd,
    stderr: OutputEnd,
    /// What the guest itself says on the standard error.
    message: Vec<u8>,
    end: Option<End>,
    is_closed: bool,
    control_ready: bool,
    input_ready: bool,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Exit(Exit),
    Code(u32),
    Lost,
}

/// As shells say it.
const NOT_FOUND: u32 = 127;
const NOT_EXECUTABLE: u32 = 126;

const INPUT: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const CONTROL: u8 = 3;

impl Process {
    pub(crate) fn start(context: &Context, request: Request) -> Self {
        let has_terminal = request.terminal.is_some();
        let environment = &context.shared.environment;
        let Some(shell) = environment.shell() else {
            let message = match &request.line {
                Some(_) => "this image has no shell to run the line with; the library runs programs without one",
                None => "this image has no shell",
            };
            return Self::failed(has_terminal, message, NOT_FOUND);
        };
        match context.shared.begin(spec(context, shell, request)) {
            Ok(starting) => Self::new(State::Starting(starting), has_terminal),
            Err(SpawnError::NeverRan(reason)) => Self::never_ran(has_terminal, &reason),
            Err(SpawnError::Lost) => Self::lost(has_terminal),
        }
    }

    fn new(state: State, has_terminal: bool) -> Self {
        Self {
            state,
            pending: Pending::default(),
            has_terminal,
            input: InputEnd::default(),
            stdout: OutputEnd::default(),
            stderr: OutputEnd::default(),
            message: Vec::new(),
            end: None,
            is_closed: false,
            control_ready: false,
            input_ready: false,
        }
    }

    fn failed(has_terminal: bool, message: &str, code: u32) -> Self {
        let mut process = Self::new(State::Ended, has_terminal);
        process.fail(message, End::Code(code));
        process
    }

    fn never_ran(has_terminal: bool, reason: &NeverRan) -> Self {
        let is_missing = Errno::from_raw_os_error(reason.errno) == Errno::NOENT;
        let code = if is_missing && reason.stage != Stage::Directory { NOT_FOUND } else { NOT_EXECUTABLE };
        Self::failed(has_terminal, &reason.to_string(), code)
    }

    fn lost(has_terminal: bool) -> Self {
        let mut process = Self::new(State::Ended, has_terminal);
        process.fail(&SpawnError::Lost.to_string(), End::Lost);
        process
    }

    fn fail(&mut self, message: &str, end: End) {
        let line_end = if self.has_terminal { "\r\n" } else { "\n" };
        self.message = format!("sandbox: {message}{line_end}").into_bytes();
        self.input.close();
        self.end = Some(end);
    }

    fn look_at_start(&mut self, link: &mut Link<'_>) {
        let State::Starting(starting) = &mut self.state else { return };
        let Some(result) = starting.poll() else { return };
        match result {
            Ok(mut running) => {
                link.context.shared.started(&running, link.context);
                let input = if self.has_terminal {
                    self.stdout =
                        OutputEnd::terminal(running.terminal.as_ref().and_then(|master| master.try_clone().ok()));
                    let master = self.stdout.duplicate();
                    InputEnd::other(master)
                } else {
                    self.stdout = OutputEnd::pipe(running.stdout.take());
                    self.stderr = OutputEnd::pipe(running.stderr.take());
                    InputEnd::pipe(running.stdin.take())
                };
                let early = std::mem::replace(&mut self.input, input);
                link.connection.consumed(link.id, self.input.inherit(early));
                self.pending.hand_over(&running);
                self.state = State::Running(running);
            }
            Err(error) => {
                let failed = match error {
                    SpawnError::NeverRan(reason) => Self::never_ran(self.has_terminal, &reason),
                    SpawnError::Lost => Self::lost(self.has_terminal),
                };
                link.connection.consumed(link.id, self.input.pending());
                *self = failed;
            }
        }
    }

    /// Whether there may be something to read from the keeper, or it is late.
    fn is_keeper_due(&mut self) -> bool {
        let wake_at = match &self.state {
            State::Starting(starting) => Some(starting.wake_at()),
            State::Running(running) => running.wake_at(),
            State::Ended => None,
        };
        std::mem::take(&mut self.control_ready) || wake_at.is_some_and(|at| at <= Instant::now())
    }

    fn look_at_reports(&mut self) {
        let State::Running(running) = &mut self.state else { return };
        while let Some(report) = running.report() {
            match report {
                Report::Exited(exit) => {
                    self.end = Some(End::Exit(exit));
                    // Without a terminal, as with sshd, the channel stays open while anything has the pipes: what a
                    // background process of the line writes is its output.
                    if self.has_terminal {
                        self.stdout.drain();
                    }
                    self.state = State::Ended;
                    return;
                }
                Report::Gone { .. } => {
                    self.fail(&SpawnError::Lost.to_string(), End::Lost);
                    self.stdout.drain();
                    self.stderr.drain();
                    self.state = State::Ended;
                    return;
                }
                Report::TimedOut | Report::Killed { .. } => {}
            }
        }
    }

    fn send(&mut self, link: &mut Link<'_>) {
        for (end, stream) in [(&mut self.stdout, DataStream::Data), (&mut self.stderr, DataStream::Stderr)] {
            // One packet each, so that both streams and the other channels have their turn.
            if end.is_ready() {
                let sent = link.connection.send_with(link.id, stream, |buffer| Ok::<_, Infallible>(end.read(buffer)));
                let Ok(_) = sent;
            }
        }
        // After what the command said itself.
        if self.stderr.is_closed() && self.stdout.is_closed() && !self.message.is_empty() {
            // Those who have a terminal see only one stream.
            let stream = if self.has_terminal { DataStream::Data } else { DataStream::Stderr };
            let sent = link.connection.send(link.id, stream, &self.message);
            self.message.drain(..sent);
        }
    }

    fn finish(&mut self, link: &mut Link<'_>) {
        let Some(end) = self.end else { return };
        if !self.stdout.is_closed() || !self.stderr.is_closed() || !self.message.is_empty() {
            return;
        }
        match end {
            End::Exit(Exit::Code(code)) => link.connection.exit_status(link.id, code.unsigned_abs()),
            End::Exit(Exit::Signal { number, core_dumped }) => {
                link.connection.exit_signal(link.id, &signal_name(number), core_dumped, "");
            }
            End::Code(code) => link.connection.exit_status(link.id, code),
            End::Lost => {}
        }
        link.connection.eof(link.id);
        link.connection.close(link.id);
        self.input.close();
        self.is_closed = true;
    }
}

fn spec(context: &Context, shell: &Path, request: Request) -> Spec {
    let environment = &context.shared.environment;
    let connection = (&b"SSH_CONNECTION"[..], context.addresses.as_bytes());
    let sent = request.env.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
    let env = environment.login_variables(std::iter::once(connection).chain(sent));
    let name = shell.file_name().map_or(&b"sh"[..], OsStr::as_bytes);
    let mut argv = vec![name.to_vec()];
    if let Some(line) = request.line {
        argv.extend([b"-c".to_vec(), line]);
    }
    let kill_on_close = request.terminal.is_none();
    let stdio = match request.terminal {
        Some(terminal) => Stdio::Terminal(terminal),
        None => Stdio::Streams { stdin: Stream::Pipe, stdout: Stream::Pipe, stderr: Stream::Pipe },
    };
    Spec {
        program: Some(shell.as_os_str().as_bytes().to_vec()),
        argv,
        env,
        directory: Some(environment.directory().as_os_str().as_bytes().to_vec()),
        user: context.shared.commands_as.as_ref().map(|identity| identity.user.clone()),
        limits: context.shared.limits.for_commands(),
        stdio,
        kill_on_close,
        announce_late: kill_on_close,
        ..Spec::default()
    }
}

impl Channel for Process {
    fn data(&mut self, _context: &Context, bytes: &[u8]) -> usize {
        self.input.push(bytes)
    }

    fn eof(&mut self) {
        // A terminal has no end of input beside what its user types.
        if !self.has_terminal {
            self.input.end();
        }
    }

    fn register<'a>(&'a self, room: usize, slots: &mut Slots<'_, 'a>) {
        if let Some(input) = self.input.waits_for() {
            slots.add(INPUT, input, PollFlags::OUT);
        }
        match &self.state {
            State::Starting(starting) => {
                slots.add(CONTROL, std::os::fd::AsFd::as_fd(starting), PollFlags::IN);
                slots.until(Some(starting.wake_at()));
            }
            State::Running(running) => {
                slots.add(CONTROL, std::os::fd::AsFd::as_fd(running), PollFlags::IN);
                slots.until(running.wake_at());
            }
            State::Ended => {}
        }
        if room == 0 {
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

    fn ready(&mut self, slot: u8, _events: PollFlags) {
        match slot {
            INPUT => self.input_ready = true,
            STDOUT => self.stdout.set_ready(),
            STDERR => self.stderr.set_ready(),
            _ => self.control_ready = true,
        }
    }

    fn progress(&mut self, link: &mut Link<'_>) {
        if self.is_closed {
            return;
        }
        if self.is_keeper_due() {
            self.look_at_start(link);
            self.look_at_reports();
        }
        if std::mem::take(&mut self.input_ready) {
            link.connection.consumed(link.id, self.input.flush());
        }
        self.send(link);
        self.finish(link);
    }

    fn request(&mut self, request: &ChannelRequest<'_>) -> bool {
        match *request {
            ChannelRequest::WindowChange { columns, rows, width, height } => {
                let [columns, rows, width, height] = [columns, rows, width, height].map(clamp);
                match &self.state {
                    State::Starting(_) => self.pending.resize(columns, rows, width, height),
                    State::Running(running) => return running.resize(columns, rows, width, height).is_ok(),
                    State::Ended => return false,
                }
                true
            }
            ChannelRequest::Signal { name } => {
                let Some(number) = str::from_utf8(name).ok().and_then(signal_number) else { return false };
                match &self.state {
                    State::Starting(_) => self.pending.signal(number),
                    State::Running(running) => running.signal(number, Whom::Group),
                    State::Ended => return false,
                }
                true
            }
            _ => false,
        }
    }
}

//! One command on one session: request it, move its three streams, and learn how it ended.

use std::cell::Cell;
use std::time::{Duration, Instant};

pub(crate) use super::raw::StreamId;
use super::raw::{Answer, Channel, Failure};
use super::session::{DriveError, Session, TURN, is_lost, lost_or};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::exit_status::ExitStatus;
use crate::fd::Awaited;

/// What the server may send before we have read it. On a long link, throughput is this per round trip; on a short one more than
/// this gains nothing, and takes its way through memory instead of the processor's cache.
const WINDOW: u32 = 2 << 20;
const LONG_LINK_WINDOW: u32 = 8 << 20;
/// A round trip that takes longer than this makes a link long.
const SHORT_LINK: Duration = Duration::from_millis(10);
/// One read: libssh2 hands over what has arrived, up to this many bytes.
const READ_BUFFER: usize = 64 << 10;
/// Upper bound for output that may follow the exit status: one window buffered here, one per pipe in sshd, and the pipes themselves.
/// More than that comes from another process that has inherited the output.
const MOST_WINDOWS_AFTER_EXIT: usize = 4;
/// How long the server may be silent then, although it was asked something.
const SILENCE_AFTER_EXIT: Duration = Duration::from_secs(5);
/// sshd signals the command's process group. Before the command has called `setsid()` a signal is lost, so KILL is repeated until the
/// command has ended; for other signals the group is awaited.
const KILL_INTERVAL: Duration = Duration::from_millis(50);
/// How long a killed command, and the close of a channel, may take to be confirmed. It takes milliseconds where the machine has time.
const CONFIRMATION: Duration = Duration::from_secs(5);

/// What there is to send to the command's input.
#[derive(Debug)]
pub(crate) enum Input<'a> {
    Bytes(&'a [u8]),
    /// Nothing now; a descriptor of [`Streams::descriptors`] will tell.
    Later,
    End,
}

/// What the caller wants of a running command beside its streams.
#[derive(Debug)]
pub(crate) enum ControlRequest {
    /// Send the process group this signal, named without `SIG`.
    Signal(String),
    /// The terminal has another size now.
    Resize(Size),
}

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) columns: u16,
    pub(crate) rows: u16,
}

/// The caller's side of a command's streams. An error from any method stops the command. Nothing here may block.
pub(crate) trait Streams {
    /// The command has been requested.
    fn started(&mut self) {}

    fn input(&mut self) -> Result<Input<'_>>;

    /// So many bytes of the last input are sent.
    fn sent(&mut self, length: usize);

    /// Whether [`Streams::output`] may be called for this stream.
    fn has_room(&mut self, _stream: StreamId) -> Result<bool> {
        Ok(true)
    }

    fn output(&mut self, stream: StreamId, bytes: &[u8]) -> Result<()>;

    /// The command has ended; output that it wrote before may follow.
    fn ended(&mut self, _status: &ExitStatus) {}

    /// True once `output` has failed: the command is not wanted any more, and what it still writes is thrown away.
    fn is_stopped(&self) -> bool {
        false
    }

    fn control_request(&mut self) -> Option<ControlRequest> {
        None
    }

    /// What to wait for beside the server: descriptors that become readable or writable. The argument is whether more input would
    /// be asked for.
    fn descriptors(&self, _takes_input: bool) -> Vec<Awaited<'_>> {
        Vec::new()
    }
}

/// A command that was requested and may be running.
///
/// Until [`Running::start`] writes its request, failures are safe to retry; from then on never.
#[derive(Debug)]
pub(crate) struct Running<'s> {
    session: &'s Session,
    channel: Channel,
    window: u32,
    /// Known to have its process group.
    has_group: Cell<bool>,
}

impl<'s> Running<'s> {
    /// Opens a channel (one round trip). Nothing has been asked of the sandbox when this fails.
    pub(crate) fn open(session: &'s Session, deadline: Deadline) -> Result<Self> {
        let is_short = session.round_trip().is_some_and(|time| time <= SHORT_LINK);
        let window = if is_short { WINDOW } else { LONG_LINK_WINDOW };
        let began = Instant::now();
        let channel = session
            .drive(deadline, "an SSH channel", |ssh| Channel::open(ssh, window))
            .map_err(|stop| stop.into_error(|failure| lost_or("the SSH server opens no more channels", failure)))
            .map_err(|e| match e.kind() {
                ErrorKind::TimedOut | ErrorKind::Cancelled => e.context("nothing was asked of the sandbox"),
                _ => e,
            })?;
        session.took_round_trip(began.elapsed());
        Ok(Self { session, channel, window, has_group: Cell::new(false) })
    }

    /// Requests the command (one round trip). A failure that is not `Command` leaves open whether it runs.
    pub(crate) fn start(&self, line: &[u8], deadline: Deadline) -> Result<()> {
        self.session.drive(deadline, "the start of the command", |_| self.channel.exec(line)).map_err(|stop| match stop
        {
            // Anything else that fails, a broken packet for one, is no answer.
            DriveError::Failed(failure) if failure.code == libssh2_sys::LIBSSH2_ERROR_CHANNEL_REQUEST_DENIED => {
                Error::new(
                    ErrorKind::Command,
                    format!("the SSH server refused to run the command: {}", failure.message),
                )
                .with_ssh_code(failure.code)
            }
            other => unknown(other, "requested"),
        })
    }

    /// Asks for a terminal (one round trip), before [`Running::start`].
    pub(crate) fn request_terminal(&self, kind: &str, size: Size, deadline: Deadline) -> Result<()> {
        self.session
            .drive(deadline, "a terminal", |_| self.channel.request_pty(kind, size.columns, size.rows))
            .map_err(|stop| stop.into_error(|failure| lost_or("the SSH server gives no terminal", failure)))
    }

    /// Moves the streams until the command has ended: 0 more round trips for a command that needs no input.
    pub(crate) fn run(&self, streams: &mut impl Streams, deadline: Deadline) -> Result<ExitStatus> {
        let mut buffer = vec![0; READ_BUFFER];
        let (mut eof_sent, mut drain) = (false, None::<DrainAfterExit>);
        let mut kill_again = None;
        loop {
            self.handle_requests(streams, &mut kill_again, deadline)?;
            if kill_again.is_some_and(|at| Instant::now() >= at) {
                kill_again = Some(Instant::now() + KILL_INTERVAL);
                self.handle(&ControlRequest::Signal("KILL".into()), deadline)?;
            }
            let arrivals = self.session.arrivals();
            let (mut moved, mut all_read, mut at_ends, turn) = (false, true, 0, Instant::now());
            for stream in [StreamId::Stdout, StreamId::Stderr] {
                loop {
                    if !streams.has_room(stream)? {
                        all_read = false;
                        break;
                    }
                    let read = match self.attempt(deadline, || self.channel.read(stream, &mut buffer)) {
                        // The connection is lost, but nothing more was to come over it.
                        Err(_) if self.channel.at_eof() && self.status().is_some() => break,
                        read => read.map_err(lost)?,
                    };
                    let Some(length @ 1..) = read else {
                        at_ends += usize::from(read.is_some());
                        break;
                    };
                    self.has_group.set(true);
                    streams.output(stream, &buffer[..length])?;
                    moved = true;
                    if let Some(drain) = &mut drain {
                        drain.received(length);
                    }
                    deadline.check("the command")?;
                    if turn.elapsed() >= TURN {
                        break;
                    }
                }
            }
            if let Some(status) = self.status() {
                let drain = drain.get_or_insert_with(|| {
                    streams.ended(&status);
                    DrainAfterExit::up_to(MOST_WINDOWS_AFTER_EXIT * self.window as usize)
                });
                kill_again = None;
                let is_closed = at_ends == 2 && !moved;
                if self.channel.at_eof() || is_closed || (all_read && drain.is_done(moved)) {
                    return Ok(status);
                }
                if all_read && !drain.is_answered {
                    drain.is_answered = match self.attempt(deadline, || self.channel.ping()) {
                        // The channel was closed meanwhile.
                        Err(_) if self.channel.at_eof() => true,
                        answer => answer.map_err(lost)?.is_some(),
                    };
                    if drain.is_answered {
                        continue;
                    }
                    drain.check_silence(&status)?;
                }
            } else if !moved && self.is_closed(deadline)? {
                // The status may have come right before the close.
                return self.status().ok_or_else(|| {
                    let message = "the SSH server closed the command's channel without saying how the command ended";
                    Error::new(ErrorKind::OutcomeUnknown, message)
                });
            }
            if drain.is_none() && !eof_sent {
                match self.feed(streams, &mut kill_again, deadline)? {
                    FeedOutcome::Some => continue,
                    FeedOutcome::Nothing => {}
                    FeedOutcome::All => {
                        eof_sent = true;
                        continue;
                    }
                }
            }
            if !moved {
                deadline.check("the command")?;
                if self.session.arrivals() != arrivals {
                    continue;
                }
                let nap = match drain {
                    Some(_) => deadline.within(SILENCE_AFTER_EXIT),
                    None if kill_again.is_some() => deadline.within(KILL_INTERVAL),
                    None => deadline,
                };
                let takes_input = drain.is_none() && !eof_sent;
                self.session.wait_for_traffic(&streams.descriptors(takes_input), nap);
            }
        }
    }

    /// Sends what there is of the input.
    fn feed(
        &self,
        streams: &mut impl Streams,
        kill_again: &mut Option<Instant>,
        deadline: Deadline,
    ) -> Result<FeedOutcome> {
        if matches!(streams.input()?, Input::Later) {
            return Ok(FeedOutcome::Nothing);
        }
        // What was ordered before this input was written comes before it.
        self.handle_requests(streams, kill_again, deadline)?;
        let sent = match streams.input()? {
            Input::Later => return Ok(FeedOutcome::Nothing),
            Input::Bytes(bytes) => match self.attempt(deadline, || self.channel.write(bytes)) {
                Ok(Some(length)) => length,
                Ok(None) => return Ok(FeedOutcome::Nothing),
                // A command that closes its input early, such as `head`, is no failure.
                Err(DriveError::Failed(failure)) if !is_lost(&failure) => return Ok(FeedOutcome::All),
                Err(stop) => return Err(lost(stop)),
            },
            // Some servers have closed the channel by now; then there is nobody to tell.
            Input::End => match self.attempt(deadline, || self.channel.send_eof()) {
                Err(stop @ DriveError::Ended(_)) => return Err(lost(stop)),
                // The server exchanges keys again, and nothing else may be sent meanwhile.
                Ok(None) => return Ok(FeedOutcome::Nothing),
                _ => return Ok(FeedOutcome::All),
            },
        };
        streams.sent(sent);
        Ok(FeedOutcome::Some)
    }

    /// Does what was ordered meanwhile. `kill_again` is when to repeat an request to kill.
    fn handle_requests(
        &self,
        streams: &mut impl Streams,
        kill_again: &mut Option<Instant>,
        deadline: Deadline,
    ) -> Result<()> {
        while let Some(request) = streams.control_request() {
            if matches!(&request, ControlRequest::Signal(name) if name == "KILL") {
                *kill_again = Some(Instant::now() + KILL_INTERVAL);
            }
            self.handle(&request, deadline)?;
        }
        Ok(())
    }

    fn handle(&self, request: &ControlRequest, deadline: Deadline) -> Result<()> {
        if matches!(request, ControlRequest::Signal(name) if name != "KILL") && self.session.takes_signals() {
            self.await_group(deadline);
        }
        let result = match request {
            ControlRequest::Signal(name) if !self.session.takes_signals() => {
                return self.signal_by_command(name, deadline);
            }
            ControlRequest::Signal(name) => self.session.drive(deadline, "the signal", |_| self.channel.signal(name)),
            ControlRequest::Resize(size) => self
                .session
                .drive(deadline, "the terminal's size", |_| self.channel.resize_pty(size.columns, size.rows)),
        };
        match result {
            // Ignore a refused request: the command has already exited.
            Err(DriveError::Failed(failure)) if !is_lost(&failure) => Ok(()),
            result => result.map_err(lost),
        }
    }

    /// Waits until the command has its process group, unless its output has shown that.
    fn await_group(&self, deadline: Deadline) {
        if self.has_group.replace(true) {
            return;
        }
        let wait = "while kill -s 0 $one && ! kill -s 0 -- -$one; do sleep 0.01; done";
        if self.ask_about_children(wait, deadline.within(CONFIRMATION)).is_err() {
            self.session.mark_unusable();
        }
    }

    /// Signals the process groups of the server's other children on this connection: the command's, and SFTP's if it was used.
    fn signal_by_command(&self, name: &str, deadline: Deadline) -> Result<()> {
        self.session.mark_unusable();
        self.ask_about_children(&format!("kill -s {name} -- -$one || kill -s {name} $one"), deadline)
    }

    /// Runs this for each of the server's children on this connection, `$one` by `$one`.
    fn ask_about_children(&self, what: &str, deadline: Deadline) -> Result<()> {
        let line = format!(
            "for one in $(grep -lsx \"PPid:[[:space:]]*$PPID\" /proc/[0-9]*/status); do \
             one=${{one#/proc/}}; one=${{one%/status}}; [ $one = $$ ] || {{ {what}; }}; done 2> /dev/null"
        );
        Self::ask(self.session, &line, deadline).map(drop)
    }

    /// Kills the command's process group and waits until the server confirms its end. False if it does not in time.
    pub(crate) fn kill(&self, streams: &mut impl Streams) -> bool {
        // What was written before the end still arrives, and is kept.
        self.run(&mut KillStreams { streams, kill: true }, Deadline::after(Some(CONFIRMATION))).is_ok()
    }

    /// Closes the channel on both sides, so that the session can be used again. An error means that it can't.
    pub(crate) fn close(mut self) -> Result<()> {
        let deadline = Deadline::after(Some(CONFIRMATION));
        let (session, channel) = (self.session, &mut self.channel);
        session
            .drive(deadline, "the end of the command's channel", |_| channel.close())
            .map_err(|stop| stop.into_error(|failure| lost_or("the channel can't be closed", failure)))
    }

    /// Runs the line that kills what left the command's process group. True once nothing of it is left.
    pub(crate) fn kill_stragglers(session: &Session, line: &str) -> bool {
        let deadline = Deadline::after(Some(CONFIRMATION));
        Self::ask(session, line, deadline).is_ok_and(|(status, _)| status.success())
    }

    /// Runs a line of our own to its end, and returns what it says on its standard output: 2 round trips.
    pub(crate) fn ask(session: &Session, line: &str, deadline: Deadline) -> Result<(ExitStatus, Vec<u8>)> {
        const SAID: usize = 64 << 10;
        let mut reply = Reply { bytes: Vec::new(), limit: SAID };
        let running = Running::open(session, deadline)?;
        running.start(line.as_bytes(), deadline)?;
        let status = running.run(&mut reply, deadline)?;
        running.close()?;
        Ok((status, reply.bytes))
    }

    fn attempt<T>(
        &self,
        deadline: Deadline,
        step: impl FnMut() -> Answer<T>,
    ) -> std::result::Result<Option<T>, DriveError> {
        self.session.attempt(deadline, "the command", step)
    }

    fn status(&self) -> Option<ExitStatus> {
        match self.channel.exit_signal() {
            Some(name) => Some(ExitStatus::killed_by(name)),
            None => self.channel.exit_code().map(ExitStatus::exited),
        }
    }

    /// True once the server has ended the channel.
    fn is_closed(&self, deadline: Deadline) -> Result<bool> {
        if !self.channel.at_eof() {
            return Ok(false);
        }
        // End of output alone is no end: a command may close its output and go on.
        Ok(self.attempt(deadline, || self.channel.wait_closed()).map_err(lost)?.is_some())
    }
}

/// What comes after a command's end, while another process keeps its output open. The server is asked something again and again:
/// once nothing came between two answers, its pipe was empty.
struct DrainAfterExit {
    length: usize,
    most: usize,
    last: Instant,
    /// Output has come since the question.
    is_disturbed: bool,
    is_answered: bool,
}

impl DrainAfterExit {
    fn up_to(most: usize) -> Self {
        Self { length: 0, most, last: Instant::now(), is_disturbed: false, is_answered: false }
    }

    fn received(&mut self, length: usize) {
        self.length += length;
        self.last = Instant::now();
        self.is_disturbed = true;
    }

    /// Looked at when all that has come is read; the next question is asked if they are not over.
    fn is_done(&mut self, moved: bool) -> bool {
        if self.length > self.most {
            return true;
        }
        if !self.is_answered || moved {
            return false;
        }
        self.is_answered = false;
        !std::mem::take(&mut self.is_disturbed)
    }

    fn check_silence(&self, status: &ExitStatus) -> Result<()> {
        if self.last.elapsed() < SILENCE_AFTER_EXIT {
            return Ok(());
        }
        let message = format!(
            "the command ended with {status}, but the SSH server fell silent then: its last output may be missing"
        );
        Err(Error::new(ErrorKind::OutcomeUnknown, message))
    }
}

/// How much of the input could be sent.
enum FeedOutcome {
    Some,
    Nothing,
    /// Its end is told, or nobody reads it any more.
    All,
}

/// The streams of a command that is being killed: its output still counts, its input does not.
struct KillStreams<'a, S> {
    streams: &'a mut S,
    /// The request to kill is still to be given.
    kill: bool,
}

impl<S: Streams> Streams for KillStreams<'_, S> {
    /// Not the end: if the first signal comes too early, the command would go on with half of its input.
    fn input(&mut self) -> Result<Input<'_>> {
        Ok(Input::Later)
    }

    fn sent(&mut self, _: usize) {}

    fn output(&mut self, stream: StreamId, bytes: &[u8]) -> Result<()> {
        // Output is dropped if the reader is full or has cancelled.
        if !self.streams.is_stopped() && self.streams.has_room(stream)? {
            self.streams.output(stream, bytes)?;
        }
        Ok(())
    }

    fn control_request(&mut self) -> Option<ControlRequest> {
        std::mem::take(&mut self.kill).then(|| ControlRequest::Signal("KILL".into()))
    }
}

/// What a line of our own says on its standard output, up to a limit.
struct Reply {
    bytes: Vec<u8>,
    limit: usize,
}

impl Streams for Reply {
    fn input(&mut self) -> Result<Input<'_>> {
        Ok(Input::End)
    }

    fn sent(&mut self, _: usize) {}

    fn output(&mut self, stream: StreamId, bytes: &[u8]) -> Result<()> {
        if stream == StreamId::Stdout {
            let room = self.limit.saturating_sub(self.bytes.len()).min(bytes.len());
            self.bytes.extend_from_slice(&bytes[..room]);
        }
        Ok(())
    }
}

/// A failure after the request was written.
fn unknown(stop: DriveError, how_far: &str) -> Error {
    let after = |failure: Failure| {
        let message =
            format!("the connection was lost after the command was {how_far}, it may have run: {}", failure.message);
        Error::new(ErrorKind::OutcomeUnknown, message).with_ssh_code(failure.code)
    };
    stop.into_error(after)
}

fn lost(stop: DriveError) -> Error {
    unknown(stop, "started")
}

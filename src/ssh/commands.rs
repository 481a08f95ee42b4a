//! The command channel of a session: requests to the guest, one after another, each with the frames that belong to it.
//!
//! The channel stays open for as long as the session, so a warm command costs one round trip: its request goes out, its
//! result comes back. What `docs/guest-protocol.md` describes is spoken here and nowhere else.

use std::time::{Duration, Instant};

use sandbox_protocol::{
    self as protocol, COMMAND_SUBSYSTEM, Ended, FrameKind, MAX_CONTROL_PAYLOAD, Piece, Request, Resize, Response,
    STDIN_WINDOW, Started, Status, header,
};

use super::frames::CommandChannel;
use super::raw::{Channel, Failure};
use super::session::{DriveError, Session, TURN, is_end, lost_or};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fd::Awaited;
use crate::text;

/// What the guest may send before we have read it. On a long link, throughput is this per round trip; on a short one
/// more than this gains nothing, and takes its way through memory instead of the processor's cache.
const WINDOW: u32 = 2 << 20;
const LONG_LINK_WINDOW: u32 = 8 << 20;
/// A round trip that takes longer than this makes a link long.
const SHORT_LINK: Duration = Duration::from_millis(10);
/// One read: libssh2 hands over what has arrived, up to this many bytes.
const READ_BUFFER: usize = 64 << 10;
/// What an idle session keeps of a buffer.
const SMALL: usize = 4 << 10;
/// The standard input that one frame carries at most.
const INPUT_PIECE: usize = 128 << 10;
/// How long the guest may take to confirm the end of a command whose time is over or that was cancelled. It takes
/// milliseconds where the machine has time.
const CONFIRMATION: Duration = Duration::from_secs(5);
/// What a command has written before its end may come after the guest said that it has ended: a window of it is here
/// and not read yet, another may be on its way, and the guest has what was in the pipes. More than this is no end.
const MOST_WINDOWS_AFTER_END: u64 = 4;
/// The bytes of the connection that a byte of the channel takes at most: 9 if each byte of output comes in a packet of
/// its own.
const PACKETS: u64 = 16;
const NOTHING_ASKED: &str = "no request was sent to the sandbox";

/// One of the two output streams of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamId {
    Stdout = 0,
    Stderr = 1,
}

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
    /// Kill the command and its descendants.
    Kill,
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
    /// The program has been executed.
    fn started(&mut self, _started: &Started) {}

    fn input(&mut self) -> Result<Input<'_>>;

    /// So many bytes of the last input are sent.
    fn sent(&mut self, length: usize);

    /// Whether [`Streams::output`] may be called for this stream.
    fn has_room(&mut self, _stream: StreamId) -> Result<bool> {
        Ok(true)
    }

    fn output(&mut self, stream: StreamId, bytes: &[u8]) -> Result<()>;

    /// True once `output` has failed: the command is not wanted any more, and what it still writes is thrown away.
    fn is_stopped(&self) -> bool {
        false
    }

    fn control_request(&mut self) -> Option<ControlRequest> {
        None
    }

    /// What to wait for beside the guest: descriptors that become readable or writable. The argument is whether more
    /// input would be asked for.
    fn descriptors(&self, _takes_input: bool) -> Vec<Awaited<'_>> {
        Vec::new()
    }
}

/// Opens the channel: 2 round trips. Nothing has been asked of the sandbox when this fails.
fn open(session: &Session, deadline: Deadline) -> Result<CommandChannel> {
    let is_short = session.round_trip().is_some_and(|time| time <= SHORT_LINK);
    let window = if is_short { WINDOW } else { LONG_LINK_WINDOW };
    let refused = |stop: DriveError, what: &str| {
        let error = stop.into_error(|failure| lost_or(what, failure));
        match error.kind() {
            ErrorKind::TimedOut | ErrorKind::Cancelled => error.context(NOTHING_ASKED),
            _ => error,
        }
    };
    let began = Instant::now();
    let channel = session
        .drive(deadline, "an SSH channel", |ssh| Channel::open(ssh, "session", &[], window))
        .map_err(|stop| refused(stop, "the SSH server opens no more channels"))?;
    session.took_round_trip(began.elapsed());
    session
        .drive(deadline, "the command channel", |_| channel.subsystem(COMMAND_SUBSYSTEM))
        .map_err(|stop| refused(stop, "the SSH server runs no commands for this library"))?;
    Ok(CommandChannel::new(channel, window))
}

/// How a request ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response,
    /// Why it was cancelled, if it was: the caller's own error, or that the time ran out.
    pub(crate) cancelled: Option<Error>,
}

/// Asks the guest for something, and moves the streams that belong to it until the result is there. The session can be
/// used again if this succeeds. [`ErrorKind::Disconnected`] if the connection was lost before the guest had the request
/// as a whole, so that it was not begun; [`ErrorKind::OutcomeUnknown`] if it was lost after that.
pub(crate) fn request(
    session: &mut Session,
    request: &Request,
    streams: &mut impl Streams,
    deadline: Deadline,
) -> Result<Answer> {
    let mut commands = match session.take_commands() {
        Some(commands) => commands,
        None => open(session, deadline)?,
    };
    session.count_arrivals(true);
    let answer = Conversation::begin(session, &mut commands, request, deadline)
        .and_then(|conversation| conversation.run(streams, deadline));
    session.count_arrivals(false);
    if answer.is_ok() {
        session.keep_commands(commands);
    }
    answer
}

/// One request under way.
struct Conversation<'s> {
    session: &'s Session,
    commands: &'s mut CommandChannel,
    input_ended: bool,
    reply: Reply,
    /// The connection has failed. What had come before, perhaps with the result, is still read.
    failure: Option<Failure>,
}

impl<'s> Conversation<'s> {
    /// Writes the request. The guest begins only when it has it as a whole, so a failure here means that nothing was
    /// begun.
    fn begin(
        session: &'s Session,
        commands: &'s mut CommandChannel,
        request: &Request,
        deadline: Deadline,
    ) -> Result<Self> {
        let text = serde_json::to_vec(request)
            .map_err(|e| Error::new(ErrorKind::InvalidArgument, format!("the request can't be encoded: {e}")))?;
        if text.len() > MAX_CONTROL_PAYLOAD {
            let message = format!("the request has {} bytes, {MAX_CONTROL_PAYLOAD} are allowed", text.len());
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let (input_ended, reply) = (!has_input(request), Reply::new(request));
        let mut this = Self { session, commands, input_ended, reply, failure: None };
        this.expect_silence(deadline)?;
        this.commands.push(FrameKind::Request, &text)?;
        loop {
            let arrivals = session.arrivals();
            if this.flush(deadline).map_err(unsent)? {
                return Ok(this);
            }
            this.expect_silence(deadline)?;
            deadline.check("the request").map_err(|e| e.context(NOTHING_ASKED))?;
            if session.arrivals() == arrivals {
                session.wait_for_traffic(&[], deadline);
            }
        }
    }

    /// Fails if anything has come on the channel, which belongs to no request, or if the channel has ended.
    fn expect_silence(&mut self, deadline: Deadline) -> Result<()> {
        let CommandChannel { channel, .. } = &mut *self.commands;
        let what = match self.session.attempt(deadline, "the sandbox", || channel.read(&mut [0])).map_err(unsent)? {
            None => return Ok(()),
            Some(0) => "the sandbox has closed the command channel",
            Some(_) => "the sandbox sent data that belongs to no request",
        };
        Err(Error::new(ErrorKind::Disconnected, what).context(NOTHING_ASKED))
    }

    /// Moves the frames until the result is there. When the deadline passes, or the caller's side fails or is
    /// interrupted, the request is cancelled, and the guest's answer to that is waited for.
    fn run(mut self, streams: &mut impl Streams, deadline: Deadline) -> Result<Answer> {
        match self.converse(streams, deadline) {
            Ok(response) => Ok(Answer { response, cancelled: None }),
            Err(e) if matches!(e.kind(), ErrorKind::TimedOut | ErrorKind::Cancelled) || streams.is_stopped() => {
                match self.cancel(streams) {
                    Ok(response) => Ok(Answer { response, cancelled: Some(e) }),
                    Err(silence) => Err(unconfirmed(e, &silence)),
                }
            }
            Err(e) => Err(e),
        }
    }

    /// Hands over what is to be sent; true if nothing is left.
    fn flush(&mut self, deadline: Deadline) -> std::result::Result<bool, DriveError> {
        let CommandChannel { channel, outgoing, written, .. } = &mut *self.commands;
        while *written < outgoing.len() {
            if !self.session.has_room() {
                return Ok(false);
            }
            let rest = &outgoing[*written..];
            match self.session.attempt(deadline, "the sandbox", || channel.write(rest))? {
                Some(length) => {
                    // The server makes room for it again.
                    self.session.credit(length as u64);
                    *written += length;
                }
                None => return Ok(false),
            }
        }
        outgoing.clear();
        outgoing.shrink_to(SMALL);
        *written = 0;
        Ok(true)
    }

    fn converse(&mut self, streams: &mut impl Streams, deadline: Deadline) -> Result<Response> {
        loop {
            self.take_requests(streams)?;
            self.take_input(streams)?;
            let has_output = !self.commands.outgoing.is_empty();
            let arrivals = self.session.arrivals();
            let all_sent = match self.flush(deadline) {
                Ok(all_sent) => all_sent,
                Err(stop) => return self.receive_the_rest(streams).unwrap_or_else(|| Err(lost(stop))),
            };
            let read = self.receive(streams, deadline)?;
            if let Some(response) = self.reply.response.take() {
                return self.complete(response);
            }
            deadline.check("the command")?;
            // After the input that was sent there may be more of it, or its end.
            if read == Read::Some || self.session.arrivals() != arrivals || has_output && all_sent {
                continue;
            }
            let descriptors = streams.descriptors(all_sent && !self.input_ended);
            if read == Read::NoRoom && self.has_ended(deadline)? {
                // The caller may never make room, and waits for the end.
                self.read_without_room();
                continue;
            }
            self.session.wait_for_traffic(&descriptors, deadline);
        }
    }

    /// Whether the guest says that the command's main process has ended, though there is output before the result; or
    /// whether the connection has, and what has come is all.
    fn has_ended(&mut self, deadline: Deadline) -> Result<bool> {
        let channel = &self.commands.channel;
        match self.session.attempt(deadline, "the sandbox", || channel.take_in()) {
            Ok(_) => Ok(self.reply.id.is_some_and(|id| channel.exit_status() == id as u32)),
            Err(DriveError::Failed(failure)) if is_end(&failure) => {
                self.failure = Some(failure);
                Ok(true)
            }
            Err(stop) => Err(lost(stop)),
        }
    }

    /// From now on, output is handed on though nobody has room for it.
    fn read_without_room(&mut self) {
        let most = MOST_WINDOWS_AFTER_END * u64::from(self.commands.window);
        self.reply.last_words.get_or_insert(most);
    }

    fn obey(&mut self, control: &ControlRequest) -> Result<()> {
        match control {
            ControlRequest::Signal(name) => self.commands.push(FrameKind::Signal, name.as_bytes()),
            ControlRequest::Kill => self.commands.push(FrameKind::Cancel, &[]),
            ControlRequest::Resize(Size { columns, rows }) => {
                let size = Resize { columns: *columns, rows: *rows };
                let text = serde_json::to_vec(&size)
                    .map_err(|e| Error::new(ErrorKind::InvalidArgument, format!("the size can't be encoded: {e}")))?;
                self.commands.push(FrameKind::Resize, &text)
            }
        }
    }

    fn take_requests(&mut self, streams: &mut impl Streams) -> Result<()> {
        while let Some(control) = streams.control_request() {
            self.obey(&control)?;
        }
        Ok(())
    }

    /// Makes a frame of the next input, if the guest takes it and the last one is sent.
    fn take_input(&mut self, streams: &mut impl Streams) -> Result<()> {
        if self.input_ended || !self.commands.outgoing.is_empty() {
            return Ok(());
        }
        let room = self.reply.credit.min(INPUT_PIECE);
        let length = match streams.input()? {
            Input::Later => return Ok(()),
            Input::End => {
                self.input_ended = true;
                self.commands.push(FrameKind::StdinEof, &[])?;
                0
            }
            // The end of the input takes no credit, so it is looked for all the same.
            Input::Bytes(_) if room == 0 => return Ok(()),
            Input::Bytes(bytes) => {
                let piece = &bytes[..bytes.len().min(room)];
                self.commands.outgoing.extend_from_slice(&header(FrameKind::Stdin, piece.len() as u32));
                self.commands.outgoing.extend_from_slice(piece);
                piece.len()
            }
        };
        if length > 0 {
            self.reply.credit -= length;
            streams.sent(length);
        }
        // What was requested before this was written is sent before it, though it may only be seen now.
        let input = std::mem::take(&mut self.commands.outgoing);
        self.take_requests(streams)?;
        match self.commands.outgoing.is_empty() {
            true => self.commands.outgoing = input,
            false => self.commands.outgoing.extend_from_slice(&input),
        }
        Ok(())
    }

    /// Reads once and hands on what came.
    fn receive(&mut self, streams: &mut impl Streams, deadline: Deadline) -> Result<Read> {
        let CommandChannel { channel, buffer, start, end, .. } = &mut *self.commands;
        if *start == *end {
            buffer.resize(READ_BUFFER, 0);
            if self.failure.is_none() {
                match self.session.attempt(deadline, "the sandbox", || channel.read(buffer)) {
                    Ok(None) => return Ok(Read::Nothing),
                    Ok(Some(0)) => return Err(closed()),
                    Ok(Some(length)) => {
                        self.session.credit(PACKETS * length as u64);
                        (*start, *end) = (0, length);
                    }
                    Err(DriveError::Failed(failure)) if is_end(&failure) => self.failure = Some(failure),
                    Err(stop) => return Err(lost(stop)),
                }
            }
            if let Some(failure) = &self.failure {
                let buffered = self.session.read_buffered(|| channel.read(buffer)).filter(|length| *length > 0);
                let length = buffered.ok_or_else(|| lost(DriveError::Failed(failure.clone())))?;
                (*start, *end) = (0, length);
            }
        }
        self.decode(streams)
    }

    /// The result, if it had come before the connection was lost: the guest need not wait until all of the input is
    /// sent.
    fn receive_the_rest(&mut self, streams: &mut impl Streams) -> Option<Result<Response>> {
        self.read_without_room();
        self.session.mark_unusable();
        while self.receive(streams, Deadline::after(Some(TURN))).is_ok_and(|read| read == Read::Some) {
            if let Some(response) = self.reply.response.take() {
                return Some(self.complete(response));
            }
        }
        None
    }

    fn decode(&mut self, streams: &mut impl Streams) -> Result<Read> {
        let CommandChannel { decoder, buffer, start, end, .. } = &mut *self.commands;
        let mut input = &buffer[*start..*end];
        while self.reply.response.is_none() {
            let has_room = streams.has_room(StreamId::Stdout)? && streams.has_room(StreamId::Stderr)?;
            if !has_room && !streams.is_stopped() && self.reply.last_words.is_none() {
                *start = *end - input.len();
                return Ok(Read::NoRoom);
            }
            let Some(piece) = decoder.next(&mut input).map_err(|e| protocol_error(&e.to_string()))? else { break };
            if let Err(e) = self.reply.take(piece, streams) {
                *start = *end - input.len();
                return Err(e);
            }
        }
        *start = *end - input.len();
        if *start == *end && self.reply.response.is_some() {
            // An idle session keeps no buffer.
            *buffer = Vec::new();
        }
        Ok(Read::Some)
    }

    /// The result, if all output that belongs to it has come and nothing else has.
    fn complete(&mut self, response: Response) -> Result<Response> {
        let commands = &mut *self.commands;
        if commands.written == 0 {
            commands.outgoing.clear();
        }
        if commands.start != commands.end || !commands.decoder.is_at_boundary() {
            // Something comes that belongs to no request.
            self.session.mark_unusable();
        }
        self.reply.check(&response)?;
        Ok(response)
    }

    /// Asks for the end of the request and waits for the result. What was written before the end still arrives, and is
    /// kept.
    fn cancel(&mut self, streams: &mut impl Streams) -> Result<Response> {
        let deadline = Deadline::after(Some(CONFIRMATION));
        self.input_ended = true;
        self.commands.push(FrameKind::Cancel, &[])?;
        self.converse(&mut DrainingStreams { streams }, deadline)
    }
}

/// Whether frames of input follow a request.
fn has_input(request: &Request) -> bool {
    let run = match request {
        Request::Run(run) => run,
        Request::DetachedStart(start) => &start.run,
        _ => return false,
    };
    run.terminal.is_some() || run.stdin == protocol::Input::Frames
}

/// What the guest has said to a request so far.
#[derive(Debug)]
struct Reply {
    /// The request runs a command, which starts before anything else comes of it.
    is_run: bool,
    /// The command's number, once it has started.
    id: Option<u64>,
    received: [u64; 2],
    /// Bytes of standard input that the guest takes now.
    credit: usize,
    /// The main process has ended: how many bytes of output may follow.
    last_words: Option<u64>,
    response: Option<Response>,
}

impl Reply {
    fn new(request: &Request) -> Self {
        let is_run = matches!(request, Request::Run(_));
        Self { is_run, id: None, received: [0; 2], credit: STDIN_WINDOW, last_words: None, response: None }
    }

    fn take(&mut self, piece: Piece<'_>, streams: &mut impl Streams) -> Result<()> {
        match piece {
            Piece::Bytes(FrameKind::Stdout, bytes) => self.take_output(StreamId::Stdout, bytes, streams),
            Piece::Bytes(FrameKind::Stderr, bytes) => self.take_output(StreamId::Stderr, bytes, streams),
            Piece::Frame(FrameKind::Started, text) => {
                if !self.is_run || self.id.is_some() {
                    return Err(protocol_error("STARTED without a request"));
                }
                let started: Started = serde_json::from_slice(text).map_err(|e| protocol_error(&e.to_string()))?;
                self.id = Some(started.id);
                streams.started(&started);
                Ok(())
            }
            Piece::Frame(FrameKind::StdinCredit, bytes) => {
                let bytes = bytes.try_into().map_err(|_| protocol_error("a STDIN_CREDIT that has not four bytes"))?;
                // More than the window is never credited; a guest that says so gets no more than that.
                self.credit = self.credit.saturating_add(u32::from_be_bytes(bytes) as usize).min(STDIN_WINDOW);
                Ok(())
            }
            Piece::Frame(FrameKind::Result, text) => {
                self.response = Some(serde_json::from_slice(text).map_err(|e| protocol_error(&e.to_string()))?);
                Ok(())
            }
            _ => Err(protocol_error("a frame of a type that only clients send")),
        }
    }

    fn take_output(&mut self, stream: StreamId, bytes: &[u8], streams: &mut impl Streams) -> Result<()> {
        if self.is_run && self.id.is_none() {
            return Err(protocol_error("output of a command that has not started"));
        }
        self.received[stream as usize] += bytes.len() as u64;
        if let Some(left) = &mut self.last_words {
            let after = left.checked_sub(bytes.len() as u64);
            *left = after.ok_or_else(|| protocol_error("output without end after the command has ended"))?;
        }
        streams.output(stream, bytes)
    }

    /// Whether a result can be that of the request, and has all of its output.
    fn check(&self, response: &Response) -> Result<()> {
        match response {
            // What keeps a command may be killed before it says that the command has started.
            Response::Ended(Ended { status: Status::Lost, .. }) => {}
            Response::Ended(_) if self.is_run && self.id.is_none() => {
                return Err(protocol_error("a result of a command that has not started"));
            }
            Response::NeverRan(_) | Response::Failed(_) if self.id.is_some() => {
                return Err(protocol_error("'never_ran' for a command that has started"));
            }
            _ => {}
        }
        match response {
            Response::Ended(ended) if [ended.stdout, ended.stderr] != self.received => {
                let message = format!(
                    "the sandbox reports {} and {} bytes of output, but {} and {} have arrived",
                    ended.stdout, ended.stderr, self.received[0], self.received[1]
                );
                Err(Error::new(ErrorKind::OutcomeUnknown, message))
            }
            _ => Ok(()),
        }
    }
}

/// How a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Some,
    Nothing,
    NoRoom,
}

/// The streams of a command that is being killed: its output still counts, its input does not.
struct DrainingStreams<'a, S> {
    streams: &'a mut S,
}

impl<S: Streams> Streams for DrainingStreams<'_, S> {
    fn started(&mut self, started: &Started) {
        self.streams.started(started);
    }

    fn input(&mut self) -> Result<Input<'_>> {
        Ok(Input::Later)
    }

    fn sent(&mut self, _: usize) {}

    fn has_room(&mut self, stream: StreamId) -> Result<bool> {
        Ok(self.streams.is_stopped() || self.streams.has_room(stream).unwrap_or(false))
    }

    fn output(&mut self, stream: StreamId, bytes: &[u8]) -> Result<()> {
        // One who has stopped the command wants no more.
        if !self.streams.is_stopped() {
            let _ = self.streams.output(stream, bytes);
        }
        Ok(())
    }
}

/// The streams of a request that has none.
#[derive(Debug)]
pub(crate) struct NoStreams;

impl Streams for NoStreams {
    fn input(&mut self) -> Result<Input<'_>> {
        Ok(Input::End)
    }

    fn sent(&mut self, _: usize) {}

    fn output(&mut self, _: StreamId, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// A failure before the request was complete.
fn unsent(stop: DriveError) -> Error {
    let error = stop.into_error(|failure: Failure| {
        let message = format!("the connection was lost: {}", failure.message);
        Error::new(ErrorKind::Disconnected, message).with_ssh_code(failure.code)
    });
    error.context(NOTHING_ASKED)
}

/// A failure after the request was written.
fn lost(stop: DriveError) -> Error {
    stop.into_error(|failure: Failure| {
        let message = format!(
            "the connection was lost after the request was sent, it may have been carried out: {}",
            failure.message
        );
        Error::new(ErrorKind::OutcomeUnknown, message).with_ssh_code(failure.code)
    })
}

fn closed() -> Error {
    let message = "the sandbox closed the command channel without a result: the request may have been carried out";
    Error::new(ErrorKind::OutcomeUnknown, message)
}

/// The error of a result that belongs to another request.
pub(crate) fn not_an_answer() -> Error {
    protocol_error("it belongs to another request")
}

fn protocol_error(what: &str) -> Error {
    Error::new(
        ErrorKind::OutcomeUnknown,
        format!(
            "the sandbox's answer is invalid ({}): code in the sandbox may have tampered with it",
            text::shown(what)
        ),
    )
}

/// The guest did not answer in time that the request has ended.
fn unconfirmed(e: Error, silence: &Error) -> Error {
    e.context(format!("the sandbox did not confirm that all its processes are gone: {}", silence.message()))
}

#[cfg(test)]
mod tests {
    use sandbox_protocol::{DetachedStart, Input as InputMode, Run, Terminal};

    use super::*;

    /// What has come, and nothing else.
    #[derive(Default)]
    struct Seen {
        started: Vec<u64>,
        output: [Vec<u8>; 2],
    }

    impl Streams for Seen {
        fn started(&mut self, started: &Started) {
            self.started.push(started.id);
        }

        fn input(&mut self) -> Result<Input<'_>> {
            Ok(Input::End)
        }

        fn sent(&mut self, _: usize) {}

        fn output(&mut self, stream: StreamId, bytes: &[u8]) -> Result<()> {
            self.output[stream as usize].extend_from_slice(bytes);
            Ok(())
        }
    }

    fn run() -> Request {
        Request::Run(Run::default())
    }

    /// What comes of these pieces as the answer to a request.
    fn take(request: &Request, pieces: &[Piece<'_>]) -> (Reply, Seen, Result<()>) {
        let (mut reply, mut seen) = (Reply::new(request), Seen::default());
        let result = pieces.iter().try_for_each(|piece| reply.take(*piece, &mut seen));
        (reply, seen, result)
    }

    const STARTED: Piece<'_> = Piece::Frame(FrameKind::Started, b"{\"id\":5}");
    const OUT: Piece<'_> = Piece::Bytes(FrameKind::Stdout, b"out");
    const ERR: Piece<'_> = Piece::Bytes(FrameKind::Stderr, b"error");

    fn is_broken(result: &Result<()>) -> bool {
        result.as_ref().is_err_and(|e| e.kind() == ErrorKind::OutcomeUnknown)
    }

    #[test]
    fn a_command_starts_once_and_before_its_output() {
        let (reply, seen, result) = take(&run(), &[STARTED, OUT, ERR, OUT]);
        assert!(result.is_ok());
        assert_eq!((seen.started, &seen.output[0][..], &seen.output[1][..]), (vec![5], &b"outout"[..], &b"error"[..]));
        assert_eq!((reply.id, reply.received), (Some(5), [6, 5]));
        for wrong in [&[OUT][..], &[ERR], &[STARTED, STARTED]] {
            assert!(is_broken(&take(&run(), wrong).2), "{wrong:?}");
        }
        // Other requests start nothing, but may have output.
        let list = Request::List;
        assert!(is_broken(&take(&list, &[STARTED]).2));
        assert!(take(&list, &[OUT]).2.is_ok());
    }

    #[test]
    fn what_only_a_client_sends_is_refused() {
        for kind in [FrameKind::Request, FrameKind::StdinEof, FrameKind::Signal, FrameKind::Resize, FrameKind::Cancel] {
            assert!(is_broken(&take(&run(), &[STARTED, Piece::Frame(kind, b"")]).2), "{kind:?}");
        }
        assert!(is_broken(&take(&run(), &[STARTED, Piece::Bytes(FrameKind::Stdin, b"x")]).2));
    }

    #[test]
    fn no_credit_exceeds_the_window() {
        let credit = |bytes: &[u8]| {
            let (mut reply, mut seen) = (Reply::new(&run()), Seen::default());
            reply.credit = 10;
            reply.take(Piece::Frame(FrameKind::StdinCredit, bytes), &mut seen).map(|()| reply.credit)
        };
        assert_eq!(credit(&5_u32.to_be_bytes()).unwrap(), 15);
        assert_eq!(credit(&0_u32.to_be_bytes()).unwrap(), 10);
        assert_eq!(credit(&[0xff; 4]).unwrap(), STDIN_WINDOW);
        for wrong in [&[][..], &[0; 3], &[0; 5]] {
            assert!(credit(wrong).is_err());
        }
    }

    #[test]
    fn output_after_the_end_is_limited() {
        let (mut reply, mut seen, _) = take(&run(), &[STARTED, OUT]);
        reply.last_words = Some(8);
        assert!(reply.take(ERR, &mut seen).is_ok() && reply.take(OUT, &mut seen).is_ok());
        assert!(is_broken(&reply.take(OUT, &mut seen)));
        assert_eq!(seen.output[0], b"outout");
    }

    #[test]
    fn a_result_goes_with_what_came_before_it() {
        let (new, _, _) = take(&run(), &[]);
        let (started, _, _) = take(&run(), &[STARTED, OUT]);
        let ended =
            |stdout, stderr| Response::Ended(Ended { status: Status::Code(0), stdout, stderr, ..Ended::default() });
        let lost = |stdout| Response::Ended(Ended { stdout, ..Ended::default() });
        let never = [Response::NeverRan(protocol::NeverRan::default()), Response::Failed(protocol::Failure::default())];
        assert!(started.check(&ended(3, 0)).is_ok() && started.check(&lost(3)).is_ok() && new.check(&lost(0)).is_ok());
        for wrong in [ended(0, 0), ended(2, 0), ended(3, 1), ended(u64::MAX, 0), lost(0)] {
            assert!(is_broken(&started.check(&wrong)), "{wrong:?}");
        }
        assert!(is_broken(&new.check(&ended(0, 0))) && is_broken(&new.check(&lost(1))));
        for never in never {
            assert!(new.check(&never).is_ok() && is_broken(&started.check(&never)));
        }
    }

    #[test]
    fn a_result_that_is_not_understood_can_be_shown() {
        let text = b"{\"result\":\"ended\",\"status\":{\"\x1b]0;x\x07\":0}}";
        let error = take(&run(), &[STARTED, Piece::Frame(FrameKind::Result, text)]).2.unwrap_err();
        assert!(!error.message().chars().any(char::is_control), "{error}");
    }

    #[test]
    fn input_follows_only_what_takes_some() {
        let framed = Run { stdin: InputMode::Frames, ..Run::default() };
        let on_terminal = Run { terminal: Some(Terminal::default()), ..Run::default() };
        let start = |run: &Run| Request::DetachedStart(DetachedStart { run: run.clone(), ..DetachedStart::default() });
        assert!(has_input(&Request::Run(framed.clone())) && has_input(&start(&framed)));
        assert!(has_input(&Request::Run(on_terminal)));
        assert!(!has_input(&run()) && !has_input(&start(&Run::default())) && !has_input(&Request::Hello));
    }
}

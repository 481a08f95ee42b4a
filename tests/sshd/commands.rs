//! The command channel as a guest serves it: frames on an SSH channel. The steps are honest; a test says more or less
//! than they do.

use std::io;

use sandbox_protocol::{
    Cause, Decoder, Ended, FrameKind, Input, Piece, Request, Resize, Response, Started, Status, header,
};

use super::connection::{Connection, Event};

/// Of a message to the client, which takes 32 768 bytes.
const PIECE: usize = 30_000;

/// What the client sends on the command channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    Request(Box<Request>),
    /// A part of the standard input: all of a frame, or less.
    Stdin(Vec<u8>),
    StdinEof,
    Signal(String),
    Resize(Resize),
    Cancel,
}

/// What has come on the command channel, and what was sent on it for the last request.
#[derive(Debug, Default)]
pub struct Frames {
    decoder: Decoder,
    /// What is not decoded yet.
    pub(super) input: Vec<u8>,
    takes_input: bool,
    /// The number of the command.
    id: u32,
    sent: [u64; 2],
}

impl Frames {
    fn next(&mut self) -> io::Result<Option<Frame>> {
        let mut rest = &self.input[..];
        let piece = self.decoder.next(&mut rest).map_err(io::Error::other)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(io::Error::other);
        let frame = match piece {
            None => None,
            Some(Piece::Bytes(FrameKind::Stdin, bytes)) => Some(Frame::Stdin(bytes.to_vec())),
            Some(Piece::Frame(FrameKind::Request, json)) => Some(Frame::Request(serde_json::from_slice(json)?)),
            Some(Piece::Frame(FrameKind::StdinEof, b"")) => Some(Frame::StdinEof),
            Some(Piece::Frame(FrameKind::Signal, name)) => Some(Frame::Signal(text(name)?)),
            Some(Piece::Frame(FrameKind::Resize, json)) => Some(Frame::Resize(serde_json::from_slice(json)?)),
            Some(Piece::Frame(FrameKind::Cancel, b"")) => Some(Frame::Cancel),
            Some(other) => return Err(io::Error::other(format!("no client sends {other:?}"))),
        };
        let used = self.input.len() - rest.len();
        self.input.drain(..used);
        Ok(frame)
    }
}

/// The bytes of a frame that says of itself what is given.
pub fn frame_of(kind: u8, length: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(FrameKind::Result, length).to_vec();
    bytes[0] = kind;
    bytes.extend_from_slice(payload);
    bytes
}

/// The bytes of an honest frame.
pub fn frame(kind: FrameKind, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    frame_of(kind as u8, u32::try_from(payload.len()).unwrap(), payload)
}

impl Connection {
    /// All that comes before the first request: the login, a channel, and the subsystem.
    pub fn open_commands(&mut self) -> io::Result<()> {
        self.log_in()?;
        self.open_channel(4 << 20)?;
        self.await_start()?;
        self.succeed()
    }

    /// All that comes before the first output: a command that is said to run.
    pub fn start(&mut self) -> io::Result<()> {
        self.open_commands()?;
        self.await_request()?;
        self.started()
    }

    /// The next frame, if all of it has come.
    pub fn take_frame(&mut self) -> io::Result<Option<Frame>> {
        let frame = self.commands.next()?;
        if let Some(Frame::Request(request)) = &frame {
            self.commands.sent = [0; 2];
            self.commands.id += 1;
            self.commands.takes_input = match &**request {
                Request::Run(run) => run.terminal.is_some() || run.stdin == Input::Frames,
                Request::DetachedStart(start) => start.run.stdin == Input::Frames,
                _ => false,
            };
            self.note(serde_json::to_string(request)?);
        }
        Ok(frame)
    }

    pub fn next_frame(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(frame);
            }
            if let Event::Data(bytes) = self.next()? {
                self.keep(&bytes);
            }
        }
    }

    /// Ignores all frames before one that is wanted.
    pub fn until_frame(&mut self, is_wanted: impl Fn(&Frame) -> bool) -> io::Result<Frame> {
        loop {
            let frame = self.next_frame()?;
            if is_wanted(&frame) {
                return Ok(frame);
            }
        }
    }

    pub fn await_request(&mut self) -> io::Result<Request> {
        loop {
            if let Frame::Request(request) = self.next_frame()? {
                return Ok(*request);
            }
        }
    }

    /// Takes the rest of the input, if the request has any. No credit is given.
    pub fn await_input_end(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.commands.takes_input) {
            self.until_frame(|frame| *frame == Frame::StdinEof)?;
        }
        Ok(())
    }

    /// Sends bytes of the channel as fast as the client takes them.
    pub fn say_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(PIECE).try_for_each(|piece| self.say(piece))
    }

    pub fn frame(&mut self, kind: FrameKind, payload: impl AsRef<[u8]>) -> io::Result<()> {
        self.say_all(&frame(kind, payload))
    }

    pub fn started(&mut self) -> io::Result<()> {
        let started = Started { id: self.commands.id.into(), pid: 77 };
        self.frame(FrameKind::Started, serde_json::to_vec(&started)?)
    }

    pub fn stdout(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.commands.sent[0] += bytes.as_ref().len() as u64;
        self.frame(FrameKind::Stdout, bytes)
    }

    pub fn stderr(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.commands.sent[1] += bytes.as_ref().len() as u64;
        self.frame(FrameKind::Stderr, bytes)
    }

    pub fn credit(&mut self, bytes: u32) -> io::Result<()> {
        self.frame(FrameKind::StdinCredit, bytes.to_be_bytes())
    }

    pub fn result(&mut self, response: &Response) -> io::Result<()> {
        self.frame(FrameKind::Result, serde_json::to_vec(response)?)
    }

    /// Says beside the frames that the command's main process has ended.
    pub fn exited(&mut self) -> io::Result<()> {
        self.send(self.request("exit-status", false).u32(self.commands.id))
    }

    /// The command has exited with this code.
    pub fn ended(&mut self, code: i32) -> io::Result<()> {
        let ended = self.ending(Status::Code(code), Cause::Itself);
        self.result(&Response::Ended(ended))
    }

    /// The command was killed with all its descendants.
    pub fn killed(&mut self, cause: Cause) -> io::Result<()> {
        let ended = self.ending(Status::Signal("KILL".into()), cause);
        self.result(&Response::Ended(ended))
    }

    /// An end of the command that goes with what was sent.
    pub fn ending(&self, status: Status, cause: Cause) -> Ended {
        let [stdout, stderr] = self.commands.sent;
        Ended { status, cause, proved: true, stdout, stderr, ..Ended::default() }
    }

    /// All of one command.
    pub fn run_one(&mut self) -> io::Result<()> {
        self.await_request()?;
        self.started()?;
        self.stdout("out")?;
        self.stderr("err")?;
        self.await_input_end()?;
        self.ended(3)
    }
}

//! Login (RFC 4252) and channels (RFC 4254). The scripts of the tests are made of these steps.

use std::io;
use std::sync::{Arc, Mutex};

use super::commands::Frames;
use super::transport::Transport;
use super::wire::*;

/// A connection of one client. It speaks on one channel at a time, the one that the client has spoken on last.
#[derive(Debug)]
pub struct Connection {
    pub transport: Transport,
    /// The client's number of the channel.
    pub channel: u32,
    channels: Vec<Channel>,
    /// The client's number of the channel that is for SFTP.
    sftp: Option<u32>,
    /// Bytes of SFTP that have come and are not looked at yet.
    pub(super) received: Vec<u8>,
    pub(super) commands: Frames,
    requests: Requests,
}

#[derive(Debug)]
struct Channel {
    /// The client's number.
    number: u32,
    /// How many bytes more the client takes.
    room: u64,
}

/// What was asked for on the command channels of all connections of a server.
pub type Requests = Arc<Mutex<Vec<String>>>;

/// This side's number of the first channel; the others follow.
const OUR_CHANNEL: u32 = 5;

/// What comes from the client after its login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Open,
    /// On the channel; `body` is what belongs to this kind of request.
    Request {
        kind: String,
        wants_reply: bool,
        body: Vec<u8>,
    },
    Data(Vec<u8>),
    Eof,
    Close,
    /// So many bytes more may be sent.
    WindowAdjust(u32),
    Other(u8),
}

impl Connection {
    pub(super) fn new(transport: Transport, requests: Requests) -> Self {
        let (channels, received, commands) = (Vec::new(), Vec::new(), Frames::default());
        Self { transport, channel: 0, channels, sftp: None, received, commands, requests }
    }

    pub(super) fn note(&self, request: String) {
        self.requests.lock().unwrap().push(request);
    }

    /// Keeps what has come on the channel.
    pub fn keep(&mut self, bytes: &[u8]) {
        let kept = if self.sftp == Some(self.channel) { &mut self.received } else { &mut self.commands.input };
        kept.extend_from_slice(bytes);
    }

    /// Everything until the client is logged in. Any key will do.
    pub fn log_in(&mut self) -> io::Result<()> {
        self.transport.exchange_versions()?;
        self.transport.exchange_keys()?;
        self.authenticate()
    }

    pub fn authenticate(&mut self) -> io::Result<()> {
        self.await_message(SERVICE_REQUEST)?;
        self.send(Message::new(SERVICE_ACCEPT).string("ssh-userauth"))?;
        loop {
            let request = self.await_message(USERAUTH_REQUEST)?;
            let mut fields = Fields(&request[1..]);
            let (_user, _service, method) = (fields.string()?, fields.string()?, fields.text()?);
            if method != "publickey" {
                self.send(Message::new(USERAUTH_FAILURE).string("publickey").byte(0))?;
                continue;
            }
            let is_signed = fields.byte()? != 0;
            let (algorithm, key) = (fields.string()?, fields.string()?);
            if is_signed {
                return self.send(Message::new(USERAUTH_SUCCESS));
            }
            self.send(Message::new(USERAUTH_PK_OK).string(algorithm).string(key))?;
        }
    }

    /// Ignores all messages before one with this number.
    pub fn await_message(&mut self, number: u8) -> io::Result<Vec<u8>> {
        loop {
            let message = self.transport.receive()?;
            if message[0] == number {
                return Ok(message);
            }
        }
    }

    pub fn send(&mut self, message: Message) -> io::Result<()> {
        self.transport.send(&message.0)
    }

    pub fn next(&mut self) -> io::Result<Event> {
        let message = self.transport.receive()?;
        let mut fields = Fields(&message[1..]);
        Ok(match message[0] {
            CHANNEL_OPEN => {
                fields.string()?;
                self.channel = fields.u32()?;
                self.channels.push(Channel { number: self.channel, room: fields.u32()?.into() });
                Event::Open
            }
            CHANNEL_REQUEST => {
                self.turn_to(fields.u32()?);
                let (kind, wants_reply, body) = (fields.text()?, fields.byte()? != 0, fields.0.to_vec());
                if kind == "subsystem" && Fields(&body).string()? == b"sftp" {
                    self.sftp = Some(self.channel);
                }
                Event::Request { kind, wants_reply, body }
            }
            CHANNEL_DATA => {
                self.turn_to(fields.u32()?);
                Event::Data(fields.string()?.to_vec())
            }
            CHANNEL_WINDOW_ADJUST => {
                self.turn_to(fields.u32()?);
                let more = fields.u32()?;
                if let Some(room) = self.room() {
                    *room += u64::from(more);
                }
                Event::WindowAdjust(more)
            }
            CHANNEL_EOF => Event::Eof,
            CHANNEL_CLOSE => Event::Close,
            number => Event::Other(number),
        })
    }

    /// Speaks on the channel to which this side has given this number.
    fn turn_to(&mut self, number: u32) {
        let index = number.checked_sub(OUR_CHANNEL).map(|index| index as usize);
        if let Some(channel) = index.and_then(|index| self.channels.get(index)) {
            self.channel = channel.number;
        }
    }

    /// How many bytes more the client takes on the channel.
    pub fn room(&mut self) -> Option<&mut u64> {
        let number = self.channel;
        self.channels.iter_mut().rfind(|channel| channel.number == number).map(|channel| &mut channel.room)
    }

    /// Ignores all events before one that is wanted.
    pub fn until(&mut self, is_wanted: impl Fn(&Event) -> bool) -> io::Result<Event> {
        loop {
            let event = self.next()?;
            if is_wanted(&event) {
                return Ok(event);
            }
        }
    }

    /// Opens a channel for the client, into which it may write this many bytes.
    pub fn open_channel(&mut self, window: u32) -> io::Result<()> {
        self.until(|event| *event == Event::Open)?;
        self.confirm_channel(window)
    }

    /// Confirms the channel that was opened last.
    pub fn confirm_channel(&mut self, window: u32) -> io::Result<()> {
        let ours = OUR_CHANNEL + u32::try_from(self.channels.len()).unwrap() - 1;
        self.send(self.to_channel(CHANNEL_OPEN_CONFIRMATION).u32(ours).u32(window).u32(32768))
    }

    /// Waits until the client asks for a subsystem.
    pub fn await_start(&mut self) -> io::Result<()> {
        self.until(|event| matches!(event, Event::Request { kind, .. } if kind == "subsystem")).map(drop)
    }

    /// A message that begins with the client's number of the channel.
    pub fn to_channel(&self, number: u8) -> Message {
        Message::new(number).u32(self.channel)
    }

    pub fn request(&self, kind: &str, wants_reply: bool) -> Message {
        self.to_channel(CHANNEL_REQUEST).string(kind).byte(wants_reply.into())
    }

    pub fn succeed(&mut self) -> io::Result<()> {
        self.send(self.to_channel(CHANNEL_SUCCESS))
    }

    pub fn refuse(&mut self) -> io::Result<()> {
        self.send(self.to_channel(CHANNEL_FAILURE))
    }

    pub fn data(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.send(self.to_channel(CHANNEL_DATA).string(bytes))
    }

    pub fn extended(&mut self, stream: u32, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.send(self.to_channel(CHANNEL_EXTENDED_DATA).u32(stream).string(bytes))
    }

    pub fn eof(&mut self) -> io::Result<()> {
        self.send(self.to_channel(CHANNEL_EOF))
    }

    pub fn close_channel(&mut self) -> io::Result<()> {
        self.send(self.to_channel(CHANNEL_CLOSE))
    }

    pub fn hold(&mut self) -> io::Result<()> {
        self.transport.hold()
    }

    /// Sends the same message until nobody takes it.
    pub fn flood(&mut self, message: &Message) -> io::Result<()> {
        loop {
            self.transport.check_age()?;
            self.transport.send(&message.0)?;
        }
    }
}

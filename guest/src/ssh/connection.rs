//! The state machine of a connection.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::auth::{AUTH_SERVICE, AuthMethod, AuthRequest, CONNECTION_SERVICE, MAX_KEYS, MAX_OTHER_METHODS};
use super::channel::{BeyondWindow, Channel, Channels, State};
use super::event::{ChannelId, DataStream, Error, Event, Forwarded, OpenFailure, disconnect_reason};
use super::kex::{self, Agreement, Exchange, ExchangeHash, Transcript};
use super::key::{HostKey, SIGNATURE_ALGORITHMS};
use super::packet::{Input, Opened, Opening, Output};
use super::parse::{self, Token};
use super::wire::{Malformed, Reader, Write, message};

/// The longest version line, with its end (RFC 4253, section 4.2).
const MAX_VERSION: usize = 255;
/// How many packets a peer may send before a user is logged in. Enough for every offer of a key, with something between.
const MAX_PACKETS_BEFORE_LOGIN: u64 = 100;
/// New keys are exchanged after so many packets, long before the sequence numbers, which are nonces, come again (RFC 4344, section 3.1).
const REKEY_PACKETS: u64 = 1 << 31;
/// A peer that does not answer an offer of new keys may go on up to here.
const MAX_PACKETS: u64 = u32::MAX as u64;
/// How many bytes of messages may wait for the end of a key exchange.
const MAX_DEFERRED: usize = 1 << 20;
/// What a packet may have beside the data of a channel.
const PACKET_OVERHEAD: usize = 1 << 10;

/// What all connections of a server have in common.
#[derive(Debug)]
#[non_exhaustive]
pub struct ServerConfig {
    /// The server's key.
    pub host_key: HostKey,
    /// The name and version of the software in the server's version string, after `SSH-2.0-`: printable ASCII without spaces and `-`.
    pub software: String,
    /// How much data a peer may send in a channel before the application has taken it. 2 MiB.
    pub window: u32,
    /// How much data a packet may have, in either direction. 256 KiB; values are taken from 32 KiB to 1 MiB.
    pub max_packet: u32,
    /// How many channels may be open at a time. 1024.
    pub max_channels: usize,
    /// New keys are exchanged after so many bytes in either direction. 1 GiB.
    pub rekey_bytes: u64,
}

impl ServerConfig {
    /// The defaults.
    pub fn new(host_key: HostKey) -> Self {
        Self {
            host_key,
            software: concat!("sandbox_", env!("CARGO_PKG_VERSION")).to_owned(),
            window: 2 << 20,
            max_packet: 256 << 10,
            max_channels: 1024,
            rekey_bytes: 1 << 30,
        }
    }

    fn version(&self) -> String {
        format!("SSH-2.0-{}", self.software)
    }

    fn packet_limit(&self) -> usize {
        self.max_packet.clamp(32 << 10, 1 << 20) as usize
    }
}

/// The server's side of one SSH connection. See the [module's documentation](super).
pub struct Connection {
    input: Input,
    core: Core,
}

/// Everything but the input, which a message borrows while it is handled.
struct Core {
    config: Arc<ServerConfig>,
    output: Output,
    client_version: Vec<u8>,
    kex: Kex,
    /// Both sides take part in the strict key exchange.
    strict: bool,
    /// The hash of the first exchange.
    session_id: Option<ExchangeHash>,
    /// The peer's first NEWKEYS has come.
    is_encrypted: bool,
    /// Messages that wait for the end of a key exchange, each after its length.
    deferred: Vec<u8>,
    auth: Auth,
    key_offers: u32,
    key_proofs: u32,
    other_methods: u32,
    channels: Channels,
    /// Requests outside channels that the peer waits for an answer to.
    global_replies: u32,
    keepalives: u32,
    /// Nothing more is read, and nothing more goes out but what waits.
    ended: bool,
    error: Option<Error>,
}

/// Where a key exchange is.
enum Kex {
    Idle,
    /// Our KEXINIT is sent: from here to our NEWKEYS, only messages of the key exchange go out.
    Offered {
        server_init: Vec<u8>,
    },
    /// The client's has come too.
    Agreed {
        server_init: Vec<u8>,
        client_init: Vec<u8>,
        agreement: Agreement,
    },
    /// Our NEWKEYS is sent, and these are for what comes after the client's.
    AwaitingNewKeys {
        opening: Box<Opening>,
    },
}

/// Where the log-in is.
enum Auth {
    /// The service has not been requested.
    Before,
    /// The service is there, and no request is open.
    Ready,
    /// The application has to say whether the key will do.
    Asked {
        algorithm: Vec<u8>,
        blob: Vec<u8>,
    },
    /// The application has to say whether the user is logged in.
    Proved,
    Done,
}

/// What a message leads to.
enum Step {
    Continue,
    Event(Token),
    NewKeys(Box<Opening>),
}

fn protocol_error(text: &'static str) -> Error {
    Error::new(disconnect_reason::PROTOCOL_ERROR, text)
}

impl From<Malformed> for Error {
    fn from(Malformed: Malformed) -> Self {
        protocol_error("a message is malformed")
    }
}

impl From<BeyondWindow> for Error {
    fn from(BeyondWindow: BeyondWindow) -> Self {
        protocol_error("data was sent beyond the channel's window")
    }
}

impl Connection {
    /// A connection that has just been accepted. Its first output is there at once.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        let mut core = Core::new(config);
        core.output.plain(format!("{}\r\n", core.config.version()).as_bytes());
        // Sent before the client's version has come: this spares a round trip.
        match core.offer_keys() {
            Ok(()) => {}
            Err(error) => core.error = Some(error),
        }
        Self { input: Input::new(), core }
    }

    /// A connection behind the first key exchange or the log-in, but without encryption, so that a fuzzer gets there.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn without_encryption(config: Arc<ServerConfig>, logged_in: bool) -> Self {
        let mut connection = Self { input: Input::new(), core: Core::new(config) };
        connection.core.client_version = b"SSH-2.0-fuzz".to_vec();
        connection.core.session_id = Some([0; 32]);
        connection.core.is_encrypted = true;
        if logged_in {
            connection.core.auth = Auth::Done;
            connection.input.set_limit(connection.core.config.packet_limit() + PACKET_OVERHEAD);
        }
        connection
    }

    /// The room for bytes from the socket: at least one byte if [`next_event`](Self::next_event) has returned `None` and
    /// [`wants_input`](Self::wants_input).
    pub fn read_buffer(&mut self) -> &mut [u8] {
        self.input.spare()
    }

    /// So many bytes were read into the [`read_buffer`](Self::read_buffer).
    pub fn received(&mut self, length: usize) {
        self.input.received(length);
    }

    /// Whether bytes from the socket are of use now. If not, the connection has ended, or waits for an answer to [`Event::Auth`], or the peer has to
    /// read what it was answered. In the last case [`next_event`](Self::next_event) is to be called again when output has been written.
    pub fn wants_input(&self) -> bool {
        self.core.takes_messages()
    }

    /// The next event. `None`: more bytes are needed, or see [`wants_input`](Self::wants_input).
    ///
    /// # Errors
    ///
    /// The peer did not keep to the protocol or to a limit. The output ends with the reason for it: write it, then close the socket.
    pub fn next_event(&mut self) -> Result<Option<Event<'_>>, Error> {
        match self.advance() {
            Ok(None) => Ok(None),
            Ok(Some((token, payload))) => Ok(Some(token.event(self.input.slice(payload))?)),
            Err(error) => Err(self.core.fail(error)),
        }
    }

    fn advance(&mut self) -> Result<Option<(Token, Range<usize>)>, Error> {
        if let Some(error) = &self.core.error {
            return Err(error.clone());
        }
        if self.core.client_version.is_empty() && !self.read_version()? {
            return Ok(None);
        }
        while self.core.takes_messages() {
            if self.core.deferred.len() > MAX_DEFERRED {
                return Err(protocol_error("too many requests while keys were exchanged"));
            }
            self.rekey_if_due()?;
            let Some(Opened { payload, sequence }) = self.input.next_packet()? else {
                break;
            };
            if self.input.packets > MAX_PACKETS {
                return Err(protocol_error("the offer of new keys was not answered"));
            }
            match self.core.handle(self.input.slice(payload.clone()), sequence)? {
                Step::Continue => {}
                Step::Event(token) => return Ok(Some((token, payload))),
                Step::NewKeys(opening) => self.input.set_cipher(*opening, self.core.strict),
            }
        }
        Ok(None)
    }

    /// Takes the peer's version line. Says whether it was there.
    fn read_version(&mut self) -> Result<bool, Error> {
        const PREFIXES: [&[u8]; 2] = [b"SSH-2.0-", b"SSH-1.99-"];
        let bytes = self.input.unused();
        let line = bytes.iter().take(MAX_VERSION).position(|byte| *byte == b'\n').map(|end| &bytes[..end]);
        // Whoever speaks another protocol is told so with its first bytes.
        let fits = PREFIXES.iter().any(|prefix| match line {
            Some(line) => line.starts_with(prefix),
            None => bytes.iter().zip(*prefix).all(|(left, right)| left == right),
        });
        if !fits {
            return Err(Error::new(
                disconnect_reason::PROTOCOL_VERSION_NOT_SUPPORTED,
                "the client does not speak version 2 of SSH",
            ));
        }
        let Some(line) = line else {
            if bytes.len() >= MAX_VERSION {
                return Err(protocol_error("the client's version string is too long"));
            }
            return Ok(false);
        };
        let version = line.strip_suffix(b"\r").unwrap_or(line);
        if version.contains(&0) {
            return Err(protocol_error("the client's version string is malformed"));
        }
        self.core.client_version = version.to_vec();
        self.input.skip(line.len() + 1);
        Ok(true)
    }

    /// The bytes to write to the socket.
    pub fn output(&self) -> &[u8] {
        self.core.output.pending()
    }

    /// So many bytes of the [`output`](Self::output) were written.
    pub fn written(&mut self, length: usize) {
        self.core.output.written(length);
    }

    /// Whether so much output waits that no channel takes data now. [`room`](Self::room) is 0 then.
    pub fn output_is_full(&self) -> bool {
        self.core.output.is_full()
    }

    /// Gives back the memory of empty buffers. To be called when the connection has been quiet for a moment.
    pub fn release_memory(&mut self) {
        self.input.release_memory();
        self.core.output.release_memory();
        self.core.channels.release_memory();
        if self.core.deferred.is_empty() {
            self.core.deferred = Vec::new();
        }
    }

    /// Whether [`release_memory`](Self::release_memory) would give something back: otherwise a poll needs no timeout for it.
    pub fn holds_memory(&self) -> bool {
        self.input.holds_memory() || self.core.output.holds_memory()
    }

    /// Answers [`Event::Auth`]: the key will do, or, if it was proved, the user is logged in.
    pub fn accept_auth(&mut self) {
        match std::mem::replace(&mut self.core.auth, Auth::Ready) {
            Auth::Asked { algorithm, blob } => self.core.send(|packet| {
                packet.byte(message::USERAUTH_PK_OK);
                packet.string(&algorithm);
                packet.string(&blob);
            }),
            Auth::Proved => {
                self.core.send(|packet| packet.byte(message::USERAUTH_SUCCESS));
                self.core.auth = Auth::Done;
                self.input.set_limit(self.core.config.packet_limit() + PACKET_OVERHEAD);
            }
            other => self.core.auth = other,
        }
    }

    /// Answers [`Event::Auth`]: not with this key. After ten keys the connection is ended.
    pub fn reject_auth(&mut self) {
        if self.core.auth.is_open() {
            self.core.auth = Auth::Ready;
            self.core.refuse_auth();
        }
    }

    /// Whether the user is logged in.
    pub fn is_authenticated(&self) -> bool {
        self.core.is_authenticated()
    }

    /// The peer's version string without the end of line, such as `SSH-2.0-OpenSSH_9.2p1`; empty before it has come.
    pub fn client_version(&self) -> &[u8] {
        &self.core.client_version
    }

    /// Whether the connection has ended, by either side. What is left of the output should be written.
    pub fn is_ended(&self) -> bool {
        self.core.ended
    }

    /// Answers [`Event::Open`].
    pub fn accept_open(&mut self, id: ChannelId) {
        let (window, max_packet) = (self.core.config.window, self.core.config.packet_limit() as u32);
        let Some(channel) = self.core.channels.get_mut(id).filter(|channel| channel.state == State::Requested) else {
            return;
        };
        channel.state = State::Open;
        let peer = channel.peer;
        self.core.send(|packet| {
            packet.byte(message::CHANNEL_OPEN_CONFIRMATION);
            packet.u32(peer);
            packet.u32(id);
            packet.u32(window);
            packet.u32(max_packet);
        });
    }

    /// Answers [`Event::Open`]; the number is free again.
    pub fn refuse_open(&mut self, id: ChannelId, reason: OpenFailure, text: &str) {
        let Some(channel) = self.core.channels.get(id).filter(|channel| channel.state == State::Requested) else {
            return;
        };
        let peer = channel.peer;
        self.core.channels.remove(id);
        self.core.refuse_open(peer, reason, text);
    }

    /// Answers the oldest request in a channel that wants a reply and has none; nothing happens if there is none.
    pub fn reply(&mut self, id: ChannelId, ok: bool) {
        let Some(channel) = self.core.channels.get_mut(id).filter(|channel| channel.replies > 0 && !channel.close_sent)
        else {
            return;
        };
        channel.replies -= 1;
        let peer = channel.peer;
        self.core.send(|packet| {
            packet.byte(if ok { message::CHANNEL_SUCCESS } else { message::CHANNEL_FAILURE });
            packet.u32(peer);
        });
    }

    /// Answers the oldest request outside channels that wants a reply and has none; nothing happens if there is none. `data` is for success only.
    pub fn reply_global(&mut self, ok: bool, data: &[u8]) {
        let Some(left) = self.core.global_replies.checked_sub(1) else {
            return;
        };
        self.core.global_replies = left;
        self.core.send(|packet| {
            packet.byte(if ok { message::REQUEST_SUCCESS } else { message::REQUEST_FAILURE });
            if ok {
                packet.bytes(data);
            }
        });
    }

    /// How much data a channel takes now: by the peer's window and its largest packet, and by how much output waits. 0 if the channel does not
    /// exist, is not open yet, or has ended on this side, and while keys are exchanged.
    pub fn room(&self, id: ChannelId) -> usize {
        let core = &self.core;
        match core.channels.get(id).filter(|channel| channel.takes_data()) {
            Some(channel) if !core.ended && !core.kex.holds_output() => {
                let limit = channel.peer_window.min(channel.peer_packet) as usize;
                core.output.data_room(limit.min(core.config.packet_limit()))
            }
            _ => 0,
        }
    }

    /// Whether the channel is open and has no window: it takes no data before the peer has taken some. (If not, and [`room`](Self::room) is 0, it is
    /// for the whole connection and passes when output has been written or keys have been exchanged.)
    pub fn is_window_closed(&self, id: ChannelId) -> bool {
        let channel = self.core.channels.get(id).filter(|channel| channel.takes_data());
        channel.is_some_and(|channel| channel.peer_window == 0 || channel.peer_packet == 0)
    }

    /// Sends what `fill` writes into the packet's place in the output buffer, of which it returns the length; up to [`room`](Self::room) bytes fit.
    /// Nothing is sent if there is no room (`fill` is not called then) or if `fill` returns 0.
    ///
    /// # Errors
    ///
    /// Those of `fill`; nothing is sent then.
    pub fn send_with<E>(
        &mut self,
        id: ChannelId,
        stream: DataStream,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let room = self.room(id);
        let Some(channel) = self.core.channels.get_mut(id).filter(|_| room > 0) else {
            return Ok(0);
        };
        let mut header = [0; 9];
        header[1..5].copy_from_slice(&channel.peer.to_be_bytes());
        let header = match stream {
            DataStream::Data => {
                header[0] = message::CHANNEL_DATA;
                &header[..5]
            }
            DataStream::Stderr => {
                header[0] = message::CHANNEL_EXTENDED_DATA;
                header[5..].copy_from_slice(&parse::STDERR.to_be_bytes());
                &header[..]
            }
        };
        let length = self.core.output.data(header, room, fill)?;
        channel.peer_window -= length as u32;
        if let Err(error) = self.rekey_if_due() {
            self.core.fail(error);
        }
        Ok(length)
    }

    /// Sends as much of the bytes as there is room for, in as many packets as it takes, and says how many that were.
    pub fn send(&mut self, id: ChannelId, stream: DataStream, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            let rest = &bytes[sent..];
            let copied = self.send_with(id, stream, |room| {
                let length = room.len().min(rest.len());
                room[..length].copy_from_slice(&rest[..length]);
                Ok::<_, std::convert::Infallible>(length)
            });
            match copied {
                Ok(0) => break,
                Ok(length) => sent += length,
                Err(never) => match never {},
            }
        }
        sent
    }

    /// The application has taken so much of a channel's data: the peer may send as much again. It is told from a quarter of the window on.
    pub fn consumed(&mut self, id: ChannelId, length: usize) {
        let window = self.core.config.window;
        let Some(channel) = self.core.channels.get_mut(id) else {
            return;
        };
        let peer = channel.peer;
        if let Some(credit) = channel.consumed(length, window) {
            self.core.send(|packet| {
                packet.byte(message::CHANNEL_WINDOW_ADJUST);
                packet.u32(peer);
                packet.u32(credit);
            });
        }
    }

    /// The command of a session has exited.
    pub fn exit_status(&mut self, id: ChannelId, code: u32) {
        self.core.request(id, b"exit-status", |packet| packet.u32(code));
    }

    /// The command of a session was ended by a signal; its name is without `SIG`.
    pub fn exit_signal(&mut self, id: ChannelId, name: &str, core: bool, text: &str) {
        self.core.request(id, b"exit-signal", |packet| {
            packet.string(name.as_bytes());
            packet.boolean(core);
            packet.string(text.as_bytes());
            packet.string(b"");
        });
    }

    /// No more data comes in this channel.
    pub fn eof(&mut self, id: ChannelId) {
        let Some(channel) = self.core.channels.get_mut(id).filter(|channel| channel.takes_data()) else {
            return;
        };
        channel.eof_sent = true;
        let peer = channel.peer;
        self.core.send(|packet| {
            packet.byte(message::CHANNEL_EOF);
            packet.u32(peer);
        });
    }

    /// Closes a channel. [`Event::Closed`] follows when the peer has done so too; data that comes until then is dropped.
    pub fn close(&mut self, id: ChannelId) {
        let Some(channel) = self.core.channels.get_mut(id) else {
            return;
        };
        if channel.state == State::Open && !channel.close_sent {
            channel.close_sent = true;
            let peer = channel.peer;
            self.core.send_close(peer);
        }
    }

    /// Opens a channel to the peer for a connection that was accepted here. [`Event::OpenConfirmed`] or [`Event::OpenFailed`] follows. `None`: there
    /// are too many channels, or nobody is logged in.
    pub fn open_forwarded(&mut self, kind: Forwarded<'_>) -> Option<ChannelId> {
        let core = &mut self.core;
        if core.ended || !core.is_authenticated() {
            return None;
        }
        let (window, max_packet) = (core.config.window, core.config.packet_limit() as u32);
        let id = core.channels.add(Channel::new(State::Offered, 0, 0, 0, window), core.config.max_channels)?;
        core.send(|packet| {
            packet.byte(message::CHANNEL_OPEN);
            packet.string(match kind {
                Forwarded::Tcpip { .. } => b"forwarded-tcpip",
                Forwarded::Streamlocal { .. } => b"forwarded-streamlocal@openssh.com",
            });
            packet.u32(id);
            packet.u32(window);
            packet.u32(max_packet);
            match kind {
                Forwarded::Tcpip { host, port, originator_host, originator_port } => {
                    packet.string(host);
                    packet.u32(port);
                    packet.string(originator_host);
                    packet.u32(originator_port);
                }
                Forwarded::Streamlocal { path } => {
                    packet.string(path);
                    packet.string(b"");
                }
            }
        });
        Some(id)
    }

    /// Asks the peer for a sign of life. Nothing is sent before a user is logged in.
    pub fn keepalive(&mut self) {
        if self.core.is_authenticated() {
            self.core.keepalives = self.core.keepalives.saturating_add(1);
            self.core.send(|packet| {
                packet.byte(message::GLOBAL_REQUEST);
                packet.string(b"keepalive@openssh.com");
                packet.boolean(true);
            });
        }
    }

    /// How many signs of life were asked for since the last answer.
    pub fn keepalives_unanswered(&self) -> u32 {
        self.core.keepalives
    }

    /// Ends the connection. Everything that is called afterwards has no effect; the output is to be written.
    pub fn disconnect(&mut self, reason: u32, text: &str) {
        self.core.disconnect(reason, text);
    }

    fn rekey_if_due(&mut self) -> Result<(), Error> {
        let (input, output, limit) = (&self.input, &self.core.output, self.core.config.rekey_bytes);
        let due = input.bytes.max(output.bytes) >= limit || input.packets.max(output.packets) >= REKEY_PACKETS;
        if due && matches!(self.core.kex, Kex::Idle) && self.core.is_authenticated() && !self.core.ended {
            self.core.offer_keys()?;
        }
        Ok(())
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither keys nor data.
        formatter
            .debug_struct("Connection")
            .field("client_version", &String::from_utf8_lossy(&self.core.client_version))
            .field("is_authenticated", &self.is_authenticated())
            .field("is_ended", &self.core.ended)
            .field("channels", &self.core.channels)
            .field("output", &self.output().len())
            .finish_non_exhaustive()
    }
}

impl Kex {
    fn holds_output(&self) -> bool {
        matches!(self, Self::Offered { .. } | Self::Agreed { .. })
    }
}

impl Auth {
    /// The application owes an answer.
    fn is_open(&self) -> bool {
        matches!(self, Self::Asked { .. } | Self::Proved)
    }
}

impl Core {
    fn new(config: Arc<ServerConfig>) -> Self {
        Self {
            config,
            output: Output::new(),
            client_version: Vec::new(),
            kex: Kex::Idle,
            strict: false,
            session_id: None,
            is_encrypted: false,
            deferred: Vec::new(),
            auth: Auth::Before,
            key_offers: 0,
            key_proofs: 0,
            other_methods: 0,
            channels: Channels::default(),
            global_replies: 0,
            keepalives: 0,
            ended: false,
            error: None,
        }
    }

    fn is_authenticated(&self) -> bool {
        matches!(self.auth, Auth::Done)
    }

    fn takes_messages(&self) -> bool {
        // In a key exchange the output can't grow, and nothing goes on without the peer's messages.
        let waits = !matches!(self.kex, Kex::Idle) || !self.output.blocks_answers();
        !self.ended && !self.auth.is_open() && waits
    }

    /// Sends a message, after the key exchange if there is one.
    fn send(&mut self, build: impl FnOnce(&mut dyn Write)) {
        if self.ended {
            return;
        }
        if self.kex.holds_output() {
            let start = self.deferred.len();
            self.deferred.u32(0);
            build(&mut self.deferred);
            let length = (self.deferred.len() - start - 4) as u32;
            self.deferred[start..start + 4].copy_from_slice(&length.to_be_bytes());
        } else {
            self.output.packet(build);
        }
    }

    fn send_close(&mut self, peer: u32) {
        self.send(|packet| {
            packet.byte(message::CHANNEL_CLOSE);
            packet.u32(peer);
        });
    }

    fn refuse_open(&mut self, peer: u32, reason: OpenFailure, text: &str) {
        self.send(|packet| {
            packet.byte(message::CHANNEL_OPEN_FAILURE);
            packet.u32(peer);
            packet.u32(reason.code());
            packet.string(text.as_bytes());
            packet.string(b"");
        });
    }

    fn refuse_auth(&mut self) {
        self.send(|packet| {
            packet.byte(message::USERAUTH_FAILURE);
            packet.string(b"publickey");
            packet.boolean(false);
        });
    }

    /// A request of ours in a channel, without reply.
    fn request(&mut self, id: ChannelId, name: &[u8], build: impl FnOnce(&mut dyn Write)) {
        let Some(channel) = self.channels.get(id) else {
            return;
        };
        if channel.state == State::Open && !channel.close_sent {
            let peer = channel.peer;
            self.send(|packet| {
                packet.byte(message::CHANNEL_REQUEST);
                packet.u32(peer);
                packet.string(name);
                packet.boolean(false);
                build(packet);
            });
        }
    }

    fn disconnect(&mut self, reason: u32, text: &str) {
        if !self.ended {
            self.ended = true;
            self.output.packet(|packet| {
                packet.byte(message::DISCONNECT);
                packet.u32(reason);
                packet.string(text.as_bytes());
                packet.string(b"");
            });
        }
    }

    fn fail(&mut self, error: Error) -> Error {
        self.disconnect(error.reason(), error.text());
        self.error.get_or_insert(error).clone()
    }

    fn offer_keys(&mut self) -> Result<(), Error> {
        let server_init = kex::init_message()?;
        self.output.packet(|packet| packet.bytes(&server_init));
        self.kex = Kex::Offered { server_init };
        Ok(())
    }

    fn handle(&mut self, payload: &[u8], sequence: u32) -> Result<Step, Error> {
        let number = payload[0];
        if !self.is_authenticated() && u64::from(sequence) >= MAX_PACKETS_BEFORE_LOGIN {
            return Err(protocol_error("too many packets before the log-in"));
        }
        match number {
            message::DISCONNECT => {
                let token = Token::Disconnected;
                token.event(payload)?;
                self.ended = true;
                Ok(Step::Event(token))
            }
            message::KEXINIT => self.handle_init(payload, sequence),
            message::KEX_EXCHANGE_INIT..=49 => self.handle_exchange(payload),
            message::NEWKEYS => self.handle_new_keys(payload),
            // Whoever could slip one of these into the first exchange could shift the sequence numbers.
            _ if !self.is_encrypted && self.strict => {
                Err(protocol_error("only messages of the key exchange are allowed now"))
            }
            message::IGNORE | message::DEBUG | message::UNIMPLEMENTED => Ok(Step::Continue),
            _ if !self.is_encrypted => Err(protocol_error("only messages of the key exchange are allowed now")),
            message::EXT_INFO => Ok(Step::Continue),
            message::SERVICE_REQUEST if !self.is_authenticated() => self.handle_service(payload),
            message::USERAUTH_REQUEST => self.handle_auth(payload),
            _ if !self.is_authenticated() => Err(protocol_error("only messages of the log-in are allowed now")),
            message::PING => {
                let data = parse::ping(payload)?;
                self.send(|packet| {
                    packet.byte(message::PONG);
                    packet.string(data);
                });
                Ok(Step::Continue)
            }
            message::GLOBAL_REQUEST => {
                let wants_reply = parse::global_wants_reply(payload)?;
                let token = Token::Global { wants_reply };
                token.event(payload)?;
                self.global_replies = self.global_replies.saturating_add(u32::from(wants_reply));
                Ok(Step::Event(token))
            }
            message::REQUEST_SUCCESS | message::REQUEST_FAILURE => {
                self.keepalives = 0;
                Ok(Step::Continue)
            }
            message::CHANNEL_OPEN => self.handle_open(payload),
            message::CHANNEL_OPEN_CONFIRMATION..=message::CHANNEL_FAILURE => self.handle_channel(payload),
            _ => {
                self.send(|packet| {
                    packet.byte(message::UNIMPLEMENTED);
                    packet.u32(sequence);
                });
                Ok(Step::Continue)
            }
        }
    }

    fn handle_init(&mut self, payload: &[u8], sequence: u32) -> Result<Step, Error> {
        if matches!(self.kex, Kex::Idle) {
            if !self.is_authenticated() {
                return Err(protocol_error("new keys are exchanged only after the log-in"));
            }
            self.offer_keys()?;
        }
        let Kex::Offered { server_init } = std::mem::replace(&mut self.kex, Kex::Idle) else {
            return Err(protocol_error("KEXINIT is not allowed now"));
        };
        let agreement = Agreement::new(payload)?;
        if !self.is_encrypted {
            self.strict = agreement.strict;
            if self.strict && sequence != 0 {
                return Err(protocol_error("KEXINIT was not the first message"));
            }
        }
        self.kex = Kex::Agreed { server_init, client_init: payload.to_vec(), agreement };
        Ok(Step::Continue)
    }

    fn handle_exchange(&mut self, payload: &[u8]) -> Result<Step, Error> {
        let Kex::Agreed { server_init, client_init, agreement } = &mut self.kex else {
            return Err(protocol_error("a message of the key exchange is not allowed now"));
        };
        if std::mem::take(&mut agreement.skip_guess) {
            return Ok(Step::Continue);
        }
        if payload[0] != message::KEX_EXCHANGE_INIT {
            return Err(protocol_error("a message of the key exchange is not allowed now"));
        }
        let server_version = self.config.version();
        let transcript = Transcript {
            client_version: &self.client_version,
            server_version: server_version.as_bytes(),
            client_init,
            server_init,
        };
        let exchange = Exchange::new(agreement.method, &transcript, &self.config.host_key, payload)?;
        let session_id = *self.session_id.get_or_insert(exchange.hash);
        let (opening, sealing) = exchange.keys(agreement, &session_id)?;
        let sends_ext_info = agreement.ext_info && !self.is_encrypted;
        self.output.packet(|packet| packet.bytes(&exchange.reply));
        self.output.packet(|packet| packet.byte(message::NEWKEYS));
        self.output.set_cipher(sealing, self.strict);
        self.kex = Kex::AwaitingNewKeys { opening: Box::new(opening) };
        if sends_ext_info {
            self.send(|packet| {
                packet.byte(message::EXT_INFO);
                packet.u32(2);
                packet.string(b"server-sig-algs");
                packet.string(SIGNATURE_ALGORITHMS.as_bytes());
                packet.string(b"ping@openssh.com");
                packet.string(b"0");
            });
        }
        let deferred = std::mem::take(&mut self.deferred);
        let mut reader = Reader::new(&deferred);
        while let Ok(payload) = reader.string() {
            self.output.packet(|packet| packet.bytes(payload));
        }
        Ok(Step::Continue)
    }

    fn handle_new_keys(&mut self, payload: &[u8]) -> Result<Step, Error> {
        let Kex::AwaitingNewKeys { opening } = std::mem::replace(&mut self.kex, Kex::Idle) else {
            return Err(protocol_error("NEWKEYS is not allowed now"));
        };
        if payload.len() != 1 {
            return Err(Malformed.into());
        }
        self.is_encrypted = true;
        Ok(Step::NewKeys(opening))
    }

    fn handle_service(&mut self, payload: &[u8]) -> Result<Step, Error> {
        let mut reader = Reader::new(payload);
        reader.byte()?;
        let name = reader.string()?;
        if name != AUTH_SERVICE {
            return Err(Error::new(disconnect_reason::SERVICE_NOT_AVAILABLE, "the service comes after ssh-userauth"));
        }
        if matches!(self.auth, Auth::Before) {
            self.auth = Auth::Ready;
        }
        self.send(|packet| {
            packet.byte(message::SERVICE_ACCEPT);
            packet.string(name);
        });
        Ok(Step::Continue)
    }

    fn handle_auth(&mut self, payload: &[u8]) -> Result<Step, Error> {
        match self.auth {
            Auth::Ready => {}
            // RFC 4252, section 5.3: requests that crossed with the success are ignored.
            Auth::Done => return Ok(Step::Continue),
            _ => return Err(protocol_error("the service ssh-userauth was not requested")),
        }
        let request = AuthRequest::read(payload)?;
        if request.service != CONNECTION_SERVICE {
            return Err(Error::new(
                disconnect_reason::SERVICE_NOT_AVAILABLE,
                "there is only the service ssh-connection",
            ));
        }
        let too_many = Error::new(disconnect_reason::NO_MORE_AUTH_METHODS_AVAILABLE, "too many attempts to log in");
        let AuthMethod::PublicKey { algorithm, blob, signature } = request.method else {
            self.other_methods += 1;
            if self.other_methods > MAX_OTHER_METHODS {
                return Err(too_many);
            }
            self.refuse_auth();
            return Ok(Step::Continue);
        };
        let attempts = if signature.is_some() { &mut self.key_proofs } else { &mut self.key_offers };
        *attempts += 1;
        if *attempts > MAX_KEYS {
            return Err(too_many);
        }
        let session_id = self.session_id.unwrap_or_default();
        let proves = |key| signature.is_none_or(|signature| signature.proves(&key, algorithm, &session_id));
        if !request.method.key().is_some_and(proves) {
            self.refuse_auth();
            return Ok(Step::Continue);
        }
        self.auth = match signature {
            Some(_) => Auth::Proved,
            None => Auth::Asked { algorithm: algorithm.to_vec(), blob: blob.to_vec() },
        };
        Ok(Step::Event(Token::Auth))
    }

    fn handle_open(&mut self, payload: &[u8]) -> Result<Step, Error> {
        let open = parse::open(payload)?;
        if open.kind.is_none() {
            self.refuse_open(open.peer, OpenFailure::UnknownChannelType, "there are no channels of this type");
            return Ok(Step::Continue);
        }
        let channel = Channel::new(State::Requested, open.peer, open.window, open.max_packet, self.config.window);
        match self.channels.add(channel, self.config.max_channels) {
            Some(id) => Ok(Step::Event(Token::Open { id })),
            None => {
                self.refuse_open(open.peer, OpenFailure::ResourceShortage, "there are too many channels");
                Ok(Step::Continue)
            }
        }
    }

    fn handle_channel(&mut self, payload: &[u8]) -> Result<Step, Error> {
        let mut reader = Reader::new(payload);
        let number = reader.byte()?;
        let id = reader.u32()?;
        let answers_offer = matches!(number, message::CHANNEL_OPEN_CONFIRMATION | message::CHANNEL_OPEN_FAILURE);
        let expected = if answers_offer { State::Offered } else { State::Open };
        let Some(channel) = self.channels.get_mut(id).filter(|channel| channel.state == expected) else {
            return Err(protocol_error("a message is for a channel that is not open"));
        };
        let token = match number {
            message::CHANNEL_OPEN_CONFIRMATION => {
                channel.peer = reader.u32()?;
                channel.peer_window = reader.u32()?;
                channel.peer_packet = reader.u32()?;
                channel.state = State::Open;
                Token::OpenConfirmed { id }
            }
            message::CHANNEL_OPEN_FAILURE => {
                let token = Token::OpenFailed { id };
                token.event(payload)?;
                self.channels.remove(id);
                return Ok(Step::Event(token));
            }
            message::CHANNEL_WINDOW_ADJUST => {
                channel.peer_window = channel.peer_window.saturating_add(reader.u32()?);
                return Ok(Step::Continue);
            }
            message::CHANNEL_DATA | message::CHANNEL_EXTENDED_DATA => {
                let token = if number == message::CHANNEL_DATA {
                    Token::Data { id }
                } else {
                    reader.u32()?;
                    Token::ExtendedData { id }
                };
                let bytes = reader.string()?;
                if bytes.len() > self.config.packet_limit() {
                    return Err(protocol_error("a packet has more data than is allowed"));
                }
                if channel.eof_received {
                    return Err(protocol_error("data was sent after its end"));
                }
                channel.debit(bytes.len())?;
                if bytes.is_empty() {
                    return Ok(Step::Continue);
                }
                token
            }
            message::CHANNEL_EOF if channel.eof_received => return Ok(Step::Continue),
            message::CHANNEL_EOF => {
                channel.eof_received = true;
                Token::Eof { id }
            }
            message::CHANNEL_CLOSE => {
                let (peer, answers) = (channel.peer, !channel.close_sent);
                self.channels.remove(id);
                if answers {
                    self.send_close(peer);
                }
                return Ok(Step::Event(Token::Closed { id }));
            }
            message::CHANNEL_REQUEST => {
                let wants_reply = parse::request_wants_reply(payload)?;
                let token = Token::Request { id, wants_reply };
                token.event(payload)?;
                channel.replies = channel.replies.saturating_add(u32::from(wants_reply));
                token
            }
            // Nothing of ours in a channel asks for an answer.
            _ => return Ok(Step::Continue),
        };
        // The application has done with a channel that it has closed.
        Ok(if channel.close_sent { Step::Continue } else { Step::Event(token) })
    }
}

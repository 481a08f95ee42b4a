//! The state machine of a connection.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::channel::{Channel, State};
use super::core::{Auth, Core, Kex, Step, protocol_error};
use super::event::{ChannelId, DataStream, Error, Event, Forwarded, OpenFailure, disconnect_reason};
use super::key::HostKey;
use super::packet::{Input, Opened};
use super::parse::{self, Token};
use super::wire::message;

/// The longest version line, with its end (RFC 4253, section 4.2).
const MAX_VERSION: usize = 255;
/// New keys are exchanged after so many packets, long before the sequence numbers, which are nonces, come again (RFC
/// 4344, section 3.1).
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
    /// The name and version of the software in the server's version string, after `SSH-2.0-`: printable ASCII without
    /// spaces and `-`.
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

    pub(super) fn version(&self) -> String {
        format!("SSH-2.0-{}", self.software)
    }

    pub(super) fn packet_limit(&self) -> usize {
        self.max_packet.clamp(32 << 10, 1 << 20) as usize
    }
}

/// The server's side of one SSH connection. See the [module's documentation](super).
pub struct Connection {
    input: Input,
    core: Core,
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

    /// The room for bytes from the socket: at least one byte if [`next_event`](Self::next_event) has returned `None`
    /// and [`wants_input`](Self::wants_input).
    pub fn read_buffer(&mut self) -> &mut [u8] {
        self.input.spare()
    }

    /// So many bytes were read into the [`read_buffer`](Self::read_buffer).
    pub fn received(&mut self, length: usize) {
        self.input.received(length);
    }

    /// Whether bytes from the socket are of use now. If not, the connection has ended, or waits for an answer to
    /// [`Event::Auth`], or the peer has to read what it was answered. In the last case [`next_event`](Self::next_event)
    /// is to be called again when output has been written.
    pub fn wants_input(&self) -> bool {
        self.core.takes_messages()
    }

    /// The next event. `None`: more bytes are needed, or see [`wants_input`](Self::wants_input).
    ///
    /// # Errors
    ///
    /// The peer did not keep to the protocol or to a limit. The output ends with the reason for it: write it, then
    /// close the socket.
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
        if self.core.deferred.is_empty() {
            self.core.deferred = Vec::new();
        }
    }

    /// Whether [`release_memory`](Self::release_memory) would give something back: otherwise a poll needs no timeout
    /// for it.
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

    /// Answers [`Event::Open`].
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

    /// Answers the oldest request outside channels that wants a reply and has none; nothing happens if there is none.
    /// `data` is for success only.
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

    /// How much data a channel takes now: by the peer's window and its largest packet, and by how much output waits. 0
    /// if the channel does not exist, is not open yet, or has ended on this side, and while keys are exchanged.
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

    /// Whether the channel is open and has no window: it takes no data before the peer has taken some. (If not, and
    /// [`room`](Self::room) is 0, it is for the whole connection and passes when output has been written or keys have
    /// been exchanged.)
    pub fn is_window_closed(&self, id: ChannelId) -> bool {
        let channel = self.core.channels.get(id).filter(|channel| channel.takes_data());
        channel.is_some_and(|channel| channel.peer_window == 0 || channel.peer_packet == 0)
    }

    /// Sends what `fill` writes into the packet's place in the output buffer, of which it returns the length; up to
    /// [`room`](Self::room) bytes fit. Nothing is sent if there is no room (`fill` is not called then) or if `fill`
    /// returns 0.
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

    /// The application has taken so much of a channel's data: the peer may send as much again. It is told from a
    /// quarter of the window on.
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

    /// Closes a channel. [`Event::Closed`] follows when the peer has done so too; data that comes until then is
    /// dropped.
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

    /// Opens a channel to the peer for a connection that was accepted here. [`Event::OpenConfirmed`] or
    /// [`Event::OpenFailed`] follows. `None`: there are too many channels, or nobody is logged in.
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

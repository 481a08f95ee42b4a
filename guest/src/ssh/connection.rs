//! The state machine of a connection.

use std::sync::Arc;

use super::event::{ChannelId, DataStream, Error, Event, Forwarded, OpenFailure};
use super::key::HostKey;

/// What all connections of a server have in common.
#[derive(Debug)]
#[non_exhaustive]
pub struct ServerConfig {
    /// The server's key.
    pub host_key: HostKey,
    /// The name and version of the software in the server's version string, after `SSH-2.0-`. Printable ASCII without spaces and `-`.
    pub software: String,
    /// How much data a peer may send in a channel before the application has taken it. 2 MiB.
    pub window: u32,
    /// How much data a packet may have, in either direction. 256 KiB; from 32 KiB to 1 MiB.
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
}

/// The server's side of one SSH connection. See the [module's documentation](super).
#[derive(Debug)]
pub struct Connection {
    config: Arc<ServerConfig>,
}

impl Connection {
    /// A connection that has just been accepted. Its first output is there at once.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self { config }
    }

    /// The room for bytes from the socket: at least one byte while [`wants_input`](Self::wants_input) and
    /// [`next_event`](Self::next_event) has returned `None`.
    pub fn read_buffer(&mut self) -> &mut [u8] {
        unimplemented!()
    }

    /// So many bytes were read into the [`read_buffer`](Self::read_buffer).
    pub fn received(&mut self, length: usize) {
        unimplemented!("{length}")
    }

    /// Whether bytes from the socket are of use now: the connection has not ended, and the peer has read enough of what it was answered.
    pub fn wants_input(&self) -> bool {
        unimplemented!()
    }

    /// The next event. `None`: more bytes are needed, or an answer to [`Event::Auth`], or the peer must read first.
    ///
    /// # Errors
    ///
    /// The peer did not keep to the protocol or to a limit. The output ends with the reason for it: write it, then close the socket.
    pub fn next_event(&mut self) -> Result<Option<Event<'_>>, Error> {
        unimplemented!()
    }

    /// The bytes to write to the socket.
    pub fn output(&self) -> &[u8] {
        unimplemented!()
    }

    /// So many bytes of the [`output`](Self::output) were written.
    pub fn written(&mut self, length: usize) {
        unimplemented!("{length}")
    }

    /// Whether so much output waits that no channel takes data now. [`room`](Self::room) is 0 then.
    pub fn output_is_full(&self) -> bool {
        unimplemented!()
    }

    /// Gives back the memory of empty buffers. To be called when the connection has been quiet for a moment.
    pub fn release_memory(&mut self) {
        unimplemented!()
    }

    /// Whether [`release_memory`](Self::release_memory) would give something back: otherwise a poll needs no timeout for it.
    pub fn holds_memory(&self) -> bool {
        unimplemented!()
    }

    /// Answers [`Event::Auth`]: the key will do, or, if it was proved, the user is logged in.
    pub fn accept_auth(&mut self) {
        unimplemented!()
    }

    /// Answers [`Event::Auth`]: not with this key. After ten keys the connection is ended.
    pub fn reject_auth(&mut self) {
        unimplemented!()
    }

    /// Whether the user is logged in.
    pub fn is_authenticated(&self) -> bool {
        unimplemented!()
    }

    /// The peer's version string without the end of line, such as `SSH-2.0-OpenSSH_9.2p1`; empty before it has come.
    pub fn client_version(&self) -> &[u8] {
        unimplemented!()
    }

    /// Whether the connection has ended, by either side. What is left of the output should be written.
    pub fn is_ended(&self) -> bool {
        unimplemented!()
    }

    /// Answers [`Event::Open`].
    pub fn accept_open(&mut self, id: ChannelId) {
        unimplemented!("{id}")
    }

    /// Answers [`Event::Open`]; the number is free again.
    pub fn refuse_open(&mut self, id: ChannelId, reason: OpenFailure, text: &str) {
        unimplemented!("{id}{reason:?}{text}")
    }

    /// Answers the oldest request in a channel that wants a reply and has none; nothing happens if there is none.
    pub fn reply(&mut self, id: ChannelId, ok: bool) {
        unimplemented!("{id}{ok}")
    }

    /// Answers the oldest request outside channels that wants a reply and has none; nothing happens if there is none. `data` is for success only.
    pub fn reply_global(&mut self, ok: bool, data: &[u8]) {
        unimplemented!("{ok}{data:?}")
    }

    /// How much data a channel takes now: by the peer's window and its largest packet, and by how much output waits. 0 if the channel does not
    /// exist, is not open yet, or has ended on this side, and while keys are exchanged.
    pub fn room(&self, id: ChannelId) -> usize {
        unimplemented!("{id}")
    }

    /// Whether the channel is open and has no window: it takes no data before the peer has taken some. (If not, and [`room`](Self::room) is 0, it is
    /// for the whole connection and passes when output has been written or keys have been exchanged.)
    pub fn is_window_closed(&self, id: ChannelId) -> bool {
        unimplemented!("{id}")
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
        unimplemented!("{id}{stream:?}{}", fill(&mut [])?)
    }

    /// Sends as much of the bytes as there is room for, in as many packets as it takes, and says how many that were.
    pub fn send(&mut self, id: ChannelId, stream: DataStream, bytes: &[u8]) -> usize {
        unimplemented!("{id}{stream:?}{bytes:?}")
    }

    /// The application has taken so much of a channel's data: the peer may send as much again. It is told from a quarter of the window on.
    pub fn consumed(&mut self, id: ChannelId, length: usize) {
        unimplemented!("{id}{length}")
    }

    /// The command of a session has exited.
    pub fn exit_status(&mut self, id: ChannelId, code: u32) {
        unimplemented!("{id}{code}")
    }

    /// The command of a session was ended by a signal; its name is without `SIG`.
    pub fn exit_signal(&mut self, id: ChannelId, name: &str, core: bool, text: &str) {
        unimplemented!("{id}{name}{core}{text}")
    }

    /// No more data comes in this channel.
    pub fn eof(&mut self, id: ChannelId) {
        unimplemented!("{id}")
    }

    /// Closes a channel. [`Event::Closed`] follows when the peer has done so too; data that comes until then is dropped.
    pub fn close(&mut self, id: ChannelId) {
        unimplemented!("{id}")
    }

    /// Opens a channel to the peer for a connection that was accepted here. [`Event::OpenConfirmed`] or [`Event::OpenFailed`] follows. `None`: there
    /// are too many channels, or nobody is logged in.
    pub fn open_forwarded(&mut self, kind: Forwarded<'_>) -> Option<ChannelId> {
        unimplemented!("{kind:?}")
    }

    /// Asks the peer for a sign of life.
    pub fn keepalive(&mut self) {
        unimplemented!()
    }

    /// How many signs of life were asked for since the last answer.
    pub fn keepalives_unanswered(&self) -> u32 {
        unimplemented!()
    }

    /// Ends the connection. Everything that is called afterwards has no effect; the output is to be written.
    pub fn disconnect(&mut self, reason: u32, text: &str) {
        unimplemented!("{reason}{text}{:?}", self.config)
    }
}

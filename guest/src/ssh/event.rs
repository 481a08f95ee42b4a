//! What a connection tells the application, and what it is told.

use std::borrow::Cow;
use std::fmt;

use super::key::PublicKeyRef;

/// A channel's number on this side. It is not used again for another channel of the connection.
pub type ChannelId = u32;

/// What the peer did. It borrows from the read buffer: the connection can be used again when the event has been
/// dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The peer wants to log in. To be answered with [`accept_auth`](super::Connection::accept_auth) or
    /// [`reject_auth`](super::Connection::reject_auth); no further event comes until then.
    Auth {
        /// The user's name; any bytes.
        user: &'a [u8],
        /// The key that is offered.
        key: PublicKeyRef<'a>,
        /// Whether the peer has proved by a signature, which was verified, that it has the private key. If not, it asks
        /// only whether the key would do.
        proved: bool,
    },
    /// The peer opens a channel. To be answered with [`accept_open`](super::Connection::accept_open) or
    /// [`refuse_open`](super::Connection::refuse_open).
    Open {
        /// The channel.
        id: ChannelId,
        /// What for.
        kind: OpenKind<'a>,
    },
    /// The peer has accepted a channel of [`open_forwarded`](super::Connection::open_forwarded).
    OpenConfirmed {
        /// The channel.
        id: ChannelId,
    },
    /// The peer has refused a channel of [`open_forwarded`](super::Connection::open_forwarded).
    OpenFailed {
        /// The channel.
        id: ChannelId,
        /// The reason's number, see [`OpenFailure`].
        reason: u32,
        /// The reason in words.
        text: &'a [u8],
    },
    /// A request in a channel. To be answered with [`reply`](super::Connection::reply), in the order of the requests,
    /// if a reply is wanted.
    Request {
        /// The channel.
        id: ChannelId,
        /// What is requested.
        request: Request<'a>,
        /// Whether the peer waits for an answer.
        wants_reply: bool,
    },
    /// A request outside any channel. To be answered with [`reply_global`](super::Connection::reply_global), in the
    /// order of the requests, if a reply is wanted.
    Global {
        /// What is requested.
        request: GlobalRequest<'a>,
        /// Whether the peer waits for an answer.
        wants_reply: bool,
    },
    /// Data. It counts against the channel's window until [`consumed`](super::Connection::consumed).
    Data {
        /// The channel.
        id: ChannelId,
        /// The data, in the read buffer.
        bytes: &'a [u8],
    },
    /// Data of another stream than the main one. It counts against the channel's window like other data.
    ExtendedData {
        /// The channel.
        id: ChannelId,
        /// The stream: 1 is the standard error stream.
        stream: u32,
        /// The data, in the read buffer.
        bytes: &'a [u8],
    },
    /// The peer sends no more data in this channel.
    Eof {
        /// The channel.
        id: ChannelId,
    },
    /// The channel is closed on both sides. Comes also when the peer has closed it first: the answer has been sent
    /// then.
    Closed {
        /// The channel.
        id: ChannelId,
    },
    /// The peer has ended the connection. No further event comes.
    Disconnected {
        /// The reason's number, see [`disconnect_reason`].
        reason: u32,
        /// The reason in words.
        text: &'a [u8],
    },
}

/// What a channel is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenKind<'a> {
    /// A session: a command, a shell or a subsystem.
    Session,
    /// A TCP connection from here to somewhere.
    DirectTcpip {
        /// The host to connect to.
        host: &'a [u8],
        /// The port to connect to.
        port: u32,
        /// Where the connection came from on the peer's side.
        originator_host: &'a [u8],
        /// The port that it came from.
        originator_port: u32,
    },
    /// A connection from here to a Unix socket.
    DirectStreamlocal {
        /// The socket's path.
        path: &'a [u8],
    },
    /// A connection from here for the library.
    Connect {
        /// The JSON of a target.
        target: &'a [u8],
    },
}

/// A request in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request<'a> {
    /// An environment variable for the command to come.
    Env {
        /// Its name.
        name: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// A terminal for the command to come.
    Pty {
        /// The terminal's type, for `TERM`.
        term: &'a [u8],
        /// Its width in characters.
        columns: u32,
        /// Its height in characters.
        rows: u32,
        /// Its width in pixels.
        width: u32,
        /// Its height in pixels.
        height: u32,
        /// Its modes as in RFC 4254, section 8: pairs of an opcode of one byte and a value of four.
        modes: &'a [u8],
    },
    /// The terminal has another size.
    WindowChange {
        /// Its width in characters.
        columns: u32,
        /// Its height in characters.
        rows: u32,
        /// Its width in pixels.
        width: u32,
        /// Its height in pixels.
        height: u32,
    },
    /// Run a command.
    Exec {
        /// The line, for a shell.
        line: &'a [u8],
    },
    /// Run the user's shell.
    Shell,
    /// Run a subsystem.
    Subsystem {
        /// Its name.
        name: &'a [u8],
    },
    /// Send a signal to the command.
    Signal {
        /// Its name without `SIG`.
        name: &'a [u8],
    },
    /// Send a break (RFC 4335).
    Break {
        /// For how long, in milliseconds.
        milliseconds: u32,
    },
    /// Any other request.
    Other {
        /// Its name.
        name: &'a [u8],
        /// What follows in the message.
        data: &'a [u8],
    },
}

/// A request outside any channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GlobalRequest<'a> {
    /// Listen on a TCP port and forward its connections. If the port is 0, one is chosen, and the reply's data is its
    /// number, four bytes.
    TcpipForward {
        /// The address to listen on; empty means all.
        host: &'a [u8],
        /// The port to listen on.
        port: u32,
    },
    /// No longer listen on a TCP port.
    CancelTcpipForward {
        /// As in the request to listen.
        host: &'a [u8],
        /// As in the request to listen.
        port: u32,
    },
    /// Listen on a Unix socket and forward its connections.
    StreamlocalForward {
        /// The socket's path.
        path: &'a [u8],
    },
    /// No longer listen on a Unix socket.
    CancelStreamlocalForward {
        /// As in the request to listen.
        path: &'a [u8],
    },
    /// Any other request, such as `keepalive@openssh.com`: to be refused, which is the answer that a keepalive wants.
    Other {
        /// Its name.
        name: &'a [u8],
        /// What follows in the message.
        data: &'a [u8],
    },
}

/// A connection that was accepted here and is forwarded to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Forwarded<'a> {
    /// On a TCP port.
    Tcpip {
        /// The address that the peer asked to listen on, as it wrote it.
        host: &'a [u8],
        /// The port.
        port: u32,
        /// Where the connection came from.
        originator_host: &'a [u8],
        /// The port that it came from.
        originator_port: u32,
    },
    /// On a Unix socket.
    Streamlocal {
        /// The path that the peer asked to listen on.
        path: &'a [u8],
    },
}

/// A stream from here to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataStream {
    /// The main one: a command's standard output.
    Data,
    /// A command's standard error stream.
    Stderr,
}

/// Why a channel is not opened (RFC 4254, section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenFailure {
    /// It is not permitted.
    AdministrativelyProhibited,
    /// The connection for it failed.
    ConnectFailed,
    /// There is no such type of channel.
    UnknownChannelType,
    /// There are too many.
    ResourceShortage,
}

impl OpenFailure {
    /// The number on the wire.
    pub fn code(self) -> u32 {
        match self {
            Self::AdministrativelyProhibited => 1,
            Self::ConnectFailed => 2,
            Self::UnknownChannelType => 3,
            Self::ResourceShortage => 4,
        }
    }
}

/// The numbers of RFC 4253, section 11.1, for [`Connection::disconnect`](super::Connection::disconnect) and
/// [`Event::Disconnected`].
pub mod disconnect_reason {
    /// The peer may not connect.
    pub const HOST_NOT_ALLOWED_TO_CONNECT: u32 = 1;
    /// The peer did not keep to the protocol.
    pub const PROTOCOL_ERROR: u32 = 2;
    /// No algorithm in common, or the exchange failed.
    pub const KEY_EXCHANGE_FAILED: u32 = 3;
    /// A packet could not be authenticated.
    pub const MAC_ERROR: u32 = 5;
    /// No such service.
    pub const SERVICE_NOT_AVAILABLE: u32 = 7;
    /// Another version of the protocol.
    pub const PROTOCOL_VERSION_NOT_SUPPORTED: u32 = 8;
    /// The connection was lost.
    pub const CONNECTION_LOST: u32 = 10;
    /// The application ends the connection.
    pub const BY_APPLICATION: u32 = 11;
    /// There are too many connections.
    pub const TOO_MANY_CONNECTIONS: u32 = 12;
    /// The peer has tried to log in too often.
    pub const NO_MORE_AUTH_METHODS_AVAILABLE: u32 = 14;
}

/// Why a connection has ended: the peer did not keep to the protocol or exceeded a limit, or there is no algorithm in
/// common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    reason: u32,
    text: Cow<'static, str>,
}

impl Error {
    pub(super) fn new(reason: u32, text: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, text: text.into() }
    }

    /// The number that the peer was told, see [`disconnect_reason`].
    pub fn reason(&self) -> u32 {
        self.reason
    }

    /// The text that the peer was told.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

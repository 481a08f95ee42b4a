//! Messages that become events. A message is read twice: to see that it is well formed before anything changes, and for
//! the event itself, which borrows from it.

use super::auth::{AuthMethod, AuthRequest};
use super::event::{ChannelId, Event, GlobalRequest, OpenKind, Request};
use super::wire::{Malformed, Reader};

/// The number of the standard error stream (RFC 4254, section 5.2).
pub(super) const STDERR: u32 = 1;

/// Which event a message becomes, and what the message does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Auth,
    Open { id: ChannelId },
    OpenConfirmed { id: ChannelId },
    OpenFailed { id: ChannelId },
    Request { id: ChannelId, wants_reply: bool },
    Global { wants_reply: bool },
    Data { id: ChannelId },
    ExtendedData { id: ChannelId },
    Eof { id: ChannelId },
    Closed { id: ChannelId },
    Disconnected,
}

impl Token {
    pub(super) fn event(self, payload: &[u8]) -> Result<Event<'_>, Malformed> {
        let mut reader = Reader::new(payload);
        reader.byte()?;
        Ok(match self {
            Self::Auth => {
                let request = AuthRequest::read(payload)?;
                let proved = matches!(request.method, AuthMethod::PublicKey { signature: Some(_), .. });
                Event::Auth { user: request.user, key: request.method.key().ok_or(Malformed)?, proved }
            }
            Self::Open { id } => Event::Open { id, kind: open(payload)?.kind.ok_or(Malformed)? },
            Self::OpenConfirmed { id } => Event::OpenConfirmed { id },
            Self::OpenFailed { id } => {
                reader.u32()?;
                Event::OpenFailed { id, reason: reader.u32()?, text: reader.string()? }
            }
            Self::Request { id, wants_reply } => Event::Request { id, request: request(payload)?, wants_reply },
            Self::Global { wants_reply } => Event::Global { request: global(payload)?, wants_reply },
            Self::Data { id } => {
                reader.u32()?;
                Event::Data { id, bytes: reader.string()? }
            }
            Self::ExtendedData { id } => {
                reader.u32()?;
                Event::ExtendedData { id, stream: reader.u32()?, bytes: reader.string()? }
            }
            Self::Eof { id } => Event::Eof { id },
            Self::Closed { id } => Event::Closed { id },
            Self::Disconnected => Event::Disconnected { reason: reader.u32()?, text: reader.string()? },
        })
    }
}

/// CHANNEL_OPEN.
pub(super) struct Open<'a> {
    pub(super) peer: u32,
    pub(super) window: u32,
    pub(super) max_packet: u32,
    /// None, if the type is unknown.
    pub(super) kind: Option<OpenKind<'a>>,
}

pub(super) fn open(payload: &[u8]) -> Result<Open<'_>, Malformed> {
    let mut reader = Reader::new(payload);
    reader.byte()?;
    let name = reader.string()?;
    let peer = reader.u32()?;
    let window = reader.u32()?;
    let max_packet = reader.u32()?;
    let kind = match name {
        b"session" => Some(OpenKind::Session),
        b"direct-tcpip" => Some(OpenKind::DirectTcpip {
            host: reader.string()?,
            port: reader.u32()?,
            originator_host: reader.string()?,
            originator_port: reader.u32()?,
        }),
        b"direct-streamlocal@openssh.com" => Some(OpenKind::DirectStreamlocal { path: reader.string()? }),
        b"connect@sandbox" => Some(OpenKind::Connect { target: reader.string()? }),
        _ => None,
    };
    Ok(Open { peer, window, max_packet, kind })
}

/// Whether a CHANNEL_REQUEST wants a reply.
pub(super) fn request_wants_reply(payload: &[u8]) -> Result<bool, Malformed> {
    let mut reader = Reader::new(payload);
    reader.take(1 + 4)?;
    reader.string()?;
    reader.boolean()
}

fn request(payload: &[u8]) -> Result<Request<'_>, Malformed> {
    let mut reader = Reader::new(payload);
    reader.take(1 + 4)?;
    let name = reader.string()?;
    reader.boolean()?;
    Ok(match name {
        b"env" => Request::Env { name: reader.string()?, value: reader.string()? },
        b"pty-req" => Request::Pty {
            term: reader.string()?,
            columns: reader.u32()?,
            rows: reader.u32()?,
            width: reader.u32()?,
            height: reader.u32()?,
            modes: reader.string()?,
        },
        b"window-change" => Request::WindowChange {
            columns: reader.u32()?,
            rows: reader.u32()?,
            width: reader.u32()?,
            height: reader.u32()?,
        },
        b"exec" => Request::Exec { line: reader.string()? },
        b"shell" => Request::Shell,
        b"subsystem" => Request::Subsystem { name: reader.string()? },
        b"signal" => Request::Signal { name: reader.string()? },
        b"break" => Request::Break { milliseconds: reader.u32()? },
        name => Request::Other { name, data: reader.rest() },
    })
}

/// Whether a GLOBAL_REQUEST wants a reply.
pub(super) fn global_wants_reply(payload: &[u8]) -> Result<bool, Malformed> {
    let mut reader = Reader::new(payload);
    reader.byte()?;
    reader.string()?;
    reader.boolean()
}

fn global(payload: &[u8]) -> Result<GlobalRequest<'_>, Malformed> {
    let mut reader = Reader::new(payload);
    reader.byte()?;
    let name = reader.string()?;
    reader.boolean()?;
    Ok(match name {
        b"tcpip-forward" => GlobalRequest::TcpipForward { host: reader.string()?, port: reader.u32()? },
        b"cancel-tcpip-forward" => GlobalRequest::CancelTcpipForward { host: reader.string()?, port: reader.u32()? },
        b"streamlocal-forward@openssh.com" => GlobalRequest::StreamlocalForward { path: reader.string()? },
        b"cancel-streamlocal-forward@openssh.com" => GlobalRequest::CancelStreamlocalForward { path: reader.string()? },
        name => GlobalRequest::Other { name, data: reader.rest() },
    })
}

/// PING's data.
pub(super) fn ping(payload: &[u8]) -> Result<&[u8], Malformed> {
    let mut reader = Reader::new(payload);
    reader.byte()?;
    reader.string()
}

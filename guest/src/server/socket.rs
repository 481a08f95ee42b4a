//! Forwarded connections.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, connect, recv, shutdown, socket_with,
    sockopt,
};

use super::channel::{Channel, Context, Link, Slots};
use super::pipe::InputEnd;
use super::resolve::{Lookup, resolve};
use crate::ssh::{DataStream, OpenFailure};

/// How long a connection to one address may take.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug)]
enum State {
    /// A name is being looked up.
    Resolving(Arc<Lookup>, u16),
    /// Being connected to; then there are these addresses left to try.
    Connecting(OwnedFd, Instant, Vec<SocketAddr>),
    /// The client has not answered yet.
    Offered(OwnedFd),
    Open,
    Closed,
}

/// A channel that is a connection to somebody else.
#[derive(Debug)]
pub(crate) struct SocketChannel {
    state: State,
    socket: Option<OwnedFd>,
    output: InputEnd,
    output_ready: bool,
    input_ready: bool,
    input_ended: bool,
    output_ended: bool,
}

const SOCKET: u8 = 0;
const WRITE: u8 = 1;

impl SocketChannel {
    fn new(state: State) -> Self {
        Self {
            state,
            socket: None,
            output: InputEnd::default(),
            output_ready: false,
            input_ready: false,
            input_ended: false,
            output_ended: false,
        }
    }

    /// A connection to a host; it is accepted once it is connected.
    pub(crate) fn to_host(context: &Context, host: &[u8], port: u32) -> Option<Self> {
        let port = u16::try_from(port).ok()?;
        let host = str::from_utf8(host).ok()?;
        if let Ok(address) = host.parse::<IpAddr>() {
            let state = next_address(vec![SocketAddr::new(address, port)])?;
            return Some(Self::new(state));
        }
        let lookup = resolve(host, &context.waker)?;
        Some(Self::new(State::Resolving(lookup, port)))
    }

    /// A connection to a Unix socket.
    pub(crate) fn to_path(path: &[u8]) -> Option<Self> {
        use std::os::unix::ffi::OsStrExt;
        let address = SocketAddrUnix::new(Path::new(std::ffi::OsStr::from_bytes(path))).ok()?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
        // Connecting to a Unix socket never is under way: it works or it does not.
        connect(&socket, &address).ok()?;
        Some(Self::new(State::Connecting(socket, Instant::now() + PATIENCE, Vec::new())))
    }

    /// A connection that was accepted here and is offered to the client.
    pub(crate) fn accepted(socket: OwnedFd) -> Self {
        Self::new(State::Offered(socket))
    }

    fn open(&mut self, socket: OwnedFd) {
        self.output = InputEnd::other(socket.try_clone().ok());
        self.socket = Some(socket);
        self.state = State::Open;
    }

    fn connect(&mut self, link: &mut Link<'_>) {
        let next = match std::mem::replace(&mut self.state, State::Closed) {
            State::Resolving(lookup, port) => match lookup.take() {
                None => {
                    self.state = State::Resolving(lookup, port);
                    return;
                }
                Some(found) => {
                    next_address(found.into_iter().map(|address| SocketAddr::new(address, port)).rev().collect())
                }
            },
            State::Connecting(socket, until, left) => match sockopt::socket_error(&socket) {
                Ok(Ok(())) if is_connected(&socket) => {
                    let _ = sockopt::set_tcp_nodelay(&socket, true);
                    self.open(socket);
                    link.connection.accept_open(link.id);
                    return;
                }
                Ok(Ok(())) if until > Instant::now() => {
                    self.state = State::Connecting(socket, until, left);
                    return;
                }
                _ => next_address(left),
            },
            other => {
                self.state = other;
                return;
            }
        };
        match next {
            Some(state) => self.state = state,
            None => {
                link.connection.refuse_open(link.id, OpenFailure::ConnectFailed, "it can't be connected to");
                link.is_refused = true;
            }
        }
    }

    fn end_output(&mut self) {
        if self.output.is_done() && !self.output_ended {
            self.output_ended = true;
            if let Some(socket) = &self.socket {
                let _ = shutdown(socket, Shutdown::Write);
            }
        }
    }

    fn send(&mut self, link: &mut Link<'_>) {
        let Some(socket) = &self.socket else { return };
        if !self.input_ready || self.input_ended {
            return;
        }
        let mut result = Err(Errno::AGAIN);
        let sent = link.connection.send_with(link.id, DataStream::Data, |buffer| {
            result = recv(socket, buffer, RecvFlags::empty()).map(|(count, _)| count);
            Ok::<_, Infallible>(result.unwrap_or(0))
        });
        let Ok(_) = sent;
        match result {
            Ok(0) => self.input_ended = true,
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                if link.connection.room(link.id) > 0 {
                    self.input_ready = false;
                }
            }
            Err(_) => {
                self.input_ended = true;
                self.output.close();
            }
        }
        if self.input_ended {
            link.connection.eof(link.id);
        }
    }
}

/// Begins to connect to the last of the addresses that lets it.
fn next_address(mut addresses: Vec<SocketAddr>) -> Option<State> {
    while let Some(address) = addresses.pop() {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(socket) = socket_with(family, SocketType::STREAM, flags, None) else { continue };
        if matches!(connect(&socket, &address), Ok(()) | Err(Errno::INPROGRESS)) {
            return Some(State::Connecting(socket, Instant::now() + PATIENCE, addresses));
        }
    }
    None
}

fn is_connected(socket: &OwnedFd) -> bool {
    rustix::net::getpeername(socket).is_ok_and(|peer| peer.is_some())
}

impl Channel for SocketChannel {
    fn data(&mut self, _context: &Context, bytes: &[u8]) -> usize {
        self.output.push(bytes)
    }

    fn eof(&mut self) {
        self.output.end();
    }

    fn register<'a>(&'a self, room: usize, slots: &mut Slots<'_, 'a>) {
        match &self.state {
            State::Connecting(socket, until, _) => {
                slots.add(SOCKET, socket.as_fd(), PollFlags::OUT);
                slots.until(Some(*until));
            }
            State::Open => {
                if let Some(descriptor) = self.output.waits_for() {
                    slots.add(WRITE, descriptor, PollFlags::OUT);
                }
                if room == 0 || self.input_ended {
                    return;
                }
                if self.input_ready {
                    slots.at_once();
                } else if let Some(socket) = &self.socket {
                    slots.add(SOCKET, socket.as_fd(), PollFlags::IN);
                }
            }
            State::Resolving(..) | State::Offered(_) | State::Closed => {}
        }
    }

    fn ready(&mut self, slot: u8, _events: PollFlags) {
        match slot {
            SOCKET => self.input_ready = true,
            _ => self.output_ready = true,
        }
    }

    fn confirmed(&mut self) {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Offered(socket) => self.open(socket),
            other => self.state = other,
        }
    }

    fn linger(&mut self) -> bool {
        if !matches!(self.state, State::Open) {
            return false;
        }
        self.output.end();
        if std::mem::take(&mut self.output_ready) {
            self.output.flush();
        }
        self.end_output();
        !self.output_ended
    }

    fn progress(&mut self, link: &mut Link<'_>) {
        self.connect(link);
        if !matches!(self.state, State::Open) {
            return;
        }
        if std::mem::take(&mut self.output_ready) {
            link.connection.consumed(link.id, self.output.flush());
        }
        self.end_output();
        self.send(link);
        if self.input_ended && self.output_ended {
            link.connection.close(link.id);
            self.socket = None;
            self.output.close();
            self.state = State::Closed;
        }
    }
}

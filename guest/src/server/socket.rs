//! Forwarded connections.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, connect, recv, shutdown, socket_with,
    sockopt,
};
use sandbox_protocol::Target;

use super::channel::{Channel, Context, Link, Slots};
use super::pipe::InputEnd;
use super::resolve::{Lookup, resolve};
use crate::ssh::{DataStream, OpenFailure};

/// How long a connection to one address may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// After what time a Unix socket is tried again whose queue is full.
const QUEUE: Duration = Duration::from_millis(10);

#[derive(Debug)]
enum State {
    /// A name is being looked up.
    Resolving(Arc<Lookup>, u16),
    /// Being connected to; then there are these addresses left to try.
    Connecting(OwnedFd, Instant, Vec<SocketAddr>),
    /// It is connected, which is yet to be said.
    Connected(OwnedFd),
    /// A Unix socket whose queue is full, when to try it again, and until when.
    Full(SocketAddrUnix, Instant, Instant),
    /// The client has not answered yet.
    Offered(OwnedFd),
    Open,
    /// It could not be connected to.
    Failed(Errno),
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
    /// Why the first address could not be connected to.
    failure: Option<Errno>,
    /// The client is told by a byte how the connection went, and by a status if it breaks.
    is_telling: bool,
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
            failure: None,
            is_telling: false,
        }
    }

    /// A connection to a host; it is accepted once it is connected.
    pub(crate) fn to_host(context: &Context, host: &[u8], port: u32) -> Option<Self> {
        let port = u16::try_from(port).ok()?;
        let host = str::from_utf8(host).ok()?;
        if let Ok(address) = host.parse::<IpAddr>() {
            let state = next_address(vec![SocketAddr::new(address, port)]).ok()?;
            return Some(Self::new(state));
        }
        let lookup = resolve(host, &context.waker)?;
        Some(Self::new(State::Resolving(lookup, port)))
    }

    /// A connection to a Unix socket.
    pub(crate) fn to_path(path: &[u8]) -> Option<Self> {
        Some(Self::new(to_path(path).ok()?))
    }

    /// A connection for the library, which is accepted at once. `None` if the target makes no sense.
    pub(crate) fn to_target(target: &[u8]) -> Option<Self> {
        let state = match serde_json::from_slice(target).ok()? {
            Target::Port(port) => {
                let addresses: [IpAddr; 2] = [Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
                next_address(addresses.map(|address| SocketAddr::new(address, port)).to_vec())
            }
            Target::Path(path) => to_path(path.as_ref()),
        };
        Some(Self { is_telling: true, ..Self::new(state.unwrap_or_else(State::Failed)) })
    }

    /// A connection that was accepted here and is offered to the client.
    pub(crate) fn accepted(socket: OwnedFd) -> Self {
        Self::new(State::Offered(socket))
    }

    /// Takes what the client has sent already, and says how many bytes of it need no memory any more.
    fn open(&mut self, socket: OwnedFd) -> usize {
        let early = std::mem::replace(&mut self.output, InputEnd::other(socket.try_clone().ok()));
        let taken = self.output.inherit(early);
        self.socket = Some(socket);
        self.state = State::Open;
        taken
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
                    Ok(State::Connected(socket))
                }
                Ok(Ok(())) if until > Instant::now() => {
                    self.state = State::Connecting(socket, until, left);
                    return;
                }
                result => {
                    let errno = match result {
                        Ok(Err(errno)) | Err(errno) => errno,
                        Ok(Ok(())) => Errno::TIMEDOUT,
                    };
                    self.failure.get_or_insert(errno);
                    next_address(left)
                }
            },
            State::Full(address, next, until) if next > Instant::now() => {
                self.state = State::Full(address, next, until);
                return;
            }
            State::Full(address, _, until) => to_unix(address, until),
            State::Connected(socket) => Ok(State::Connected(socket)),
            State::Failed(errno) => Err(errno),
            other => {
                self.state = other;
                return;
            }
        };
        let errno = match next {
            Ok(State::Connected(socket)) if !self.is_telling => {
                self.open(socket);
                return link.connection.accept_open(link.id);
            }
            Ok(State::Connected(socket)) if tell(link, 0) => {
                let taken = self.open(socket);
                return link.connection.consumed(link.id, taken);
            }
            Ok(state) => {
                self.state = state;
                return;
            }
            Err(errno) => *self.failure.get_or_insert(errno),
        };
        if !self.is_telling {
            link.connection.refuse_open(link.id, OpenFailure::ConnectFailed, "it can't be connected to");
            link.is_refused = true;
        } else if tell(link, u8::try_from(errno.raw_os_error()).unwrap_or(u8::MAX)) {
            link.connection.eof(link.id);
            link.connection.close(link.id);
            self.output.close();
        } else {
            self.state = State::Failed(errno);
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
            Err(errno) => {
                self.input_ended = true;
                self.output.close();
                if self.is_telling {
                    link.connection.exit_status(link.id, errno.raw_os_error().unsigned_abs());
                }
            }
        }
        if self.input_ended {
            link.connection.eof(link.id);
        }
    }
}

/// Sends the byte that says how a connection went; false if there is no room for it yet.
fn tell(link: &mut Link<'_>, errno: u8) -> bool {
    let sent = link.connection.send_with(link.id, DataStream::Data, |buffer| {
        buffer[0] = errno;
        Ok::<_, Infallible>(1)
    });
    let Ok(length) = sent;
    length == 1
}

/// Begins to connect to the last of the addresses that lets it. The error is that of the first one that was tried.
fn next_address(mut addresses: Vec<SocketAddr>) -> Result<State, Errno> {
    let mut failure = None;
    while let Some(address) = addresses.pop() {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let begun =
            socket_with(family, SocketType::STREAM, flags, None).and_then(|socket| match connect(&socket, &address) {
                Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
                Err(errno) => Err(errno),
            });
        match begun {
            Ok(socket) => return Ok(State::Connecting(socket, Instant::now() + CONNECT_TIMEOUT, addresses)),
            Err(errno) => failure = failure.or(Some(errno)),
        }
    }
    Err(failure.unwrap_or(Errno::HOSTUNREACH))
}

fn to_path(path: &[u8]) -> Result<State, Errno> {
    let address = SocketAddrUnix::new(Path::new(std::ffi::OsStr::from_bytes(path)))?;
    to_unix(address, Instant::now() + CONNECT_TIMEOUT)
}

/// Connects to a Unix socket. That never is under way: it works, or it does not, or the queue is full.
fn to_unix(address: SocketAddrUnix, until: Instant) -> Result<State, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &address) {
        Ok(()) => Ok(State::Connecting(socket, until, Vec::new())),
        Err(Errno::AGAIN) if until > Instant::now() => Ok(State::Full(address, Instant::now() + QUEUE, until)),
        Err(errno) => Err(errno),
    }
}

fn is_connected(socket: &OwnedFd) -> bool {
    rustix::net::getpeername(socket).is_ok_and(|peer| peer.is_some())
}

impl Channel for SocketChannel {
    fn has_something_open(&self) -> bool {
        true
    }

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
            State::Full(_, next, _) => slots.until(Some(*next)),
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
            State::Resolving(..) | State::Connected(_) | State::Offered(_) | State::Failed(_) | State::Closed => {}
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
            State::Offered(socket) => {
                self.open(socket);
            }
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

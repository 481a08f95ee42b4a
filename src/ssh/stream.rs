//! A byte stream to a sandbox's SSH server: a TCP connection, or a tunnel through the API server.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fd::Awaited;

/// How long a silent peer may leave data unacknowledged before the kernel gives the connection up. The peer's kernel
/// answers, so a command that is silent for hours does not matter.
const DEAD_PEER: Duration = Duration::from_secs(30);

/// A byte stream to a sandbox's SSH server.
#[derive(Debug)]
pub(crate) enum Stream {
    /// A connection to the Pod's address.
    Direct(TcpStream),
    /// Our end of a pair whose other end a task pumps through the API server.
    Tunnel(UnixStream),
}

impl Stream {
    /// Connects to the Pod's address.
    pub(crate) fn direct(address: SocketAddr, deadline: Deadline) -> Result<Self> {
        let attempt = || -> io::Result<TcpStream> {
            let stream = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            stream.set_nonblocking(true)?;
            match stream.connect(&address.into()) {
                Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => return Err(e),
                _ => Awaited::wait(&[Awaited::to_write(stream.as_fd())], deadline, "the connection")?,
            }
            if let Some(e) = stream.take_error()? {
                return Err(e);
            }
            let stream = TcpStream::from(stream);
            // Without this a warm command costs 50 ms instead of 4: Nagle waits for an acknowledgement that is delayed.
            stream.set_nodelay(true)?;
            let keepalive =
                TcpKeepalive::new().with_time(DEAD_PEER / 2).with_interval(Duration::from_secs(5)).with_retries(3);
            let socket = SockRef::from(&stream);
            socket.set_tcp_keepalive(&keepalive)?;
            socket.set_tcp_user_timeout(Some(DEAD_PEER))?;
            Ok(stream)
        };
        attempt().map(Self::Direct).map_err(|e| {
            let own = e.get_ref().and_then(|e| e.downcast_ref::<Error>()).map(Error::kind);
            let kind = if own == Some(ErrorKind::Cancelled) { ErrorKind::Cancelled } else { ErrorKind::Connect };
            Error::new(kind, format!("can't connect to {address}: {e}")).with_source(e)
        })
    }

    pub(super) fn prepare(&self) -> io::Result<()> {
        match self {
            Self::Direct(stream) => stream.set_nonblocking(true),
            Self::Tunnel(stream) => stream.set_nonblocking(true),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Direct(stream) => stream.as_fd(),
            Self::Tunnel(stream) => stream.as_fd(),
        }
    }
}

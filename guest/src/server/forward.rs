//! Ports and Unix sockets in the sandbox whose connections are forwarded to the client.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::ssh::Forwarded;

/// Listeners of one connection.
const MOST: usize = 64;

/// All of a connection's listeners.
#[derive(Debug, Default)]
pub(crate) struct Forwards(Vec<Forward>);

#[derive(Debug)]
enum Forward {
    Tcp { host: Vec<u8>, port: u16, listener: TcpListener },
    Path { path: Vec<u8>, listener: UnixListener, file: PathBuf },
}

/// A connection that came to one of them.
#[derive(Debug)]
pub(crate) enum Accepted {
    Tcp { host: Vec<u8>, port: u16, from: SocketAddr, from_host: String, socket: OwnedFd },
    Path { path: Vec<u8>, socket: OwnedFd },
}

impl Accepted {
    pub(crate) fn kind(&self) -> Forwarded<'_> {
        match self {
            Self::Tcp { host, port, from, from_host, .. } => Forwarded::Tcpip {
                host,
                port: u32::from(*port),
                originator_host: from_host.as_bytes(),
                originator_port: u32::from(from.port()),
            },
            Self::Path { path, .. } => Forwarded::Streamlocal { path },
        }
    }

    pub(crate) fn into_socket(self) -> OwnedFd {
        match self {
            Self::Tcp { socket, .. } | Self::Path { socket, .. } => socket,
        }
    }
}

impl Forwards {
    pub(crate) fn listeners(&self) -> impl Iterator<Item = (u8, BorrowedFd<'_>)> {
        (0..).zip(self.0.iter().map(|forward| match forward {
            Forward::Tcp { listener, .. } => listener.as_fd(),
            Forward::Path { listener, .. } => listener.as_fd(),
        }))
    }

    /// Listens on the loopback addresses, whatever address is asked for, as sshd does by default. Returns the data of
    /// the answer.
    pub(crate) fn listen_tcp(&mut self, host: &[u8], port: u32) -> Option<Vec<u8>> {
        let wanted = u16::try_from(port).ok()?;
        let is_known =
            |forward: &Forward| matches!(forward, Forward::Tcp { host: of, port, .. } if of == host && *port == wanted);
        if self.0.len() + 2 > MOST || self.0.iter().any(is_known) {
            return None;
        }
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted));
        let port = match &first {
            Ok(listener) => listener.local_addr().ok()?.port(),
            Err(_) => wanted,
        };
        let second = TcpListener::bind((Ipv6Addr::LOCALHOST, port));
        let before = self.0.len();
        for listener in [first, second].into_iter().flatten() {
            let port = listener.local_addr().ok()?.port();
            listener.set_nonblocking(true).ok()?;
            self.0.push(Forward::Tcp { host: host.to_vec(), port, listener });
        }
        let Some(Forward::Tcp { port, .. }) = self.0.get(before) else { return None };
        Some(if wanted == 0 { u32::from(*port).to_be_bytes().to_vec() } else { Vec::new() })
    }

    pub(crate) fn cancel_tcp(&mut self, host: &[u8], port: u32) -> Option<Vec<u8>> {
        self.cancel(|forward| {
            matches!(forward, Forward::Tcp { host: of, port: known, .. } if of == host && u32::from(*known) == port)
        })
    }

    pub(crate) fn listen_path(&mut self, path: &[u8]) -> Option<Vec<u8>> {
        if self.0.len() >= MOST {
            return None;
        }
        let file = Path::new(OsStr::from_bytes(path)).to_path_buf();
        let listener = UnixListener::bind(&file).ok()?;
        // Only for the same user, as with sshd.
        let restricted = fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600));
        let forward = Forward::Path { path: path.to_vec(), listener, file };
        restricted.ok()?;
        if let Forward::Path { listener, .. } = &forward {
            listener.set_nonblocking(true).ok()?;
        }
        self.0.push(forward);
        Some(Vec::new())
    }

    pub(crate) fn cancel_path(&mut self, path: &[u8]) -> Option<Vec<u8>> {
        self.cancel(|forward| matches!(forward, Forward::Path { path: known, .. } if known == path))
    }

    fn cancel(&mut self, is_it: impl Fn(&Forward) -> bool) -> Option<Vec<u8>> {
        let before = self.0.len();
        self.0.retain(|forward| !is_it(forward));
        (self.0.len() < before).then(Vec::new)
    }

    /// The next connection to a listener, if it is still there.
    pub(crate) fn accept(&self, slot: u8) -> Option<Accepted> {
        match self.0.get(usize::from(slot))? {
            Forward::Tcp { host, port, listener } => {
                let (socket, from) = listener.accept().ok()?;
                socket.set_nonblocking(true).ok()?;
                let _ = socket.set_nodelay(true);
                let from_host = from.ip().to_string();
                Some(Accepted::Tcp { host: host.clone(), port: *port, from, from_host, socket: socket.into() })
            }
            Forward::Path { path, listener, .. } => {
                let (socket, _) = listener.accept().ok()?;
                socket.set_nonblocking(true).ok()?;
                Some(Accepted::Path { path: path.clone(), socket: socket.into() })
            }
        }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        if let Self::Path { file, .. } = self {
            let _ = fs::remove_file(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn a_port_is_chosen_and_cancelled() {
        let mut forwards = Forwards::default();
        let data = forwards.listen_tcp(b"localhost", 0).unwrap();
        let port = u32::from_be_bytes(data.try_into().unwrap());
        let client = TcpStream::connect(("127.0.0.1", port as u16)).unwrap();
        let accepted = forwards.accept(0).unwrap();
        assert_eq!(
            accepted.kind(),
            Forwarded::Tcpip {
                host: b"localhost",
                port,
                originator_host: b"127.0.0.1",
                originator_port: u32::from(client.local_addr().unwrap().port()),
            }
        );
        assert!(forwards.listen_tcp(b"localhost", port).is_none());
        assert!(forwards.cancel_tcp(b"localhost", port).is_some());
        assert!(forwards.cancel_tcp(b"localhost", port).is_none());
        assert_eq!(forwards.listeners().count(), 0);
        assert!(TcpStream::connect(("127.0.0.1", port as u16)).is_err());
    }

    #[test]
    fn what_is_no_port_is_refused() {
        let mut forwards = Forwards::default();
        assert!(forwards.listen_tcp(b"", 65536).is_none());
        assert!(forwards.listen_path(b"/no/such/directory/socket").is_none());
        assert!(forwards.listen_path(b"nul\0byte").is_none());
    }
}

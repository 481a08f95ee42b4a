//! Connections to what listens in a sandbox.

mod forward;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use sandbox_protocol::{self as protocol, Failure, FailureKind, Request, Response, WaitForPort};

use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::link::Link;
use crate::ssh::commands::{self, NoStreams};
use crate::ssh::ports::{Connection, Moved, Observer};
use crate::text;

pub use self::forward::{Forward, Local};

/// How much later than the end of the caller's time the guest may say that nothing listens.
const GRACE: Duration = Duration::from_secs(5);

/// What listens in a sandbox: a TCP port of its loopback addresses, or a Unix socket.
///
/// As text, such as for [`str::parse`], a port is its number and a socket a path with a slash.
///
/// ```
/// use sandbox::Target;
///
/// assert_eq!("8080".parse::<Target>()?, Target::from(8080));
/// assert_eq!("/run/server.sock".parse::<Target>()?, Target::Path("/run/server.sock".into()));
/// # Ok::<(), sandbox::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// A TCP port. 127.0.0.1 is tried first, then ::1.
    Port(u16),
    /// A Unix socket. A relative path begins at the image's working directory.
    Path(PathBuf),
}

impl From<u16> for Target {
    fn from(port: u16) -> Self {
        Self::Port(port)
    }
}

impl From<&Path> for Target {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl From<PathBuf> for Target {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.contains('/') {
            return Ok(Self::Path(text.into()));
        }
        match text.parse() {
            Ok(port) if port > 0 => Ok(Self::Port(port)),
            _ => Err(invalid(format!("'{}' is neither a port nor a path with a slash", text::shown(text)))),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => port.fmt(f),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

impl Target {
    /// As the guest gets it.
    fn encoded(&self) -> Result<protocol::Target> {
        match self {
            Self::Port(0) => Err(invalid("port 0 is not valid".to_owned())),
            Self::Port(port) => Ok(protocol::Target::Port(*port)),
            Self::Path(path) => match path.as_os_str().as_bytes() {
                path if path.is_empty() || path.contains(&0) => {
                    Err(invalid("a path is empty or has a NUL byte".to_owned()))
                }
                path => Ok(protocol::Target::Path(path.into())),
            },
        }
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

/// Connects to something in the sandbox.
pub(crate) fn connect(link: &Link, target: &Target) -> Result<TcpStream> {
    let target = target.encoded()?;
    let deadline = Deadline::after(link.ctx().config.connect_timeout);
    loop {
        let (near, far) = pair().map_err(|e| {
            let message = format!("can't make a pair of sockets: {e}");
            Error::new(ErrorKind::Connect, message).with_source(e)
        })?;
        let (sender, receiver) = mpsc::channel();
        let connection = Connection::new(target.clone(), far.into(), Arc::default(), Waiting(sender));
        let is_reused = link.endpoint().connect_to(connection, deadline)?;
        match wait(&receiver, deadline)? {
            // The session's peer had gone away unnoticed.
            Err(e) if e.kind() == ErrorKind::Disconnected && is_reused && !link.endpoint().is_closed() => {}
            result => return result.map(|()| near),
        }
    }
}

/// A thread that waits for a connection.
struct Waiting(Sender<Result<()>>);

impl Observer for Waiting {
    fn connected(&mut self) {
        // It may wait no longer.
        let _ = self.0.send(Ok(()));
    }

    fn ended(&mut self, _: Moved, result: Result<()>) {
        let _ = self.0.send(result);
    }
}

fn wait(receiver: &Receiver<Result<()>>, deadline: Deadline) -> Result<Result<()>> {
    let gone = || Error::new(ErrorKind::Disconnected, "the session for connections has ended");
    loop {
        let received = match deadline.next_check().remaining() {
            None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(left) => receiver.recv_timeout(left),
        };
        match received {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Disconnected) => return Ok(Err(gone())),
            Err(RecvTimeoutError::Timeout) => deadline.check("the connection")?,
        }
    }
}

/// Two connected sockets. Not Unix sockets: only of TCP's, a connection that broke can be told from one that has ended.
fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let own = near.local_addr()?;
    let far = loop {
        let (far, from): (_, SocketAddr) = listener.accept()?;
        // Anybody on this machine may have connected.
        if from == own {
            break far;
        }
    };
    for end in [&near, &far] {
        end.set_nodelay(true)?;
    }
    far.set_nonblocking(true)?;
    Ok((near, far))
}

/// Waits until something listens there.
pub(crate) fn wait_for_port(link: &Link, target: &Target, timeout: Option<Duration>) -> Result<()> {
    let encoded = target.encoded()?;
    link.repeatedly(timeout, |deadline| {
        let left = deadline.remaining().map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        let request = Request::WaitForPort(WaitForPort { target: encoded.clone(), timeout_ms: left });
        let answer = link.request(&request, &mut NoStreams, deadline.later(GRACE))?;
        match (answer.cancelled, answer.response) {
            (_, Response::Done) => Ok(()),
            (Some(e), _) => Err(e),
            (None, Response::Failed(failure)) => Err(not_there(target, &failure)),
            (None, _) => Err(commands::not_an_answer()),
        }
    })
}

fn not_there(target: &Target, failure: &Failure) -> Error {
    match failure.kind {
        FailureKind::TimedOut => {
            let what = match target {
                Target::Port(port) => format!("port {port}"),
                Target::Path(path) => format!("'{}'", path.display()),
            };
            Error::new(ErrorKind::TimedOut, format!("timed out before anything in the sandbox listened on {what}"))
        }
        _ => {
            let message = format!("the sandbox can't wait for the port: {}", text::shown(&failure.message));
            let error = Error::new(ErrorKind::Command, message);
            match failure.errno {
                Some(errno) => error.with_errno(errno),
                None => error,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn targets_are_written_as_people_do() {
        for (text, target) in [("1", Target::Port(1)), ("65535", 65535.into()), ("./s", Path::new("./s").into())] {
            assert_eq!((text.parse::<Target>().unwrap(), target.to_string()), (target, text.to_owned()));
        }
        for wrong in ["", "0", "65536", "-1", "http", "8080 ", "localhost:80"] {
            assert_eq!(wrong.parse::<Target>().unwrap_err().kind(), ErrorKind::InvalidArgument, "{wrong}");
        }
        for wrong in [Target::Port(0), Target::Path("".into()), Target::Path("a\0b".into())] {
            assert_eq!(wrong.encoded().unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
    }

    #[test]
    fn a_pair_is_connected() {
        let (mut near, mut far) = pair().unwrap();
        near.write_all(b"to").unwrap();
        far.write_all(b"fro").unwrap();
        far.set_nonblocking(false).unwrap();
        let mut buffer = [0; 3];
        near.read_exact(&mut buffer).unwrap();
        far.read_exact(&mut buffer[..2]).unwrap();
        assert_eq!(&buffer, b"too");
    }
}

//! Connections into a sandbox whose SSH server misbehaves: an error in time, never an end of data that is none. These
//! tests need no cluster.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;
mod sshd;

use std::io::{ErrorKind as IoErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sandbox::{ErrorKind, Result, Sandbox};
use sshd::connection::{Connection, Event};
use sshd::wire::*;
use sshd::{Script, Server};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_millis(1500);
/// And that with Kubernetes asked why, on a busy machine.
const IN_TIME: Duration = Duration::from_secs(20);

/// What `try_it` says of a sandbox whose server does this after the login. It is in time.
fn against<T>(script: impl Script, try_it: impl FnOnce(&Sandbox) -> T) -> T {
    let server = Server::start(move |connection: &mut Connection| {
        connection.log_in()?;
        script(connection)
    });
    let client = sshd::client(|config| config.connect_timeout(CONNECT));
    let sandbox = client.attach(server.name()).unwrap();
    let began = Instant::now();
    let result = try_it(&sandbox);
    assert!(began.elapsed() < IN_TIME, "{:?}", began.elapsed());
    result
}

fn connect(script: impl Script) -> Result<TcpStream> {
    against(script, |sandbox| sandbox.connect(80))
}

#[test]
fn what_is_never_answered_is_given_up() {
    // Not the channel, and not whether there is a connection.
    assert_eq!(connect(Connection::hold).unwrap_err().kind(), ErrorKind::TimedOut);
    let silent = connect(|connection| {
        connection.open_channel(1 << 20)?;
        connection.hold()
    });
    assert_eq!(silent.unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn answers_that_are_none_are_errors() {
    let refused = connect(|connection| {
        connection.until(|event| *event == Event::Open)?;
        connection.send(connection.to_channel(CHANNEL_OPEN_FAILURE).u32(1).string("no").string(""))?;
        connection.hold()
    });
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Connect);
    let says_nothing = connect(|connection| {
        connection.open_channel(1 << 20)?;
        connection.eof()?;
        connection.close_channel()?;
        connection.hold()
    });
    assert_eq!(says_nothing.unwrap_err().kind(), ErrorKind::Connect);
    for (byte, kind) in [(111, ErrorKind::Refused), (13, ErrorKind::PermissionDenied), (255, ErrorKind::Connect)] {
        let error = connect(move |connection| {
            connection.open_channel(1 << 20)?;
            connection.data([byte])?;
            connection.hold()
        });
        assert_eq!(error.unwrap_err().kind(), kind);
    }
    let hangs_up = connect(|connection| connection.open_channel(1 << 20));
    assert!(matches!(hangs_up.unwrap_err().kind(), ErrorKind::Disconnected | ErrorKind::Connect));
}

#[test]
fn a_lost_connection_is_no_end_of_the_data() {
    let script = |connection: &mut Connection| {
        connection.open_channel(1 << 20)?;
        connection.data(b"\0some")?;
        // It has been read.
        connection.until(|event| matches!(event, Event::Data(_))).map(drop)
    };
    let mut stream = connect(script).unwrap();
    let mut some = [0; 4];
    stream.read_exact(&mut some).unwrap();
    stream.write_all(b"x").unwrap();
    assert_eq!((&some, stream.read(&mut [0]).unwrap_err().kind()), (b"some", IoErrorKind::ConnectionReset));
    // Of a forward neither.
    against(script, |sandbox| {
        let forward = sandbox.forward(0, 80).unwrap();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, forward.port())).unwrap();
        stream.read_exact(&mut some).unwrap();
        stream.write_all(b"x").unwrap();
        assert_eq!((&some, stream.read(&mut [0]).unwrap_err().kind()), (b"some", IoErrorKind::ConnectionReset));
        assert_eq!(forward.last_failure().unwrap().kind(), ErrorKind::Disconnected);
    });
}

/// Not for the time to connect, which is longer than any test.
#[test]
fn closing_a_forward_does_not_wait_for_a_session_that_is_being_made() {
    let (end_first, first_ends) = mpsc::channel();
    let (tell, has_come) = mpsc::channel();
    let (first_ends, is_first) = (Mutex::new(first_ends), AtomicBool::new(true));
    let server = Server::start(move |connection: &mut Connection| {
        if is_first.swap(false, Ordering::Relaxed) {
            connection.log_in()?;
            let _ = first_ends.lock().unwrap().recv();
            return Ok(());
        }
        let _ = tell.send(());
        connection.hold()
    });
    let client = sshd::client(|config| config.connect_timeout(Duration::from_secs(3600)));
    let forward = client.attach(server.name()).unwrap().forward(0, 80).unwrap();
    end_first.send(()).unwrap();
    has_come.recv().unwrap();
    let began = Instant::now();
    forward.close();
    assert!(began.elapsed() < IN_TIME, "{:?}", began.elapsed());
    assert!(forward.last_failure().is_none() && forward.wait().is_ok());
}

#[test]
fn floods_end_the_session() {
    // Of what belongs to no channel, and of what exceeds every window.
    let to_nobody = against(
        |connection| {
            connection.open_channel(1 << 20)?;
            connection.data(b"\0")?;
            let flood = Message::new(CHANNEL_DATA).u32(4711).string([7; 20_000]);
            connection.flood(&flood)
        },
        |sandbox| read_to_the_end(sandbox.connect(80).unwrap()),
    );
    assert_eq!(to_nobody, Some(IoErrorKind::ConnectionReset));
    let unread = against(
        |connection| {
            connection.open_channel(1 << 20)?;
            connection.data(b"\0")?;
            let flood = connection.to_channel(CHANNEL_DATA).string([7; 20_000]);
            connection.flood(&flood)
        },
        |sandbox| {
            // Nobody reads, and yet nothing grows: what exceeds the window is not kept, and too much of it is the end.
            let stream = sandbox.connect(80).unwrap();
            let mut ended = [PollFd::new(&stream, PollFlags::empty())];
            let timeout = Timespec { tv_sec: 60, tv_nsec: 0 };
            assert_eq!(poll(&mut ended, Some(&timeout)), Ok(1));
            read_to_the_end(stream)
        },
    );
    assert_eq!(unread, Some(IoErrorKind::ConnectionReset));
}

/// The error by which the reading of all that comes ends.
fn read_to_the_end(mut stream: TcpStream) -> Option<IoErrorKind> {
    std::io::copy(&mut stream, &mut std::io::sink()).err().map(|e| e.kind())
}

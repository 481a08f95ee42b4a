//! Ports of a sandbox: connections, forwards, and waiting for them.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::io::{ErrorKind as IoErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{
    Scratch, await_that, beside, client_over, config, create, disconnect, kubectl, over_every_transport, transports,
};
use sandbox::{Client, ErrorKind, Forward, Local, Sandbox, Target, Transport};

const ECHO: u16 = 7001;
const ENDS_FIRST: u16 = 7002;
const BREAKS: u16 = 7003;
const SOURCE: u16 = 7004;
const SINK: u16 = 7005;
const DEAF: u16 = 7006;
const ECHO_IPV6: u16 = 7010;
/// The last thing that the servers listen on.
const ECHO_SOCKET: &str = "/home/sandbox/echo.sock";
const LONG: Duration = Duration::from_secs(60);

/// Starts the servers of `ports.py`.
fn serve(sandbox: &Sandbox) {
    sandbox.files().write("ports.py", include_str!("common/ports.py")).unwrap();
    sandbox.command("python3").arg("ports.py").detach("ports").unwrap();
    sandbox.wait_for_port(Path::new(ECHO_SOCKET), LONG).unwrap();
}

fn address(forward: &Forward) -> SocketAddr {
    match forward.local() {
        Local::Address(address) => *address,
        other => panic!("{other}"),
    }
}

/// The guest's SSH connections.
fn sessions(sandbox: &Sandbox) -> usize {
    let table = beside(sandbox, "cat /proc/net/tcp /proc/net/tcp6");
    let words = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    words.filter(|words| words.len() > 3 && words[1].ends_with(":08AE") && words[3] == "01").count()
}

fn read_all(stream: &mut impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    all
}

fn echoes(mut stream: TcpStream, bytes: &[u8]) {
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).unwrap();
    assert!(back == bytes);
    // This side's end is no end of the other one.
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut stream), format!("end of {}", bytes.len()).as_bytes());
}

#[test]
fn a_connection_has_two_halves() {
    over_every_transport(|_, sandbox| {
        serve(sandbox);
        let forward = sandbox.forward(0, ECHO).unwrap();
        echoes(sandbox.connect(ECHO).unwrap(), b"connected");
        echoes(sandbox.connect(ECHO_IPV6).unwrap(), b"by IPv6");
        echoes(TcpStream::connect(address(&forward)).unwrap(), b"forwarded");
        echoes(sandbox.connect(ECHO).unwrap(), &common::noise(10 << 20)[..1 << 20]);
        // The other side ends first, and hears what comes after that.
        let forward = sandbox.forward(0, ENDS_FIRST).unwrap();
        for mut stream in [sandbox.connect(ENDS_FIRST).unwrap(), TcpStream::connect(address(&forward)).unwrap()] {
            assert_eq!(read_all(&mut stream), b"that is all");
            stream.write_all(b"but not for this side").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            await_that("the rest to arrive", || {
                beside(sandbox, "cat received 2> /dev/null || true") == "but not for this side"
            });
            sandbox.execute("rm received").unwrap();
        }
        await_that("the connections to end", || forward.connections() == 0);
        assert!(forward.last_failure().is_none());
    });
}

#[test]
fn unix_sockets_on_both_sides() {
    over_every_transport(|_, sandbox| {
        serve(sandbox);
        echoes(sandbox.connect(Path::new(ECHO_SOCKET)).unwrap(), b"to a socket");
        // As in the image's working directory.
        echoes(sandbox.connect(Path::new("./echo.sock")).unwrap(), b"to a relative path");
        let scratch = Scratch::new();
        let path = scratch.path("a socket");
        let forward = sandbox.forward(path.clone(), Path::new(ECHO_SOCKET)).unwrap();
        assert_eq!((forward.local(), forward.port()), (&Local::Path(path.clone()), 0));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        // Its queue is short.
        let streams: Vec<_> = (0..20).map(|_| UnixStream::connect(&path).unwrap()).collect();
        for mut stream in streams {
            stream.write_all(b"from a socket").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_all(&mut stream), b"from a socketend of 13");
        }
        assert_eq!(sandbox.forward(path.clone(), ECHO).unwrap_err().kind(), ErrorKind::Busy);
        drop(forward);
        assert!(!path.exists());
        // Somebody else's file stays.
        let forward = sandbox.forward(path.clone(), ECHO).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "mine").unwrap();
        forward.close();
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    });
}

#[test]
fn what_is_refused_says_so() {
    over_every_transport(|_, sandbox| {
        serve(sandbox);
        let error = sandbox.connect(7999).unwrap_err();
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Refused, Some(111)), "{error}");
        assert!(error.to_string().contains("port 7999") && error.is_retryable(), "{error}");
        let missing = |path: &str| sandbox.connect(Path::new(path)).unwrap_err().kind();
        assert_eq!(missing("/no/such.sock"), ErrorKind::FileNotFound);
        assert_eq!(missing("/etc/passwd"), ErrorKind::PermissionDenied);
        assert_eq!(missing("/home/sandbox/ports.py"), ErrorKind::Refused);
        assert_eq!(missing(&format!("/{}", "x".repeat(200))), ErrorKind::NameTooLong);
        for wrong in [Target::Port(0), Target::Path("".into())] {
            assert_eq!(sandbox.connect(wrong).unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
        let forward = sandbox.forward(0, 7999).unwrap();
        let mut stream = TcpStream::connect(address(&forward)).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), IoErrorKind::ConnectionReset);
        let error = forward.last_failure().unwrap();
        assert_eq!((error.kind(), error.sandbox()), (ErrorKind::Refused, Some(sandbox.name())), "{error}");
        assert!(forward.is_open());
        // What is on this machine.
        let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let _taken = TcpListener::bind(taken).unwrap();
        let error = sandbox.forward(taken, ECHO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
        assert!(error.message().contains(&taken.to_string()), "{error}");
    });
}

#[test]
fn a_broken_connection_is_no_end() {
    over_every_transport(|_, sandbox| {
        serve(sandbox);
        let forward = sandbox.forward(0, BREAKS).unwrap();
        for mut stream in [sandbox.connect(BREAKS).unwrap(), TcpStream::connect(address(&forward)).unwrap()] {
            let mut begin = [0; 10];
            stream.read_exact(&mut begin).unwrap();
            assert_eq!(&begin, b"some of it");
            stream.write_all(b"x").unwrap();
            assert_eq!(stream.read(&mut begin).unwrap_err().kind(), IoErrorKind::ConnectionReset);
        }
        await_that("the failure to be known", || forward.last_failure().is_some());
        assert_eq!(forward.last_failure().unwrap().kind(), ErrorKind::Disconnected);
        // The session is lost; what comes after that gets a new one.
        let echo = sandbox.forward(0, ECHO).unwrap();
        let mut streams = [sandbox.connect(ECHO).unwrap(), TcpStream::connect(address(&echo)).unwrap()];
        for stream in &mut streams {
            stream.write_all(b"x").unwrap();
            stream.read_exact(&mut [0]).unwrap();
        }
        disconnect(sandbox);
        for mut stream in streams {
            assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), IoErrorKind::ConnectionReset);
        }
        echoes(sandbox.connect(ECHO).unwrap(), b"again");
        echoes(TcpStream::connect(address(&echo)).unwrap(), b"again");
    });
}

#[test]
fn much_passes_both_ways() {
    const MUCH: u64 = 256 << 20;
    over_every_transport(|_, sandbox| {
        serve(sandbox);
        let (down, up) = (sandbox.forward(0, SOURCE).unwrap(), sandbox.forward(0, SINK).unwrap());
        let began = Instant::now();
        let mut stream = TcpStream::connect(address(&down)).unwrap();
        write!(stream, "{MUCH}").unwrap();
        let (mut buffer, mut place) = (vec![0; 1 << 20], 0_u64);
        loop {
            let length = stream.read(&mut buffer).unwrap();
            if length == 0 {
                break;
            }
            assert!((place..).zip(&buffer[..length]).all(|(at, byte)| *byte == at as u8));
            place += length as u64;
        }
        assert_eq!(place, MUCH);
        println!("{:.0} MB/s down", MUCH as f64 / 1e6 / began.elapsed().as_secs_f64());
        let began = Instant::now();
        let mut stream = TcpStream::connect(address(&up)).unwrap();
        for _ in 0..MUCH >> 20 {
            stream.write_all(&buffer).unwrap();
        }
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut stream), MUCH.to_string().as_bytes());
        println!("{:.0} MB/s up", MUCH as f64 / 1e6 / began.elapsed().as_secs_f64());
    });
}

#[test]
fn many_share_sessions_and_none_waits_for_another() {
    over_every_transport(|client, sandbox| {
        serve(sandbox);
        let forward = sandbox.forward(0, ECHO).unwrap();
        let before = sessions(sandbox);
        // Their windows are full, and nobody reads or writes on.
        let mut stuck = Vec::new();
        for port in [DEAF, SOURCE] {
            for _ in 0..10 {
                let mut stream = sandbox.connect(port).unwrap();
                stream.set_nonblocking(true).unwrap();
                let bytes = if port == DEAF { common::noise(1 << 20) } else { b"1000000000".to_vec() };
                while stream.write(&bytes).is_ok_and(|_| port == DEAF) {}
                stuck.push(stream);
            }
        }
        let api_requests = client.stats().api_requests;
        std::thread::scope(|scope| {
            for _ in 0..30 {
                scope.spawn(|| echoes(TcpStream::connect(address(&forward)).unwrap(), &common::noise(300_000)));
            }
        });
        // One more at most, when the Pod's address has turned out to be reachable.
        assert!(sessions(sandbox) <= before + 1 && client.stats().api_requests - api_requests <= 1);
        drop(stuck);
        // More than one session carries.
        let mut streams: Vec<_> = (0..300).map(|_| sandbox.connect(ECHO).unwrap()).collect();
        assert!(sessions(sandbox) > before);
        for stream in &mut streams {
            stream.write_all(b"x").unwrap();
        }
        for mut stream in streams {
            stream.read_exact(&mut [0]).unwrap();
        }
        await_that("the connections to end", || forward.connections() == 0);
    });
}

#[test]
fn a_port_is_waited_for_in_the_sandbox() {
    over_every_transport(|client, sandbox| {
        let error = sandbox.wait_for_port(7100, Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(error.message().contains("port 7100"), "{error}");
        let line = "import os, socket, time\n\
            time.sleep(0.5)\n\
            listener = socket.create_server(('127.0.0.1', 7100))\n\
            listener.settimeout(0.05)\n\
            while not os.path.exists('stop'):\n\
            \x20   try:\n        listener.accept()\n        print('a connection')\n\
            \x20   except TimeoutError:\n        pass\n\
            print('over')\n";
        let server = sandbox.command("python3").args(["-c", line]).detach("server").unwrap();
        // The creation's own work goes on in the background for about a second.
        await_that("the host key to be in its annotation", || sandbox.info().unwrap().host_key.is_some());
        await_that("the address to be known", || sandbox.info().unwrap().pod_ip.is_some());
        let before = client.stats().api_requests;
        sandbox.wait_for_port(7100, LONG).unwrap();
        sandbox.wait_for_port(7100, None).unwrap();
        assert_eq!(client.stats().api_requests, before);
        // Nobody has connected to see whether it listens.
        sandbox.files().write("stop", "").unwrap();
        assert!(server.wait(LONG).unwrap().success());
        assert_eq!(server.read(sandbox::OutputStream::Stdout, 0, 100).unwrap(), b"over\n");
        // A lost connection is no end of the wait.
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| sandbox.wait_for_port(ECHO, LONG));
            disconnect(sandbox);
            serve(sandbox);
            waiting.join().unwrap().unwrap();
        });
    });
}

#[test]
fn a_closed_forward_breaks_its_connections_and_leaves_nothing() {
    over_every_transport(|_, sandbox| {
        serve(sandbox);
        let kept = sandbox.forward(0, ECHO).unwrap();
        let forward = sandbox.forward(0, ECHO).unwrap();
        let at = address(&forward);
        let mut stream = TcpStream::connect(at).unwrap();
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        let mut other = TcpStream::connect(address(&kept)).unwrap();
        await_that("the connection to be counted", || forward.connections() == 1);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| forward.wait());
            forward.close();
            waiting.join().unwrap().unwrap();
        });
        assert_eq!((forward.connections(), forward.is_open()), (0, false));
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), IoErrorKind::ConnectionReset);
        assert_eq!(TcpStream::connect(at).unwrap_err().kind(), IoErrorKind::ConnectionRefused);
        forward.close();
        // Of the same session.
        other.write_all(b"x").unwrap();
        other.read_exact(&mut [0]).unwrap();
    });
}

#[test]
fn a_forward_ends_with_its_pod() {
    for &transport in transports() {
        for by_this_client in [true, false] {
            let client = Client::new(config().transport(transport)).unwrap();
            let sandbox = create(&client);
            serve(&sandbox);
            let (used, idle) = (sandbox.forward(0, ECHO).unwrap(), sandbox.forward(0, ECHO).unwrap());
            let mut stream = TcpStream::connect(address(&used)).unwrap();
            stream.write_all(b"x").unwrap();
            stream.read_exact(&mut [0]).unwrap();
            let mut connected = sandbox.connect(ECHO).unwrap();
            if by_this_client {
                sandbox.delete().unwrap();
            } else {
                kubectl(&["delete", "pod", sandbox.name(), "--grace-period=1"]);
            }
            for forward in [&used, &idle] {
                let error = forward.wait().unwrap_err();
                // Whatever is known first.
                let is_closed = by_this_client && error.kind() == ErrorKind::Closed;
                assert!(error.kind() == ErrorKind::NotFound || is_closed, "{error}");
                assert_eq!(error.sandbox(), Some(sandbox.name()));
                assert!(!forward.is_open());
                assert_eq!(TcpStream::connect(address(forward)).unwrap_err().kind(), IoErrorKind::ConnectionRefused);
            }
            for stream in [&mut stream, &mut connected] {
                assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), IoErrorKind::ConnectionReset);
            }
            assert!(sandbox.connect(ECHO).is_err() && sandbox.forward(0, ECHO).is_err());
        }
    }
}

#[test]
fn what_is_open_outlives_the_handles() {
    for &transport in transports() {
        // One that does not move to another connection by itself.
        let own = client_over(Transport::Tunnel);
        let sandbox = create(&own);
        serve(&sandbox);
        let before = sessions(&sandbox);
        let client = Client::new(config().transport(transport)).unwrap();
        let attached = client.attach(sandbox.name()).unwrap();
        let (mut stream, forward) = (attached.connect(ECHO).unwrap(), attached.forward(0, ECHO).unwrap());
        drop((attached, client));
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        echoes(TcpStream::connect(address(&forward)).unwrap(), b"forwarded");
        drop(forward);
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut stream), b"end of 1");
        await_that("the session to end", || sessions(&sandbox) == before);
    }
}

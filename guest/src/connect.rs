//! `sandbox-guest connect`, run by `pods/exec`: an SSH connection to the guest over the standard streams, for where
//! Kubernetes's port-forward does not reach into the sandbox's network.
//!
//! It only carries what is encrypted, and a client that knows the host key notices whoever gets in between. One that
//! does not know it relies on what `control` relies on: no code in the sandbox can take over a process of the guest's
//! program, which is execute-only and protects itself before it does anything.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

/// How long the guest may take to listen: its container may have started this moment.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);
/// How long input goes on to be taken at the end, and when there is none.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
const SILENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// What a pipe holds.
const PIECE: usize = 64 << 10;
const STACK: usize = 128 << 10;

/// Carries a connection to `port` until both sides have ended.
///
/// # Errors
/// If nothing listens there, or the connection breaks.
pub fn run(port: u16) -> io::Result<()> {
    let socket = dial(port)?;
    socket.set_nodelay(true)?;
    let (mut input, mut output) = (own(&io::stdin())?, own(&io::stdout())?);
    let (to_guest, stdin) = (socket.try_clone()?, own(&io::stdin())?);
    let send = move || {
        // The guest's answer to the end of its input is the end of the connection.
        let _ = copy(&mut input, &mut &to_guest).and_then(|()| to_guest.shutdown(Shutdown::Write));
        let _ = io::copy(&mut input, &mut io::sink());
    };
    let sender = thread::Builder::new().name("input".to_owned()).stack_size(STACK).spawn(send)?;
    let result = copy(&mut &socket, &mut output);
    // The input that nobody takes any more is thrown away.
    let _ = socket.shutdown(Shutdown::Both);
    await_silence(&stdin, || sender.is_finished());
    result
}

/// containerd does not tell of the end of a process while it has input for it that finds no room. So this waits until
/// none has come for a while, or all has.
fn await_silence(input: &File, is_over: impl Fn() -> bool) {
    let until = Instant::now() + DRAIN_TIMEOUT;
    while !is_over() && Instant::now() < until {
        let mut descriptors = [PollFd::new(input, PollFlags::IN)];
        match poll(&mut descriptors, Some(&SILENCE)) {
            Ok(0) => return,
            // It is taken by the other thread.
            _ => thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn dial(port: u16) -> io::Result<TcpStream> {
    let loopback = [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
    let until = Instant::now() + LISTEN_TIMEOUT;
    loop {
        // Where there is no IPv6, the second one fails in another way.
        let failure = match TcpStream::connect(loopback[0]) {
            Ok(socket) => return Ok(socket),
            Err(e) => e,
        };
        match TcpStream::connect(loopback[1]) {
            Ok(socket) => return Ok(socket),
            Err(_) if failure.kind() == io::ErrorKind::ConnectionRefused && Instant::now() < until => {
                thread::sleep(PAUSE);
            }
            Err(_) => return Err(failure),
        }
    }
}

/// Without the buffers that the standard library puts before the standard streams.
fn own(stream: &impl AsFd) -> io::Result<File> {
    stream.as_fd().try_clone_to_owned().map(File::from)
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => to.write_all(&buffer[..length])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

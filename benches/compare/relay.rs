//! A long link: hands bytes on after a delay, and otherwise as fast as they come. Netem does this in the kernel, where
//! there is one.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};

use crate::{Peer, Result, number, sample, text};

/// Bytes on their way in one direction: more than the bench's machine moves in the delay, so this limits memory and not
/// speed.
const CAPACITY: usize = 64 << 20;
const PIECE: usize = 64 << 10;

pub(crate) struct Relay;

impl Peer for Relay {
    fn answer(&mut self, request: &Value) -> Result<Value> {
        let delay = Duration::from_millis(number(request, "delay_ms")?.try_into()?);
        match text(request, "work")? {
            "listen" => {
                let upstream = (text(request, "address")?, u16::try_from(number(request, "port")?)?);
                let upstream = SocketAddr::new(upstream.0.parse()?, upstream.1);
                Ok(json!(listen(upstream, delay)?.port()))
            }
            "round_trip" => round_trip(request, delay),
            other => Err(format!("there is no work {other}").into()),
        }
    }
}

/// Serves connections until the process ends.
fn listen(upstream: SocketAddr, delay: Duration) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for near in listener.incoming() {
            let joined = near.and_then(|near| join(near, TcpStream::connect(upstream)?, delay));
            if let Err(e) = joined {
                eprintln!("relay: {e}");
            }
        }
    });
    Ok(address)
}

fn join(near: TcpStream, far: TcpStream, delay: Duration) -> std::io::Result<()> {
    for (from, to) in [(near.try_clone()?, far.try_clone()?), (far, near)] {
        to.set_nodelay(true)?;
        let link = Arc::new(Link::default());
        let out = Arc::clone(&link);
        thread::spawn(move || link.fill(from, delay));
        thread::spawn(move || out.empty(to));
    }
    Ok(())
}

/// One direction of one connection.
#[derive(Default)]
struct Link {
    state: Mutex<Pieces>,
    changed: Condvar,
}

#[derive(Default)]
struct Pieces {
    /// With the time at which each is due. An empty one is the end.
    queue: VecDeque<(Instant, Box<[u8]>)>,
    bytes: usize,
    /// The far end takes no more.
    broken: bool,
}

impl Link {
    fn fill(&self, mut from: TcpStream, delay: Duration) {
        let mut buffer = vec![0; PIECE];
        loop {
            // A connection that breaks has ended, too.
            let length = from.read(&mut buffer).unwrap_or(0);
            let due = Instant::now() + delay;
            let mut state = self.state.lock();
            while state.bytes >= CAPACITY && !state.broken {
                self.changed.wait(&mut state);
            }
            state.bytes += length;
            state.queue.push_back((due, buffer[..length].into()));
            let is_over = length == 0 || state.broken;
            drop(state);
            self.changed.notify_one();
            if is_over {
                return;
            }
        }
    }

    fn empty(&self, mut to: TcpStream) {
        loop {
            let mut state = self.state.lock();
            let (due, piece) = loop {
                match state.queue.pop_front() {
                    Some(first) => break first,
                    None => self.changed.wait(&mut state),
                }
            };
            state.bytes -= piece.len();
            drop(state);
            self.changed.notify_one();
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if piece.is_empty() {
                // The other direction may go on.
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            if to.write_all(&piece).is_err() {
                let _ = to.shutdown(Shutdown::Both);
                self.state.lock().broken = true;
                self.changed.notify_one();
                return;
            }
        }
    }
}

/// What one byte takes there and back.
fn round_trip(request: &Value, delay: Duration) -> Result<Value> {
    let echo = TcpListener::bind("127.0.0.1:0")?;
    let mut stream = TcpStream::connect(listen(echo.local_addr()?, delay)?)?;
    stream.set_nodelay(true)?;
    let (mut far, _) = echo.accept()?;
    far.set_nodelay(true)?;
    let mut back = far.try_clone()?;
    thread::spawn(move || std::io::copy(&mut far, &mut back));
    sample(request, || {
        stream.write_all(&[1])?;
        Ok(stream.read_exact(&mut [0])?)
    })
}

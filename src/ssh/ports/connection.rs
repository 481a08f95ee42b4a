//! One connection into the sandbox: the bytes between a local socket and a channel.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use sandbox_protocol::{CONNECT_CHANNEL, Target};
use socket2::SockRef;

use super::super::raw::{Channel, Failure};
use super::super::session::{DriveError, Session, is_lost};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fd::{Awaited, Readiness};
use crate::text;

/// What the guest may send before we have taken it.
pub(super) const WINDOW: u32 = 2 << 20;
/// What is moved at once in one direction.
const PIECE: usize = 64 << 10;
/// How many pieces are moved before the other connections have their turn.
const PIECES: usize = 4;
/// The bytes of the connection that a byte of the channel takes at most.
const PACKETS: u64 = 16;
/// How long the guest may take to connect. It gives up earlier by itself.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// Who wants to know what becomes of a connection. It is told on a thread that moves the bytes of others too: nothing
/// here may block.
pub(crate) trait Observer: Send {
    /// There is a connection to the target.
    fn connected(&mut self);

    /// All is over: both sides have ended it, or there was none, or it broke.
    fn ended(&mut self, moved: Moved, result: Result<()>);
}

/// Bytes that a connection has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    /// Into the sandbox.
    pub(crate) up: u64,
    /// Out of it.
    pub(crate) down: u64,
}

/// Bytes on their way: `bytes[start..end]`.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn left(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Has `read` fill it from the beginning.
    fn fill<E>(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> std::result::Result<usize, E>,
    ) -> std::result::Result<usize, E> {
        self.bytes.resize(PIECE, 0);
        let length = read(&mut self.bytes)?;
        (self.start, self.end) = (0, length);
        Ok(length)
    }

    /// What stands by keeps no memory.
    fn release(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Until it is its turn to open a channel.
    Waiting,
    Opening,
    /// The channel is there; the guest has not said that it has connected.
    Connecting,
    Connected,
}

pub(crate) struct Connection {
    local: OwnedFd,
    target: Target,
    observer: Box<dyn Observer>,
    /// Set by another thread that wants it to end.
    is_cancelled: Arc<AtomicBool>,
    stage: Stage,
    /// When the stage began that has a limit.
    since: Instant,
    channel: Option<Channel>,
    outgoing: Buffer,
    incoming: Buffer,
    moved: Moved,
    /// Reading the local socket may give something.
    is_readable: bool,
    local_ended: bool,
    /// That the local side has ended was said to the guest, and the other way round.
    end_sent: bool,
    remote_ended: bool,
    end_received: bool,
    /// The local socket says nothing new any more.
    is_hung_up: bool,
    result: Option<Result<()>>,
}

impl Connection {
    /// The local socket must not block. Whoever sets `is_cancelled` calls [`Ports::ring`](super::Ports::ring) then.
    pub(crate) fn new(
        target: Target,
        local: OwnedFd,
        is_cancelled: Arc<AtomicBool>,
        observer: impl Observer + 'static,
    ) -> Self {
        Self {
            local,
            target,
            observer: Box::new(observer),
            is_cancelled,
            stage: Stage::Waiting,
            since: Instant::now(),
            channel: None,
            outgoing: Buffer::default(),
            incoming: Buffer::default(),
            moved: Moved::default(),
            is_readable: true,
            local_ended: false,
            end_sent: false,
            remote_ended: false,
            end_received: false,
            is_hung_up: false,
            result: None,
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.stage == Stage::Waiting
    }

    pub(super) fn is_opening(&self) -> bool {
        self.stage == Stage::Opening
    }

    /// Whether the guest has yet to say something that it says soon.
    pub(super) fn is_expecting(&self) -> bool {
        matches!(self.stage, Stage::Opening | Stage::Connecting)
    }

    pub(super) fn is_over(&self) -> bool {
        // libssh2 opens one channel at a time, and has to get to the end of that.
        self.result.is_some() && self.stage != Stage::Opening
    }

    /// Opens the channel. None: the guest has not answered yet.
    pub(super) fn open(&mut self, session: &Session) -> std::result::Result<Option<()>, DriveError> {
        if self.stage == Stage::Waiting {
            (self.stage, self.since) = (Stage::Opening, Instant::now());
        }
        let message = message(&self.target)?;
        let opened = session.attempt_on(Deadline::after(None), "a channel", |ssh| {
            Channel::open(ssh, CONNECT_CHANNEL, &message, WINDOW)
        });
        match opened {
            Ok(Some(channel)) => {
                session.add_window(WINDOW);
                self.channel = Some(channel);
                (self.stage, self.since) = (Stage::Connecting, Instant::now());
                Ok(Some(()))
            }
            Ok(None) if self.since.elapsed() < CONNECT_TIMEOUT => Ok(None),
            Ok(None) => Err(DriveError::Ended(Error::new(ErrorKind::Disconnected, "the sandbox opens no channel"))),
            Err(DriveError::Failed(failure)) if !is_lost(&failure) => {
                self.stage = Stage::Connecting;
                self.fail(refused_channel(&failure));
                Ok(Some(()))
            }
            Err(stop) => Err(stop),
        }
    }

    /// Takes in what has arrived on the session, for whichever connection it is. False if this one can't: libssh2 looks
    /// at nothing more on behalf of a channel that the guest has closed.
    pub(super) fn take_in(&self, session: &Session) -> std::result::Result<bool, DriveError> {
        let Some(channel) = &self.channel else { return Ok(self.stage == Stage::Opening) };
        let forever = Deadline::after(None);
        if session.attempt(forever, "the sandbox", || channel.take_in())?.is_none() {
            return Ok(true);
        }
        Ok(session.attempt(forever, "the sandbox", || channel.is_closed())?.is_none())
    }

    /// Moves what there is to move. True if anything was.
    pub(super) fn advance(&mut self, session: &Session) -> std::result::Result<bool, DriveError> {
        if self.is_cancelled.load(Ordering::Acquire) {
            self.fail(Error::new(ErrorKind::Closed, "the connection was closed"));
        }
        let Some(channel) = self.channel.take_if(|_| self.result.is_none()) else { return Ok(self.is_over()) };
        let has_moved = self.advance_on(&channel, session);
        self.channel = Some(channel);
        has_moved
    }

    fn advance_on(&mut self, channel: &Channel, session: &Session) -> std::result::Result<bool, DriveError> {
        let before = (self.moved, self.end_sent, self.end_received, self.stage);
        self.receive(channel, session)?;
        self.send(channel, session)?;
        self.conclude(channel, session)?;
        if self.stage == Stage::Connecting && self.since.elapsed() >= CONNECT_TIMEOUT {
            self.fail(Error::new(ErrorKind::TimedOut, "the sandbox did not say that it has connected"));
        }
        Ok(before != (self.moved, self.end_sent, self.end_received, self.stage) || self.result.is_some())
    }

    /// From the local socket to the guest.
    fn send(&mut self, channel: &Channel, session: &Session) -> std::result::Result<(), DriveError> {
        let forever = Deadline::after(None);
        for _ in 0..PIECES {
            while !self.outgoing.is_empty() {
                if !session.has_room() {
                    return Ok(());
                }
                let written = session.attempt(forever, "the sandbox", || channel.write(self.outgoing.left()))?;
                let Some(length) = written.filter(|length| *length > 0) else { return Ok(()) };
                // The guest makes room for it again.
                session.credit(length as u64);
                self.outgoing.start += length;
                self.moved.up += length as u64;
            }
            if self.local_ended {
                if !self.end_sent && session.attempt(forever, "the sandbox", || channel.end())?.is_some() {
                    self.end_sent = true;
                }
                return Ok(());
            }
            if !self.is_readable || self.result.is_some() {
                break;
            }
            match self.outgoing.fill(|buffer| recv(&self.local, buffer, RecvFlags::empty()).map(|(length, _)| length)) {
                Ok(0) => self.local_ended = true,
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.is_readable = false,
                Err(errno) => self.lose_local(errno),
            }
        }
        self.outgoing.release();
        Ok(())
    }

    /// From the guest to the local socket.
    fn receive(&mut self, channel: &Channel, session: &Session) -> std::result::Result<(), DriveError> {
        let forever = Deadline::after(None);
        for _ in 0..PIECES {
            if self.incoming.is_empty() && !self.remote_ended {
                let read = |buffer: &mut [u8]| session.attempt(forever, "the sandbox", || channel.read(buffer));
                let mut is_there = true;
                self.incoming.fill(|buffer| {
                    let length = read(buffer)?;
                    is_there = length.is_some();
                    Ok::<_, DriveError>(length.unwrap_or(0))
                })?;
                self.remote_ended = is_there && self.incoming.is_empty();
                session.credit(PACKETS * self.incoming.left().len() as u64);
            }
            if self.stage == Stage::Connecting {
                match self.incoming.left().first() {
                    None if self.remote_ended => {
                        self.result = Some(Err(Error::new(
                            ErrorKind::Connect,
                            "the sandbox did not say whether it has connected",
                        )));
                    }
                    None => {}
                    Some(0) => {
                        self.incoming.start += 1;
                        self.stage = Stage::Connected;
                        self.observer.connected();
                    }
                    Some(errno) => self.result = Some(Err(refused(&self.target, i32::from(*errno)))),
                }
            }
            if self.incoming.is_empty() || self.result.is_some() {
                break;
            }
            while !self.incoming.is_empty() {
                match send(&self.local, self.incoming.left(), SendFlags::NOSIGNAL) {
                    Ok(length) => {
                        self.incoming.start += length;
                        self.moved.down += length as u64;
                    }
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return Ok(()),
                    Err(errno) => {
                        self.lose_local(errno);
                        return Ok(());
                    }
                }
            }
        }
        self.incoming.release();
        Ok(())
    }

    /// Passes the end on that the guest has told.
    fn conclude(&mut self, channel: &Channel, session: &Session) -> std::result::Result<(), DriveError> {
        if !self.remote_ended || !self.incoming.is_empty() || self.result.is_some() {
            return Ok(());
        }
        if !self.end_received {
            let errno = i32::try_from(channel.exit_status()).unwrap_or(i32::MAX);
            if errno != 0 {
                let message = format!("the connection in the sandbox broke: {}", text::errno(errno));
                self.fail(Error::new(ErrorKind::Disconnected, message).with_errno(errno));
                return Ok(());
            }
            let _ = shutdown(&self.local, Shutdown::Write);
            self.end_received = true;
        }
        // What the local side still has to say may be wanted by nobody any more.
        let is_closed = || session.attempt(Deadline::after(None), "the sandbox", || channel.is_closed());
        if self.end_sent || is_closed()?.is_some() {
            self.result = Some(Ok(()));
        }
        Ok(())
    }

    /// The local side wants no more, which is no failure.
    fn lose_local(&mut self, errno: Errno) {
        log::debug!("the local side of a connection has ended it: {errno}");
        self.result.get_or_insert(Ok(()));
    }

    pub(super) fn fail(&mut self, error: Error) {
        self.result.get_or_insert(Err(error));
    }

    /// What to wait for.
    pub(super) fn awaited(&self) -> Option<Awaited<'_>> {
        let has_channel = self.channel.is_some() && self.result.is_none();
        let to_read = has_channel && self.outgoing.is_empty() && !self.local_ended;
        let to_write = has_channel && !self.incoming.is_empty();
        // A socket that is hung up would end each wait at once.
        let is_awaited = to_read || to_write || !self.is_hung_up;
        is_awaited.then(|| Awaited { descriptor: self.local.as_fd(), to_read, to_write })
    }

    /// The local socket was found to be so.
    pub(super) fn note(&mut self, ready: Readiness) {
        self.is_readable |= ready.to_read;
        self.is_hung_up |= ready.is_hung_up;
        if ready.has_failed {
            let errno = SockRef::from(&self.local).take_error().ok().flatten().and_then(|e| e.raw_os_error());
            self.lose_local(errno.map_or(Errno::CONNRESET, Errno::from_raw_os_error));
        }
    }

    /// Ends the local side, tells the observer, and returns the channel, which is to be closed.
    pub(super) fn finish(mut self) -> Option<Channel> {
        let result = self.result.take().unwrap_or(Ok(()));
        match &result {
            // Closing a socket that has something to read would break what it has still to deliver.
            Ok(()) => {
                let mut buffer = [0; 4096];
                while !self.local_ended && recv(&self.local, &mut buffer, RecvFlags::empty()).is_ok_and(|(n, _)| n > 0)
                {
                }
            }
            // So that nobody takes this for the end of the data.
            Err(_) => drop(SockRef::from(&self.local).set_linger(Some(Duration::ZERO))),
        }
        let Self { local, mut observer, moved, channel, .. } = self;
        // Whoever sees the end finds out why.
        observer.ended(moved, result);
        drop(local);
        channel
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("target", &self.target).field("stage", &self.stage).finish_non_exhaustive()
    }
}

/// What CHANNEL_OPEN carries: one string.
fn message(target: &Target) -> std::result::Result<Vec<u8>, DriveError> {
    let text = serde_json::to_vec(target).map_err(|e| {
        DriveError::Ended(Error::new(ErrorKind::InvalidArgument, format!("the target can't be encoded: {e}")))
    })?;
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    Ok([&length.to_be_bytes()[..], &text].concat())
}

/// The guest could not connect.
fn refused(target: &Target, errno: i32) -> Error {
    let kind = match ErrorKind::of_file(errno) {
        ErrorKind::Transfer => ErrorKind::Connect,
        kind => kind,
    };
    let what = match target {
        Target::Port(port) => format!("port {port}"),
        Target::Path(path) => format!("'{}'", text::shown(&String::from_utf8_lossy(path.as_ref()))),
    };
    let message = format!("no connection to {what} in the sandbox: {}", text::errno(errno));
    Error::new(kind, message).with_errno(errno)
}

fn refused_channel(failure: &Failure) -> Error {
    let message = format!("the sandbox opens no connection for this library: {}", text::shown(&failure.message));
    Error::new(ErrorKind::Connect, message).with_ssh_code(failure.code)
}

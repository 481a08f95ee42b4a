//! One session and the thread that moves the bytes of many connections over its channels.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use super::super::raw::Channel;
use super::super::session::{DriveError, Session, lost_or};
use super::connection::{Connection, WINDOW};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fd::Awaited;
use crate::fork::{ForkGuard, ForkMutex};

/// Connections of one lane. The guest allows twice as many channels, and those that are being closed count there.
const MOST: usize = 128;
/// While the guest has yet to answer something, the time is looked at so often.
const TICK: Duration = Duration::from_secs(1);

/// The other threads' side of a lane.
pub(super) struct Lane {
    state: ForkMutex<State>,
    /// Wakes the thread.
    wakeup: OwnedFd,
    /// Can be read once it is over.
    end: OwnedFd,
    /// Through the API server.
    is_tunnel: bool,
    /// The session's socket, to end it.
    socket: OwnedFd,
    process: ForkGuard,
}

#[derive(Default)]
struct State {
    /// Connections that the thread does not have yet.
    new: VecDeque<Connection>,
    /// All connections.
    count: usize,
    /// Those who want it to stay though it has no connection.
    holders: usize,
    /// It ends with its last connection.
    is_retired: bool,
    /// Why it is to end now.
    closing: Option<Error>,
    /// The thread takes nothing more.
    is_over: bool,
}

impl Lane {
    /// Starts the thread. It keeps `guard` as long as it has the session.
    pub(super) fn start(
        session: Session,
        guard: impl Send + 'static,
        idle_timeout: Option<Duration>,
    ) -> Result<Arc<Self>> {
        let failed = |e: std::io::Error| Error::new(ErrorKind::Connect, format!("connections can't be carried: {e}"));
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| failed(e.into()));
        let (wakeup, end) = (event()?, event()?);
        let socket = session.socket().map_err(failed)?;
        let lane = Arc::new(Self {
            state: ForkMutex::new(State::default()),
            wakeup,
            end,
            is_tunnel: session.is_tunnel(),
            socket,
            process: ForkGuard::current(),
        });
        let own = Arc::clone(&lane);
        let work = move || {
            let _guard = guard;
            session.count_arrivals(true);
            Worker {
                lane: own,
                session,
                connections: Vec::new(),
                closing: Vec::new(),
                idle_since: Instant::now(),
                idle_timeout,
            }
            .run();
        };
        thread::Builder::new().name("sandbox-ports".to_owned()).spawn(work).map_err(failed)?;
        Ok(lane)
    }

    /// Takes a connection over, or gives it back if there is no room or the session is over.
    pub(super) fn add(&self, connection: Connection) -> std::result::Result<(), Box<Connection>> {
        let Ok(mut state) = self.state.lock() else { return Err(Box::new(connection)) };
        if state.is_over || state.closing.is_some() || state.count >= MOST {
            return Err(Box::new(connection));
        }
        state.count += 1;
        state.new.push_back(connection);
        drop(state);
        self.ring();
        Ok(())
    }

    /// Lets it stay, until [`Lane::release`], though it has no connection. False if it is over.
    pub(super) fn hold(&self) -> bool {
        self.state.lock().is_ok_and(|mut state| {
            state.holders += 1;
            !state.is_over
        })
    }

    pub(super) fn release(&self) {
        if let Ok(mut state) = self.state.lock() {
            state.holders -= 1;
        }
        self.ring();
    }

    pub(super) fn is_tunnel(&self) -> bool {
        self.is_tunnel
    }

    /// What can be read once it is over.
    pub(super) fn end(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }

    pub(super) fn is_retired(&self) -> bool {
        self.state.lock().is_ok_and(|state| state.is_retired)
    }

    /// Whether it takes another connection.
    pub(super) fn has_room(&self) -> bool {
        self.state.lock().is_ok_and(|state| !state.is_over && state.closing.is_none() && state.count < MOST)
    }

    pub(super) fn is_over(&self) -> bool {
        self.state.lock().is_ok_and(|state| state.is_over)
    }

    /// Connections that there are.
    pub(super) fn count(&self) -> usize {
        self.state.lock().map_or(0, |state| state.count)
    }

    /// Lets it end with its last connection.
    pub(super) fn retire(&self) {
        if let Ok(mut state) = self.state.lock() {
            state.is_retired = true;
        }
        self.ring();
    }

    /// Breaks all connections with this error.
    pub(super) fn close(&self, error: &Error) {
        // In a forked child the session is the parent's.
        let Ok(mut state) = self.state.lock() else { return };
        state.closing.get_or_insert_with(|| error.again());
        drop(state);
        self.ring();
        // The thread may wait for the sandbox in the middle of a packet.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }

    /// Has the thread look at everything again.
    pub(super) fn ring(&self) {
        if self.process.is_current() {
            // Nothing but a counter that is full can go wrong, and then it has rung.
            let _ = rustix::io::write(&self.wakeup, &1_u64.to_ne_bytes());
        }
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("connections", &self.count()).finish_non_exhaustive()
    }
}

/// The thread's side.
struct Worker {
    lane: Arc<Lane>,
    session: Session,
    connections: Vec<Connection>,
    /// Channels that the guest has yet to close.
    closing: Vec<Channel>,
    idle_since: Instant,
    idle_timeout: Option<Duration>,
}

impl Worker {
    fn run(mut self) {
        let error = loop {
            match self.turn() {
                Ok(true) => {}
                Ok(false) => break Error::new(ErrorKind::Disconnected, "nobody needs the session any more"),
                Err(stop) => break stop.into_error(|failure| lost_or("the sandbox keeps no connections", failure)),
            }
        };
        let Ok(mut state) = self.lane.state.lock() else { return };
        state.is_over = true;
        let new = std::mem::take(&mut state.new);
        let error = state.closing.take().unwrap_or(error);
        drop(state);
        log::debug!("the session of the ports has ended: {error}");
        let Self { lane, session, connections, .. } = self;
        // First the session: nobody is told of an end while it still stands.
        drop(session);
        for mut connection in connections.into_iter().chain(new) {
            connection.fail(error.again());
            connection.finish();
        }
        if let Ok(mut state) = lane.state.lock() {
            state.count = 0;
        }
        let _ = rustix::io::write(&lane.end, &1_u64.to_ne_bytes());
    }

    /// Moves all that can be moved, and waits until there is more. False if nobody needs it any more.
    fn turn(&mut self) -> std::result::Result<bool, DriveError> {
        let _ = rustix::io::read(&self.lane.wakeup, &mut [0; 8]);
        if !self.take_orders()? {
            return Ok(false);
        }
        let arrivals = self.session.arrivals();
        let mut has_moved = self.open()?;
        for connection in &mut self.connections {
            has_moved |= connection.advance(&self.session)?;
        }
        let is_listening = self.take_in()?;
        has_moved |= self.finish();
        self.free_channels()?;
        // What one call took off the socket may be for a channel that was looked at before.
        if has_moved || self.session.arrivals() != arrivals {
            return Ok(true);
        }
        self.wait(is_listening)?;
        Ok(true)
    }

    /// Takes in what has arrived: otherwise it would wait for somebody who has no room for what he got before, and end
    /// each wait at once. False if nobody can.
    fn take_in(&self) -> std::result::Result<bool, DriveError> {
        for connection in &self.connections {
            if connection.take_in(&self.session)? {
                return Ok(true);
            }
        }
        Ok(!self.closing.is_empty())
    }

    /// Takes over new connections. False if it is to end.
    fn take_orders(&mut self) -> std::result::Result<bool, DriveError> {
        // It is no child of a fork.
        let mut state = self.lane.state.lock().map_err(DriveError::Ended)?;
        if let Some(error) = &state.closing {
            return Err(DriveError::Ended(error.again()));
        }
        self.connections.extend(state.new.drain(..));
        if state.count > 0 {
            self.idle_since = Instant::now();
            return Ok(true);
        }
        let is_old = self.idle_timeout.is_some_and(|timeout| self.idle_since.elapsed() >= timeout);
        let is_needed = state.holders > 0 || !(state.is_retired || is_old);
        // Whoever comes after this finds it over.
        state.is_over = !is_needed;
        Ok(is_needed)
    }

    /// Opens channels, one after another, as libssh2 wants it.
    fn open(&mut self) -> std::result::Result<bool, DriveError> {
        let mut has_opened = false;
        loop {
            let next = self.connections.iter().position(Connection::is_opening);
            let next = next.or_else(|| self.connections.iter().position(|one| one.is_waiting() && !one.is_over()));
            let Some(next) = next else { return Ok(has_opened) };
            match self.connections[next].open(&self.session)? {
                Some(()) => has_opened = true,
                None => return Ok(has_opened),
            }
        }
    }

    /// Ends the connections that are over.
    fn finish(&mut self) -> bool {
        let over: Vec<_> = self.connections.extract_if(.., |connection| connection.is_over()).collect();
        if let (false, Ok(mut state)) = (over.is_empty(), self.lane.state.lock()) {
            state.count -= over.len();
        }
        let has_finished = !over.is_empty();
        self.closing.extend(over.into_iter().filter_map(Connection::finish));
        has_finished
    }

    fn free_channels(&mut self) -> std::result::Result<(), DriveError> {
        for mut channel in std::mem::take(&mut self.closing) {
            let mut slot = Some(channel);
            let freed = self.session.attempt(Deadline::after(None), "the sandbox", || {
                let Some(channel) = slot.take() else { return Ok(()) };
                channel.free().map_err(|(channel, failure)| {
                    slot = Some(channel);
                    failure
                })
            })?;
            match (freed, slot) {
                (None, Some(kept)) => {
                    channel = kept;
                    self.closing.push(channel);
                }
                _ => self.session.remove_window(WINDOW),
            }
        }
        Ok(())
    }

    fn wait(&mut self, is_listening: bool) -> std::result::Result<(), DriveError> {
        let is_expecting = self.connections.iter().any(Connection::is_expecting);
        let idle_left = self.idle_timeout.filter(|_| self.connections.is_empty());
        let idle_left = idle_left.map(|timeout| timeout.saturating_sub(self.idle_since.elapsed()));
        let deadline = Deadline::after(if is_expecting { Some(TICK) } else { idle_left });
        let wakeup = Awaited::to_read(self.lane.wakeup.as_fd());
        let places = (0..).zip(&self.connections).filter_map(|(at, one)| Some((at, one.awaited()?)));
        let (places, awaited): (Vec<usize>, Vec<_>) = places.unzip();
        // Without a channel, nothing comes but the end.
        let has_none = self.connections.is_empty() && self.closing.is_empty();
        let others = [&[wakeup], &awaited[..]].concat();
        let (has_come, ready) = self.session.wait_for_each(&others, is_listening || has_none, deadline);
        for (place, ready) in places.into_iter().zip(&ready[1..]) {
            self.connections[place].note(*ready);
        }
        match has_come && has_none {
            true => {
                Err(DriveError::Ended(Error::new(ErrorKind::Disconnected, "the sandbox has closed the connection")))
            }
            false => Ok(()),
        }
    }
}

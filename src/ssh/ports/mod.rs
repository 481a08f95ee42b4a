//! Connections into a sandbox. They have sessions of their own, because a session is used by one thread: many
//! connections share one, so that a connection costs one round trip and no login, and a browser's thirty no thirty
//! logins.

mod connection;
mod lane;

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use self::lane::Lane;
use super::session::Session;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fork::ForkMutex;

pub(crate) use self::connection::{Connection, Moved, Observer};

/// Sessions for the connections into one sandbox; each has more than a hundred.
const MOST_LANES: usize = 8;

/// How there comes to be a session.
pub(crate) struct SessionSource<F> {
    pub(crate) deadline: Deadline,
    /// Whether a new session would go to the sandbox directly.
    pub(crate) is_direct: bool,
    /// A new session, and what is to be kept as long as it is there.
    pub(crate) log_in: F,
}

/// The connections into one sandbox.
pub(crate) struct Ports {
    state: ForkMutex<State>,
    /// Held by the thread that logs in: the others wait for its session.
    starting: Mutex<()>,
    idle_timeout: Option<Duration>,
}

#[derive(Default)]
struct State {
    lanes: Vec<Arc<Lane>>,
    /// Nothing more is connected to.
    closed: Option<Error>,
}

/// A session that stays, until this is dropped, though there is no connection.
#[derive(Debug)]
pub(crate) struct SessionHold(Arc<Lane>);

impl SessionHold {
    /// Whether the session has ended, for whatever reason, or there is a better one.
    pub(crate) fn is_stale(&self) -> bool {
        self.0.is_over() || self.0.is_retired()
    }

    /// What can be read once the session has ended.
    pub(crate) fn end(&self) -> BorrowedFd<'_> {
        self.0.end()
    }
}

impl Drop for SessionHold {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Ports {
    /// Sessions without connections are closed after this time.
    pub(crate) fn new(idle_timeout: Option<Duration>) -> Self {
        Self { state: ForkMutex::new(State::default()), starting: Mutex::default(), idle_timeout }
    }

    /// Has a connection made, on a session that is there or on a new one. What becomes of it is told to its observer.
    /// True if the session had been there before, so that its peer may have gone away unnoticed.
    pub(crate) fn connect<G: Send + 'static>(
        &self,
        mut connection: Connection,
        source: SessionSource<impl Fn() -> Result<(Session, G)>>,
    ) -> Result<bool> {
        loop {
            let (lane, is_new) = match self.lane(&source) {
                Ok(found) => found,
                Err(e) => {
                    connection.fail(e.again());
                    connection.finish();
                    return Err(e);
                }
            };
            match lane.add(connection) {
                Ok(()) => return Ok(!is_new),
                Err(refused) => connection = *refused,
            }
        }
    }

    /// Holds a session, for which there may have to be a new one.
    pub(crate) fn hold<G: Send + 'static>(
        &self,
        source: SessionSource<impl Fn() -> Result<(Session, G)>>,
    ) -> Result<SessionHold> {
        loop {
            let held = SessionHold(self.lane(&source)?.0);
            if held.0.hold() {
                return Ok(held);
            }
        }
    }

    /// A session with room for a connection, and whether it is new.
    fn lane<G: Send + 'static>(
        &self,
        source: &SessionSource<impl Fn() -> Result<(Session, G)>>,
    ) -> Result<(Arc<Lane>, bool)> {
        if let Some(lane) = self.find(source.is_direct)? {
            return Ok((lane, false));
        }
        let _turn = source.deadline.lock(&self.starting, "the session for connections")?;
        if let Some(lane) = self.find(source.is_direct)? {
            return Ok((lane, false));
        }
        let (session, guard) = (source.log_in)()?;
        let lane = Lane::start(session, guard, self.idle_timeout)?;
        let mut state = self.state.lock()?;
        if let Some(error) = &state.closed {
            lane.close(error);
            return Err(error.again());
        }
        state.lanes.push(Arc::clone(&lane));
        Ok((lane, true))
    }

    fn find(&self, is_direct: bool) -> Result<Option<Arc<Lane>>> {
        let mut state = self.state.lock()?;
        if let Some(error) = &state.closed {
            return Err(error.again());
        }
        state.lanes.retain(|lane| !lane.is_over());
        // What goes through the API server takes no more once there is a better way.
        state.lanes.iter().filter(|lane| is_direct && lane.is_tunnel()).for_each(|lane| lane.retire());
        let free = state.lanes.iter().find(|lane| lane.has_room() && !lane.is_retired()).cloned();
        if free.is_none() && state.lanes.len() >= MOST_LANES {
            let message = format!("the limit of connections to the sandbox is reached: {}", self.count_of(&state));
            return Err(Error::new(ErrorKind::Connect, message));
        }
        Ok(free)
    }

    fn count_of(&self, state: &State) -> usize {
        state.lanes.iter().map(|lane| lane.count()).sum()
    }

    /// Has all connections looked at, of which some were cancelled.
    pub(crate) fn ring(&self) {
        if let Ok(state) = self.state.lock() {
            state.lanes.iter().for_each(|lane| lane.ring());
        }
    }

    /// Connections that there are.
    pub(crate) fn count(&self) -> usize {
        self.state.lock().map_or(0, |state| self.count_of(&state))
    }

    /// Breaks all connections with this error, which whoever wants another one gets too.
    pub(crate) fn close(&self, error: &Error) {
        let Ok(mut state) = self.state.lock() else { return };
        state.closed.get_or_insert_with(|| error.again());
        let lanes = std::mem::take(&mut state.lanes);
        drop(state);
        for lane in lanes {
            lane.close(error);
        }
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        // Connections outlive the handles of their sandbox.
        let Ok(state) = self.state.lock() else { return };
        for lane in &state.lanes {
            lane.retire();
        }
    }
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports").field("connections", &self.count()).finish_non_exhaustive()
    }
}

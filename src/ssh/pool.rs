//! The SSH sessions of one sandbox, lent to one operation at a time.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, MutexGuard};

use super::session::Session;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fork::ForkMutex;

/// A pool of what [`Session`] is in the library and something simpler in its tests.
pub(crate) struct Pool<S = Session> {
    state: ForkMutex<State<S>>,
    changed: Condvar,
    limit: usize,
    idle_timeout: Option<Duration>,
}

struct State<S> {
    /// The session used last comes last and is lent first, so that surplus sessions reach the idle timeout.
    idle: Vec<Idle<S>>,
    /// Sessions that are lent or being connected.
    lent: usize,
    closed: bool,
}

struct Idle<S> {
    session: S,
    since: Instant,
}

impl<S> Pool<S> {
    pub(crate) fn new(limit: usize, idle_timeout: Option<Duration>) -> Arc<Self> {
        let state = State { idle: Vec::new(), lent: 0, closed: false };
        Arc::new(Self { state: ForkMutex::new(state), changed: Condvar::new(), limit, idle_timeout })
    }

    /// Lends an idle session that `usable` accepts (the others are closed), or a new one from `connect` while there are
    /// fewer than the limit, or waits for one until the deadline.
    pub(crate) fn lease(
        self: &Arc<Self>,
        deadline: Deadline,
        usable: impl Fn(&S) -> bool,
        connect: impl FnOnce() -> Result<S>,
    ) -> Result<Lease<S>> {
        // Declared before the lock's guard, so that these sessions are closed after it is released.
        let mut refused = Vec::new();
        let mut state = self.state.lock()?;
        loop {
            if state.closed {
                return Err(closed());
            }
            while let Some(idle) = state.idle.pop() {
                if usable(&idle.session) {
                    state.lent += 1;
                    return Ok(self.lend(Some(idle.session)));
                }
                refused.push(idle);
            }
            if state.lent < self.limit {
                state.lent += 1;
                let mut lease = self.lend(None);
                drop(state);
                drop(refused);
                lease.session = Some(connect()?);
                return Ok(lease);
            }
            match deadline.next_check().remaining() {
                None => self.changed.wait(&mut state),
                Some(left) => drop(self.changed.wait_for(&mut state, left)),
            }
            MutexGuard::unlocked(&mut state, || deadline.check("an SSH session")).map_err(|e| {
                // Pass on a wake-up that this thread may have consumed.
                self.changed.notify_one();
                let message = format!("all {} SSH sessions were busy (see max_sessions)", self.limit);
                e.context(message)
            })?;
        }
    }

    fn lend(self: &Arc<Self>, session: Option<S>) -> Lease<S> {
        Lease { pool: Arc::clone(self), reused: session.is_some(), session, finished: false }
    }

    /// Closes the idle sessions that are not alive, or have been idle for too long.
    pub(crate) fn evict_idle(&self, is_alive: impl Fn(&S) -> bool) {
        let timeout = self.idle_timeout.unwrap_or(Duration::MAX);
        let Ok(mut state) = self.state.lock() else { return };
        let (old, kept): (Vec<_>, _) =
            state.idle.drain(..).partition(|idle| idle.since.elapsed() >= timeout || !is_alive(&idle.session));
        state.idle = kept;
        drop(state);
        if !old.is_empty() {
            log::debug!("closing {} idle SSH sessions", old.len());
        }
    }

    /// Closes the idle sessions now and the lent ones when they come back; nothing more is lent.
    pub(crate) fn close(&self) {
        // The sessions of a forked child are its parent's.
        let Ok(mut state) = self.state.lock() else { return };
        state.closed = true;
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        self.changed.notify_all();
        drop(idle);
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.is_closed() { Err(closed()) } else { Ok(()) }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().is_ok_and(|state| state.closed)
    }

    /// Idle and lent sessions.
    pub(crate) fn counts(&self) -> (usize, usize) {
        self.state.lock().map_or((0, 0), |state| (state.idle.len(), state.lent))
    }

    /// Ends a lease; a session that can't be kept is handed back to be closed without the lock.
    fn take_back(&self, session: Option<S>) -> Option<S> {
        let Ok(mut state) = self.state.lock() else { return session };
        state.lent -= 1;
        let unwanted = match session {
            Some(session) if !state.closed => {
                state.idle.push(Idle { session, since: Instant::now() });
                None
            }
            other => other,
        };
        drop(state);
        self.changed.notify_one();
        unwanted
    }
}

impl<S> fmt::Debug for Pool<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (idle, lent) = self.counts();
        f.debug_struct("Pool").field("idle", &idle).field("lent", &lent).field("limit", &self.limit).finish()
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the sandbox was deleted or its client closed")
}

/// A session that is ours alone. Only [`Lease::finish`] puts it back; dropping it, as an error or a panic does, closes
/// it.
pub(crate) struct Lease<S = Session> {
    pool: Arc<Pool<S>>,
    /// Absent only while it is being connected.
    session: Option<S>,
    reused: bool,
    finished: bool,
}

impl<S> Lease<S> {
    /// Returns the session to the pool: the operation has left nothing behind on it.
    pub(crate) fn finish(mut self) {
        self.finished = true;
    }

    /// True if the session had been used before, so that its peer may have gone away unnoticed.
    pub(crate) fn is_reused(&self) -> bool {
        self.reused
    }
}

impl<S> Drop for Lease<S> {
    fn drop(&mut self) {
        let (kept, broken) = if self.finished { (self.session.take(), None) } else { (None, self.session.take()) };
        // The old session is closed before its place is free, so that the sandbox never sees more than the limit.
        drop(broken);
        drop(self.pool.take_back(kept));
    }
}

impl<S> Deref for Lease<S> {
    type Target = S;

    fn deref(&self) -> &S {
        match &self.session {
            Some(session) => session,
            None => unreachable!("a lease is handed out with its session"),
        }
    }
}

impl<S> DerefMut for Lease<S> {
    fn deref_mut(&mut self) -> &mut S {
        match &mut self.session {
            Some(session) => session,
            None => unreachable!("a lease is handed out with its session"),
        }
    }
}

impl<S> fmt::Debug for Lease<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("reused", &self.reused).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn soon() -> Deadline {
        Deadline::after(Some(Duration::from_millis(20)))
    }

    #[test]
    fn lends_the_session_that_was_finished() {
        let pool = Pool::new(2, None);
        pool.lease(soon(), |_| true, || Ok(1)).unwrap().finish();
        let lease = pool.lease(soon(), |_| true, || panic!("there is an idle one")).unwrap();
        assert!(*lease == 1 && lease.is_reused());
    }

    #[test]
    fn discards_what_was_not_finished_or_not_usable() {
        let pool = Pool::new(1, None);
        drop(pool.lease(soon(), |_| true, || Ok(1)).unwrap());
        pool.lease(soon(), |_| true, || Ok(2)).unwrap().finish();
        let lease = pool.lease(soon(), |session| *session != 2, || Ok(3)).unwrap();
        assert!(*lease == 3 && !lease.is_reused());
    }

    #[test]
    fn a_failed_or_panicking_connect_gives_its_place_back() {
        let pool = Pool::<u8>::new(1, None);
        let refuse = || Err(Error::new(ErrorKind::Connect, "refused"));
        assert_eq!(pool.lease(soon(), |_| true, refuse).unwrap_err().kind(), ErrorKind::Connect);
        let panicking = std::panic::AssertUnwindSafe(|| drop(pool.lease(soon(), |_| true, || panic!("on purpose"))));
        assert!(std::panic::catch_unwind(panicking).is_err());
        assert_eq!(pool.counts(), (0, 0));
    }

    #[test]
    fn waits_until_the_deadline_at_the_limit() {
        let pool = Pool::new(1, None);
        let held = pool.lease(soon(), |_| true, || Ok(1)).unwrap();
        let error = pool.lease(soon(), |_| true, || Ok(2)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        drop(held);
        assert!(pool.lease(soon(), |_| true, || Ok(2)).is_ok());
    }

    #[test]
    fn a_wait_can_be_interrupted_and_leaves_its_turn_to_others() {
        let pool = Pool::new(1, None);
        let held = pool.lease(soon(), |_| true, || Ok(1)).unwrap();
        let own = Arc::clone(&pool);
        // It may use what the wait is for.
        let is_interrupted = move || own.counts() == (0, 1);
        let wait = || pool.lease(Deadline::after(None), |_| true, || Ok(2));
        let error = crate::interruptible(is_interrupted, wait).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        held.finish();
        assert_eq!(*wait().unwrap(), 1);
    }

    #[test]
    fn never_exceeds_its_limit_and_serves_everybody() {
        let (pool, live, most) = (Pool::new(3, None), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for thread in 0..16 {
                let (pool, live, most) = (&pool, &live, &most);
                scope.spawn(move || {
                    for _ in 0..50 {
                        let lease = pool.lease(Deadline::after(None), |_| true, || Ok(())).unwrap();
                        most.fetch_max(live.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        live.fetch_sub(1, Ordering::SeqCst);
                        if thread % 2 == 0 {
                            lease.finish();
                        }
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 3);
        assert_eq!(pool.counts().1, 0);
    }

    #[test]
    fn evicts_the_old_and_keeps_the_young() {
        let pool = Pool::new(2, Some(Duration::from_millis(1)));
        pool.lease(soon(), |_| true, || Ok(1)).unwrap().finish();
        while pool.counts().0 > 0 {
            pool.evict_idle(|_| true);
        }
        let patient = Pool::new(2, Some(Duration::from_secs(3600)));
        patient.lease(soon(), |_| true, || Ok(1)).unwrap().finish();
        patient.evict_idle(|_| true);
        assert_eq!(patient.counts(), (1, 0));
        let unlimited = Pool::new(2, None);
        let (one, other) = (unlimited.lease(soon(), |_| true, || Ok(1)), unlimited.lease(soon(), |_| true, || Ok(2)));
        one.unwrap().finish();
        other.unwrap().finish();
        unlimited.evict_idle(|session| *session != 1);
        assert_eq!(unlimited.counts(), (1, 0), "the dead one is gone");
    }

    #[test]
    fn a_forked_child_waits_for_no_lock() {
        let mut pool = Pool::new(2, Some(Duration::ZERO));
        std::mem::forget(pool.state.lock());
        Arc::get_mut(&mut pool).unwrap().state.inherit();
        assert_eq!(pool.lease(soon(), |_| true, || Ok(1)).unwrap_err().kind(), ErrorKind::Forked);
        assert_eq!((pool.counts(), pool.is_closed()), ((0, 0), false));
        pool.evict_idle(|_| false);
        pool.close();
        drop(pool.lend(Some(1)));
        pool.lend(Some(1)).finish();
    }

    #[test]
    fn lends_nothing_after_it_was_closed() {
        let pool = Pool::new(2, None);
        let lent = pool.lease(soon(), |_| true, || Ok(1)).unwrap();
        pool.close();
        lent.finish();
        assert_eq!(pool.counts(), (0, 0));
        assert_eq!(pool.lease(soon(), |_| true, || Ok(2)).unwrap_err().kind(), ErrorKind::Closed);
    }
}

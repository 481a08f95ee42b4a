//! The moment until which a public call may take, computed once and passed down.

use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use crate::error::{Error, ErrorKind, Result};
use crate::interrupt;

/// A point in time, or none at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// `None`, and a time too far away for the clock, mean no deadline.
    pub(crate) fn after(timeout: Option<Duration>) -> Self {
        Self(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// The earlier of this deadline and `timeout` from now; `None` leaves it as it is.
    pub(crate) fn within(self, timeout: impl Into<Option<Duration>>) -> Self {
        let other = Self::after(timeout.into()).0;
        Self(match (self.0, other) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        })
    }

    /// This deadline, so much later.
    pub(crate) fn later(self, time: Duration) -> Self {
        Self(self.0.and_then(|at| at.checked_add(time)))
    }

    /// The time left: zero once it has passed, `None` without a deadline.
    pub(crate) fn remaining(self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn has_passed(self) -> bool {
        self.remaining() == Some(Duration::ZERO)
    }

    /// The time left for `poll` and libssh2: at most `cap`, and at least 1 ms, because their 0 has other meanings.
    pub(crate) fn remaining_ms(self, cap: Duration) -> u32 {
        let left = self.remaining().map_or(cap, |left| left.min(cap));
        u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1)
    }

    /// The moment until which to wait before the next [`Deadline::check`].
    pub(crate) fn next_check(self) -> Self {
        self.within(interrupt::poll_interval())
    }

    /// `TimedOut` once the deadline has passed, `Cancelled` if the caller wants no more. Locks must not be held: it may
    /// ask the caller.
    pub(crate) fn check(self, waiting_for: &str) -> Result<()> {
        if self.has_passed() {
            Err(Self::error(waiting_for))
        } else if interrupt::is_cancelled() {
            Err(Error::cancelled(format!("interrupted while waiting for {waiting_for}")))
        } else {
            Ok(())
        }
    }

    /// Takes a lock.
    pub(crate) fn lock<'m, T>(self, mutex: &'m Mutex<T>, waiting_for: &str) -> Result<MutexGuard<'m, T>> {
        loop {
            let guard = match self.next_check().remaining() {
                None => Some(mutex.lock()),
                Some(left) => mutex.try_lock_for(left),
            };
            match guard {
                Some(guard) => return Ok(guard),
                None => self.check(waiting_for)?,
            }
        }
    }

    pub(crate) fn error(waiting_for: &str) -> Error {
        Error::new(ErrorKind::TimedOut, format!("timed out waiting for {waiting_for}"))
    }
}

//! Whether anything uses the sandbox, for its idle timeout.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::expiry::{milliseconds, now};

/// The idle timeout, and what is known about the use of the sandbox. Times are those of [`now`], in milliseconds.
#[derive(Debug)]
pub(crate) struct Idle {
    timeout: AtomicU64,
    /// Connections of which something is open in the sandbox.
    users: AtomicUsize,
    last_use: AtomicU64,
}

impl Idle {
    const NEVER: u64 = u64::MAX;

    pub(crate) fn new(timeout: Option<Duration>) -> Self {
        let (timeout, last_use) = (timeout.map_or(Self::NEVER, milliseconds), milliseconds(now()));
        Self { timeout: timeout.into(), users: AtomicUsize::new(0), last_use: last_use.into() }
    }

    /// Begins to count with this timeout.
    pub(crate) fn set_timeout(&self, timeout: Duration) {
        self.note_use();
        // After the use, which whoever sees the timeout must see too.
        self.timeout.store(milliseconds(timeout), Ordering::Release);
    }

    /// It is used at this moment.
    pub(crate) fn note_use(&self) {
        self.last_use.store(milliseconds(now()), Ordering::Relaxed);
    }

    /// Whether the sandbox is to end. It is also used while a command runs, which the caller knows.
    pub(crate) fn has_come(&self, is_running: bool) -> bool {
        if is_running || self.users.load(Ordering::Relaxed) > 0 {
            self.note_use();
        }
        let timeout = self.timeout.load(Ordering::Acquire);
        milliseconds(now()).saturating_sub(self.last_use.load(Ordering::Relaxed)) >= timeout
    }
}

/// What one connection has to do with it.
#[derive(Debug)]
pub(crate) struct User<'a> {
    idle: &'a Idle,
    is_using: bool,
}

impl<'a> User<'a> {
    pub(crate) fn new(idle: &'a Idle) -> Self {
        Self { idle, is_using: false }
    }

    /// Says whether something is open from now on.
    pub(crate) fn set_using(&mut self, is_using: bool) {
        if is_using != self.is_using {
            self.is_using = is_using;
            self.idle.note_use();
            if is_using {
                self.idle.users.fetch_add(1, Ordering::Relaxed);
            } else {
                self.idle.users.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for User<'_> {
    fn drop(&mut self) {
        self.set_using(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes the clock as far back as that.
    fn pass(idle: &Idle, seconds: u64) {
        idle.last_use.fetch_sub(seconds * 1000, Ordering::Relaxed);
    }

    #[test]
    fn it_comes_when_nothing_has_used_it_for_so_long() {
        let idle = Idle::new(Some(Duration::from_secs(5)));
        assert!(!idle.has_come(false));
        pass(&idle, 4);
        assert!(!idle.has_come(false));
        idle.note_use();
        pass(&idle, 4);
        assert!(!idle.has_come(false));
        pass(&idle, 4);
        assert!(!idle.has_come(true), "a command runs");
        pass(&idle, 6);
        assert!(idle.has_come(false));
    }

    #[test]
    fn what_is_open_is_a_use_until_it_is_closed() {
        let idle = Idle::new(None);
        pass(&idle, 10);
        assert!(!idle.has_come(false));
        idle.set_timeout(Duration::from_secs(5));
        let mut user = User::new(&idle);
        user.set_using(true);
        pass(&idle, 10);
        assert!(!idle.has_come(false));
        pass(&idle, 10);
        drop(user);
        assert!(!idle.has_come(false), "it counts from the end of the use");
        pass(&idle, 10);
        assert!(idle.has_come(false));
    }
}

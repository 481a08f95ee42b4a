//! What a connection's thread waits for.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{self, Errno};

/// Wakes a thread that polls. Other threads hold a weak reference to it.
#[derive(Debug)]
pub(crate) struct Waker(OwnedFd);

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Makes the thread look again.
    pub(crate) fn wake(&self) {
        // Nothing but a counter that is full can go wrong, and then it is awake.
        let _ = io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Takes back what woke the thread.
    pub(crate) fn clear(&self) {
        let _ = io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The descriptors and the time that somebody waits for; `K` says whose a descriptor is.
#[derive(Debug)]
pub(crate) struct Polls<'a, K> {
    descriptors: Vec<PollFd<'a>>,
    keys: Vec<K>,
    until: Option<Instant>,
    at_once: bool,
}

impl<'a, K: Copy> Polls<'a, K> {
    pub(crate) fn new() -> Self {
        Self { descriptors: Vec::with_capacity(8), keys: Vec::with_capacity(8), until: None, at_once: false }
    }

    pub(crate) fn add(&mut self, key: K, descriptor: BorrowedFd<'a>, events: PollFlags) {
        self.descriptors.push(PollFd::from_borrowed_fd(descriptor, events));
        self.keys.push(key);
    }

    /// Waits no longer than until then.
    pub(crate) fn until(&mut self, time: Instant) {
        self.until = Some(self.until.map_or(time, |until| until.min(time)));
    }

    /// Does not wait, since there is something to do already.
    pub(crate) fn at_once(&mut self) {
        self.at_once = true;
    }

    /// Waits, and gives the keys of the descriptors that something happened to.
    pub(crate) fn wait(mut self) -> io::Result<Vec<(K, PollFlags)>> {
        let timeout = if self.at_once {
            Some(Duration::ZERO)
        } else {
            // Rounded up, so that the time has come when the poll ends.
            self.until.map(|until| until.saturating_duration_since(Instant::now()) + Duration::from_micros(100))
        };
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        match poll(&mut self.descriptors, timeout.as_ref()) {
            Ok(0) | Err(Errno::INTR) => Ok(Vec::new()),
            Ok(_) => {
                let happened = self.descriptors.iter().map(PollFd::revents).zip(self.keys);
                Ok(happened.filter(|(events, _)| !events.is_empty()).map(|(events, key)| (key, events)).collect())
            }
            Err(e) => Err(e),
        }
    }
}

//! When the sandbox ends: a span on a clock that nothing in the sandbox can set.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::io;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};
use sandbox_protocol as protocol;

/// Time since the machine started, the time that it slept included. It can't be set.
pub(crate) fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// A duration in milliseconds.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The sandbox's expiry. Its descriptor can be read from when it has come.
#[derive(Debug)]
pub(crate) struct Expiry {
    timer: OwnedFd,
    times: Mutex<Times>,
}

/// Points in time of [`now`].
#[derive(Clone, Copy, Debug)]
struct Times {
    expires: Option<Duration>,
    hard: Option<Duration>,
}

impl Expiry {
    /// Begins now: `lifetime` may be moved, up to `hard_limit`. `None` is for ever.
    ///
    /// # Errors
    /// If the system gives no timer.
    pub(crate) fn new(lifetime: Option<Duration>, hard_limit: Option<Duration>) -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let now = now();
        let hard = hard_limit.and_then(|limit| now.checked_add(limit));
        let expires = earlier(lifetime.and_then(|lifetime| now.checked_add(lifetime)), hard);
        let expiry = Self { timer, times: Mutex::new(Times { expires, hard }) };
        expiry.set_timer(expires)?;
        Ok(expiry)
    }

    /// Moves the expiry to `lifetime` from now, or as far as the hard limit allows. An expiry that is later already
    /// stays, unless it may be shortened.
    ///
    /// # Errors
    /// If the timer can't be set; the expiry is as it was then.
    pub(crate) fn renew(&self, lifetime: Option<Duration>, shorten: bool) -> io::Result<protocol::Expiry> {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now();
        let wanted = lifetime.and_then(|lifetime| now.checked_add(lifetime));
        let mut expires = earlier(wanted, times.hard);
        let limited = expires != wanted;
        if !shorten && is_before(expires, times.expires) {
            expires = times.expires;
        }
        self.set_timer(expires)?;
        times.expires = expires;
        Ok(protocol::Expiry { limited, ..times.at(now) })
    }

    /// Sets a hard limit, counted from now, unless there is one. The expiry stays until it is renewed.
    pub(crate) fn limit(&self, hard_limit: Duration) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.hard = times.hard.or_else(|| now().checked_add(hard_limit));
    }

    /// How long it is until the expiry.
    pub(crate) fn remaining(&self) -> protocol::Expiry {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).at(now())
    }

    /// Whether the expiry has come. The timer alone does not say so: it may have been set anew.
    pub(crate) fn has_come(&self) -> bool {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.expires.is_some_and(|expires| expires <= now())
    }

    fn set_timer(&self, expires: Option<Duration>) -> io::Result<()> {
        // Zero would disarm it.
        let at = expires.map_or(Duration::ZERO, |expires| expires.max(Duration::from_nanos(1)));
        let value =
            Timespec { tv_sec: i64::try_from(at.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(at.subsec_nanos()) };
        let interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let setting = Itimerspec { it_interval: interval, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &setting).map(drop)
    }
}

impl AsFd for Expiry {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

impl Times {
    fn at(self, now: Duration) -> protocol::Expiry {
        let remaining = |time: Option<Duration>| time.map(|time| milliseconds(time.saturating_sub(now)));
        protocol::Expiry {
            remaining_ms: remaining(self.expires),
            hard_remaining_ms: remaining(self.hard),
            limited: false,
        }
    }
}

/// The earlier of two times, where `None` is never.
fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn is_before(one: Option<Duration>, other: Option<Duration>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one < other,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    const HOUR: Duration = Duration::from_secs(3600);

    fn is_about(remaining: Option<u64>, expected: Duration) -> bool {
        remaining.is_some_and(|left| (milliseconds(expected) - 60_000..=milliseconds(expected)).contains(&left))
    }

    #[test]
    fn a_renewal_never_shortens_by_accident() {
        let expiry = Expiry::new(Some(2 * HOUR), None).unwrap();
        assert!(is_about(expiry.renew(Some(HOUR), false).unwrap().remaining_ms, 2 * HOUR));
        assert!(is_about(expiry.renew(Some(3 * HOUR), false).unwrap().remaining_ms, 3 * HOUR));
        assert!(is_about(expiry.renew(Some(HOUR), true).unwrap().remaining_ms, HOUR));
        assert_eq!(expiry.renew(None, false).unwrap().remaining_ms, None);
        assert_eq!(expiry.renew(Some(HOUR), false).unwrap().remaining_ms, None);
        assert!(is_about(expiry.renew(Some(HOUR), true).unwrap().remaining_ms, HOUR));
    }

    #[test]
    fn the_hard_limit_holds() {
        let expiry = Expiry::new(Some(HOUR), Some(2 * HOUR)).unwrap();
        let renewed = expiry.renew(Some(5 * HOUR), false).unwrap();
        assert!(renewed.limited && is_about(renewed.remaining_ms, 2 * HOUR), "{renewed:?}");
        let renewed = expiry.renew(None, false).unwrap();
        assert!(renewed.limited && is_about(renewed.remaining_ms, 2 * HOUR), "{renewed:?}");
        assert!(is_about(Expiry::new(None, Some(HOUR)).unwrap().remaining().remaining_ms, HOUR));
    }

    #[test]
    fn a_hard_limit_is_set_once() {
        let expiry = Expiry::new(Some(HOUR), None).unwrap();
        expiry.limit(2 * HOUR);
        expiry.limit(5 * HOUR);
        let renewed = expiry.renew(None, true).unwrap();
        assert!(renewed.limited && is_about(renewed.remaining_ms, 2 * HOUR), "{renewed:?}");
        expiry.limit(Duration::ZERO);
        assert!(is_about(expiry.remaining().hard_remaining_ms, 2 * HOUR));
    }

    #[test]
    fn a_lifetime_beyond_the_clock_is_for_ever() {
        let expiry = Expiry::new(Some(HOUR), None).unwrap();
        assert_eq!(expiry.renew(Some(Duration::MAX), false).unwrap().remaining_ms, None);
    }

    #[test]
    fn the_timer_tells() {
        let expiry = Expiry::new(Some(HOUR), None).unwrap();
        assert!(!expiry.has_come());
        expiry.renew(Some(Duration::from_millis(20)), true).unwrap();
        let mut descriptors = [PollFd::new(&expiry, PollFlags::IN)];
        let timeout = Timespec { tv_sec: 10, tv_nsec: 0 };
        assert_eq!(poll(&mut descriptors, Some(&timeout)), Ok(1));
        assert!(expiry.has_come());
    }
}

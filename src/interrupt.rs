//! Per-thread cancellation: a callback that is asked while a call waits.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a wait goes on before the callback is asked, unless a signal ends the wait.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

thread_local! {
    static CHECK: RefCell<Option<Rc<CancelCheck>>> = const { RefCell::new(None) };
}

struct CancelCheck {
    is_interrupted: Box<dyn Fn() -> bool>,
    /// When to ask next; `None` once the answer was yes.
    next: Cell<Option<Instant>>,
}

/// Does the work, and cancels the call of this library in which it waits once `is_interrupted` returns true.
///
/// It is called on this thread about ten times a second while a call waits, and in most waits as soon as a signal
/// handler has run. It is not called before a wait, nor by calls that do not wait. Once it returns true, the call fails
/// with [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled) and cleans up as it does after a timeout: a command is
/// killed in the sandbox and the call waits for its end, an upload leaves no partial file, a creation no Pod. The
/// clean-up may take some seconds, and `is_interrupted` is not called again until `work` has returned. What runs on
/// other threads, such as a [`Child`](crate::Child), goes on.
///
/// `is_interrupted` may call this library, with other handles than those in use; such calls are not cancelled by it.
///
/// ```no_run
/// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
/// use std::sync::atomic::{AtomicBool, Ordering};
///
/// /// Set by a signal handler.
/// static INTERRUPTED: AtomicBool = AtomicBool::new(false);
///
/// let is_interrupted = || INTERRUPTED.load(Ordering::Relaxed);
/// let output = sandbox::interruptible(is_interrupted, || sandbox.execute("make"))?;
/// # Ok(())
/// # }
/// ```
pub fn interruptible<T>(is_interrupted: impl Fn() -> bool + 'static, work: impl FnOnce() -> T) -> T {
    let check =
        CancelCheck { is_interrupted: Box::new(is_interrupted), next: Cell::new(Some(Instant::now() + POLL_INTERVAL)) };
    let _scope = Scope::of(Some(Rc::new(check)));
    work()
}

/// Replaces the thread's check until it is dropped.
struct Scope(Option<Rc<CancelCheck>>);

impl Scope {
    fn of(check: Option<Rc<CancelCheck>>) -> Self {
        Self(CHECK.replace(check))
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        CHECK.set(self.0.take());
    }
}

/// The thread's check, unless it has said yes.
fn current() -> Option<Rc<CancelCheck>> {
    // At the very end of a thread there is none.
    let check = CHECK.try_with(|check| check.borrow().clone()).ok()??;
    check.next.get().is_some().then_some(check)
}

/// How long this thread may wait before it calls [`is_cancelled`]; `None` without a check.
pub(crate) fn poll_interval() -> Option<Duration> {
    current().map(|_| POLL_INTERVAL)
}

/// A signal has ended a wait of this thread (`EINTR`): ask at once.
pub(crate) fn note_eintr() {
    if let Some(check) = current() {
        check.next.set(Some(Instant::now()));
    }
}

/// Asks the callback, if it is time to. Answers true only once.
pub(crate) fn is_cancelled() -> bool {
    let is_due = |check: &Rc<CancelCheck>| check.next.get().is_some_and(|next| Instant::now() >= next);
    let Some(check) = current().filter(is_due) else { return false };
    // The callback's own calls of this library are not cancelled by it.
    let scope = Scope::of(None);
    let is_interrupted = (check.is_interrupted)();
    drop(scope);
    check.next.set((!is_interrupted).then(|| Instant::now() + POLL_INTERVAL));
    is_interrupted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_asked_at_a_signal_and_says_yes_once() {
        let asked = Rc::new(Cell::new(0));
        let counter = Rc::clone(&asked);
        let is_interrupted = move || {
            counter.set(counter.get() + 1);
            counter.get() == 2
        };
        interruptible(is_interrupted, || {
            assert!(!is_cancelled() && asked.get() == 0);
            let mut answers = Vec::new();
            for _ in 0..3 {
                note_eintr();
                answers.push(is_cancelled());
            }
            assert_eq!(answers, [false, true, false]);
            assert_eq!((asked.get(), poll_interval()), (2, None));
        });
        assert_eq!(poll_interval(), None);
    }

    #[test]
    fn is_asked_after_a_tick_and_in_the_inner_work_only() {
        interruptible(
            || panic!("the inner work is another's"),
            || {
                interruptible(
                    || true,
                    || {
                        assert_eq!(poll_interval(), Some(POLL_INTERVAL));
                        let began = Instant::now();
                        while !is_cancelled() {
                            std::thread::yield_now();
                        }
                        assert!(began.elapsed() >= POLL_INTERVAL / 2);
                    },
                );
                assert_eq!(poll_interval(), Some(POLL_INTERVAL));
            },
        );
    }
}

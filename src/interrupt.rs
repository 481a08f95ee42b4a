//! The thread's question whether something has happened that is to end the call it is in.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a wait goes on without a look, unless a signal ends it.
const TICK: Duration = Duration::from_millis(100);

thread_local! {
    static QUESTION: RefCell<Option<Rc<Question>>> = const { RefCell::new(None) };
}

struct Question {
    is_interrupted: Box<dyn Fn() -> bool>,
    /// When it is to be asked next; `None` once the answer was yes.
    next: Cell<Option<Instant>>,
}

/// Does the work, and ends the call of this library that it waits in once `is_interrupted` says so.
///
/// It is asked on this thread about ten times a second while a call waits, and as soon as a signal handler has run in most of the
/// waits; never before a call and never while one has nothing to wait for. Once it says true, the call ends with
/// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled) as it would at its timeout: a command is killed in the sandbox and its end
/// awaited, an upload leaves no partial file, a creation no Pod. That takes its time, and nothing is asked any more until `work` has
/// returned. What runs on other threads, such as a [`Child`](crate::Child), goes on.
///
/// The question may call this library, with other handles than those in use, and such calls are none of this work's.
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
    let question = Question { is_interrupted: Box::new(is_interrupted), next: Cell::new(Some(Instant::now() + TICK)) };
    let _scope = Scope::of(Some(Rc::new(question)));
    work()
}

/// Puts a question in the place of the thread's until it is dropped.
struct Scope(Option<Rc<Question>>);

impl Scope {
    fn of(question: Option<Rc<Question>>) -> Self {
        Self(QUESTION.replace(question))
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        QUESTION.set(self.0.take());
    }
}

/// The question that still waits for a yes.
fn current() -> Option<Rc<Question>> {
    // There is none at the very end of a thread either.
    let question = QUESTION.try_with(|question| question.borrow().clone()).ok()??;
    question.next.get().is_some().then_some(question)
}

/// How long this thread may wait before it looks again; `None` if there is nothing to look for.
pub(crate) fn tick() -> Option<Duration> {
    current().map(|_| TICK)
}

/// A signal has ended a wait of this thread.
pub(crate) fn signalled() {
    if let Some(question) = current() {
        question.next.set(Some(Instant::now()));
    }
}

/// Asks, if it is time to. It says true only once.
pub(crate) fn has_come() -> bool {
    let is_due = |question: &Rc<Question>| question.next.get().is_some_and(|next| Instant::now() >= next);
    let Some(question) = current().filter(is_due) else { return false };
    // What is called in the meantime is no work of this question's.
    let scope = Scope::of(None);
    let is_interrupted = (question.is_interrupted)();
    drop(scope);
    question.next.set((!is_interrupted).then(|| Instant::now() + TICK));
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
            assert!(!has_come() && asked.get() == 0);
            let mut answers = Vec::new();
            for _ in 0..3 {
                signalled();
                answers.push(has_come());
            }
            assert_eq!(answers, [false, true, false]);
            assert_eq!((asked.get(), tick()), (2, None));
        });
        assert_eq!(tick(), None);
    }

    #[test]
    fn is_asked_after_a_tick_and_in_the_inner_work_only() {
        interruptible(
            || panic!("the inner work is another's"),
            || {
                interruptible(
                    || true,
                    || {
                        assert_eq!(tick(), Some(TICK));
                        let began = Instant::now();
                        while !has_come() {
                            std::thread::yield_now();
                        }
                        assert!(began.elapsed() >= TICK / 2);
                    },
                );
                assert_eq!(tick(), Some(TICK));
            },
        );
    }
}

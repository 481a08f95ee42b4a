//! The tokio runtime behind the blocking calls: the only place that starts one and that blocks on it.

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{self, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::{Builder, Handle, Runtime as Tokio};
use tokio::task::{JoinSet, coop};

use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fork::ForkGuard;
use crate::openssl_end::InUse;

thread_local! {
    /// Of a worker, while it has something to do.
    static IN_USE: Cell<Option<InUse>> = const { Cell::new(None) };
}

/// All clients of a process share one runtime; the last of them takes it down.
static SHARED: Mutex<Weak<Shared>> = Mutex::new(Weak::new());

/// How long another thread may take to start the runtime before this one starts its own.
const SHARED_LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the tasks that are to finish are waited for at the end.
const TASKS_END: Duration = Duration::from_secs(2);
/// How long the end of the workers is waited for. They take some microseconds, unless a name server keeps one waiting.
const WORKERS_END: Duration = Duration::from_secs(1);

/// A share of the process's runtime.
#[derive(Clone)]
pub(crate) struct Runtime(Arc<Shared>);

struct Shared {
    tokio: Option<Tokio>,
    /// Tasks that the end of the process must not cut off.
    to_finish: Mutex<JoinSet<()>>,
    process: ForkGuard,
}

impl Runtime {
    /// The runtime that exists, or a new one if there is none or it belongs to the process that forked this one.
    pub(crate) fn shared() -> Result<Self> {
        // Sharing is an economy: without the lock, a runtime of one's own does as well.
        let Some(mut shared) = lock_within(&SHARED, SHARED_LOCK_TIMEOUT) else { return Self::start() };
        if let Some(existing) = shared.upgrade().filter(|existing| existing.process.is_current()) {
            return Ok(Self(existing));
        }
        let new = Self::start()?;
        *shared = Arc::downgrade(&new.0);
        Ok(new)
    }

    fn start() -> Result<Self> {
        occupy_standard_descriptors();
        // Two workers: one may be busy with a tunnel's traffic while the other answers a watch.
        let tokio = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("sandbox-runtime")
            // Workers are in OpenSSL for TLS.
            .on_thread_unpark(|| IN_USE.set(Some(InUse::begin())))
            .on_thread_park(|| IN_USE.set(None))
            .enable_all()
            .build()
            .map_err(|e| Error::new(ErrorKind::Unavailable, format!("the runtime's threads can't be started: {e}")))?;
        let process = ForkGuard::current();
        Ok(Self(Arc::new(Shared { tokio: Some(tokio), to_finish: Mutex::default(), process })))
    }

    /// Runs `future` to its end or to the deadline, on the caller's thread.
    pub(crate) fn block_on<T>(
        &self,
        deadline: Deadline,
        waiting_for: &str,
        future: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.check_caller()?;
        let (tokio, mut future) = (self.tokio()?, pin!(future));
        loop {
            if let Some(result) = poll_until(tokio, future.as_mut(), deadline.next_check()) {
                return result;
            }
            // Run the callback outside of the runtime, so that it may call this library.
            deadline.check(waiting_for)?;
        }
    }

    /// Starts a task that runs beside the callers.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        self.check_caller()?;
        self.tokio()?.spawn(future);
        Ok(())
    }

    /// Starts a task that is waited for, a little, when the last client goes.
    pub(crate) fn spawn_to_finish(&self, future: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        self.check_caller()?;
        let mut tasks = self.0.to_finish.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(future, self.tokio()?.handle());
        Ok(())
    }

    /// What every public call must ask first: may this thread block, and do the runtime's threads exist?
    pub(crate) fn check_caller(&self) -> Result<()> {
        self.0.process.check()?;
        occupy_standard_descriptors();
        if is_async_context(self.tokio()?) {
            return Err(Error::new(
                ErrorKind::AsyncContext,
                "a blocking call was made from async code; use spawn_blocking or a thread",
            ));
        }
        Ok(())
    }

    fn tokio(&self) -> Result<&Tokio> {
        self.0.tokio.as_ref().ok_or_else(|| Error::new(ErrorKind::Closed, "the runtime has been shut down"))
    }
}

/// Opens `/dev/null` for each of the descriptors 0 to 2 that the program has closed. Otherwise a socket of this library
/// could get its number, and what somebody writes to the standard output would go to a sandbox. They stay open: whether
/// the program has put something else in their place by then, nobody knows.
fn occupy_standard_descriptors() {
    let is_open = |descriptor: BorrowedFd<'_>| rustix::io::fcntl_getfd(descriptor).is_ok();
    if is_open(io::stdin().as_fd()) && is_open(io::stdout().as_fd()) && is_open(io::stderr().as_fd()) {
        return;
    }
    while let Ok(file) = File::options().read(true).write(true).open("/dev/null")
        && file.as_raw_fd() <= 2
    {
        let _ = file.into_raw_fd();
    }
}

/// Runs `future` on this thread, in the runtime's context, until it is ready or the time is over. The time is the
/// thread's own and not the runtime's: a call ends in time even if the host program has closed the descriptors that the
/// runtime's clock needs.
fn poll_until<F: Future>(tokio: &Tokio, mut future: Pin<&mut F>, deadline: Deadline) -> Option<F::Output> {
    let _context = tokio.enter();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = task::Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        match deadline.remaining() {
            None => thread::park(),
            Some(Duration::ZERO) => return None,
            Some(left) => thread::park_timeout(left),
        }
    }
}

/// Wakes a thread that is parked in [`poll_until`].
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Takes a lock within this time: after `fork` it may be held by a thread that does not exist.
fn lock_within<T>(mutex: &Mutex<T>, time: Duration) -> Option<MutexGuard<'_, T>> {
    let began = Instant::now();
    loop {
        // Not `try_lock_for`: a thread that parks takes locks of parking_lot's own, which may be held as well.
        match mutex.try_lock() {
            Some(guard) => return Some(guard),
            None if began.elapsed() >= time => return None,
            None => thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Whether this thread runs async code, where tokio allows nobody to block. `Handle::try_current` does not tell: it
/// succeeds on the threads of `spawn_blocking` and in `block_in_place` too.
fn is_async_context(tokio: &Tokio) -> bool {
    if Handle::try_current().is_err() {
        return false;
    }
    // What is left is code that may block, and `coop::unconstrained` futures. Only entering a runtime tells them apart.
    has_budget() || catch_unwind(AssertUnwindSafe(|| enter(tokio))).is_err()
}

/// Whether tokio limits how long this code runs: it gives a budget to each poll of a task, and none to `spawn_blocking`
/// and `block_in_place`. Takes the budget and gives it back.
fn has_budget() -> bool {
    /// More than tokio's budget, which is a `u8`.
    const STEPS: usize = 256;
    let mut context = task::Context::from_waker(Waker::noop());
    // Dropped last, this restores the budget that was there before it.
    let Poll::Ready(_restore) = coop::poll_proceed(&mut context) else { return true };
    (0..STEPS).any(|_| match coop::poll_proceed(&mut context) {
        Poll::Ready(step) => {
            step.made_progress();
            false
        }
        Poll::Pending => true,
    })
}

/// Panics in async code.
fn enter(tokio: &Tokio) {
    #[expect(clippy::disallowed_methods, reason = "the one file that blocks on the runtime")]
    tokio.block_on(async {});
}

impl Drop for Shared {
    fn drop(&mut self) {
        let Some(tokio) = self.tokio.take() else { return };
        if !self.process.is_current() {
            // The workers to join don't exist in a forked child.
            std::mem::forget((tokio, std::mem::take(self.to_finish.get_mut())));
        } else if is_async_context(&tokio) {
            // Waiting for the workers would panic in async code.
            tokio.shutdown_background();
        } else {
            let mut tasks = std::mem::take(self.to_finish.get_mut());
            let finish = async { while tasks.join_next().await.is_some() {} };
            #[expect(clippy::disallowed_methods, reason = "the one file that blocks on the runtime")]
            let _ = tokio.block_on(async { tokio::time::timeout(TASKS_END, finish).await });
            // A program that uses OpenSSL itself may take it down next, and no worker must be in it still.
            tokio.shutdown_timeout(WORKERS_END);
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("process", &self.0.process).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_shared_while_it_is_used() {
        let (a, b) = (Runtime::shared().unwrap(), Runtime::shared().unwrap());
        assert!(Arc::ptr_eq(&a.0, &b.0));
    }

    #[test]
    fn ends_at_the_deadline() {
        let deadline = Deadline::after(Some(Duration::from_millis(20)));
        let never = std::future::pending::<Result<()>>();
        let error = Runtime::shared().unwrap().block_on(deadline, "nothing", never).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn asks_the_caller_outside_of_async_code() {
        let runtime = Runtime::shared().unwrap();
        let own = runtime.clone();
        let is_interrupted = move || own.block_on(Deadline::after(None), "nothing", async { Ok(true) }).unwrap();
        let wait = || runtime.block_on(Deadline::after(None), "nothing", std::future::pending::<Result<()>>());
        assert_eq!(crate::interruptible(is_interrupted, wait).unwrap_err().kind(), ErrorKind::Cancelled);
    }

    /// A call that blocks, as every public function makes it.
    fn call() -> Option<ErrorKind> {
        let runtime = Runtime::shared().unwrap();
        runtime.block_on(Deadline::after(None), "nothing", async { Ok(()) }).err().map(|e| e.kind())
    }

    const REFUSED: Option<ErrorKind> = Some(ErrorKind::AsyncContext);

    /// The caller's own runtime; with one worker if `workers` is 1, else on the thread that drives it.
    fn callers(workers: usize) -> Tokio {
        let mut builder = if workers == 0 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
        builder.worker_threads(workers.max(1)).build().unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "this is a caller's runtime")]
    fn run<T>(tokio: &Tokio, future: impl Future<Output = T>) -> T {
        tokio.block_on(future)
    }

    #[test]
    fn refuses_async_code() {
        for workers in [0, 1] {
            let tokio = callers(workers);
            // The future of block_on, a task, a task in a set, and after others have used the budget.
            assert_eq!(run(&tokio, async { call() }), REFUSED);
            assert_eq!(run(&tokio, async { tokio::spawn(async { call() }).await.unwrap() }), REFUSED);
            let local = tokio::task::LocalSet::new();
            assert_eq!(run(&tokio, local.run_until(async { call() })), REFUSED);
            let exhausted = async {
                while coop::has_budget_remaining() {
                    tokio::task::consume_budget().await;
                }
                call()
            };
            assert_eq!(run(&tokio, exhausted), REFUSED);
            assert_eq!(run(&tokio, coop::unconstrained(async { call() })), REFUSED);
        }
    }

    #[test]
    fn leaves_the_budget_as_it_was() {
        let steps = run(&callers(0), async {
            for _ in 0..10 {
                assert_eq!(call(), REFUSED);
            }
            let mut steps = 0;
            let mut context = task::Context::from_waker(Waker::noop());
            while let Poll::Ready(step) = coop::poll_proceed(&mut context) {
                step.made_progress();
                steps += 1;
            }
            steps
        });
        assert_eq!(steps, 128);
    }

    #[test]
    fn works_where_tokio_allows_to_block() {
        for workers in [0, 1] {
            let tokio = callers(workers);
            assert_eq!(run(&tokio, async { tokio::task::spawn_blocking(call).await.unwrap() }), None);
            let _guard = tokio.enter();
            assert_eq!(call(), None);
            assert_eq!(thread::spawn(call).join().unwrap(), None);
        }
        let tokio = callers(1);
        // On the thread of block_on, and on a worker.
        assert_eq!(run(&tokio, async { tokio::task::block_in_place(call) }), None);
        assert_eq!(
            run(&tokio, async { tokio::spawn(async { tokio::task::block_in_place(call) }).await.unwrap() }),
            None
        );
        // What follows in the same poll is async code again.
        let both = async { (tokio::task::block_in_place(call), call()) };
        assert_eq!(run(&tokio, both), (None, REFUSED));
    }

    #[test]
    fn a_runtime_of_the_parent_is_refused_and_not_waited_for() {
        let mut runtime = Runtime::start().unwrap();
        Arc::get_mut(&mut runtime.0).unwrap().process = ForkGuard::of_parent();
        assert_eq!(runtime.check_caller().unwrap_err().kind(), ErrorKind::Forked);
        // Its tasks are forgotten.
        drop(runtime);
    }

    #[test]
    fn a_lock_that_nobody_releases_is_given_up() {
        let (mutex, time) = (Mutex::new(()), Duration::from_millis(30));
        let (held, began) = (mutex.lock(), Instant::now());
        assert!(lock_within(&mutex, time).is_none() && began.elapsed() >= time);
        drop(held);
        assert!(lock_within(&mutex, time).is_some());
    }
}

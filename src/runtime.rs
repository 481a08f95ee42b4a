//! The tokio runtime behind the blocking calls: the only place that starts one and the only caller of `block_on`.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime as Tokio};
use tokio::task::JoinSet;

use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};

/// All clients of a process share one runtime; the last of them takes it down.
static SHARED: Mutex<Weak<Shared>> = Mutex::new(Weak::new());

/// How long the tasks that are to finish are waited for at the end.
const TASKS_END: Duration = Duration::from_secs(2);
/// How long the end of the workers is waited for. They take some microseconds, unless a name server keeps one waiting.
const WORKERS_END: Duration = Duration::from_secs(1);

/// The process that made a handle. One that was forked from it has the handle's memory, but not the threads behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn current() -> Self {
        Self(std::process::id())
    }

    pub(crate) fn is_current(self) -> bool {
        self == Self::current()
    }

    pub(crate) fn check(self) -> Result<()> {
        if self.is_current() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Forked,
            "this client was made before fork(); its threads don't exist in the child, so make a new client there",
        ))
    }
}

/// A share of the process's runtime.
#[derive(Clone)]
pub(crate) struct Runtime(Arc<Shared>);

struct Shared {
    tokio: Option<Tokio>,
    /// Tasks that the end of the process must not cut off.
    to_finish: Mutex<JoinSet<()>>,
    process: Process,
}

impl Runtime {
    /// The runtime that exists, or a new one if there is none or it belongs to the process that forked this one.
    pub(crate) fn shared() -> Result<Self> {
        let mut shared = SHARED.lock();
        if let Some(existing) = shared.upgrade().filter(|existing| existing.process.is_current()) {
            return Ok(Self(existing));
        }
        // Two workers: one may be busy with a tunnel's traffic while the other answers a watch.
        let tokio =
            Builder::new_multi_thread().worker_threads(2).thread_name("sandbox-runtime").enable_all().build().map_err(
                |e| Error::new(ErrorKind::Unavailable, format!("the runtime's threads can't be started: {e}")),
            )?;
        let new = Arc::new(Shared { tokio: Some(tokio), to_finish: Mutex::default(), process: Process::current() });
        *shared = Arc::downgrade(&new);
        Ok(Self(new))
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
            let turn = async {
                match deadline.next_check().remaining() {
                    None => Some(future.as_mut().await),
                    Some(left) => tokio::time::timeout(left, future.as_mut()).await.ok(),
                }
            };
            #[expect(clippy::disallowed_methods, reason = "the one place that blocks on the runtime")]
            if let Some(result) = tokio.block_on(turn) {
                return result;
            }
            // Here and not in the runtime, where the caller could make no call of this library.
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
        if Handle::try_current().is_ok() {
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

impl Drop for Shared {
    fn drop(&mut self) {
        let Some(tokio) = self.tokio.take() else { return };
        if !self.process.is_current() {
            // The workers to join don't exist in a forked child.
            std::mem::forget((tokio, std::mem::take(self.to_finish.get_mut())));
        } else if Handle::try_current().is_ok() {
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

    #[test]
    fn refuses_async_callers() {
        let runtime = Runtime::shared().unwrap();
        let inner = runtime.clone();
        let error = runtime
            .block_on(Deadline::after(None), "the inner call", async move {
                inner.block_on(Deadline::after(None), "nothing", async { Ok(()) })
            })
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AsyncContext);
    }
}

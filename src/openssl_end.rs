//! The end of OpenSSL. If something else in the process has used the system's OpenSSL before this library did, OpenSSL
//! frees all it has when the process exits, and whichever thread is in it then crashes. Ours are stopped first, in the
//! moment between two calls.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

static USERS: AtomicUsize = AtomicUsize::new(0);
static HAS_COME: AtomicBool = AtomicBool::new(false);
/// The thread that exits. It alone still runs afterwards, and must not wait for itself.
static ENDING: OnceLock<ThreadId> = OnceLock::new();
/// The process whose end it is.
static PROCESS: AtomicU32 = AtomicU32::new(0);
/// How long threads may take to leave OpenSSL. A step of libssh2 or of the runtime takes much less.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_micros(100);

/// Held while OpenSSL may be used.
#[derive(Debug)]
pub(crate) struct InUse(());

impl InUse {
    /// Never comes back once OpenSSL has come to its end.
    pub(crate) fn begin() -> Self {
        let this = Self(());
        USERS.fetch_add(1, SeqCst);
        if HAS_COME.load(SeqCst) && ENDING.get() != Some(&thread::current().id()) {
            drop(this);
            loop {
                thread::park();
            }
        }
        this
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        USERS.fetch_sub(1, SeqCst);
    }
}

/// It is this process whose threads are to be stopped. Those of a parent that were in OpenSSL at its fork are not
/// there.
pub(crate) fn register_process() {
    let process = std::process::id();
    if PROCESS.swap(process, SeqCst) != process {
        USERS.store(0, SeqCst);
    }
}

/// Stops all other threads before they use OpenSSL again.
pub(crate) fn stop_threads() {
    if PROCESS.load(SeqCst) != std::process::id() || ENDING.set(thread::current().id()).is_err() {
        return;
    }
    HAS_COME.store(true, SeqCst);
    let until = Instant::now() + LEAVE_TIMEOUT;
    while USERS.load(SeqCst) > 0 && Instant::now() < until {
        thread::sleep(PAUSE);
    }
}

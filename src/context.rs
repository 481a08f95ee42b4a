//! What every part of one client needs: its settings, its login key, the connection to Kubernetes, the runtime.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::config::Config;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fork::{ForkGuard, ForkMutex};
use crate::runtime::Runtime;
use crate::ssh::identity::Identity;

/// Time for a call to the API server that has no timeout of its own.
pub(crate) const API_TIMEOUT: Duration = Duration::from_secs(30);

/// After this time port-forward is tried again: it may have failed on one node, or for a moment.
const STAY_ON_EXEC: Duration = Duration::from_secs(600);

pub(crate) struct Context {
    pub(crate) runtime: Runtime,
    pub(crate) cluster: Cluster,
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    /// The runtime classes of Pods that Kubernetes's port-forward has been found not to reach, though exec does.
    not_forwarded: ForkMutex<BTreeMap<Option<String>, Instant>>,
    process: ForkGuard,
}

impl Context {
    pub(crate) fn new(config: Config) -> Result<Arc<Self>> {
        config.validate()?;
        crate::ssh::init_openssl();
        let runtime = Runtime::shared()?;
        let identity = match &config.ssh_key {
            Some(path) => Identity::read(path)?,
            None => Identity::generate()?,
        };
        // Nothing is asked of the API server here, but somebody may have to log in by hand; a login command has a limit
        // of its own.
        let deadline = Deadline::after(None);
        let cluster = runtime.block_on(deadline, "the connection to Kubernetes", Cluster::connect(&config))?;
        let (not_forwarded, process) = (ForkMutex::new(BTreeMap::new()), ForkGuard::current());
        Ok(Arc::new(Self { runtime, cluster, config, identity, not_forwarded, process }))
    }

    /// Whether a tunnel to a Pod of this runtime class is to be tried by port-forward.
    pub(crate) fn is_forwarded(&self, runtime_class: Option<&String>) -> bool {
        let classes = self.not_forwarded.lock();
        classes.is_ok_and(|classes| {
            classes.get(&runtime_class.cloned()).is_none_or(|since| since.elapsed() >= STAY_ON_EXEC)
        })
    }

    /// Remembers that it need not be: the guest has just answered by exec, and failed to by port-forward.
    pub(crate) fn forget_forward(&self, runtime_class: Option<&String>, why: &Error) {
        let class = runtime_class.map_or("no runtime class", String::as_str);
        log::info!("Pods of {class} are reached by exec for a while, since port-forward fails: {why}");
        if let Ok(mut classes) = self.not_forwarded.lock() {
            classes.insert(runtime_class.cloned(), Instant::now());
        }
    }

    /// Fails if this thread must not block, or belongs to a forked child.
    pub(crate) fn check_caller(&self) -> Result<()> {
        self.runtime.check_caller()
    }

    /// Runs one or a few calls to the API server.
    pub(crate) fn call_api<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let deadline = Deadline::after(Some(API_TIMEOUT));
        self.runtime.block_on(deadline, "the Kubernetes API server", call).map_err(|e| match e.kind() {
            // This deadline is ours and not the caller's.
            ErrorKind::TimedOut => e.with_kind(ErrorKind::Unavailable),
            _ => e,
        })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if !self.process.is_current() {
            // In a forked child its last clone must not go: that wakes a task of the parent's runtime, whose locks may
            // be held.
            std::mem::forget(self.cluster.clone());
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("namespace", &self.cluster.namespace()).finish_non_exhaustive()
    }
}

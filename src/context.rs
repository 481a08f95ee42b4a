//! What every part of one client needs: its settings, its login key, the connection to Kubernetes, the runtime.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::config::Config;
use crate::deadline::Deadline;
use crate::error::{ErrorKind, Result};
use crate::fork::ForkGuard;
use crate::runtime::Runtime;
use crate::ssh::identity::Identity;

/// Time for a call to the API server that has no timeout of its own.
pub(crate) const API_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) struct Context {
    pub(crate) runtime: Runtime,
    pub(crate) cluster: Cluster,
    pub(crate) config: Config,
    pub(crate) identity: Identity,
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
        Ok(Arc::new(Self { runtime, cluster, config, identity, process: ForkGuard::current() }))
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

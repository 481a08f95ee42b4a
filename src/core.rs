//! What all handles of one client share.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::cluster::Cluster;
use crate::config::Config;
use crate::deadline::Deadline;
use crate::endpoint::Endpoint;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::runtime::Runtime;
use crate::ssh::identity::Identity;

/// Time for a call to the API server that has no timeout of its own.
pub(crate) const API_TIMEOUT: Duration = Duration::from_secs(30);

/// How long after a lost connection Kubernetes may take to know that the Pod has ended.
const VERDICT_DELAY: Duration = Duration::from_millis(1500);

pub(crate) struct Core {
    pub(crate) runtime: Runtime,
    pub(crate) cluster: Cluster,
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    endpoints: Mutex<HashMap<String, Arc<Endpoint>>>,
}

impl Core {
    pub(crate) fn new(config: Config) -> Result<Arc<Self>> {
        config.validate()?;
        // Before its first use: otherwise OpenSSL takes itself down when the program ends, under threads that are in it still.
        openssl::init();
        let runtime = Runtime::shared()?;
        let identity = match &config.ssh_key {
            Some(path) => Identity::read(path)?,
            None => Identity::generate()?,
        };
        // Nothing is asked of the API server yet, and a login command has a limit of its own.
        let deadline = Deadline::after(None);
        let cluster = runtime.block_on(deadline, "the connection to Kubernetes", Cluster::connect(&config))?;
        let core = Arc::new(Self { runtime, cluster, config, identity, endpoints: Mutex::default() });
        core.start_sweep()?;
        Ok(core)
    }

    /// Runs one or a few calls to the API server.
    pub(crate) fn call_api<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let deadline = Deadline::after(Some(API_TIMEOUT));
        self.runtime.block_on(deadline, "the Kubernetes API server", call).map_err(|e| match e.kind() {
            // Here the deadline is ours and not the caller's.
            ErrorKind::TimedOut => e.with_kind(ErrorKind::Unavailable),
            _ => e,
        })
    }

    /// The cached endpoint of this name.
    pub(crate) fn cached(&self, name: &str) -> Option<Arc<Endpoint>> {
        self.endpoints.lock().get(name).map(Arc::clone)
    }

    /// Puts an endpoint into the cache, unless the same Pod is there already; what is there then is returned. Another Pod of
    /// the same name is replaced.
    pub(crate) fn remember(&self, endpoint: Endpoint) -> Arc<Endpoint> {
        let mut endpoints = self.endpoints.lock();
        match endpoints.get(endpoint.name()) {
            Some(known) if known.uid() == endpoint.uid() => Arc::clone(known),
            _ => {
                let endpoint = Arc::new(endpoint);
                let old = endpoints.insert(endpoint.name().to_owned(), Arc::clone(&endpoint));
                drop(endpoints);
                if let Some(old) = old {
                    old.close();
                }
                endpoint
            }
        }
    }

    /// Drops a Pod that is gone from the cache and closes its sessions.
    pub(crate) fn forget(&self, gone: &Endpoint) {
        gone.close();
        let mut endpoints = self.endpoints.lock();
        if endpoints.get(gone.name()).is_some_and(|known| known.uid() == gone.uid()) {
            endpoints.remove(gone.name());
        }
    }

    /// Closes idle SSH sessions in the background for as long as the client lives.
    fn start_sweep(self: &Arc<Self>) -> Result<()> {
        let Some(idle_timeout) = self.config.idle_timeout else { return Ok(()) };
        let period = (idle_timeout / 4).clamp(Duration::from_millis(50), Duration::from_secs(30));
        let weak: Weak<Self> = Arc::downgrade(self);
        self.runtime.spawn(async move {
            loop {
                tokio::time::sleep(period).await;
                let Some(core) = weak.upgrade() else { return };
                let endpoints: Vec<_> = core.endpoints.lock().values().map(Arc::clone).collect();
                for endpoint in endpoints {
                    endpoint.sweep();
                }
            }
        })
    }

    /// Names the operation and the sandbox in an error, and adds what Kubernetes knows where a connection failed.
    pub(crate) fn explain(&self, error: Error, operation: &'static str, endpoint: &Endpoint) -> Error {
        let error = error.during(operation);
        if error.sandbox().is_some() {
            // A deeper layer has asked already, and waited for the answer.
            return error;
        }
        let error = error.on(endpoint.name());
        let is_connection = matches!(
            error.kind(),
            ErrorKind::Connect | ErrorKind::Disconnected | ErrorKind::OutcomeUnknown | ErrorKind::HostKeyMismatch
        );
        if !is_connection || error.verdict().is_some() {
            return error;
        }
        let question = async {
            // The kubelet reports the end of a container up to a second late.
            let patience = tokio::time::Instant::now() + VERDICT_DELAY;
            loop {
                let verdict = self.cluster.verdict(endpoint.name(), endpoint.uid()).await?;
                if verdict.is_some() || tokio::time::Instant::now() >= patience {
                    return Ok(verdict);
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        };
        let deadline = Deadline::after(Some(2 * VERDICT_DELAY));
        let verdict = match self.runtime.block_on(deadline, "the Kubernetes API server", question) {
            Ok(Some(verdict)) => verdict,
            Ok(None) => return error,
            Err(e) => {
                log::debug!("no verdict on sandbox {}: {e}", endpoint.name());
                return error;
            }
        };
        if verdict.cause == Cause::Pending {
            return error.with_verdict(verdict);
        }
        // A Pod that has ended never comes back under this uid.
        self.forget(endpoint);
        let was_asked = error.kind() == ErrorKind::OutcomeUnknown;
        let kind = if verdict.cause == Cause::Deleted && !was_asked { ErrorKind::NotFound } else { error.kind() };
        error.with_kind(kind).with_verdict(verdict)
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        for endpoint in self.endpoints.get_mut().values() {
            endpoint.close();
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("namespace", &self.cluster.namespace()).finish_non_exhaustive()
    }
}

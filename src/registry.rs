//! The sandboxes that a client knows, by name. This is the cache that lets warm calls do without the API server.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::context::Context;
use crate::endpoint::Endpoint;
use crate::error::Result;

#[derive(Debug)]
pub(crate) struct Registry {
    endpoints: Mutex<HashMap<String, Arc<Endpoint>>>,
}

impl Registry {
    /// An empty registry, and the background task that closes idle SSH sessions for as long as the registry lives.
    pub(crate) fn new(ctx: &Context) -> Result<Arc<Self>> {
        let registry = Arc::new(Self { endpoints: Mutex::default() });
        registry.start_sweep(ctx)?;
        Ok(registry)
    }

    /// The known endpoint of this name. One that was closed, because its Pod is gone, is not known any more.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Endpoint>> {
        let mut endpoints = self.endpoints.lock();
        let endpoint = endpoints.get(name)?;
        if endpoint.is_closed() {
            endpoints.remove(name);
            return None;
        }
        Some(Arc::clone(endpoint))
    }

    /// Adds an endpoint, unless the same Pod is known already; the known one is returned then. Another Pod of the same name is
    /// replaced.
    pub(crate) fn insert(&self, endpoint: Arc<Endpoint>) -> Arc<Endpoint> {
        let mut endpoints = self.endpoints.lock();
        match endpoints.entry(endpoint.name().to_owned()) {
            Entry::Occupied(known) if known.get().uid() == endpoint.uid() && !known.get().is_closed() => {
                Arc::clone(known.get())
            }
            Entry::Occupied(mut known) => {
                let old = known.insert(Arc::clone(&endpoint));
                drop(endpoints);
                old.close();
                endpoint
            }
            Entry::Vacant(place) => Arc::clone(place.insert(endpoint)),
        }
    }

    fn start_sweep(self: &Arc<Self>, ctx: &Context) -> Result<()> {
        let Some(idle_timeout) = ctx.config.idle_timeout else { return Ok(()) };
        let period = (idle_timeout / 4).clamp(Duration::from_millis(50), Duration::from_secs(30));
        let weak: Weak<Self> = Arc::downgrade(self);
        ctx.runtime.spawn(async move {
            loop {
                tokio::time::sleep(period).await;
                let Some(registry) = weak.upgrade() else { return };
                registry.sweep();
            }
        })
    }

    fn sweep(&self) {
        let mut endpoints = self.endpoints.lock();
        endpoints.retain(|_, endpoint| !endpoint.is_closed());
        let endpoints: Vec<_> = endpoints.values().map(Arc::clone).collect();
        for endpoint in endpoints {
            endpoint.evict_idle();
        }
    }
}

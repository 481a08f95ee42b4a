//! The sandboxes that a client knows, by name. This is the cache that lets warm calls do without the API server.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::cluster::{Ends, Standing, Users};
use crate::context::Context;
use crate::endpoint::Endpoint;
use crate::error::{Result, Verdict};
use crate::fork::ForkMutex;

/// After this time a sandbox without handles and sessions is looked up again by its next use. Without a limit, a client
/// that lives long would keep every sandbox that it has ever used.
const UNUSED_TIMEOUT: Duration = Duration::from_secs(600);
const SHORTEST_PERIOD: Duration = Duration::from_millis(50);
const LONGEST_PERIOD: Duration = Duration::from_secs(30);

/// So many ends are kept of sandboxes that nobody here uses.
const KEPT_ENDS: usize = 256;

#[derive(Debug)]
pub(crate) struct Registry {
    known: ForkMutex<HashMap<String, Entry>>,
    /// What has ended last of what is not known, for those who have asked for it before that and are about to add it.
    /// Locked after `known`.
    ended: ForkMutex<VecDeque<Standing>>,
    /// Tells of the ends of sandboxes, once there is one. Locked alone.
    ends: ForkMutex<Option<Ends>>,
}

#[derive(Debug)]
struct Entry {
    endpoint: Arc<Endpoint>,
    used: Instant,
}

impl Registry {
    /// An empty registry, and the background task that evicts idle SSH sessions and unused sandboxes for as long as it
    /// lives.
    pub(crate) fn new(ctx: &Context) -> Result<Arc<Self>> {
        let registry = Arc::new(Self::empty());
        registry.start_eviction(ctx)?;
        Ok(registry)
    }

    fn empty() -> Self {
        Self { known: ForkMutex::default(), ended: ForkMutex::default(), ends: ForkMutex::default() }
    }

    /// The known endpoint of this name. One that was closed, because its Pod is gone, is not known any more.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Endpoint>> {
        let mut all = self.known.lock().ok()?;
        let known = all.get_mut(name)?;
        if known.endpoint.is_closed() {
            all.remove(name);
            return None;
        }
        known.used = Instant::now();
        Some(Arc::clone(&known.endpoint))
    }

    /// Adds an endpoint, unless the same Pod is known already; the known one is returned then. Of two Pods of one name
    /// the younger one stays: an answer of the API server may be older than what another thread knows by now.
    pub(crate) fn insert(self: &Arc<Self>, endpoint: Arc<Endpoint>) -> Result<Arc<Endpoint>> {
        self.follow(&endpoint)?;
        let mut all = self.known.lock()?;
        let mut replaced = None;
        if let Some(Entry { endpoint: known, .. }) =
            all.get(endpoint.name()).filter(|known| !known.endpoint.is_closed())
        {
            if known.uid() == endpoint.uid() {
                return Ok(Arc::clone(known));
            }
            if known.created_at() > endpoint.created_at() {
                return Ok(endpoint);
            }
            // A name is free again only when its Pod is gone. Pods of the same second prove nothing.
            replaced = Some(Arc::clone(known)).filter(|known| known.created_at() < endpoint.created_at());
        }
        let known = Entry { endpoint: Arc::clone(&endpoint), used: Instant::now() };
        all.insert(endpoint.name().to_owned(), known);
        let end = self.ended.lock()?.iter().find(|one| one.uid == endpoint.uid()).and_then(|one| one.end.clone());
        drop(all);
        if let Some(end) = end {
            endpoint.end(&end);
            endpoint.cut();
        }
        if let Some(replaced) = replaced {
            replaced.close();
        }
        Ok(endpoint)
    }

    /// From the first sandbox on, one watch tells how they end.
    fn follow(self: &Arc<Self>, endpoint: &Endpoint) -> Result<()> {
        let mut ends = self.ends.lock()?;
        let ends = match &mut *ends {
            Some(ends) => ends,
            none => {
                let (ctx, users) = (endpoint.ctx(), Arc::downgrade(self));
                none.insert(ctx.cluster.follow_ends(users, &ctx.config.owner, endpoint.version())?)
            }
        };
        if !endpoint.is_own() {
            ends.widen();
        }
        Ok(())
    }

    /// Closes the endpoint of a Pod that is gone.
    pub(crate) fn evict(&self, name: &str, uid: &str) {
        let found = self.find(name).filter(|endpoint| endpoint.uid() == uid);
        if let Some(endpoint) = found {
            endpoint.close();
        }
    }

    fn start_eviction(self: &Arc<Self>, ctx: &Context) -> Result<()> {
        let idle_timeout = ctx.config.idle_timeout.unwrap_or(Duration::MAX);
        let period = (idle_timeout / 4).clamp(SHORTEST_PERIOD, LONGEST_PERIOD);
        let weak: Weak<Self> = Arc::downgrade(self);
        ctx.runtime.spawn(async move {
            loop {
                tokio::time::sleep(period).await;
                let Some(registry) = weak.upgrade() else { return };
                registry.evict_unused(UNUSED_TIMEOUT);
                registry.release();
            }
        })
    }

    /// Evicts sessions that were idle for too long, then the sandboxes that are gone or have not been used for this
    /// time.
    fn evict_unused(&self, unused_timeout: Duration) {
        let Ok(all) = self.known.lock() else { return };
        let pools: Vec<_> = all.values().map(|known| Arc::clone(known.endpoint.pool())).collect();
        drop(all);
        // Closing a connection takes its time, so without the lock.
        for pool in pools {
            pool.evict_idle(|session| session.is_alive());
        }
        let Ok(mut all) = self.known.lock() else { return };
        all.retain(|_, Entry { endpoint, used }| {
            // Under the lock nobody can get another handle of it.
            let is_used = Arc::strong_count(endpoint) > 1 || endpoint.pool().counts() != (0, 0);
            !endpoint.is_closed() && (is_used || used.elapsed() < unused_timeout)
        });
    }
}

impl Users for Registry {
    fn release(self: Arc<Self>) {
        if let Some(last) = Arc::into_inner(self) {
            // A client that has gone meanwhile did not wait for what is to be finished.
            std::thread::spawn(move || drop(last));
        }
    }

    fn concerns(&self, standing: &Standing) -> bool {
        let Ok(all) = self.known.lock() else { return false };
        let has_ended = standing.end.is_some();
        if let Some(known) = all.get(&standing.name).filter(|known| known.endpoint.uid() == standing.uid) {
            return !known.endpoint.is_seen_to_end(has_ended);
        }
        if has_ended && let Ok(mut ended) = self.ended.lock() {
            ended.truncate(KEPT_ENDS - 1);
            ended.push_front(standing.clone());
        }
        false
    }

    fn used(&self) -> Vec<Standing> {
        let Ok(all) = self.known.lock() else { return Vec::new() };
        let open = all.values().map(|known| &known.endpoint).filter(|endpoint| !endpoint.is_closed());
        open.map(|endpoint| Standing { name: endpoint.name().into(), uid: endpoint.uid().into(), end: None }).collect()
    }

    fn end(&self, name: &str, uid: &str, verdict: &Verdict) {
        let Ok(all) = self.known.lock() else { return };
        let found = all.get(name).map(|known| &known.endpoint).filter(|endpoint| endpoint.uid() == uid).cloned();
        drop(all);
        if let Some(endpoint) = found {
            endpoint.end(verdict);
            endpoint.cut();
            log::info!("sandbox {name} has ended: {verdict}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::config::Config;
    use crate::testing;

    fn endpoint(ctx: &Arc<Context>, name: &str, uid: &str, created: u64) -> Arc<Endpoint> {
        let mut snapshot = testing::snapshot(name, uid);
        snapshot.created_at = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(created));
        Endpoint::new(ctx, &snapshot, true)
    }

    #[test]
    fn an_old_answer_neither_replaces_nor_closes_a_younger_sandbox() {
        let ctx = testing::context(Config::new());
        let registry = Registry::new(&ctx).unwrap();
        let young = registry.insert(endpoint(&ctx, "a", "young", 2)).unwrap();
        let old = registry.insert(endpoint(&ctx, "a", "old", 1)).unwrap();
        assert_eq!((old.uid(), old.is_closed(), young.is_closed()), ("old", false, false));
        assert!(Arc::ptr_eq(&registry.find("a").unwrap(), &young));
    }

    #[test]
    fn a_younger_sandbox_replaces_and_closes_the_old_one() {
        let ctx = testing::context(Config::new());
        let registry = Registry::new(&ctx).unwrap();
        let old = registry.insert(endpoint(&ctx, "a", "old", 1)).unwrap();
        let same = registry.insert(endpoint(&ctx, "a", "old", 1)).unwrap();
        assert!(Arc::ptr_eq(&old, &same));
        let young = registry.insert(endpoint(&ctx, "a", "young", 2)).unwrap();
        assert!(old.is_closed() && !young.is_closed());
        // Within the same second nobody knows which one is older: nothing is closed.
        let twin = registry.insert(endpoint(&ctx, "a", "twin", 2)).unwrap();
        assert!(!young.is_closed() && Arc::ptr_eq(&registry.find("a").unwrap(), &twin));
    }

    #[test]
    fn what_is_closed_is_not_known_any_more() {
        let ctx = testing::context(Config::new());
        let registry = Registry::new(&ctx).unwrap();
        let first = registry.insert(endpoint(&ctx, "a", "first", 1)).unwrap();
        registry.evict("a", "another");
        assert!(registry.find("a").is_some());
        registry.evict("a", "first");
        assert!(first.is_closed() && registry.find("a").is_none());
        // Also in the place of a closed one that was younger.
        let second = registry.insert(endpoint(&ctx, "a", "second", 0)).unwrap();
        assert!(Arc::ptr_eq(&registry.find("a").unwrap(), &second));
    }

    #[test]
    fn the_eviction_takes_what_nobody_uses() {
        let ctx = testing::context(Config::new());
        let registry = Registry::new(&ctx).unwrap();
        let count = || registry.known.lock().unwrap().len();
        let held = registry.insert(endpoint(&ctx, "held", "1", 1)).unwrap();
        drop(registry.insert(endpoint(&ctx, "unused", "2", 1)).unwrap());
        registry.evict_unused(UNUSED_TIMEOUT);
        assert_eq!(count(), 2);
        registry.evict_unused(Duration::ZERO);
        assert!(registry.find("held").is_some() && registry.find("unused").is_none() && count() == 1);
        held.close();
        registry.evict_unused(UNUSED_TIMEOUT);
        assert_eq!(count(), 0);
    }

    #[test]
    fn a_forked_child_waits_for_no_lock() {
        let ctx = testing::context(Config::new());
        let mut registry = Registry::empty();
        std::mem::forget(registry.known.lock());
        std::mem::forget(registry.ends.lock());
        registry.known.inherit();
        registry.ends.inherit();
        let registry = Arc::new(registry);
        assert!(registry.find("a").is_none());
        assert!(registry.insert(endpoint(&ctx, "a", "1", 1)).is_err());
        registry.evict("a", "1");
        registry.evict_unused(UNUSED_TIMEOUT);
    }
}

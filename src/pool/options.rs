//! What a pool is to be, and what a claim wants of a sandbox.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::stable_names;

/// How a pool is filled: start from [`PoolOptions::new`] and change what matters. Only filling needs them; who only
/// claims can leave all of it as it is.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    pub(super) size: usize,
    pub(super) idle_lifetime: Duration,
    pub(super) creates_at_once: usize,
    pub(super) creates_per_second: f64,
    pub(super) keep_filled: bool,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            size: 4,
            idle_lifetime: Duration::from_secs(3600),
            creates_at_once: 4,
            creates_per_second: 10.0,
            keep_filled: false,
        }
    }
}

impl PoolOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many sandboxes are kept ready, 0 to 10,000. If several processes fill the pool, the largest size applies.
    /// After the size was lowered, surplus sandboxes stay until they are claimed or reach their idle lifetime. Default:
    /// 4.
    pub fn size(mut self, size: usize) -> Self {
        self.size = size;
        self
    }

    /// How long a sandbox waits to be claimed before it is replaced; at least 10 seconds. It stops by itself then, even
    /// if no process fills the pool. Default: one hour.
    pub fn idle_lifetime(mut self, lifetime: Duration) -> Self {
        self.idle_lifetime = lifetime;
        self
    }

    /// How many sandboxes this handle makes at the same time, 1 to 256. Default: 4.
    pub fn creates_at_once(mut self, creates: usize) -> Self {
        self.creates_at_once = creates;
        self
    }

    /// How many sandboxes this handle begins to make in a second, more than 0. Default: 10.
    pub fn creates_per_second(mut self, creates: f64) -> Self {
        self.creates_per_second = creates;
        self
    }

    /// Keeps the pool filled from a thread of its own for as long as the handle lives. Default: no, only
    /// [`Pool::fill`](crate::Pool::fill) fills it.
    pub fn keep_filled(mut self, keep: bool) -> Self {
        self.keep_filled = keep;
        self
    }
}

/// What a claim does if the pool has nothing ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnMiss {
    /// Creates a sandbox, as [`Client::create`](crate::Client::create) does.
    #[default]
    Create,
    /// Waits until the pool has one, up to the setting `create_timeout`.
    Wait,
    /// Fails at once with [`ErrorKind::PoolEmpty`](crate::ErrorKind::PoolEmpty).
    Fail,
}

stable_names!(OnMiss, "way out of an empty pool", {
    Create => "create",
    Wait => "wait",
    Fail => "fail",
});

/// What a claim gives the sandbox that it takes: start from [`Claim::new`] and change what matters. None of it needs
/// another sandbox than those that are ready.
///
/// ```no_run
/// # fn show(pool: &sandbox::Pool) -> sandbox::Result<()> {
/// use sandbox::{Claim, OnMiss};
///
/// let claim = Claim::new().env("TASK", "17").label("run", "nightly").file("task.json", "{}").on_miss(OnMiss::Wait);
/// let sandbox = pool.claim(&claim)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Claim {
    pub(super) env: BTreeMap<String, String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) lifetime: Option<Option<Duration>>,
    pub(super) owner: Option<String>,
    pub(super) files: Vec<(PathBuf, Vec<u8>)>,
    pub(super) on_miss: OnMiss,
}

impl Claim {
    /// A sandbox as the pool's spec has it.
    pub fn new() -> Self {
        Self::default()
    }

    /// An environment variable for all later commands in the sandbox, whoever runs them. It overrides one of the spec.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// A Kubernetes label on the Pod.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// A Kubernetes annotation on the Pod.
    pub fn annotation(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(name.into(), value.into());
        self
    }

    /// Time until the sandbox expires, from the claim on; `None` for never. Default: that of the pool's spec, else the
    /// configured one. The hard limit of the spec counts from the claim as well.
    pub fn lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.lifetime = Some(lifetime.into());
        self
    }

    /// The new owner of the sandbox. Default: the configured owner of the client that claims.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// A file to write before the sandbox is handed out, as by [`Files::write`](crate::Files::write).
    pub fn file(mut self, remote: impl Into<PathBuf>, contents: impl Into<Vec<u8>>) -> Self {
        self.files.push((remote.into(), contents.into()));
        self
    }

    /// What to do if nothing is ready. Default: [`OnMiss::Create`].
    pub fn on_miss(mut self, on_miss: OnMiss) -> Self {
        self.on_miss = on_miss;
        self
    }
}

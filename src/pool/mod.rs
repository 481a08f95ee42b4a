//! The warm pool: sandboxes that are ready before somebody wants them.

mod claim;
mod fill;
mod options;
mod plan;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use self::claim::Candidates;
use self::fill::{Filler, Pace};
pub use self::options::{Claim, OnMiss, PoolOptions};
use self::plan::{Census, Wanted, is_over, members};
use crate::cluster::{self, MemberState, PodSnapshot};
use crate::context::Context;
use crate::creation::Creation;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fork::ForkMutex;
use crate::registry::Registry;
use crate::sandbox::Sandbox;
use crate::spec::SandboxSpec;

/// The longest name of a pool: those of its Pods are made of it.
const LONGEST_NAME: usize = 36;
const LARGEST_SIZE: usize = 10_000;
const MOST_CREATES: usize = 256;
const SHORTEST_IDLE_LIFETIME: Duration = Duration::from_secs(10);
/// How long [`Pool::remove`] waits for the Pods to go.
const REMOVAL: Duration = Duration::from_secs(60);
const REMOVAL_PAUSE: Duration = Duration::from_millis(200);

/// A named pool of sandboxes of one spec that are created in advance.
///
/// Its state is in the labels and annotations of its Pods and nowhere else. Any number of processes on any machines
/// fill it and claim from it, one that starts later finds it, and none has to keep running. Nothing has to be installed
/// in the cluster, and no other rights are needed than for sandboxes.
///
/// - **A claim is exclusive.** It is one conditional change of a Pod, of which Kubernetes accepts exactly one. A
///   claimed sandbox was made for this spec, an SSH login to it has succeeded, and it has neither expired nor ended.
/// - **The pool is not overfilled**: all processes that fill it choose the same name for the same gap, and Kubernetes
///   accepts a name only once.
/// - **Nothing is left behind**: what a killed process has half created is replaced by the others, a sandbox that is
///   not claimed stops by itself after its idle lifetime, and [`Client::reap`](crate::Client::reap) deletes what is
///   left of it.
///
/// A sandbox knows the login key of the client that made it. For a client with the same `ssh_key`, a claim takes one
/// API call to list the pool and one to claim. A client with another key needs the right to `pods/exec` too, and about
/// a tenth of a second more. The client that made a sandbox can still log in to it after another one has claimed it.
///
/// If two specs are used under one name, the newer one applies: that of the handle that began to fill later. Sandboxes
/// made from the older one are replaced.
///
/// Cloning is cheap and gives a second handle of the same pool. All methods may be called from many threads at once.
/// Dropping the last clone stops the background work and deletes sandboxes that are half created, for which it waits up
/// to 10 seconds; all others stay.
///
/// ```no_run
/// use sandbox::{Claim, Client, PoolOptions, SandboxSpec};
///
/// let client = Client::from_env()?;
/// let pool = client.pool("graders", &SandboxSpec::new(), &PoolOptions::new().size(20).keep_filled(true))?;
/// let sandbox = pool.claim(&Claim::new().env("TASK", "17"))?;
/// println!("{}", sandbox.execute("echo $TASK")?.stdout_text());
/// sandbox.delete()?;
/// # Ok::<(), sandbox::Error>(())
/// ```
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
    /// The thread that keeps it filled.
    filler: Arc<ForkMutex<Option<Filler>>>,
}

/// What a [`Pool::fill`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filled {
    /// Sandboxes that it has made.
    pub created: usize,
    /// Sandboxes whose deletion it has requested: they had ended, were too old, or of another spec.
    pub retired: usize,
}

/// What there is of a pool at one moment; see [`Pool::status`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PoolStatus {
    /// Sandboxes that can be claimed.
    pub ready: usize,
    /// Sandboxes that are being made.
    pub filling: usize,
    /// Sandboxes that were claimed and still exist.
    pub claimed: usize,
    /// Sandboxes that have ended or are being deleted, and were not claimed.
    pub ending: usize,
    /// Sandboxes of other specs, not claimed.
    pub foreign: usize,
    /// When the oldest one that can be claimed was made.
    pub oldest: Option<SystemTime>,
    /// Why the pool is not filled, as far as the Pods and this handle's own attempts tell: no room in the cluster, a
    /// used-up quota.
    pub held: Option<String>,
}

/// Counts of a handle's work since it was made; see [`Pool::counters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolCounters {
    /// Claims that were served by a ready sandbox at once.
    pub hits: u64,
    /// Claims that found nothing ready.
    pub misses: u64,
    /// Attempts to take a sandbox that another claim took first, or that had ended.
    pub conflicts: u64,
    /// Claims that wait for a sandbox now.
    pub waiting: u64,
    /// Sandboxes that were taken, could not be reached, and were deleted.
    pub bad: u64,
    /// Sandboxes that this handle has made for the pool.
    pub created: u64,
    /// Sandboxes whose deletion it has requested.
    pub retired: u64,
}

#[derive(Debug, Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    conflicts: AtomicU64,
    waiting: AtomicU64,
    bad: AtomicU64,
    created: AtomicU64,
    retired: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What all clones of a handle and its threads share.
struct Shared {
    ctx: Arc<Context>,
    registry: Arc<Registry>,
    name: String,
    spec: SandboxSpec,
    options: PoolOptions,
    counts: Counts,
    known: ForkMutex<Known>,
    candidates: ForkMutex<Candidates>,
    /// Held by the thread that looks for candidates.
    looking: Mutex<()>,
    pace: Mutex<Pace>,
}

#[derive(Debug, Default)]
struct Known {
    fingerprint: Option<Arc<str>>,
    since: Option<SystemTime>,
    /// Why the last creation failed, and when.
    held: Option<(String, Instant)>,
    /// Whether Pods answer at their addresses, and when that was tried.
    is_direct: Option<(bool, Instant)>,
}

impl Pool {
    pub(crate) fn open(
        ctx: &Arc<Context>,
        registry: &Arc<Registry>,
        name: &str,
        spec: &SandboxSpec,
        options: &PoolOptions,
    ) -> Result<Self> {
        ctx.check_caller()?;
        check(name, spec, options)?;
        let shared = Arc::new(Shared {
            ctx: Arc::clone(ctx),
            registry: Arc::clone(registry),
            name: name.to_owned(),
            spec: spec.clone(),
            options: options.clone(),
            counts: Counts::default(),
            known: ForkMutex::new(Known::default()),
            candidates: ForkMutex::new(Candidates::default()),
            looking: Mutex::default(),
            pace: Mutex::new(Pace::new(options)),
        });
        let filler = options.keep_filled.then(|| Filler::start(&shared)).transpose()?;
        Ok(Self { shared, filler: Arc::new(ForkMutex::new(filler)) })
    }

    /// The name of the pool.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Creates the sandboxes that the pool lacks, and deletes those that have ended, are too old, or were made from an
    /// older spec. Returns when that is done. For programs that look after a pool from time to time; see
    /// [`PoolOptions::keep_filled`] for the others.
    ///
    /// ```no_run
    /// # fn show(client: &sandbox::Client) -> sandbox::Result<()> {
    /// let options = sandbox::PoolOptions::new().size(20);
    /// let filled = client.pool("graders", &sandbox::SandboxSpec::new(), &options)?.fill()?;
    /// println!("{} made, {} retired", filled.created, filled.retired);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::create`](crate::Client::create), with the first error; after that no further sandbox is begun.
    /// [`ErrorKind::Conflict`] if another process fills the pool from a newer spec.
    pub fn fill(&self) -> Result<Filled> {
        self.shared.fill().map_err(|e| self.report(e, "fill pool"))
    }

    /// Takes a ready sandbox out of the pool, or does what the claim's [`OnMiss`] says if there is none;
    /// [`Sandbox::timings`] says which it was. All of it has the time of the setting `create_timeout`. A claim that
    /// fails leaves no sandbox behind.
    ///
    /// ```no_run
    /// # fn show(pool: &sandbox::Pool) -> sandbox::Result<()> {
    /// let sandbox = pool.claim(&sandbox::Claim::new().label("run", "nightly"))?;
    /// println!("{} came from {}", sandbox.name(), sandbox.timings().unwrap().origin);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::PoolEmpty`] and [`ErrorKind::TimedOut`] by [`OnMiss`], else as of
    /// [`Client::create`](crate::Client::create) and of [`Files::write`](crate::Files::write).
    /// [`ErrorKind::PermissionDenied`] if the sandboxes were made with another SSH key and this client has no right to
    /// pods/exec.
    pub fn claim(&self, claim: &Claim) -> Result<Sandbox> {
        self.shared.claim(claim).map_err(|e| self.report(e, "claim sandbox"))
    }

    /// What there is of the pool now: one API call.
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] and [`ErrorKind::Unavailable`] from the API server.
    pub fn status(&self) -> Result<PoolStatus> {
        self.shared.status().map_err(|e| self.report(e, "look at pool"))
    }

    /// Counts of this handle's work, its clones included.
    pub fn counters(&self) -> PoolCounters {
        let Counts { hits, misses, conflicts, waiting, bad, created, retired } = &self.shared.counts;
        let [hits, misses, conflicts, waiting, bad, created, retired] =
            [hits, misses, conflicts, waiting, bad, created, retired].map(|counter| counter.load(Ordering::Relaxed));
        PoolCounters { hits, misses, conflicts, waiting, bad, created, retired }
    }

    /// Deletes all unclaimed sandboxes of the pool, those of other specs too, and returns how many. Their end is not
    /// waited for. This handle stops filling the pool in the background; other processes that fill it will do so again.
    ///
    /// # Errors
    /// Fails with the first error of the API server; the other sandboxes are deleted all the same.
    pub fn drain(&self) -> Result<usize> {
        self.stop_filling()
            .and_then(|()| self.shared.drain())
            .map(|(drained, _)| drained)
            .map_err(|e| self.report(e, "drain pool"))
    }

    /// [`Pool::drain`], which waits until the sandboxes are gone. Claimed sandboxes stay.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if sandboxes are still there after a minute, for example because another process fills
    /// the pool, else as of [`Pool::drain`].
    pub fn remove(&self) -> Result<usize> {
        self.stop_filling().and_then(|()| self.shared.remove()).map_err(|e| self.report(e, "remove pool"))
    }

    fn stop_filling(&self) -> Result<()> {
        self.shared.ctx.check_caller()?;
        // Its end is waited for without the lock.
        let filler = self.filler.lock()?.take();
        drop(filler);
        Ok(())
    }

    fn report(&self, e: Error, operation: &'static str) -> Error {
        let e = if e.sandbox().is_none() { e.context(format!("pool {}", self.shared.name)) } else { e };
        e.during(operation)
    }
}

fn check(name: &str, spec: &SandboxSpec, options: &PoolOptions) -> Result<()> {
    let invalid = |message: String| Err(Error::new(ErrorKind::InvalidArgument, message));
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let begins_well = bytes.first().is_some_and(|byte| plain(*byte)) && bytes.last().is_some_and(|byte| plain(*byte));
    if bytes.len() > LONGEST_NAME || !begins_well || !bytes.iter().all(|byte| plain(*byte) || *byte == b'-') {
        return invalid(format!(
            "the pool's name {name:?} is invalid: it must have 1 to {LONGEST_NAME} lower-case letters, digits and '-', and begin and end \
             without '-'"
        ));
    }
    if spec.name.is_some() {
        return invalid("the spec of a pool can't have a name: its sandboxes have names of their own".to_owned());
    }
    if options.size > LARGEST_SIZE {
        return invalid(format!("a pool has at most {LARGEST_SIZE} sandboxes"));
    }
    if options.idle_lifetime < SHORTEST_IDLE_LIFETIME {
        return invalid(format!("the idle lifetime is at least {} seconds", SHORTEST_IDLE_LIFETIME.as_secs()));
    }
    if !(1..=MOST_CREATES).contains(&options.creates_at_once) {
        return invalid(format!("sandboxes are made 1 to {MOST_CREATES} at once"));
    }
    if !(options.creates_per_second > 0.0 && options.creates_per_second.is_finite()) {
        return invalid("the creations per second are a number above 0".to_owned());
    }
    Ok(())
}

impl Shared {
    /// Stands for the spec, and does not change while this handle lives.
    fn fingerprint(&self) -> Result<Arc<str>> {
        if let Some(known) = &self.known.lock()?.fingerprint {
            return Ok(Arc::clone(known));
        }
        let guest = Creation::guest_for(&self.ctx, &self.spec)?;
        let fingerprint: Arc<str> = cluster::fingerprint(&self.spec, &self.ctx.config, guest)?.into();
        Ok(Arc::clone(self.known.lock()?.fingerprint.get_or_insert(fingerprint)))
    }

    /// When this handle began to fill, by the API server's clock.
    fn since(&self) -> Result<SystemTime> {
        if let Some(known) = self.known.lock()?.since {
            return Ok(known);
        }
        let now = self.now()?;
        Ok(*self.known.lock()?.since.get_or_insert(now))
    }

    /// Now, by the API server's clock.
    fn now(&self) -> Result<SystemTime> {
        self.ctx.call_api(self.ctx.cluster.now())
    }

    fn wanted<'a>(&'a self, fingerprint: &'a str) -> Result<Wanted<'a>> {
        Ok(Wanted {
            pool: &self.name,
            spec: fingerprint,
            size: self.options.size,
            idle_lifetime: self.options.idle_lifetime,
            since: cluster::whole_second(self.since()?),
        })
    }

    fn members(&self, state: Option<MemberState>) -> Result<Vec<PodSnapshot>> {
        self.ctx.call_api(self.ctx.cluster.members(&self.name, state))
    }

    fn status(&self) -> Result<PoolStatus> {
        let fingerprint = self.fingerprint()?;
        let pods = self.members(None)?;
        let Census { ready, filling, claimed, ending, foreign } = Census::of(&pods, &fingerprint);
        let can_be_claimed = |pod: &&PodSnapshot| {
            !is_over(pod) && pod.membership.as_ref().is_some_and(|member| member.is_ready_for(&fingerprint))
        };
        let oldest = pods.iter().filter(can_be_claimed).filter_map(|pod| pod.created_at).min();
        let waiting = members(&pods).filter(|(_, member)| member.state == MemberState::Filling);
        let full = waiting.filter_map(|(pod, _)| pod.verdict.as_ref().map(ToString::to_string)).next();
        let held = full.or_else(|| Some(self.known.lock().ok()?.held.as_ref()?.0.clone()));
        Ok(PoolStatus { ready, filling, claimed, ending, foreign, oldest, held })
    }

    /// How many deletions were requested, and how many Pods are there still.
    fn drain(&self) -> Result<(usize, usize)> {
        if let Ok(mut candidates) = self.candidates.lock() {
            *candidates = Candidates::default();
        }
        let pods = self.members(None)?;
        let unclaimed = members(&pods).filter(|(_, member)| member.state != MemberState::Claimed);
        let unclaimed: Vec<_> = unclaimed.map(|(pod, _)| pod).collect();
        let here = unclaimed.len();
        let retire: Vec<_> = unclaimed.into_iter().filter(|pod| pod.phase != cluster::Phase::Terminating).collect();
        Ok((self.retire(&retire)?, here))
    }

    fn remove(&self) -> Result<usize> {
        let deadline = Deadline::after(Some(REMOVAL));
        let mut removed = 0;
        loop {
            let (drained, here) = self.drain()?;
            removed += drained;
            if here == 0 {
                return Ok(removed);
            }
            let pause = async {
                tokio::time::sleep(REMOVAL_PAUSE).await;
                Ok(())
            };
            self.ctx.runtime.block_on(deadline, "the end of the pool's sandboxes", pause).map_err(|e| {
                match e.kind() {
                    ErrorKind::TimedOut => e
                        .with_kind(ErrorKind::Conflict)
                        .context("some are still there: another process may be filling the pool"),
                    _ => e,
                }
            })?;
        }
    }

    /// Requests the deletion of members, unless somebody has claimed or changed them meanwhile; how many it was.
    fn retire(&self, pods: &[&PodSnapshot]) -> Result<usize> {
        let (mut retired, mut first_error) = (0, None);
        for pod in pods {
            let deletion = self.ctx.cluster.delete_unchanged(&pod.name, &pod.uid, &pod.resource_version);
            match self.ctx.call_api(deletion) {
                Ok(true) => {
                    log::info!("pool {}: retired {}", self.name, pod.name);
                    count(&self.counts.retired);
                    retired += 1;
                }
                Ok(false) => {}
                Err(e) => drop(first_error.get_or_insert(e.on(&pod.name))),
            }
        }
        first_error.map_or(Ok(retired), Err)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("name", &self.name()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::testing;

    #[test]
    fn what_can_not_be_a_pool_is_refused() {
        let ctx = testing::context(Config::new());
        let registry = Registry::new(&ctx).unwrap();
        let open = |name: &str, spec: SandboxSpec, options: PoolOptions| {
            Pool::open(&ctx, &registry, name, &spec, &options).map_err(|e| e.kind())
        };
        let (spec, options) = (SandboxSpec::new, PoolOptions::new);
        for name in ["", "-a", "a-", "A", "a_b", &"a".repeat(LONGEST_NAME + 1)] {
            assert_eq!(open(name, spec(), options()).unwrap_err(), ErrorKind::InvalidArgument, "{name}");
        }
        for wrong in [
            options().size(LARGEST_SIZE + 1),
            options().idle_lifetime(Duration::from_secs(9)),
            options().creates_at_once(0),
            options().creates_per_second(0.0),
            options().creates_per_second(f64::NAN),
        ] {
            assert_eq!(open("a", spec(), wrong).unwrap_err(), ErrorKind::InvalidArgument);
        }
        assert_eq!(open("a", spec().name("b"), options()).unwrap_err(), ErrorKind::InvalidArgument);
        assert_eq!(open(&"a".repeat(LONGEST_NAME), spec(), options()).unwrap().counters(), PoolCounters::default());
    }

    #[test]
    fn other_specs_have_other_fingerprints() {
        let ctx = testing::context(Config::new());
        let of = |spec: SandboxSpec| cluster::fingerprint(&spec, &ctx.config, crate::guest::Guest::Image).unwrap();
        let plain = of(SandboxSpec::new());
        assert_eq!(plain, of(SandboxSpec::new()));
        // What comes with the claim makes no other Pod.
        assert_eq!(
            plain,
            of(SandboxSpec::new()
                .lifetime(Duration::from_secs(5))
                .hard_limit(None)
                .idle_timeout(Duration::from_secs(5)))
        );
        for other in [
            SandboxSpec::new().image("other"),
            SandboxSpec::new().env("A", "1"),
            SandboxSpec::new().label("a", "1"),
            SandboxSpec::new().memory("2Gi"),
            SandboxSpec::new().pod_template("{\"spec\": {\"hostname\": \"x\"}}").unwrap(),
        ] {
            assert_ne!(plain, of(other));
        }
    }
}

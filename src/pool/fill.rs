//! Filling a pool: in one round, or from a thread that keeps at it.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::options::PoolOptions;
use super::plan::{Plan, Slot};
use super::{Filled, Shared, count};
use crate::cluster::{Followed, MemberState, Membership, PodSnapshot};
use crate::creation::Creation;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fork::ForkGuard;
use crate::interrupt::interruptible;
use crate::spec::SandboxSpec;

/// Time for a member to be ready if the configuration sets no limit.
const CREATE_TIMEOUT: Duration = Duration::from_secs(300);
/// Pauses after a creation that failed.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The others who saw the same change at the same moment begin up to so much later or earlier.
const JITTER: Duration = Duration::from_millis(60);
/// How long the thread waits for a change before it looks again.
const LOOK: Duration = Duration::from_secs(30);

/// How fast a handle makes sandboxes: fewer at once after a failure, more after a success.
#[derive(Debug)]
pub(super) struct Pace {
    at_once: usize,
    most_at_once: usize,
    interval: Duration,
    /// When the next one may be begun.
    next: Instant,
    pause: Duration,
}

impl Pace {
    pub(super) fn new(options: &PoolOptions) -> Self {
        Self {
            at_once: options.creates_at_once,
            most_at_once: options.creates_at_once,
            interval: Duration::try_from_secs_f64(1.0 / options.creates_per_second).unwrap_or(Duration::MAX),
            next: Instant::now(),
            pause: FIRST_PAUSE,
        }
    }

    /// When a creation may begin; the one after it so much later.
    fn turn(&mut self) -> Instant {
        let turn = self.next.max(Instant::now());
        self.next = turn.checked_add(self.interval).unwrap_or(turn + LONGEST_PAUSE);
        turn
    }

    fn succeeded(&mut self) {
        self.at_once = (self.at_once * 2).min(self.most_at_once);
        self.pause = FIRST_PAUSE;
    }

    fn failed(&mut self) {
        self.at_once = 1;
        self.next = self.next.max(Instant::now() + self.pause.mul_f64(0.5 + random()));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

/// Between 0 and 1.
fn random() -> f64 {
    let mut byte = [128];
    // Without randomness all are alike, which only costs conflicts.
    let _ = openssl::rand::rand_bytes(&mut byte);
    f64::from(byte[0]) / 256.0
}

/// How one creation went.
#[derive(Debug)]
struct Done {
    slot: usize,
    began: Instant,
    result: Result<()>,
}

/// The threads that make members. Those that are at work when this is dropped stop, leave no Pod, and are waited for.
struct Crew {
    shared: Arc<Shared>,
    /// How long a Pod is waited for that no node has room for.
    grace: Duration,
    threads: HashMap<usize, JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    sender: UnboundedSender<Done>,
    receiver: UnboundedReceiver<Done>,
}

impl Crew {
    fn new(shared: &Arc<Shared>, grace: Duration) -> Self {
        let (sender, receiver) = unbounded_channel();
        let (shared, stop) = (Arc::clone(shared), Arc::default());
        Self { shared, grace, threads: HashMap::new(), stop, sender, receiver }
    }

    fn is_at(&self, slot: usize) -> bool {
        self.threads.contains_key(&slot)
    }

    fn len(&self) -> usize {
        self.threads.len()
    }

    fn start(&mut self, slot: Slot) -> Result<()> {
        let (shared, sender, stop) = (Arc::clone(&self.shared), self.sender.clone(), Arc::clone(&self.stop));
        let spec = self.shared.spec.clone().unschedulable_grace(self.grace);
        let work = move || {
            let began = Instant::now();
            let result = interruptible(move || stop.load(Ordering::Relaxed), || shared.create(slot, &spec));
            // The client must not be kept by the one who is told.
            drop(shared);
            let _ = sender.send(Done { slot: slot.number, began, result });
        };
        let thread = std::thread::Builder::new().name("sandbox-create".into()).spawn(work).map_err(no_thread)?;
        self.threads.insert(slot.number, thread);
        Ok(())
    }

    /// The next creation to end.
    async fn next(&mut self) -> Result<Done> {
        match self.receiver.recv().await {
            Some(done) => Ok(done),
            None => Err(Error::new(ErrorKind::Closed, "the pool's threads have ended")),
        }
    }

    /// Takes note of a creation that has ended; true if it made a sandbox.
    fn note(&mut self, done: Done) -> Result<bool> {
        if let Some(thread) = self.threads.remove(&done.slot) {
            let _ = thread.join();
        }
        let shared = &self.shared;
        match done.result {
            Ok(()) => {
                count(&shared.counts.created);
                shared.pace.lock().succeeded();
                // One that began before the last failure says nothing.
                shared.known.lock()?.held.take_if(|(_, since)| done.began > *since);
                Ok(true)
            }
            // Somebody else makes it.
            Err(e) if e.kind() == ErrorKind::Conflict => Ok(false),
            Err(e) => {
                if e.kind() != ErrorKind::Cancelled {
                    shared.pace.lock().failed();
                    shared.known.lock()?.held = Some((e.to_string(), Instant::now()));
                    log::warn!("pool {}: {e}", shared.name);
                }
                Err(e)
            }
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for (_, thread) in self.threads.drain() {
            let _ = thread.join();
        }
    }
}

fn no_thread(e: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("a thread for the pool can't be started: {e}"))
}

async fn sleep_until(at: Instant) -> Result<()> {
    tokio::time::sleep_until(at.into()).await;
    Ok(())
}

impl Shared {
    /// Makes one member.
    fn create(&self, slot: Slot, spec: &SandboxSpec) -> Result<()> {
        let fingerprint = self.fingerprint()?;
        let wanted = self.wanted(&fingerprint)?;
        let name = slot.name(&wanted);
        let timeout = self.ctx.config.create_timeout.unwrap_or(CREATE_TIMEOUT);
        let membership = Membership {
            pool: self.name.clone(),
            state: MemberState::Filling,
            spec: fingerprint.to_string(),
            since: Some(wanted.since),
            until: Some(self.ctx.call_api(self.ctx.cluster.lease_end())?),
            ..Membership::default()
        };
        let creation = Creation::new(&self.ctx, spec, &name).until(Deadline::after(Some(timeout)));
        creation.run_for_pool(membership, self.options.idle_lifetime).map_err(|e| e.during("create sandbox").on(&name))
    }

    /// One round.
    pub(super) fn fill(self: &Arc<Self>) -> Result<Filled> {
        let fingerprint = self.fingerprint()?;
        let wanted = self.wanted(&fingerprint)?;
        let mut filled = Filled::default();
        loop {
            let pods = self.members(None)?;
            let plan = Plan::new(&wanted, &pods, self.now()?);
            if plan.is_superseded {
                return Err(superseded());
            }
            filled.retired += self.retire(&plan.retire)?;
            filled.created += self.create_all(&plan.create)?;
            if let Some(full) = plan.full {
                let what = "a sandbox of the pool waits for room in the cluster";
                return Err(Error::new(ErrorKind::Create, what).with_verdict(full));
            }
            let Some(wait) = plan.later else { return Ok(filled) };
            self.ctx.runtime.block_on(Deadline::after(None), "the others", sleep_until(Instant::now() + wait))?;
        }
    }

    fn create_all(self: &Arc<Self>, slots: &[Slot]) -> Result<usize> {
        let (mut crew, mut created) = (Crew::new(self, self.spec.unschedulable_grace), 0);
        let (mut slots, mut failure) = (slots.iter(), None);
        let runtime = &self.ctx.runtime;
        loop {
            let at_once = self.pace.lock().at_once;
            while failure.is_none() && crew.len() < at_once {
                let Some(slot) = slots.next() else { break };
                let turn = self.pace.lock().turn();
                runtime.block_on(Deadline::after(None), "the pace of creation", sleep_until(turn))?;
                crew.start(*slot)?;
            }
            if crew.len() == 0 {
                return failure.map_or(Ok(created), Err);
            }
            let done = runtime.block_on(Deadline::after(None), "sandboxes to be made", crew.next())?;
            match crew.note(done) {
                Ok(is_made) => created += usize::from(is_made),
                Err(e) => drop(failure.get_or_insert(e)),
            }
        }
    }
}

fn superseded() -> Error {
    Error::new(ErrorKind::Conflict, "another process fills it from a newer spec")
}

/// The thread that keeps a pool filled, until this is dropped.
pub(super) struct Filler {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    process: ForkGuard,
}

impl Filler {
    pub(super) fn start(shared: &Arc<Shared>) -> Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let (shared, asked) = (Arc::clone(shared), Arc::clone(&stop));
        let work = move || {
            let is_stopped = Arc::clone(&asked);
            interruptible(
                move || is_stopped.load(Ordering::Relaxed),
                || {
                    let followed = shared.ctx.cluster.follow(&shared.name, None);
                    KeepFilled { crew: Crew::new(&shared, CREATE_TIMEOUT), shared, followed, told: None }.run(&asked);
                },
            );
        };
        let thread = std::thread::Builder::new().name("sandbox-pool".into()).spawn(work).map_err(no_thread)?;
        Ok(Self { stop, thread: Some(thread), process: ForkGuard::current() })
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // In a forked child there is no such thread.
        if let Some(thread) = self.thread.take().filter(|_| self.process.is_current()) {
            let _ = thread.join();
        }
    }
}

struct KeepFilled {
    shared: Arc<Shared>,
    followed: Followed,
    crew: Crew,
    /// What was said last about why the pool is not filled.
    told: Option<String>,
}

impl KeepFilled {
    fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let look = match self.followed.is_known() {
                true => self.round().unwrap_or_else(|e| {
                    log::debug!("pool {}: {e}", self.shared.name);
                    Some(FIRST_PAUSE)
                }),
                false => None,
            };
            let _ = self.wait(look.unwrap_or(LOOK).min(LOOK));
        }
    }

    /// Does what is to be done now, and says when something may be to do next though nothing has changed.
    fn round(&mut self) -> Result<Option<Duration>> {
        let shared = Arc::clone(&self.shared);
        let fingerprint = shared.fingerprint()?;
        let wanted = shared.wanted(&fingerprint)?;
        let pods = self.followed.pods();
        let plan = Plan::new(&wanted, &pods, shared.now()?);
        let held = plan.is_superseded.then(|| superseded().to_string()).or(plan.full.as_ref().map(ToString::to_string));
        if let Some(why) = held.as_ref().filter(|_| held != self.told) {
            log::warn!("pool {} is not filled: {why}", shared.name);
        }
        self.told = held;
        let retire: Vec<&PodSnapshot> = plan.retire.iter().copied().filter(|pod| !self.is_at(&pod.name)).collect();
        shared.retire(&retire)?;
        let missing: Vec<_> = plan.create.iter().filter(|slot| !self.crew.is_at(slot.number)).collect();
        let mut next = [plan.later, plan.next].into_iter().flatten().min();
        let Some(slot) = missing.first() else { return Ok(next) };
        let (at_once, turn) = {
            let pace = shared.pace.lock();
            (pace.at_once, pace.next)
        };
        if self.crew.len() >= at_once {
            return Ok(next);
        }
        // One, and then another look: somebody else may have begun the others meanwhile.
        let wait = turn.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            shared.pace.lock().turn();
            self.crew.start(**slot)?;
            next = Some(Duration::ZERO);
        } else {
            next = Some(wait);
        }
        Ok(next)
    }

    /// Whether this is a Pod that one of the threads makes; its fate is that thread's business.
    fn is_at(&self, name: &str) -> bool {
        let slot = name.rsplit('-').nth(1).and_then(|number| number.parse().ok());
        slot.is_some_and(|slot| self.crew.is_at(slot)) && name.starts_with(&self.shared.name)
    }

    /// Waits for a change, the end of a creation, or so long.
    fn wait(&mut self, time: Duration) -> Result<()> {
        let deadline = Deadline::after(Some(time));
        let (followed, crew, runtime) = (&mut self.followed, &mut self.crew, &self.shared.ctx.runtime);
        let done = runtime.block_on(deadline, "a change of the pool", async {
            match select(pin!(followed.changed()), pin!(crew.next())).await {
                Either::Left((changed, _)) => changed.map(|()| None),
                Either::Right((done, _)) => done.map(Some),
            }
        });
        match done? {
            Some(done) => self.crew.note(done).map(drop),
            // Others see the same, and one of them is enough; and changes come in groups.
            None => runtime.block_on(
                Deadline::after(None),
                "the others",
                sleep_until(Instant::now() + JITTER.mul_f64(random())),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_falls_after_a_failure_and_rises_after_successes() {
        let mut pace = Pace::new(&PoolOptions::new().creates_at_once(5).creates_per_second(1000.0));
        let (first, second) = (pace.turn(), pace.turn());
        assert_eq!((pace.at_once, second - first), (5, Duration::from_millis(1)));
        pace.failed();
        assert!(pace.turn() >= second + FIRST_PAUSE / 3);
        let mut seen = vec![pace.at_once];
        for _ in 0..4 {
            pace.succeeded();
            seen.push(pace.at_once);
        }
        assert_eq!(seen, [1, 2, 4, 5, 5]);
        for _ in 0..20 {
            pace.failed();
        }
        assert_eq!(pace.pause, LONGEST_PAUSE);
        assert!((0.0..1.0).contains(&random()));
    }
}

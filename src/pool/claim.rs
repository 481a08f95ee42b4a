//! Taking a sandbox out of a pool.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use sandbox_protocol::{self as protocol, Expiry, FailureKind, Request, Response};

use super::options::{Claim, OnMiss};
use super::plan::is_over;
use super::{Shared, count};
use crate::cluster::{self, Claiming, MemberState, Membership, PodSnapshot};
use crate::config::Transport;
use crate::creation::{self, Creation};
use crate::deadline::Deadline;
use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind, Result};
use crate::files::Files;
use crate::link::Link;
use crate::sandbox::{CreateTimings, Origin, Sandbox};
use crate::spec::SandboxSpec;
use crate::ssh::commands;
use crate::text;

/// What has less time left than this is not handed out: it has to be reached first.
const LEAST_LEFT: Duration = Duration::from_secs(5);
/// What was found longer ago is looked for again.
const STALE: Duration = Duration::from_secs(10);
/// After so many that others took first, what was found is old.
const CONFLICTS: u32 = 2;
/// So many that can't be reached are not the fault of the sandboxes.
const MOST_BAD: u32 = 3;
/// How long a Pod's address may take to answer before the tunnel is taken.
const PROBE: Duration = Duration::from_millis(150);
/// After this time it is tried again.
const PROBE_AGAIN: Duration = Duration::from_secs(60);

/// Members that were ready when this client last looked.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    pods: Vec<PodSnapshot>,
    /// When the last look began.
    looked: Option<Instant>,
}

/// One call of [`Pool::claim`](super::Pool::claim).
struct Call<'a> {
    shared: &'a Arc<Shared>,
    claim: &'a Claim,
    /// A patch that takes a member says so.
    id: String,
    owner: &'a str,
    lifetime: Option<Duration>,
    began: Instant,
    deadline: Deadline,
    bad: u32,
}

impl Shared {
    pub(super) fn claim(self: &Arc<Self>, claim: &Claim) -> Result<Sandbox> {
        let config = &self.ctx.config;
        self.ctx.check_caller()?;
        check(claim)?;
        let mut call = Call {
            shared: self,
            claim,
            id: text::nonce(),
            owner: claim.owner.as_deref().unwrap_or(&config.owner),
            lifetime: claim.lifetime.unwrap_or_else(|| self.spec.lifetime_or(config.lifetime)),
            began: Instant::now(),
            deadline: Deadline::after(config.create_timeout),
            bad: 0,
        };
        call.run()
    }

    /// One that seems to be ready, if there is any.
    fn candidate(&self, began: Instant, deadline: Deadline) -> Result<Option<PodSnapshot>> {
        let known = |candidates: &mut Candidates| {
            let is_fresh = candidates.looked.is_some_and(|looked| looked.elapsed() < STALE);
            is_fresh.then(|| candidates.pods.pop()).flatten()
        };
        if let Some(found) = known(&mut *self.candidates.lock()?) {
            return Ok(Some(found));
        }
        // One thread looks, the others take what it finds.
        let _turn = deadline.lock(&self.looking, "the look at the pool")?;
        {
            let mut candidates = self.candidates.lock()?;
            if let Some(found) = known(&mut candidates) {
                return Ok(Some(found));
            }
            // What another thread found a moment ago is all taken.
            if candidates.looked.is_some_and(|looked| looked >= began) {
                return Ok(None);
            }
        }
        let looked = Instant::now();
        let pods = self.members(Some(MemberState::Ready))?;
        let mut pods = self.usable(pods)?;
        shuffle(&mut pods);
        let mut candidates = self.candidates.lock()?;
        *candidates = Candidates { pods, looked: Some(looked) };
        Ok(candidates.pods.pop())
    }

    /// Those that may be handed out.
    fn usable(&self, mut pods: Vec<PodSnapshot>) -> Result<Vec<PodSnapshot>> {
        let (fingerprint, now) = (self.fingerprint()?, self.now()?);
        pods.retain(|pod| is_usable(pod, &fingerprint, now));
        Ok(pods)
    }

    fn forget_candidates(&self) -> Result<()> {
        *self.candidates.lock()? = Candidates::default();
        Ok(())
    }
}

fn is_usable(pod: &PodSnapshot, fingerprint: &str, now: SystemTime) -> bool {
    let lasts = pod.expires_at.and_then(|expiry| expiry.duration_since(now).ok()).is_some_and(|left| left > LEAST_LEFT);
    let is_ready = |member: &Membership| member.is_ready_for(fingerprint) && member.lost_since.is_none();
    lasts && !is_over(pod) && pod.membership.as_ref().is_some_and(is_ready)
}

/// Who takes from the same list begins elsewhere.
fn shuffle(pods: &mut [PodSnapshot]) {
    let mut random = [0; 8];
    for last in (1..pods.len()).rev() {
        // Without randomness there are more conflicts, and nothing else.
        let _ = openssl::rand::rand_bytes(&mut random);
        let other = u64::from_ne_bytes(random) % (last as u64 + 1);
        pods.swap(last, usize::try_from(other).unwrap_or(0));
    }
}

fn check(claim: &Claim) -> Result<()> {
    let invalid = |message: String| Err(Error::new(ErrorKind::InvalidArgument, message));
    cluster::check_keys(claim.labels.keys().chain(claim.annotations.keys()))?;
    cluster::check_env(&claim.env)?;
    if claim.lifetime.flatten().is_some_and(|lifetime| lifetime < Duration::from_secs(1)) {
        return invalid("a lifetime is at least one second".to_owned());
    }
    Ok(())
}

impl Call<'_> {
    fn run(&mut self) -> Result<Sandbox> {
        let shared = self.shared;
        let mut conflicts = 0;
        while let Some(member) = shared.candidate(self.began, self.deadline)? {
            if let Some(sandbox) = self.take(&member, Origin::Pool)? {
                count(&shared.counts.hits);
                return Ok(sandbox);
            }
            conflicts += 1;
            if conflicts % CONFLICTS == 0 {
                shared.forget_candidates()?;
            }
            self.deadline.check("a sandbox of the pool")?;
        }
        count(&shared.counts.misses);
        match self.claim.on_miss {
            OnMiss::Fail => Err(Error::new(ErrorKind::PoolEmpty, "it has no sandbox ready")),
            OnMiss::Create => self.create(),
            OnMiss::Wait => {
                shared.counts.waiting.fetch_add(1, Ordering::Relaxed);
                let result = self.wait();
                shared.counts.waiting.fetch_sub(1, Ordering::Relaxed);
                result
            }
        }
    }

    fn wait(&mut self) -> Result<Sandbox> {
        let shared = self.shared;
        let mut followed = shared.ctx.cluster.follow(&shared.name, Some(MemberState::Ready));
        loop {
            shared.ctx.runtime.block_on(self.deadline, "a sandbox of the pool to be ready", followed.changed())?;
            let mut ready = shared.usable(followed.pods())?;
            shuffle(&mut ready);
            // Those that others take go from what is followed, so one is tried once.
            for member in ready {
                if let Some(sandbox) = self.take(&member, Origin::PoolWait)? {
                    return Ok(sandbox);
                }
            }
        }
    }

    fn create(&self) -> Result<Sandbox> {
        let Shared { ctx, registry, spec, .. } = &**self.shared;
        let mut spec: SandboxSpec = spec.clone().lifetime(self.lifetime);
        let add = |to: &mut BTreeMap<_, _>, from: &BTreeMap<String, String>| {
            to.extend(from.iter().map(|(name, value)| (name.clone(), value.clone())));
        };
        add(&mut spec.env, &self.claim.env);
        add(&mut spec.labels, &self.claim.labels);
        add(&mut spec.annotations, &self.claim.annotations);
        let name = creation::new_name();
        let creation = Creation::new(ctx, &spec, &name).instead_of_claim(self.owner, self.began, self.deadline);
        let sandbox = creation.run(registry).map_err(|e| e.on(&name))?;
        match self.write_files(sandbox.link()) {
            Ok(()) => Ok(sandbox),
            Err(e) => {
                self.give_back(sandbox.name(), sandbox.uid());
                Err(e.on(&name))
            }
        }
    }

    /// Makes a member the caller's; `None` if it is another's, or can't be reached.
    fn take(&mut self, member: &PodSnapshot, origin: Origin) -> Result<Option<Sandbox>> {
        let Shared { ctx, counts, spec, .. } = &**self.shared;
        let texts = |texts| -> Vec<(&str, &str)> { pairs(texts).collect() };
        let patch = async {
            let expires_at = match self.lifetime {
                Some(lifetime) => Some(cluster::after(ctx.cluster.now().await?, lifetime)?),
                None => None,
            };
            let claiming = Claiming {
                id: &self.id,
                owner: self.owner,
                labels: texts(&self.claim.labels),
                annotations: texts(&self.claim.annotations),
                expires_at,
                hard_limit: spec.hard_limit_for(self.lifetime),
            };
            ctx.cluster.claim(member, &claiming).await
        };
        let taken = ctx.runtime.block_on(self.deadline, "the Kubernetes API server", patch);
        let taken = taken.map_err(|e| {
            // It may have been done all the same, and then nobody has it.
            if e.kind() != ErrorKind::InvalidArgument {
                self.give_up_in_background(member);
            }
            e.on(&member.name)
        })?;
        let Some(taken) = taken else {
            count(&counts.conflicts);
            return Ok(None);
        };
        let accepted = Instant::now();
        match self.prepare(&taken, accepted, origin) {
            Ok(sandbox) => Ok(Some(sandbox)),
            Err(e) => {
                self.give_back(&taken.name, &taken.uid);
                let is_bad = matches!(
                    e.kind(),
                    ErrorKind::Connect
                        | ErrorKind::Disconnected
                        | ErrorKind::HostKeyMismatch
                        | ErrorKind::Authentication
                );
                if !is_bad {
                    return Err(e.on(&taken.name));
                }
                log::warn!("pool {}: {} can't be reached, and is deleted: {e}", self.shared.name, taken.name);
                count(&counts.bad);
                self.bad += 1;
                if self.bad >= MOST_BAD { Err(e.on(&taken.name)) } else { Ok(None) }
            }
        }
    }

    /// Logs in to what is the caller's now, and gives it what the claim says.
    fn prepare(&self, taken: &PodSnapshot, accepted: Instant, origin: Origin) -> Result<Sandbox> {
        let Shared { ctx, registry, spec, .. } = &**self.shared;
        let knows_key = taken.login_key.as_deref() == Some(ctx.identity.public().as_str());
        let endpoint = Endpoint::new(ctx, taken, knows_key);
        let link = Link::new(Arc::clone(&endpoint));
        self.choose_way(&endpoint, taken)?;
        let milliseconds = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        // By the annotation it began with the patch.
        let rest = |span: Duration| milliseconds(span.saturating_sub(accepted.elapsed()).max(Duration::from_secs(1)));
        let request = Request::Claim(protocol::Claim {
            env: pairs(&self.claim.env).map(|(name, value)| (name.into(), value.into())).collect(),
            lifetime_ms: self.lifetime.map(rest),
            hard_limit_ms: spec.hard_limit_for(self.lifetime).map(milliseconds),
            idle_timeout_ms: spec.idle_timeout.map(milliseconds),
        });
        match link.request_aside(&request, self.deadline)? {
            Response::Expiry(Expiry { .. }) => {}
            Response::Failed(failure) if failure.kind == FailureKind::Unsupported => {
                let why = "its guest is of a version without pools: take a guest image of the library's version (guest_image)";
                return Err(Error::new(ErrorKind::Create, why));
            }
            Response::Failed(failure) => {
                return Err(Error::new(ErrorKind::Create, text::shown(&failure.message)));
            }
            _ => return Err(commands::not_an_answer()),
        }
        self.write_files(&link)?;
        let timings = CreateTimings {
            accepted: accepted.duration_since(self.began),
            started: accepted.duration_since(self.began),
            logged_in: self.began.elapsed(),
            origin,
        };
        Ok(Sandbox::new(registry, Link::new(registry.insert(endpoint)?), Some(timings)))
    }

    fn write_files(&self, link: &Link) -> Result<()> {
        self.claim.files.iter().try_for_each(|(remote, contents)| Files::new(link).write(remote, contents))
    }

    /// `auto` goes straight to the address from the beginning, if those of the pool answer.
    fn choose_way(&self, endpoint: &Endpoint, taken: &PodSnapshot) -> Result<()> {
        let Shared { ctx, known, .. } = &**self.shared;
        let Some(address) = taken.pod_ip.filter(|_| ctx.config.transport == Transport::Auto) else { return Ok(()) };
        let tried = known.lock()?.is_direct.filter(|(_, since)| since.elapsed() < PROBE_AGAIN);
        match tried {
            Some((true, _)) => endpoint.route().reach(address),
            Some((false, _)) => {}
            None => {
                let probe = async {
                    let _ = tokio::time::timeout(PROBE, endpoint.route().probe(address)).await;
                    Ok(())
                };
                ctx.runtime.block_on(self.deadline, "the Pod's address to answer", probe)?;
                known.lock()?.is_direct = Some((endpoint.route().is_direct(), Instant::now()));
            }
        }
        Ok(())
    }

    /// Deletes what was taken and is not handed out: it is nobody's any more.
    fn give_back(&self, name: &str, uid: &str) {
        let cluster = self.shared.ctx.cluster.clone();
        let (name, uid) = (name.to_owned(), uid.to_owned());
        let deletion = async move {
            if let Err(e) = cluster.delete_soon(&name, &uid).await {
                log::warn!("{name} was taken from its pool, is not used, and stays until it expires: {e}");
            }
        };
        // It can't be refused in the middle of a call.
        let _ = self.shared.ctx.runtime.spawn_to_finish(deletion);
    }

    /// Deletes what this claim has taken, if it has.
    fn give_up_in_background(&self, member: &PodSnapshot) {
        let (cluster, id) = (self.shared.ctx.cluster.clone(), self.id.clone());
        let (name, uid) = (member.name.clone(), member.uid.clone());
        let deletion = async move {
            let Ok(found) = cluster.get(&name).await else { return };
            if found.membership.is_some_and(|member| member.claim == id) {
                let _ = cluster.delete_soon(&name, &uid).await;
            }
        };
        let _ = self.shared.ctx.runtime.spawn_to_finish(deletion);
    }
}

fn pairs(texts: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    texts.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

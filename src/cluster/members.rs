//! The Pods of a warm pool: found, proved and claimed. All that is known of a pool is in their labels and annotations.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Request as HttpRequest;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::api::{Backoff, Failure};
use super::changes::{Change, Changes, Which};
use super::names::{CLAIM, EXPIRES_AT, HOST_KEY, OWNER, POOL, POOL_SPEC, POOL_STATE, POOL_UNTIL};
use super::pod::{Membership, PodSnapshot, after, time_text};
use super::{Cluster, Moment, Phase, REQUEST_RETRY_BUDGET};
use crate::error::{Error, ErrorKind, Result};

/// Where a member of a pool stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum MemberState {
    /// It is being made.
    #[default]
    Filling,
    /// Somebody has logged in to it: it may be claimed.
    Ready,
    /// It is somebody's sandbox.
    Claimed,
}

impl MemberState {
    /// As the label has it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Filling => "filling",
            Self::Ready => "ready",
            Self::Claimed => "claimed",
        }
    }

    pub(super) fn parse(label: &str) -> Option<Self> {
        [Self::Filling, Self::Ready, Self::Claimed].into_iter().find(|state| state.as_str() == label)
    }
}

/// How long others leave a member alone that is not ready, unless its maker says again that it is at it.
const LEASE: Duration = Duration::from_secs(30);
const RENEW_LEASE: Duration = Duration::from_secs(10);

/// What a claim changes about a Pod.
#[derive(Debug)]
pub(crate) struct Claiming<'a> {
    pub(crate) id: &'a str,
    pub(crate) owner: &'a str,
    pub(crate) labels: Vec<(&'a str, &'a str)>,
    pub(crate) annotations: Vec<(&'a str, &'a str)>,
    /// `None` for never.
    pub(crate) expires_at: Option<SystemTime>,
    /// From the start of the Pod.
    pub(crate) hard_limit: Option<Duration>,
}

impl Cluster {
    /// The Pods of a pool, of all or of one state.
    pub(crate) async fn members(&self, pool: &str, state: Option<MemberState>) -> Result<Vec<PodSnapshot>> {
        let read = |pod: &Pod| Some(PodSnapshot::of(pod));
        self.select(&selector(pool, state), Moment::Any, read).await.map(|(found, _)| found)
    }

    /// Follows the Pods of a pool in a background task that ends when what this returns is dropped.
    pub(crate) fn follow(&self, pool: &str, state: Option<MemberState>) -> Followed {
        let (sender, changes) = channel(0);
        let pods = Arc::<Mutex<_>>::default();
        let changes_of_pods = Changes::new(self, Which::Selected(selector(pool, state)), None, PodSnapshot::of);
        let task = Follower { changes: changes_of_pods, pods: Arc::clone(&pods), sender };
        let mut tasks = JoinSet::new();
        tasks.spawn_on(task.run(), &self.runtime);
        Followed { pods, changes, _tasks: tasks }
    }

    /// When a member that is begun now has been given up, unless that is renewed.
    pub(crate) async fn lease_end(&self) -> Result<SystemTime> {
        after(self.now().await?, LEASE)
    }

    /// Tells the others from time to time that a member is being made, in a background task that ends when what this
    /// returns is dropped.
    pub(crate) fn keep_lease(&self, member: &PodSnapshot) -> JoinSet<()> {
        let (cluster, name, uid) = (self.clone(), member.name.clone(), member.uid.clone());
        let mut until = member.membership.as_ref().and_then(|membership| membership.until);
        let mut tasks = JoinSet::new();
        let renewals = async move {
            while let Some(known) = until {
                sleep(RENEW_LEASE).await;
                let renewed = async {
                    let later = cluster.lease_end().await?;
                    let (known, later_text) = (time_text(known), time_text(later));
                    cluster.reannotate(&name, &uid, POOL_UNTIL, &known, &later_text).await?;
                    Ok(later)
                };
                let renewed: Result<SystemTime> = renewed.await;
                match renewed {
                    Ok(later) => until = Some(later),
                    Err(e) => log::debug!("the pool's other fillers don't know that {name} is being made: {e}"),
                }
            }
        };
        tasks.spawn_on(renewals, &self.runtime);
        tasks
    }

    /// Lets a member be claimed; false if somebody has given it up.
    pub(crate) async fn prove(&self, member: &PodSnapshot, host_key: &str, expires_at: SystemTime) -> Result<bool> {
        let mut patch = tests(member, MemberState::Filling);
        patch.extend([
            label(POOL_STATE, MemberState::Ready.as_str()),
            annotation(HOST_KEY, host_key),
            annotation(EXPIRES_AT, &time_text(expires_at)),
            no_annotation(POOL_UNTIL),
        ]);
        match self.json_patch(&member.name, &patch, REQUEST_RETRY_BUDGET).await {
            Ok(_) => Ok(true),
            // It may be the second attempt of one whose answer was lost.
            Err(failure) if is_failed_test(&failure) || failure.code() == Some(404) => {
                let is_ready = |found: &PodSnapshot| found.member_state() == Some(MemberState::Ready);
                Ok(self.same(member).await?.is_some_and(|found| is_ready(&found)))
            }
            Err(failure) => Err(self.api.error(failure)),
        }
    }

    /// Takes a member out of its pool, if it is still there: of all who try at the same time exactly one has it. `None`
    /// if it is another's, or has ended.
    pub(crate) async fn claim(&self, member: &PodSnapshot, claim: &Claiming<'_>) -> Result<Option<PodSnapshot>> {
        let patch = claim_patch(member, claim, self.now().await?);
        let give_up = Instant::now() + REQUEST_RETRY_BUDGET;
        let (mut backoff, mut may_be_done) = (Backoff::new(), false);
        let claimed = loop {
            match self.json_patch(&member.name, &patch, Duration::ZERO).await {
                Ok(pod) => break PodSnapshot::of(&pod),
                Err(failure) if failure.code() == Some(404) => return Ok(None),
                Err(failure) if is_failed_test(&failure) => {
                    // The answer to an earlier attempt was lost, and that one may have been it.
                    let found = if may_be_done { self.same(member).await? } else { None };
                    match found.filter(|found| found.membership.as_ref().is_some_and(|now| now.claim == claim.id)) {
                        Some(found) => break found,
                        None => return Ok(None),
                    }
                }
                Err(failure) if failure.may_pass() && Instant::now() < give_up => {
                    may_be_done |= failure.code() != Some(429);
                    sleep(backoff.pause().max(failure.retry_after().unwrap_or_default())).await;
                }
                Err(failure) => return Err(self.api.error(failure)),
            }
        };
        if matches!(claimed.phase, Phase::Running | Phase::Pending) {
            return Ok(Some(claimed));
        }
        // It ended before anybody knew.
        self.delete_soon(&claimed.name, &claimed.uid).await?;
        Ok(None)
    }

    /// The Pod as it is now, unless another one has its name.
    async fn same(&self, member: &PodSnapshot) -> Result<Option<PodSnapshot>> {
        match self.get(&member.name).await {
            Ok(found) => Ok(Some(found).filter(|found| found.uid == member.uid)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub(super) async fn json_patch(
        &self,
        name: &str,
        patch: &[Value],
        retry_budget: Duration,
    ) -> std::result::Result<Pod, Failure> {
        let request = HttpRequest::patch(format!("{}/{name}", self.pods_url()))
            .header(http::header::CONTENT_TYPE, "application/json-patch+json")
            .body(serde_json::to_vec(patch).unwrap_or_default())
            .map_err(kube::Error::HttpError)?;
        self.api.send(&request, retry_budget).await
    }
}

fn selector(pool: &str, state: Option<MemberState>) -> String {
    match state {
        Some(state) => format!("{POOL}={pool},{POOL_STATE}={}", state.as_str()),
        None => format!("{POOL}={pool}"),
    }
}

/// Where a label stands, as a JSON patch says it.
fn label_path(key: &str) -> String {
    format!("/metadata/labels/{}", escaped(key))
}

/// Where an annotation stands, as a JSON patch says it.
pub(super) fn annotation_path(key: &str) -> String {
    format!("/metadata/annotations/{}", escaped(key))
}

fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn label(key: &str, value: &str) -> Value {
    json!({"op": "add", "path": label_path(key), "value": value})
}

fn annotation(key: &str, value: &str) -> Value {
    json!({"op": "add", "path": annotation_path(key), "value": value})
}

fn no_annotation(key: &str) -> Value {
    json!({"op": "remove", "path": annotation_path(key)})
}

/// What must still be so. Labels and not the version: that changes with each report of the kubelet.
fn tests(member: &PodSnapshot, state: MemberState) -> Vec<Value> {
    let is = |path: String, value: &str| json!({"op": "test", "path": path, "value": value});
    let spec = member.membership.as_ref().map_or("", |membership| &membership.spec);
    vec![
        is("/metadata/uid".to_owned(), &member.uid),
        is(label_path(POOL_STATE), state.as_str()),
        is(label_path(POOL_SPEC), spec),
    ]
}

fn claim_patch(member: &PodSnapshot, claim: &Claiming<'_>, now: SystemTime) -> Vec<Value> {
    let mut patch = tests(member, MemberState::Ready);
    patch.extend(claim.labels.iter().map(|(key, value)| label(key, value)));
    patch.extend(claim.annotations.iter().map(|(key, value)| annotation(key, value)));
    patch.extend([
        label(POOL_STATE, MemberState::Claimed.as_str()),
        label(OWNER, claim.owner),
        annotation(CLAIM, claim.id),
    ]);
    match claim.expires_at {
        Some(expiry) => patch.push(annotation(EXPIRES_AT, &time_text(expiry))),
        None => patch.push(no_annotation(EXPIRES_AT)),
    }
    let Membership { active_deadline, started_at, .. } = member.membership.clone().unwrap_or_default();
    if let (Some(limit), Some(started)) = (claim.hard_limit, started_at) {
        // Kubernetes counts from the start of the Pod.
        let age = now.duration_since(started).unwrap_or_default();
        let seconds = age.saturating_add(limit).as_secs().clamp(1, i32::MAX as u64);
        // It lets one be lowered only.
        if active_deadline.is_none_or(|known| known > seconds) {
            patch.push(json!({"op": "add", "path": "/spec/activeDeadlineSeconds", "value": seconds}));
        }
    }
    patch
}

/// Whether the patch was refused because something is no longer so. A patch whose result is invalid names the Pod.
fn is_failed_test(failure: &Failure) -> bool {
    let names_nothing = |status: &kube::core::Status| {
        status.code == 422 && status.details.as_ref().is_none_or(|details| details.kind.is_empty())
    };
    failure.status().is_some_and(names_nothing)
}

/// The Pods of a pool as a background task sees them.
#[derive(Debug)]
pub(crate) struct Followed {
    pods: Arc<Mutex<HashMap<String, PodSnapshot>>>,
    /// Counts the changes; 0 before the first look.
    changes: Receiver<u64>,
    _tasks: JoinSet<()>,
}

impl Followed {
    /// Resolves when something has changed since the last call, at once for what was there before the first one.
    pub(crate) async fn changed(&mut self) -> Result<()> {
        let changed = self.changes.changed().await;
        changed.map_err(|_| Error::new(ErrorKind::Unavailable, "the pool can't be watched any more"))
    }

    /// Whether there was a first look.
    pub(crate) fn is_known(&self) -> bool {
        *self.changes.borrow() > 0
    }

    pub(crate) fn pods(&self) -> Vec<PodSnapshot> {
        self.pods.lock().values().cloned().collect()
    }
}

struct Follower {
    changes: Changes<PodSnapshot>,
    pods: Arc<Mutex<HashMap<String, PodSnapshot>>>,
    sender: Sender<u64>,
}

impl Follower {
    async fn run(mut self) {
        loop {
            match self.changes.next().await {
                Ok(Change::All(found)) => {
                    *self.pods.lock() = found.into_iter().map(|pod| (pod.uid.clone(), pod)).collect();
                }
                Ok(Change::Seen(pod)) => drop(self.pods.lock().insert(pod.uid.clone(), pod)),
                Ok(Change::Gone(pod)) => drop(self.pods.lock().remove(&pod.uid)),
                Err(gap) => {
                    log::debug!("{gap}");
                    continue;
                }
            }
            self.sender.send_modify(|changes| *changes += 1);
        }
    }
}

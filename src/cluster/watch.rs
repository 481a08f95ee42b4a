//! Follows one Pod and its events, so that its creator knows within a second what the cluster knows.

use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Resource;
use kube::core::WatchEvent;
use kube::core::params::WatchParams;
use tokio::sync::watch::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Cluster;
use super::api::{Api, Backoff, Failure};
use super::changes::{Change, Changes, SERVER_TIMEOUT_S, WATCH_IDLE_TIMEOUT, Which, open};
use super::pod::{PodSnapshot, address};
use super::verdict::{self, EventClass, PodHealth, create_error};
use crate::error::{Cause, Error, ErrorKind, Result, Verdict};

/// A pull that fails for a reason that may pass fails for good at this attempt.
const PULL_ATTEMPTS: i32 = 2;

/// Background tasks that follow one Pod; they end when this is dropped.
pub(crate) struct Watch {
    state: Receiver<WatchState>,
    _tasks: JoinSet<()>,
}

/// What is known about the Pod.
#[derive(Clone, Debug)]
struct WatchState {
    started: bool,
    address: Option<IpAddr>,
    /// Why it stopped or can't start. The first reason stays.
    over: Option<Verdict>,
    progress: Verdict,
    warning: Option<Verdict>,
}

impl Watch {
    pub(super) fn start(cluster: &Cluster, pod: &PodSnapshot, unschedulable_grace: Duration) -> Self {
        let (sender, state) = channel(WatchState {
            started: false,
            address: pod.pod_ip,
            over: None,
            progress: Verdict::new(Cause::Pending, "Pending", ""),
            warning: None,
        });
        let events = Events { api: cluster.api.clone(), uid: pod.uid.clone(), state: sender.clone() };
        let since = Some(pod.resource_version.clone());
        let pod = PodWatcher {
            changes: Changes::new(cluster, Which::Named(pod.name.clone()), since, Pod::clone),
            uid: pod.uid.clone(),
            unschedulable_grace,
            unschedulable: None,
            failed_pulls: 0,
            pull_reason: String::new(),
            state: sender,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn_on(pod.run(), &cluster.runtime);
        tasks.spawn_on(events.run(), &cluster.runtime);
        Self { state, _tasks: tasks }
    }

    /// Resolves when connecting through the tunnel is worth a try: the container has started.
    ///
    /// # Errors
    /// [`ErrorKind::Create`] with a verdict as soon as the cluster knows why it can't start.
    pub(crate) async fn started(&mut self) -> Result<()> {
        self.until(|state| state.started).await.map(drop)
    }

    /// Resolves when the Pod's address is known; fails as [`started`](Self::started) does.
    pub(crate) async fn address(&mut self) -> Result<IpAddr> {
        let state = self.until(|state| state.address.is_some()).await?;
        state.address.ok_or_else(lost)
    }

    /// Resolves when the cluster knows why the Pod stopped or can't start.
    pub(crate) async fn failed(&mut self) -> Error {
        match self.until(|_| false).await {
            Err(error) => error,
            Ok(_) => lost(),
        }
    }

    /// The last state that was seen, for the error of a caller whose time ran out.
    pub(crate) fn last_state(&self) -> Verdict {
        let state = self.state.borrow();
        if let Some(verdict) = &state.over {
            return verdict.clone();
        }
        let mut last = state.progress.clone();
        if let Some(warning) = state.warning.as_ref().filter(|warning| warning.message != last.message) {
            let separator = if last.message.is_empty() { "" } else { "; " };
            last.message = format!("{}{separator}last warning: {warning}", last.message);
        }
        last
    }

    async fn until(&mut self, ready: impl Fn(&WatchState) -> bool) -> Result<WatchState> {
        let state = self.state.wait_for(|state| state.over.is_some() || ready(state)).await.map_err(|_| lost())?;
        match &state.over {
            Some(verdict) => Err(create_error(verdict.clone())),
            None => Ok(state.clone()),
        }
    }
}

/// Both tasks have ended, which they do only after a verdict or with the runtime.
fn lost() -> Error {
    Error::new(ErrorKind::Unavailable, "the Pod can't be watched any more")
}

impl WatchState {
    /// The first verdict stays: what follows is its consequence.
    fn end(&mut self, verdict: Verdict) {
        log::debug!("{:?}: {verdict}", verdict.cause);
        self.over.get_or_insert(verdict);
    }
}

/// Follows the Pod itself.
struct PodWatcher {
    changes: Changes<Pod>,
    uid: String,
    unschedulable_grace: Duration,
    /// Since when no node can take it, and why.
    unschedulable: Option<(Instant, Verdict)>,
    failed_pulls: i32,
    pull_reason: String,
    state: Sender<WatchState>,
}

impl PodWatcher {
    async fn run(mut self) {
        while self.state.borrow().over.is_none() {
            let grace_ends =
                self.unschedulable.as_ref().and_then(|(since, _)| since.checked_add(self.unschedulable_grace));
            let change = match grace_ends {
                Some(end) => timeout_at(end, self.changes.next()).await,
                None => Ok(self.changes.next().await),
            };
            match change {
                Err(_) => {
                    if let Some((_, verdict)) = self.unschedulable.take() {
                        self.end(verdict);
                    }
                }
                Ok(Ok(Change::All(pods))) => match pods.first() {
                    Some(pod) => self.see(pod),
                    None => self.gone(),
                },
                Ok(Ok(Change::Seen(pod))) => self.see(&pod),
                Ok(Ok(Change::Gone(pod))) => {
                    self.see(&pod);
                    self.gone();
                }
                Ok(Err(gap)) => log::debug!("{gap}"),
            }
        }
    }

    fn see(&mut self, pod: &Pod) {
        if pod.metadata.uid.as_ref().is_some_and(|uid| *uid != self.uid) {
            return self.gone();
        }
        let over = self.terminal_verdict(verdict::of_pod(pod));
        self.state.send_modify(|state| {
            state.started |= verdict::runs(pod);
            state.address = address(pod).or(state.address);
            state.progress = verdict::progress(pod);
            if let Some(verdict) = over {
                state.end(verdict);
            }
        });
    }

    /// The final verdict, at once or when a waiting Pod has failed often enough.
    fn terminal_verdict(&mut self, fate: PodHealth) -> Option<Verdict> {
        let waits = match fate {
            PodHealth::Terminal(verdict) => return Some(verdict),
            PodHealth::Waiting(verdict) => Some(verdict),
            PodHealth::Ok => None,
        };
        let unschedulable = waits.clone().filter(|verdict| verdict.cause == Cause::Unschedulable);
        self.unschedulable = unschedulable.map(|verdict| match self.unschedulable.take() {
            Some((since, _)) => (since, verdict),
            None => (Instant::now(), verdict),
        });
        let pull = waits.filter(|verdict| verdict.cause == Cause::ImagePull)?;
        if pull.reason == "ErrImagePull" && self.pull_reason != pull.reason {
            self.failed_pulls += 1;
        }
        self.pull_reason.clone_from(&pull.reason);
        (self.failed_pulls >= PULL_ATTEMPTS).then_some(pull)
    }

    fn gone(&self) {
        self.end(Verdict::new(Cause::Deleted, "", "the Pod was deleted"));
    }

    fn end(&self, verdict: Verdict) {
        self.state.send_modify(|state| state.end(verdict));
    }
}

/// Follows the Pod's events: they tell of a started container and of failures before the Pod's status does.
struct Events {
    api: Api,
    uid: String,
    state: Sender<WatchState>,
}

impl Events {
    async fn run(self) {
        let mut backoff = Backoff::new();
        while self.state.borrow().over.is_none() {
            let began = Instant::now();
            match self.stream().await {
                Ok(()) => {}
                Err(failure) if matches!(failure.code(), Some(401 | 403)) => {
                    log::debug!("events can't be watched, so a start is seen later: {}", self.api.error(failure));
                    return;
                }
                Err(failure) => log::debug!("watching events: {}", self.api.error(failure)),
            }
            sleep(backoff.pause_after(began)).await;
        }
    }

    async fn stream(&self) -> std::result::Result<(), Failure> {
        let url = Event::url_path(&(), Some(&self.api.namespace));
        let selector = format!("involvedObject.uid={}", self.uid);
        let params = WatchParams::default().fields(&selector).timeout(SERVER_TIMEOUT_S).disable_bookmarks();
        // Version 0: what happened until now, then what follows. Seeing an event twice does no harm.
        let mut stream = pin!(open::<Event>(&self.api, url, &params, "0").await?);
        loop {
            match timeout(WATCH_IDLE_TIMEOUT, stream.try_next()).await.map_err(|_| Failure::Silent)?? {
                None => return Ok(()),
                Some(WatchEvent::Added(event) | WatchEvent::Modified(event)) => self.see(&event),
                Some(WatchEvent::Error(status)) => return Err(kube::Error::Api(status).into()),
                Some(WatchEvent::Deleted(_) | WatchEvent::Bookmark(_)) => {}
            }
            if self.state.borrow().over.is_some() {
                return Ok(());
            }
        }
    }

    fn see(&self, event: &Event) {
        let class = verdict::of_event(event);
        log::trace!("event {:?}: {class:?}", event.reason);
        self.state.send_modify(|state| match class {
            EventClass::Started => state.started = true,
            EventClass::Terminal(verdict) => state.end(verdict),
            EventClass::PullFailed(verdict, times) if times >= PULL_ATTEMPTS => state.end(verdict),
            EventClass::PullFailed(verdict, _) | EventClass::Warning(verdict) => state.warning = Some(verdict),
            EventClass::Nothing => {}
        });
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}

/// Resolves when the Pod with this uid is gone. Looks first: a Pod that had ended is deleted at once, and its end is
/// not news to a watch that begins afterwards.
///
/// # Errors
/// That of the API server if this client may not look at Pods: it would wait in vain.
pub(super) async fn until_gone(cluster: &Cluster, name: &str, uid: &str) -> Result<()> {
    let read = |pod: &Pod| pod.metadata.uid.clone().unwrap_or_default();
    let mut changes = Changes::new(cluster, Which::Named(name.to_owned()), None, read);
    loop {
        match changes.next().await {
            Ok(Change::All(there)) if !there.iter().any(|there| there == uid) => return Ok(()),
            Ok(Change::Gone(gone)) if gone == uid => return Ok(()),
            Ok(_) => {}
            Err(gap) if gap.is_blind() => return Err(gap.into_error()),
            Err(gap) => log::debug!("{gap}"),
        }
    }
}

//! Follows one Pod and its events, so that its creator knows within a second what the cluster knows.

use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::{Stream, TryStreamExt};
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::serde::de::DeserializeOwned;
use kube::Resource;
use kube::core::params::{GetParams, WatchParams};
use kube::core::{Request, WatchEvent};
use tokio::runtime::Handle;
use tokio::sync::watch::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::api::{ANSWER_TIMEOUT, Api, Backoff, Failure};
use super::pod::{PodSnapshot, address};
use super::verdict::{self, EventClass, PodHealth, create_error};
use crate::error::{Cause, Error, ErrorKind, Result, Verdict};

/// The API server ends a watch after this time, and it is started anew.
pub(super) const SERVER_TIMEOUT_S: u32 = 240;
/// A stream on which nothing came for this time is dead.
pub(super) const WATCH_IDLE_TIMEOUT: Duration = Duration::from_secs(SERVER_TIMEOUT_S as u64 + 15);
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
    pub(super) fn start(api: &Api, runtime: &Handle, pod: &PodSnapshot, unschedulable_grace: Duration) -> Self {
        let (sender, state) = channel(WatchState {
            started: false,
            address: pod.pod_ip,
            over: None,
            progress: Verdict::new(Cause::Pending, "Pending", ""),
            warning: None,
        });
        let events = Events { api: api.clone(), uid: pod.uid.clone(), state: sender.clone() };
        let pod = PodWatcher {
            api: api.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            version: pod.resource_version.clone(),
            unschedulable_grace,
            unschedulable: None,
            failed_pulls: 0,
            pull_reason: String::new(),
            state: sender,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn_on(pod.run(), runtime);
        tasks.spawn_on(events.run(), runtime);
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
    api: Api,
    name: String,
    uid: String,
    /// Resource version from which the next watch goes on.
    version: String,
    unschedulable_grace: Duration,
    /// Since when no node can take it, and why.
    unschedulable: Option<(Instant, Verdict)>,
    failed_pulls: i32,
    pull_reason: String,
    state: Sender<WatchState>,
}

impl PodWatcher {
    async fn run(mut self) {
        let mut backoff = Backoff::new();
        while self.state.borrow().over.is_none() {
            let began = Instant::now();
            match self.stream().await {
                Ok(()) => sleep(backoff.pause_after(began)).await,
                // Too old a version (410), a cut connection, a restart of the API server: look, and go on from there.
                Err(failure) => {
                    log::debug!("watching the Pod {}: {}", self.name, self.api.error(failure));
                    sleep(backoff.pause_after(began)).await;
                    self.refresh().await;
                }
            }
        }
    }

    async fn stream(&mut self) -> std::result::Result<(), Failure> {
        let mut stream = pin!(pods(&self.api, &self.name, &self.version).await?);
        let mut dead = Instant::now() + WATCH_IDLE_TIMEOUT;
        loop {
            let grace_ends =
                self.unschedulable.as_ref().and_then(|(since, _)| since.checked_add(self.unschedulable_grace));
            let wake = grace_ends.map_or(dead, |end| end.min(dead));
            match timeout_at(wake, stream.try_next()).await {
                Err(_) if wake == dead => return Err(Failure::Silent),
                Err(_) => {
                    if let Some((_, verdict)) = self.unschedulable.take() {
                        self.end(verdict);
                    }
                }
                Ok(event) => match event? {
                    None => return Ok(()),
                    Some(WatchEvent::Added(pod) | WatchEvent::Modified(pod)) => self.see(&pod),
                    Some(WatchEvent::Deleted(pod)) => {
                        self.see(&pod);
                        self.gone();
                    }
                    Some(WatchEvent::Bookmark(mark)) => self.version = mark.metadata.resource_version,
                    Some(WatchEvent::Error(status)) => return Err(kube::Error::Api(status).into()),
                },
            }
            if self.state.borrow().over.is_some() {
                return Ok(());
            }
            dead = Instant::now() + WATCH_IDLE_TIMEOUT;
        }
    }

    async fn refresh(&mut self) {
        match get_pod(&self.api, &self.name).await {
            Ok(pod) => self.see(&pod),
            Err(failure) if failure.code() == Some(404) => self.gone(),
            Err(failure) => log::debug!("looking at the Pod {}: {}", self.name, self.api.error(failure)),
        }
    }

    fn see(&mut self, pod: &Pod) {
        if pod.metadata.uid.as_ref().is_some_and(|uid| *uid != self.uid) {
            return self.gone();
        }
        if let Some(version) = &pod.metadata.resource_version {
            self.version.clone_from(version);
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

/// Resolves when the Pod with this uid is gone. Asks first: a Pod that had ended is deleted at once, and its end is not
/// news to a watch that begins afterwards.
///
/// # Errors
/// [`Failure::Refused`] if this client may not look at Pods: it would wait in vain.
pub(super) async fn until_gone(api: &Api, name: &str, uid: &str) -> std::result::Result<(), Failure> {
    let mut backoff = Backoff::new();
    loop {
        let version = match get_pod(api, name).await {
            Ok(pod) if pod.metadata.uid.as_deref() == Some(uid) => pod.metadata.resource_version.unwrap_or_default(),
            Ok(_) => return Ok(()),
            Err(failure) if failure.code() == Some(404) => return Ok(()),
            Err(failure) if matches!(failure.code(), Some(401 | 403)) => return Err(failure),
            Err(failure) => {
                log::debug!("looking for the Pod {name}: {}", api.error(failure));
                sleep(backoff.pause()).await;
                continue;
            }
        };
        match goes(api, name, uid, &version).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(failure) => log::debug!("watching the end of the Pod {name}: {}", api.error(failure)),
        }
        sleep(backoff.pause()).await;
    }
}

/// Whether the Pod's end is seen before the stream's.
async fn goes(api: &Api, name: &str, uid: &str, version: &str) -> std::result::Result<bool, Failure> {
    let mut stream = pin!(pods(api, name, version).await?);
    loop {
        match timeout(WATCH_IDLE_TIMEOUT, stream.try_next()).await.map_err(|_| Failure::Silent)?? {
            None => return Ok(false),
            Some(WatchEvent::Deleted(pod)) if pod.metadata.uid.as_deref() == Some(uid) => return Ok(true),
            Some(WatchEvent::Error(status)) => return Err(kube::Error::Api(status).into()),
            Some(_) => {}
        }
    }
}

async fn get_pod(api: &Api, name: &str) -> std::result::Result<Pod, Failure> {
    let url = Pod::url_path(&(), Some(&api.namespace));
    let request = Request::new(url).get(name, &GetParams::default()).map_err(kube::Error::BuildRequest)?;
    api.send(&request, Duration::ZERO).await
}

/// The changes of the Pod of this name after `version`.
async fn pods(
    api: &Api,
    name: &str,
    version: &str,
) -> std::result::Result<impl Stream<Item = kube::Result<WatchEvent<Pod>>> + use<>, Failure> {
    let selector = format!("metadata.name={name}");
    let params = WatchParams::default().fields(&selector).timeout(SERVER_TIMEOUT_S);
    open(api, Pod::url_path(&(), Some(&api.namespace)), &params, version).await
}

pub(super) async fn open<T: Clone + DeserializeOwned>(
    api: &Api,
    url: String,
    params: &WatchParams,
    version: &str,
) -> std::result::Result<impl Stream<Item = kube::Result<WatchEvent<T>>> + use<T>, Failure> {
    let request = Request::new(url).watch(params, version).map_err(kube::Error::BuildRequest)?;
    let opened = timeout(ANSWER_TIMEOUT, api.client.request_events::<T>(request)).await;
    Ok(opened.map_err(|_| Failure::Silent)??)
}

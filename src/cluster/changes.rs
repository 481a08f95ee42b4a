//! What happens to Pods: the one loop of looks and watches behind all that follows Pods.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::core::params::{GetParams, WatchParams};
use kube::core::{Request, WatchEvent};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::api::{ANSWER_TIMEOUT, Api, Backoff, Failure, built};
use super::{Cluster, Moment};
use crate::error::{Error, ErrorKind, Result};

/// The API server ends a watch after this time, and it is started anew.
pub(super) const SERVER_TIMEOUT_S: u32 = 240;
/// A stream on which nothing came for this time is dead.
pub(super) const WATCH_IDLE_TIMEOUT: Duration = Duration::from_secs(SERVER_TIMEOUT_S as u64 + 15);

/// Which Pods are followed.
#[derive(Clone, Debug)]
pub(super) enum Which {
    /// That of this name.
    Named(String),
    /// Those that this label selector chooses.
    Selected(String),
}

/// What has happened to the Pods that are followed.
#[derive(Debug)]
pub(super) enum Change<T> {
    /// These are all there are: what was known before and is not among them is gone.
    All(Vec<T>),
    /// One has come, or is not as it was before.
    Seen(T),
    /// One is gone, and this is how it was last; or it is not chosen any more.
    Gone(T),
}

/// Why nothing is known of changes for a while.
#[derive(Debug)]
pub(super) enum Gap {
    Look(Error),
    Watch(Error),
    /// It would go on in vain.
    Final(Error),
}

/// While an API server starts, it may refuse what it allows later.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(30);

impl Gap {
    /// Whether this client may not look at the Pods at all.
    pub(super) fn is_blind(&self) -> bool {
        matches!(self, Self::Look(e) | Self::Final(e) if matches!(e.http_status(), Some(401 | 403)))
    }

    /// Whether it does not pass.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Final(_))
    }

    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Look(e) | Self::Watch(e) | Self::Final(e) => e,
        }
    }
}

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Look(e) => write!(f, "the Pods can't be looked at: {e}"),
            Self::Watch(e) | Self::Final(e) => write!(f, "the Pods can't be watched: {e}"),
        }
    }
}

type Events = Pin<Box<dyn Stream<Item = kube::Result<WatchEvent<Pod>>> + Send>>;

/// The changes of some Pods, of each of which only what `read` makes of it is kept.
pub(super) struct Changes<T> {
    cluster: Cluster,
    which: Which,
    read: fn(&Pod) -> T,
    /// From which the next watch goes on; `None` if there has to be a look before it.
    version: Option<String>,
    stream: Option<Events>,
    /// When the stream is dead unless something comes.
    dead: Instant,
    began: Instant,
    /// When there may be another attempt.
    next: Instant,
    backoff: Backoff,
    /// Whether it has ever been allowed.
    has_worked: bool,
    /// Since when it is refused.
    refused: Option<Instant>,
}

impl<T> Changes<T> {
    /// Those after `version`, or after a look at what there is.
    pub(super) fn new(cluster: &Cluster, which: Which, version: Option<String>, read: fn(&Pod) -> T) -> Self {
        let now = Instant::now();
        Self {
            cluster: cluster.clone(),
            which,
            read,
            version: version.filter(|version| !version.is_empty()),
            stream: None,
            dead: now,
            began: now,
            next: now,
            backoff: Backoff::new(),
            has_worked: false,
            refused: None,
        }
    }

    /// The next change. After a gap the next call tries again, later and later, and goes on from where the last one
    /// was, or from a look. Nothing is lost if a call is dropped before it is ready.
    pub(super) async fn next(&mut self) -> std::result::Result<Change<T>, Gap> {
        loop {
            let change = match self.stream {
                Some(_) => self.receive().await.map_err(|failure| self.lose(failure))?,
                None => {
                    sleep_until(self.next).await;
                    self.began = Instant::now();
                    match self.version.clone() {
                        Some(version) => {
                            self.open(&version).await.map_err(|failure| self.lose(failure))?;
                            None
                        }
                        None => match self.look().await {
                            Ok(all) => Some(Change::All(all)),
                            Err(e) => {
                                self.pause();
                                return Err(self.gap(e, Gap::Look));
                            }
                        },
                    }
                }
            };
            if let Some(change) = change {
                return Ok(change);
            }
        }
    }

    /// Goes on with other Pods from here.
    pub(super) fn follow(&mut self, which: Which) {
        (self.which, self.stream, self.next) = (which, None, Instant::now());
    }

    fn pause(&mut self) {
        self.next = Instant::now() + self.backoff.pause_after(self.began);
    }

    fn lose(&mut self, failure: Failure) -> Gap {
        self.stream = None;
        // Such as 410: the version is too old. A connection that was cut says nothing about it.
        if failure.code().is_some_and(|code| code != 429) {
            self.version = None;
        }
        self.pause();
        let error = self.cluster.api.error(failure);
        self.gap(error, Gap::Watch)
    }

    fn gap(&mut self, error: Error, of: fn(Error) -> Gap) -> Gap {
        let is_final = match (error.http_status(), error.kind()) {
            (Some(401 | 403), _) => {
                let since = *self.refused.get_or_insert_with(Instant::now);
                !self.has_worked || since.elapsed() >= REFUSAL_TIMEOUT
            }
            (_, ErrorKind::InvalidArgument | ErrorKind::Config) => true,
            _ => {
                self.refused = None;
                false
            }
        };
        if is_final { Gap::Final(error) } else { of(error) }
    }

    fn note_success(&mut self) {
        (self.has_worked, self.refused) = (true, None);
    }

    async fn open(&mut self, version: &str) -> std::result::Result<(), Failure> {
        let params = WatchParams::default().timeout(SERVER_TIMEOUT_S);
        let params = match &self.which {
            Which::Named(name) => params.fields(&format!("metadata.name={name}")),
            Which::Selected(selector) => params.labels(selector),
        };
        let stream = open::<Pod>(&self.cluster.api, self.cluster.pods_url(), &params, version).await?;
        self.stream = Some(Box::pin(stream));
        self.note_success();
        self.dead = Instant::now() + WATCH_IDLE_TIMEOUT;
        Ok(())
    }

    async fn receive(&mut self) -> std::result::Result<Option<Change<T>>, Failure> {
        let Some(stream) = &mut self.stream else { return Ok(None) };
        let event = timeout_at(self.dead, stream.try_next()).await.map_err(|_| Failure::Silent)??;
        self.dead = Instant::now() + WATCH_IDLE_TIMEOUT;
        let is_gone = matches!(event, Some(WatchEvent::Deleted(_)));
        match event {
            Some(WatchEvent::Added(pod) | WatchEvent::Modified(pod) | WatchEvent::Deleted(pod)) => {
                let seen = (self.read)(&pod);
                self.version = pod.metadata.resource_version.or(self.version.take());
                Ok(Some(if is_gone { Change::Gone(seen) } else { Change::Seen(seen) }))
            }
            Some(WatchEvent::Bookmark(mark)) => {
                self.version = Some(mark.metadata.resource_version);
                Ok(None)
            }
            Some(WatchEvent::Error(status)) => Err(kube::Error::Api(status).into()),
            // The server's time for one watch is over.
            None => {
                self.stream = None;
                self.pause();
                Ok(None)
            }
        }
    }

    async fn look(&mut self) -> Result<Vec<T>> {
        let (found, version) = match &self.which {
            Which::Named(name) => {
                let request = built(self.cluster.pods().get(name, &GetParams::default()))?;
                match self.cluster.api.send::<Pod>(&request, Duration::ZERO).await {
                    Ok(pod) => (vec![(self.read)(&pod)], pod.metadata.resource_version),
                    Err(failure) if failure.code() == Some(404) => {
                        // Should somebody want to know what follows, that is another look.
                        self.pause();
                        (Vec::new(), None)
                    }
                    Err(failure) => return Err(self.cluster.api.error(failure)),
                }
            }
            Which::Selected(selector) => {
                let read = |pod: &Pod| Some((self.read)(pod));
                let (found, version) = self.cluster.select(selector, Moment::One, read).await?;
                (found, Some(version))
            }
        };
        self.version = version;
        self.note_success();
        Ok(found)
    }
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

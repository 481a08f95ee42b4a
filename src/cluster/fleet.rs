//! The sandboxes that fit, and how they change.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use super::Cluster;
use super::changes::{Change, Changes, Which};
use super::filter::Filter;
use super::pod::PodSnapshot;
use crate::error::{Error, ErrorKind, Result, stable_names};
use crate::fork::ForkGuard;

/// What has become of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangeKind {
    /// It is there, which was not known before.
    Added,
    /// Something about it is not as it was.
    Changed,
    /// It is gone, or does not fit any more.
    Removed,
}

stable_names!(ChangeKind, "kind of change", {
    Added => "added",
    Changed => "changed",
    Removed => "removed",
});

/// Tells of all that fit, and then of each change.
pub(crate) struct Fleet {
    /// Always there, but in a forked child that drops it.
    changes: Option<Changes<PodSnapshot>>,
    filter: Filter,
    known: HashMap<String, PodSnapshot>,
    /// What is to be told next.
    news: VecDeque<(ChangeKind, PodSnapshot)>,
    process: ForkGuard,
}

impl Cluster {
    /// Nothing is asked before the first change is waited for.
    pub(crate) fn fleet(&self, filter: &Filter) -> Result<Fleet> {
        if filter.asks_for_age() {
            let message = "an age changes by itself, so that it can't be watched";
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let which = Which::Selected(filter.selector()?);
        Ok(Fleet {
            changes: Some(Changes::new(self, which, None, PodSnapshot::of)),
            filter: filter.clone(),
            known: HashMap::new(),
            news: VecDeque::new(),
            process: ForkGuard::current(),
        })
    }
}

impl Fleet {
    /// The next change. Nothing is lost if a call is dropped before it is ready.
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] if this client may not list and watch Pods. Whatever else goes wrong is waited
    /// for.
    pub(crate) async fn next(&mut self) -> Result<(ChangeKind, PodSnapshot)> {
        loop {
            if let Some(change) = self.news.pop_front() {
                return Ok(change);
            }
            let Some(changes) = &mut self.changes else {
                return Err(Error::new(ErrorKind::Closed, "nothing is watched any more"));
            };
            match changes.next().await {
                Ok(Change::All(mut all)) => {
                    let mut before = std::mem::take(&mut self.known);
                    all.sort_by(PodSnapshot::by_age);
                    for pod in all {
                        self.see(before.remove(&pod.uid), pod);
                    }
                    let mut gone: Vec<_> = before.into_values().collect();
                    gone.sort_by(PodSnapshot::by_age);
                    self.news.extend(gone.into_iter().map(|pod| (ChangeKind::Removed, pod)));
                }
                Ok(Change::Seen(pod)) => {
                    let before = self.known.remove(&pod.uid);
                    self.see(before, pod);
                }
                Ok(Change::Gone(pod)) => {
                    if self.known.remove(&pod.uid).is_some() {
                        self.news.push_back((ChangeKind::Removed, pod));
                    }
                }
                Err(gap) if gap.is_forbidden() || gap.is_blind() => return Err(gap.into_error()),
                Err(gap) => log::debug!("{gap}"),
            }
        }
    }

    fn see(&mut self, before: Option<PodSnapshot>, pod: PodSnapshot) {
        let fits = self.filter.takes_phase(pod.phase);
        let kind = match &before {
            None if !fits => return,
            None => Some(ChangeKind::Added),
            Some(_) if !fits => Some(ChangeKind::Removed),
            Some(before) => (!before.looks_like(&pod)).then_some(ChangeKind::Changed),
        };
        if let Some(kind) = kind {
            self.news.push_back((kind, pod.clone()));
        }
        if fits {
            self.known.insert(pod.uid.clone(), pod);
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if !self.process.is_current() {
            // The connection is the parent's, and so are the locks that ending it would take.
            std::mem::forget(self.changes.take());
        }
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").field("filter", &self.filter).field("known", &self.known.len()).finish_non_exhaustive()
    }
}

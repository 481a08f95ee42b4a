//! The sandboxes that fit, and how they change.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;

use super::Cluster;
use super::changes::{Change, Changes, Which};
use super::filter::Filter;
use super::pod::PodSnapshot;
use crate::error::{Error, ErrorKind, Result, stable_names};
use crate::fork::ForkMutex;

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

/// Tells of all that fit, and then of each change, to whoever waits for one.
pub(crate) struct Fleet {
    queue: Arc<Queue>,
    /// Begins with the first wait, and ends with this.
    task: ForkMutex<Task>,
    runtime: Handle,
}

#[derive(Default)]
enum Task {
    Waiting(Box<Follower>),
    Running(#[expect(dead_code, reason = "dropping it ends the task")] JoinSet<()>),
    #[default]
    Over,
}

/// What is to be told next. As many permits of `ready` are there as news, and of `room` as there may be more.
struct Queue {
    news: Mutex<VecDeque<(ChangeKind, PodSnapshot)>>,
    ready: Semaphore,
    room: Semaphore,
    /// Why nothing follows.
    end: Mutex<Option<Error>>,
}

/// So many changes wait to be told before the next one is received.
const MOST_WAITING: usize = 64;

struct Follower {
    changes: Changes<PodSnapshot>,
    filter: Filter,
    known: HashMap<String, PodSnapshot>,
}

impl Cluster {
    /// Nothing is asked before the first change is waited for.
    pub(crate) fn fleet(&self, filter: &Filter) -> Result<Fleet> {
        if filter.asks_for_age() {
            let message = "an age changes by itself, so that it can't be watched";
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let changes = Changes::new(self, Which::Selected(filter.selector()?), None, PodSnapshot::of);
        let follower = Follower { changes, filter: filter.clone(), known: HashMap::new() };
        let queue = Queue {
            news: Mutex::default(),
            ready: Semaphore::new(0),
            room: Semaphore::new(MOST_WAITING),
            end: Mutex::default(),
        };
        Ok(Fleet {
            queue: Arc::new(queue),
            task: ForkMutex::new(Task::Waiting(Box::new(follower))),
            runtime: self.runtime.clone(),
        })
    }
}

impl Fleet {
    /// The next change. Nothing is lost if a call is dropped before it is ready.
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] if this client may not list and watch Pods, and what else can't pass;
    /// [`ErrorKind::Closed`]. Whatever else goes wrong is waited for.
    pub(crate) async fn next(&self) -> Result<(ChangeKind, PodSnapshot)> {
        self.begin()?;
        // An error is that nothing follows any more; what is there is told before that.
        let permit = self.queue.ready.acquire().await.map(SemaphorePermit::forget);
        if let Some(change) = self.queue.news.lock().pop_front() {
            self.queue.room.add_permits(1);
            return Ok(change);
        }
        match (permit, self.queue.end.lock().as_ref()) {
            (Err(_), Some(end)) => Err(end.again()),
            _ => Err(Error::new(ErrorKind::Closed, "the watch is closed")),
        }
    }

    /// Ends it: whoever waits for a change gets `Closed`.
    pub(crate) fn close(&self) {
        if let Ok(mut task) = self.task.lock() {
            *task = Task::Over;
            self.queue.news.lock().clear();
            self.queue.ready.close();
        }
    }

    fn begin(&self) -> Result<()> {
        let mut task = self.task.lock()?;
        *task = match std::mem::take(&mut *task) {
            Task::Waiting(follower) => {
                let mut running = JoinSet::new();
                running.spawn_on(follower.run(Arc::clone(&self.queue)), &self.runtime);
                Task::Running(running)
            }
            begun => begun,
        };
        Ok(())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let is_of_parent = self.task.lock().is_err();
        if is_of_parent {
            // The task and the connection are the parent's, and so are the locks that ending them would take.
            std::mem::forget(std::mem::replace(&mut self.task, ForkMutex::new(Task::Over)));
        }
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").finish_non_exhaustive()
    }
}

impl Queue {
    async fn tell(&self, kind: ChangeKind, pod: PodSnapshot) {
        // It is never closed.
        let _ = self.room.acquire().await.map(SemaphorePermit::forget);
        self.news.lock().push_back((kind, pod));
        self.ready.add_permits(1);
    }
}

impl Follower {
    async fn run(mut self, queue: Arc<Queue>) {
        loop {
            let news = match self.changes.next().await {
                Ok(Change::All(mut all)) => {
                    let mut before = std::mem::take(&mut self.known);
                    all.sort_by(PodSnapshot::by_age);
                    let mut news: Vec<_> =
                        all.into_iter().filter_map(|pod| self.see(before.remove(&pod.uid), pod)).collect();
                    let mut gone: Vec<_> = before.into_values().collect();
                    gone.sort_by(PodSnapshot::by_age);
                    news.extend(gone.into_iter().map(|pod| (ChangeKind::Removed, pod)));
                    news
                }
                Ok(Change::Seen(pod)) => {
                    let before = self.known.remove(&pod.uid);
                    self.see(before, pod).into_iter().collect()
                }
                Ok(Change::Gone(pod)) => {
                    self.known.remove(&pod.uid).map(|_| (ChangeKind::Removed, pod)).into_iter().collect()
                }
                Err(gap) if gap.is_final() => {
                    *queue.end.lock() = Some(gap.into_error());
                    queue.ready.close();
                    return;
                }
                Err(gap) => {
                    log::debug!("{gap}");
                    continue;
                }
            };
            for (kind, pod) in news {
                queue.tell(kind, pod).await;
            }
        }
    }

    fn see(&mut self, before: Option<PodSnapshot>, pod: PodSnapshot) -> Option<(ChangeKind, PodSnapshot)> {
        let fits = self.filter.takes_phase(pod.phase);
        let kind = match &before {
            None if !fits => return None,
            None => Some(ChangeKind::Added),
            Some(_) if !fits => Some(ChangeKind::Removed),
            Some(before) => (!before.looks_like(&pod)).then_some(ChangeKind::Changed),
        };
        let news = kind.map(|kind| (kind, pod.clone()));
        if fits {
            self.known.insert(pod.uid.clone(), pod);
        }
        news
    }
}

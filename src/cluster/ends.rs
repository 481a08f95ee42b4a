//! How sandboxes end: one watch tells it of all that a client uses.

use std::collections::HashSet;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::{Either, select};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Cluster;
use super::changes::{Change, Changes, Which};
use super::filter::Filter;
use super::verdict;
use crate::error::{Cause, Result, Verdict};
use crate::fork::ForkGuard;

/// What a sandbox has said last may still be on its way when its end is known.
const CUT_DELAY: Duration = Duration::from_millis(300);
/// After a question that got no answer.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// How many ends are asked about at once.
const ASKED_AT_ONCE: usize = 4;

/// A sandbox as the watch sees it.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) name: String,
    pub(crate) uid: String,
    /// Why nothing can run in it any more, if so.
    pub(crate) end: Option<Verdict>,
}

impl Standing {
    fn of(pod: &Pod) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self { name: text(&pod.metadata.name), uid: text(&pod.metadata.uid), end: verdict::of_end(pod) }
    }
}

/// Who uses sandboxes, and is told how they end.
pub(crate) trait Users: Send + Sync {
    /// Whether this one, which may have ended, is used and was not seen to end before. If it is not used, its end is
    /// kept for who is about to.
    fn concerns(&self, standing: &Standing) -> bool;

    /// All that are used.
    fn used(&self) -> Vec<Standing>;

    /// One that is used has ended.
    fn end(&self, name: &str, uid: &str, verdict: &Verdict);

    /// Drops it, which may be the end of the runtime: not on one of its own threads.
    fn release(self: Arc<Self>);
}

/// The background task that follows them, which ends when this is dropped.
pub(crate) struct Ends {
    task: JoinSet<()>,
    widening: Arc<Notify>,
    is_wide: AtomicBool,
    process: ForkGuard,
}

impl Ends {
    /// From now on the sandboxes of all owners are followed.
    pub(crate) fn widen(&self) {
        if !self.is_wide.swap(true, Ordering::Relaxed) {
            self.widening.notify_one();
        }
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        if !self.process.is_current() {
            // The task is the parent's, and so are the locks that ending it would take.
            std::mem::forget(std::mem::take(&mut self.task));
        }
    }
}

impl fmt::Debug for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ends").field("process", &self.process).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Follows the sandboxes of this owner from the version of one of them on, and tells their users of their ends.
    pub(crate) fn follow_ends(&self, users: Weak<dyn Users>, owner: &str, version: &str) -> Result<Ends> {
        let own = Which::Selected(Filter::new().owner(owner).selector()?);
        let widening = Arc::<Notify>::default();
        let follower = Follower {
            cluster: self.clone(),
            users,
            changes: Changes::new(self, own, Some(version.to_owned()), Standing::of),
            all: Which::Selected(Filter::new().selector()?),
            widening: Arc::clone(&widening),
            asking: Arc::new(Semaphore::new(ASKED_AT_ONCE)),
            settling: JoinSet::new(),
        };
        let mut task = JoinSet::new();
        task.spawn_on(follower.run(), &self.runtime);
        Ok(Ends { task, widening, is_wide: AtomicBool::new(false), process: ForkGuard::current() })
    }
}

struct Follower {
    cluster: Cluster,
    users: Weak<dyn Users>,
    changes: Changes<Standing>,
    all: Which,
    widening: Arc<Notify>,
    asking: Arc<Semaphore>,
    settling: JoinSet<()>,
}

impl Follower {
    async fn run(mut self) {
        loop {
            let change = match select(pin!(self.changes.next()), pin!(self.widening.notified())).await {
                Either::Left((change, _)) => Some(change),
                Either::Right(_) => None,
            };
            let Some(users) = self.users.upgrade() else { return };
            while self.settling.try_join_next().is_some() {}
            match change {
                None => self.changes.follow(self.all.clone()),
                Some(Ok(Change::All(there))) => {
                    let uids: HashSet<&str> = there.iter().map(|one| &*one.uid).collect();
                    let gone = users.used().into_iter().filter(|one| !uids.contains(&*one.uid));
                    let ended = there.iter().filter(|one| one.end.is_some() && users.concerns(one)).cloned();
                    gone.chain(ended).for_each(|one| self.settle(one));
                }
                Some(Ok(Change::Seen(one))) if one.end.is_none() => {}
                Some(Ok(Change::Seen(one) | Change::Gone(one))) => {
                    if users.concerns(&one) {
                        self.settle(one);
                    }
                }
                Some(Err(gap)) if gap.is_final() => {
                    log::warn!("the end of a sandbox is seen only when a connection to it breaks: {gap}");
                    users.release();
                    while self.settling.join_next().await.is_some() {}
                    return;
                }
                Some(Err(gap)) => log::debug!("{gap}"),
            }
            users.release();
        }
    }

    /// Tells the users how it has ended, or that it is gone if that is so.
    fn settle(&mut self, Standing { name, uid, end }: Standing) {
        let (cluster, users, asking) = (self.cluster.clone(), Weak::clone(&self.users), Arc::clone(&self.asking));
        self.settling.spawn(async move {
            sleep(CUT_DELAY).await;
            loop {
                let verdict = match end.clone() {
                    Some(verdict) if verdict.cause != Cause::Exited => Ok(Some(verdict)),
                    unclear => {
                        let _turn = asking.acquire().await;
                        match unclear {
                            Some(verdict) => cluster.explained(verdict, &uid).await.map(Some),
                            None => cluster.deletion(&name, &uid).await,
                        }
                    }
                };
                let Some(users) = users.upgrade() else { return };
                let is_told = match &verdict {
                    Ok(verdict) => {
                        if let Some(verdict) = verdict {
                            users.end(&name, &uid, verdict);
                        }
                        true
                    }
                    // There is no other event of it.
                    Err(e) => {
                        log::debug!("whether sandbox {name} has ended is not known: {e}");
                        users.used().iter().all(|used| used.uid != uid)
                    }
                };
                users.release();
                if is_told {
                    return;
                }
                sleep(ASK_AGAIN).await;
            }
        });
    }
}

//! The changes of sandboxes, one after another.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{ChangeKind, Filter, Fleet};
use crate::context::Context;
use crate::deadline::Deadline;
use crate::error::{ErrorKind, Result};
use crate::sandbox::SandboxInfo;

/// What has become of a sandbox, from [`Changes`].
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Change {
    /// What has become of it.
    pub kind: ChangeKind,
    /// The sandbox as it is now, or as it was last.
    pub info: SandboxInfo,
}

/// The changes of sandboxes, made by [`Client::watch`](crate::Client::watch): an iterator that waits for each.
///
/// First all that fit are told as added, the oldest first, then each change. After a lost connection or a restart of
/// the API server it goes on, and tells what has changed meanwhile; what came and went in between is not told. It may
/// be used from several threads, of which each change goes to one. [`Changes::close`] and dropping it end the watch.
#[derive(Debug)]
pub struct Changes {
    ctx: Arc<Context>,
    fleet: Fleet,
    is_over: bool,
}

impl Changes {
    pub(crate) fn new(ctx: &Arc<Context>, filter: &Filter) -> Result<Self> {
        ctx.check_caller()?;
        Ok(Self { ctx: Arc::clone(ctx), fleet: ctx.cluster.fleet(filter)?, is_over: false })
    }

    /// Waits for the next change, at most for this time: then it is `None`. Without a time it waits for ever.
    ///
    /// ```no_run
    /// # fn show(client: &sandbox::Client) -> sandbox::Result<()> {
    /// use std::time::Duration;
    ///
    /// let changes = client.watch(&sandbox::Filter::new().owner("me"))?;
    /// while let Some(change) = changes.next_within(Duration::from_secs(60))? {
    ///     println!("{} {} is {}", change.kind, change.info.name, change.info.phase);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] if this client may not list and watch Pods; [`ErrorKind::Closed`].
    pub fn next_within(&self, timeout: impl Into<Option<Duration>>) -> Result<Option<Change>> {
        let deadline = Deadline::after(timeout.into());
        let work = || {
            self.ctx.check_caller()?;
            self.ctx.runtime.block_on(deadline, "a change", self.fleet.next())
        };
        match work() {
            Ok((kind, snapshot)) => Ok(Some(Change { kind, info: snapshot.into() })),
            Err(e) if e.kind() == ErrorKind::TimedOut && deadline.has_passed() => Ok(None),
            Err(e) => Err(e.during("watch sandboxes")),
        }
    }

    /// Ends the watch: from now on, and where other threads wait, a wait is [`ErrorKind::Closed`].
    pub fn close(&self) {
        self.fleet.close();
    }
}

impl Iterator for Changes {
    type Item = Result<Change>;

    /// Waits for the next change. After an error there is none.
    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = self.next_within(None).transpose();
        self.is_over = matches!(&next, Some(Err(_)));
        next
    }
}

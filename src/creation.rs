//! One creation: from the spec to a sandbox that takes commands, or to nothing at all.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::{Either, select};
use sandbox_protocol::Request;

use crate::cluster::{self, Membership, PodIdentity, PodSnapshot, Tunnel, Watch};
use crate::config::{self, Transport};
use crate::context::Context;
use crate::deadline::Deadline;
use crate::endpoint::{Endpoint, may_work_by_exec};
use crate::error::{Error, ErrorKind, Result};
use crate::guest::Guest;
use crate::link::Link;
use crate::registry::Registry;
use crate::sandbox::{CreateTimings, Origin, Sandbox};
use crate::spec::SandboxSpec;
use crate::ssh::session::{Login, Session};
use crate::ssh::stream::Stream;
use crate::text;

/// The pauses before the guest is tried again. It answers some ten milliseconds after its container has started.
const FIRST_LOGIN_RETRY: Duration = Duration::from_millis(15);
const LAST_LOGIN_RETRY: Duration = Duration::from_secs(1);
/// How long port-forward may fail before exec is tried.
const ASK_BY_EXEC: Duration = Duration::from_millis(300);
/// How long it may fail for good while the guest runs.
const GIVE_UP_TUNNEL: Duration = Duration::from_secs(5);
/// An expiry in the annotation that is no more than this too early is not corrected.
const CLOSE_ENOUGH: Duration = Duration::from_secs(2);
/// Time for deleting the Pod of a failed creation.
const UNDO: Duration = Duration::from_secs(10);

/// The name of a sandbox whose spec has none.
pub(crate) fn new_name() -> String {
    format!("sandbox-{}", text::nonce())
}

/// One new sandbox.
pub(crate) struct Creation<'a> {
    ctx: &'a Arc<Context>,
    spec: &'a SandboxSpec,
    name: &'a str,
    owner: &'a str,
    origin: Origin,
    began: Instant,
    deadline: Deadline,
}

/// A sandbox that takes commands. Unless it is kept, its Pod is deleted.
struct Made<'a> {
    endpoint: Arc<Endpoint>,
    snapshot: PodSnapshot,
    watch: Watch,
    timings: CreateTimings,
    undo: CreateGuard<'a>,
}

impl<'a> Creation<'a> {
    /// The creation's time begins now.
    pub(crate) fn new(ctx: &'a Arc<Context>, spec: &'a SandboxSpec, name: &'a str) -> Self {
        let (began, deadline) = (Instant::now(), Deadline::after(ctx.config.create_timeout));
        Self { ctx, spec, name, owner: &ctx.config.owner, origin: Origin::Created, began, deadline }
    }

    /// For a claim that found the pool empty: its time goes on.
    pub(crate) fn instead_of_claim(mut self, owner: &'a str, began: Instant, deadline: Deadline) -> Self {
        (self.owner, self.origin, self.began, self.deadline) = (owner, Origin::PoolMiss, began, deadline);
        self
    }

    /// Another time for all of it.
    pub(crate) fn until(mut self, deadline: Deadline) -> Self {
        self.deadline = deadline;
        self
    }

    /// A sandbox for the caller.
    pub(crate) fn run(&self, registry: &Arc<Registry>) -> Result<Sandbox> {
        let Self { ctx, spec, deadline, .. } = *self;
        let lifetime = spec.lifetime_or(ctx.config.lifetime);
        let Made { endpoint, snapshot, mut watch, timings, mut undo } =
            self.make(lifetime, spec.hard_limit_for(lifetime), None)?;
        if ctx.config.transport == Transport::Direct {
            let address = ctx.runtime.block_on(deadline, "the Pod's address", watch.address())?;
            endpoint.route().learn_address(address);
        }
        self.finish_in_background(&Link::new(Arc::clone(&endpoint)), watch, snapshot.expires_at)?;
        // Last, so that a creation that fails leaves nothing behind.
        let endpoint = registry.insert(endpoint)?;
        undo.armed = false;
        Ok(Sandbox::new(registry, Link::new(endpoint), Some(timings)))
    }

    /// A member of a pool, for whoever claims it. It has no hard limit before that.
    pub(crate) fn run_for_pool(&self, membership: Membership, idle_lifetime: Duration) -> Result<()> {
        let ctx = self.ctx;
        let Made { endpoint, snapshot, mut undo, .. } = self.make(Some(idle_lifetime), None, Some(membership))?;
        let remaining = self.remaining(&Link::new(Arc::clone(&endpoint)))?.unwrap_or(idle_lifetime);
        let host_key = endpoint.host_key().map(|key| key.to_string()).unwrap_or_default();
        let proof = async {
            let expiry = cluster::after(ctx.cluster.now().await?, remaining)?;
            ctx.cluster.prove(&snapshot, &host_key, expiry).await
        };
        if ctx.runtime.block_on(self.deadline, "the Kubernetes API server", proof)? {
            undo.armed = false;
            return Ok(());
        }
        Err(Error::new(ErrorKind::Conflict, "another process gave this pool member up before it was ready"))
    }

    /// How the guest gets into the Pods of a spec.
    pub(crate) fn guest_for(ctx: &Context, spec: &SandboxSpec) -> Result<Guest> {
        let config = &ctx.config;
        let names_image = spec.image.as_deref().is_some_and(|image| image != config::DEFAULT_IMAGE)
            || config.image != config::DEFAULT_IMAGE;
        config.guest.resolve(names_image, || ctx.call_api(ctx.cluster.has_image_volumes()))
    }

    fn make(
        &self,
        lifetime: Option<Duration>,
        hard_limit: Option<Duration>,
        membership: Option<Membership>,
    ) -> Result<Made<'a>> {
        let Self { ctx, spec, name, owner, origin, deadline, .. } = *self;
        let config = &ctx.config;
        let mut identity = PodIdentity {
            name: name.to_owned(),
            owner,
            nonce: text::nonce(),
            public_key: ctx.identity.public().as_str(),
            lifetime,
            expires_at: None,
            hard_limit,
            // What nobody has claimed yet is not used.
            idle_timeout: spec.idle_timeout.filter(|_| membership.is_none()),
            guest: Guest::Image,
            membership,
        };
        // A spec that can't be used is refused before the API server is asked for anything.
        cluster::pod(spec, config, &identity)?;
        let guest = Self::guest_for(ctx, spec)?;
        identity.guest = guest;
        identity.expires_at = lifetime
            .map(|lifetime| ctx.call_api(async { cluster::after(ctx.cluster.now().await?, lifetime) }))
            .transpose()?;
        let manifest = cluster::pod(spec, config, &identity)?;
        // From here on there may be a Pod, whatever the answer: the guard deletes it unless all goes well.
        let mut undo = CreateGuard { ctx, name, nonce: identity.nonce.clone(), armed: true };
        // The image has no guest, or the cluster can't bring it in.
        let advise = |e: Error| match e.verdict().and_then(|verdict| guest.advice(verdict, &config.guest_image)) {
            Some(advice) => e.context(advice),
            None => e,
        };
        let create = async {
            let snapshot = ctx.cluster.create(&manifest).await?;
            let watch = ctx.cluster.watch(&snapshot, spec.unschedulable_grace);
            Ok((snapshot, watch))
        };
        let (snapshot, mut watch) =
            ctx.runtime.block_on(deadline, "the API server to take the Pod", create).map_err(|e| {
                // It is somebody else's.
                undo.armed &= e.kind() != ErrorKind::Conflict;
                advise(e)
            })?;
        let accepted = self.began.elapsed();
        let _lease = snapshot.membership.is_some().then(|| ctx.cluster.keep_lease(&snapshot));
        let (session, started) = self.log_in(&snapshot, &mut watch, deadline).map_err(|e| match e.kind() {
            ErrorKind::TimedOut => e.with_verdict(watch.last_state()),
            _ => advise(e),
        })?;
        let timings = CreateTimings { accepted, started, logged_in: self.began.elapsed(), origin };
        let endpoint = Endpoint::new(ctx, &snapshot, true);
        endpoint.add_session(session, deadline)?;
        let link = Link::new(Arc::clone(&endpoint));
        link.repeatedly(deadline.remaining(), |deadline| link.greet(deadline))?;
        Ok(Made { endpoint, snapshot, watch, timings, undo })
    }

    /// The first login goes through the API server: that is authenticated to exactly this Pod, so the host key that
    /// shows there is the Pod's, and it works before the Pod's address is known.
    ///
    /// Some runtimes have a network of their own, into which Kubernetes's port-forward does not reach: exec does.
    fn log_in(&self, snapshot: &PodSnapshot, watch: &mut Watch, deadline: Deadline) -> Result<(Session, Duration)> {
        let ctx = self.ctx;
        ctx.runtime.block_on(deadline, "the container to start", watch.started())?;
        let started = self.began.elapsed();
        let (transport, class) = (ctx.config.transport, snapshot.runtime_class.as_ref());
        let is_forwarded = match transport {
            Transport::Tunnel => true,
            Transport::Exec => false,
            Transport::Auto | Transport::Direct => ctx.is_forwarded(class),
        };
        let mut pause = FIRST_LOGIN_RETRY;
        let mut answers_exec = false;
        loop {
            let way = if is_forwarded { By::PortForward } else { By::Exec };
            let failure = match self.try_log_in(way, snapshot, watch, deadline) {
                Ok(session) => return Ok((session, started)),
                Err(e) => e,
            };
            let is_refused = failure.kind() == ErrorKind::PermissionDenied;
            let may_go_on = is_refused && is_forwarded && transport != Transport::Tunnel;
            if !may_pass(&failure) && !may_go_on {
                return Err(failure);
            }
            log::debug!("sandbox {} does not answer yet: {failure}", self.name);
            let waited = self.began.elapsed().saturating_sub(started);
            let may_work = is_forwarded && !answers_exec && may_work_by_exec(&failure);
            if may_work && (is_refused || waited >= ASK_BY_EXEC) {
                match self.try_log_in(By::Exec, snapshot, watch, deadline) {
                    Ok(_) if transport == Transport::Tunnel => answers_exec = true,
                    // Only what fails while the guest surely answers will fail for ever.
                    Ok(session) => match self.try_log_in(By::PortForward, snapshot, watch, deadline) {
                        Err(e) if may_work_by_exec(&e) => {
                            ctx.forget_forward(class, &e);
                            return Ok((session, started));
                        }
                        result => return Ok((result?, started)),
                    },
                    Err(e) if e.verdict().is_some() || e.kind() == ErrorKind::Cancelled => return Err(e),
                    Err(e) if is_refused && !may_pass(&e) => return Err(failure),
                    Err(e) => log::debug!("nor by exec: {e}"),
                }
            }
            if answers_exec && waited >= GIVE_UP_TUNNEL {
                let why = "the guest runs, but Kubernetes's port-forward, which has no way into the network of gVisor, does not \
                           reach it (SANDBOX_TRANSPORT=auto or exec does)";
                return Err(failure.context(why).with_kind(ErrorKind::Create).with_verdict(watch.last_state()));
            }
            let wait = async {
                tokio::time::sleep(pause).await;
                Ok(())
            };
            ctx.runtime.block_on(deadline, "the SSH server to answer", unless_failed(watch, wait))?;
            pause = LAST_LOGIN_RETRY.min(pause * 3 / 2);
        }
    }

    /// The time that a new sandbox has left.
    fn remaining(&self, link: &Link) -> Result<Option<Duration>> {
        link.repeatedly(self.deadline.remaining(), |deadline| link.remaining(&Request::Expiry, deadline))
    }

    fn try_log_in(&self, way: By, snapshot: &PodSnapshot, watch: &mut Watch, deadline: Deadline) -> Result<Session> {
        let (ctx, port) = (self.ctx, snapshot.ssh_port);
        let open = async {
            match way {
                By::PortForward => ctx.cluster.tunnel(self.name, port).await,
                By::Exec => ctx.cluster.exec_tunnel(self.name, &snapshot.guest, port).await,
            }
        };
        let opened = ctx.runtime.block_on(deadline, "the SSH server to answer", unless_failed(watch, open));
        let Tunnel { socket, end } = opened?;
        let deadline = deadline.within(ctx.config.connect_timeout);
        let login = Login { user: &snapshot.ssh_user, identity: &ctx.identity, host_key: None };
        Session::log_in(Stream::Tunnel(socket), &login, deadline).map_err(|e| end.explain(e))
    }

    /// What the caller need not wait for: the host key goes into an annotation for other processes, also if this one
    /// ends next, and `auto` tries the Pod's address as soon as it has one. The expiry there is corrected: the
    /// sandbox's time began with its start, not with its creation.
    fn finish_in_background(&self, link: &Link, mut watch: Watch, expires_at: Option<SystemTime>) -> Result<()> {
        let endpoint = link.endpoint();
        let (name, uid) = (endpoint.name().to_owned(), endpoint.uid().to_owned());
        let host_key = endpoint.host_key().map(|key| key.to_string());
        let remaining = self.remaining(link)?;
        let cluster = self.ctx.cluster.clone();
        self.ctx.runtime.spawn_to_finish(async move {
            let annotate = async {
                cluster.annotate(&name, &uid, &[(cluster::HOST_KEY, host_key)]).await.map(drop)?;
                let (Some(remaining), Some(known)) = (remaining, expires_at) else { return Ok(()) };
                let expiry = cluster::after(cluster.now().await?, remaining)?;
                if expiry <= known + CLOSE_ENOUGH {
                    return Ok(());
                }
                // Somebody may have renewed it meanwhile.
                let (known, expiry) = (cluster::time_text(known), cluster::time_text(expiry));
                cluster.reannotate(&name, &uid, cluster::EXPIRES_AT, &known, &expiry).await
            };
            let annotated: Result<()> = annotate.await;
            if let Err(e) = annotated {
                log::warn!("an annotation of sandbox {name} is not up to date: {e}");
            }
        })?;
        if self.ctx.config.transport != Transport::Auto {
            return Ok(());
        }
        let route = Arc::clone(endpoint.route());
        self.ctx.runtime.spawn(async move {
            if let Ok(address) = watch.address().await {
                route.probe(address).await;
            }
        })
    }
}

/// The two ways through the API server.
#[derive(Clone, Copy)]
enum By {
    PortForward,
    Exec,
}

/// Whether a first login failed as it does until the guest answers.
fn may_pass(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::Connect | ErrorKind::Unavailable | ErrorKind::NotFound)
}

/// Deletes the Pod of a creation that fails, in whatever way.
struct CreateGuard<'a> {
    ctx: &'a Context,
    name: &'a str,
    nonce: String,
    armed: bool,
}

impl Drop for CreateGuard<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let undo = async {
            match self.ctx.cluster.get(self.name).await {
                // Only ours: a conflict means that the name belongs to somebody else's.
                Ok(found) if found.nonce == self.nonce => self.ctx.cluster.delete_soon(self.name, &found.uid).await,
                Ok(_) => Ok(()),
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
                Err(e) => Err(e),
            }
        };
        let result: Result<()> =
            self.ctx.runtime.block_on(Deadline::after(Some(UNDO)), "the deletion of the Pod", undo);
        if let Err(e) = result {
            log::warn!(
                "the Pod of the failed sandbox {} could not be deleted and stays until it expires: {e}",
                self.name
            );
        }
    }
}

/// The work's result, or the cause if the Pod fails first.
async fn unless_failed<T>(watch: &mut Watch, work: impl Future<Output = Result<T>>) -> Result<T> {
    match select(pin!(work), pin!(watch.failed())).await {
        Either::Left((result, _)) => result,
        Either::Right((failure, _)) => Err(failure),
    }
}

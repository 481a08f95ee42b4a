//! The entrance: create, attach, list, delete and reap sandboxes.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::{Either, select};
use sandbox_protocol::Request;

use crate::cluster::{self, Phase, PodIdentity, PodSnapshot, Watch};
use crate::command::Output;
use crate::config::{self, Config, Transport};
use crate::context::Context;
use crate::deadline::Deadline;
use crate::endpoint::Endpoint;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::guest::Guest;
use crate::link::Link;
use crate::registry::Registry;
use crate::sandbox::{CreateTimings, Sandbox, SandboxInfo};
use crate::spec::SandboxSpec;
use crate::ssh::identity::PublicKey;
use crate::ssh::session::{Login, Session};
use crate::ssh::stream::Stream;
use crate::text;

/// The pauses before the guest is tried again. It answers some ten milliseconds after its container has started.
const FIRST_LOGIN_RETRY: Duration = Duration::from_millis(15);
const LAST_LOGIN_RETRY: Duration = Duration::from_secs(1);
/// How long port-forward may fail before the guest is asked in another way.
const ASK_BY_EXEC: Duration = Duration::from_millis(300);
/// How long it may fail for good while the guest runs.
const GIVE_UP_TUNNEL: Duration = Duration::from_secs(5);
/// How long after its expiry a sandbox that still exists is deleted by somebody else.
const REAP_MARGIN: Duration = Duration::from_secs(5);
/// An expiry in the annotation that is no more than this too early is not corrected.
const CLOSE_ENOUGH: Duration = Duration::from_secs(2);
/// Time for deleting the Pod of a failed creation.
const UNDO: Duration = Duration::from_secs(10);

/// A connection to Kubernetes and everything that its sandboxes share: the login key, the cache of addresses, ports and host
/// keys, and the SSH sessions.
///
/// Cloning is cheap and shares all of it. A client may be used from many threads at once. It must not be used in a forked child
/// ([`ErrorKind::Forked`]) or from async code ([`ErrorKind::AsyncContext`]). Dropping the last clone closes the sessions; the
/// sandboxes stay.
#[derive(Clone)]
pub struct Client {
    ctx: Arc<Context>,
    registry: Arc<Registry>,
}

/// Counts of a client's work since it was made; see [`Client::stats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// HTTP requests sent to the Kubernetes API server, those of watches and tunnels included.
    pub api_requests: u64,
}

impl Client {
    /// A client configured by the environment and a `.env` file; short for `Client::new(Config::from_env()?)`.
    ///
    /// # Errors
    /// As [`Config::from_env`] and [`Client::new`].
    pub fn from_env() -> Result<Self> {
        Self::new(Config::from_env()?)
    }

    /// A client with this configuration. Reads the service account or the kubeconfig; the API server is first asked when there
    /// is something to ask.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a setting is not allowed, or no way to authenticate was found: the message says which were tried.
    pub fn new(config: Config) -> Result<Self> {
        let make = || {
            let ctx = Context::new(config)?;
            let registry = Registry::new(&ctx)?;
            Ok(Self { ctx, registry })
        };
        make().map_err(|e: Error| e.during("make client"))
    }

    /// The namespace of this client's sandboxes.
    pub fn namespace(&self) -> &str {
        self.ctx.cluster.namespace()
    }

    /// Counts of this client's work.
    ///
    /// ```no_run
    /// # fn show(client: &sandbox::Client) -> sandbox::Result<()> {
    /// let before = client.stats().api_requests;
    /// client.execute_command("warm-sandbox", "true")?;
    /// assert_eq!(client.stats().api_requests, before);
    /// # Ok(())
    /// # }
    /// ```
    pub fn stats(&self) -> Stats {
        Stats { api_requests: self.ctx.cluster.api_requests() }
    }

    /// Creates a sandbox and waits until it takes commands. A sandbox that fails to start is deleted again.
    ///
    /// ```no_run
    /// # fn show(client: &sandbox::Client) -> sandbox::Result<()> {
    /// use sandbox::{ErrorKind, SandboxSpec};
    ///
    /// match client.create(&SandboxSpec::new().image("registry.example/tools:3")) {
    ///     Ok(sandbox) => println!("{} takes commands", sandbox.name()),
    ///     Err(e) if e.kind() == ErrorKind::Create => eprintln!("{e}: {:?}", e.verdict()),
    ///     Err(e) => return Err(e),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Create`] with the cluster's reason within about a second of the cluster knowing it; [`ErrorKind::Quota`];
    /// [`ErrorKind::Conflict`] if the spec's name is taken; [`ErrorKind::TimedOut`] with the last known state;
    /// [`ErrorKind::PermissionDenied`], [`ErrorKind::Unavailable`] from the API server.
    pub fn create(&self, spec: &SandboxSpec) -> Result<Sandbox> {
        let name = spec.name.clone().unwrap_or_else(|| format!("sandbox-{}", text::nonce()));
        Creation { ctx: &self.ctx, registry: &self.registry, spec, name: &name, began: Instant::now() }
            .run()
            .map_err(|e| e.during("create sandbox").on(&name))
    }

    /// A handle of a sandbox that exists, by name: from the cache without an API call, else with one. A sandbox of another
    /// client takes this one's key if the API server lets this one execute commands in Pods, unless both have the same `ssh_key`.
    ///
    /// ```no_run
    /// # fn show(client: &sandbox::Client) -> sandbox::Result<()> {
    /// let sandbox = client.attach("sandbox-0123456789abcdef")?;
    /// println!("{}", sandbox.execute("uptime")?.stdout_text());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if no sandbox has this name.
    pub fn attach(&self, name: &str) -> Result<Sandbox> {
        self.handle(name).map_err(|e| e.during("attach to sandbox").on(name))
    }

    /// All sandboxes in the namespace, whoever owns them, in no particular order.
    ///
    /// ```no_run
    /// # fn show(client: &sandbox::Client) -> sandbox::Result<()> {
    /// for info in client.list()? {
    ///     println!("{} {:?} of {}", info.name, info.phase, info.owner);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] and [`ErrorKind::Unavailable`] from the API server.
    pub fn list(&self) -> Result<Vec<SandboxInfo>> {
        let snapshot = self.ctx.call_api(self.ctx.cluster.list()).map_err(|e| e.during("list sandboxes"))?;
        Ok(snapshot.into_iter().map(SandboxInfo::from).collect())
    }

    /// Deletes every sandbox in the namespace that has expired, whoever owns it, and returns their names. The end of the Pods
    /// is not waited for. What has expired is decided by the API server's clock, not this machine's; a sandbox that is renewed
    /// meanwhile stays.
    ///
    /// ```no_run
    /// # fn show(client: &sandbox::Client) -> sandbox::Result<()> {
    /// for name in client.reap()? {
    ///     println!("{name} had expired");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The first error of the API server; what could be deleted is deleted all the same.
    pub fn reap(&self) -> Result<Vec<String>> {
        let cluster = &self.ctx.cluster;
        let (found, now) = self
            .ctx
            .call_api(async { Ok((cluster.list().await?, cluster.now().await?)) })
            .map_err(|e| e.during("reap sandboxes"))?;
        // The sandbox counts the time itself; what it says there is rounded, and so is the API server's clock.
        let is_over = |one: &PodSnapshot| {
            // One that has ended itself is over at once.
            one.verdict.as_ref().is_some_and(|verdict| verdict.cause == Cause::Expired)
                || one.expires_at.is_some_and(|expiry| expiry + REAP_MARGIN <= now)
        };
        let expired = found.into_iter().filter(|one| is_over(one) && one.phase != Phase::Terminating);
        let (mut reaped, mut first_error) = (Vec::new(), None);
        for PodSnapshot { name, uid, resource_version, .. } in expired {
            match self.ctx.call_api(cluster.delete_unchanged(&name, &uid, &resource_version)) {
                Ok(true) => {
                    self.registry.evict(&name, &uid);
                    reaped.push(name);
                }
                // Renewed, or gone, since it was listed.
                Ok(false) => {}
                Err(e) => drop(first_error.get_or_insert(e.during("reap sandboxes").on(&name))),
            }
        }
        first_error.map_or(Ok(reaped), Err)
    }

    /// Creates a sandbox: [`Client::create`] under its other name.
    ///
    /// # Errors
    /// As [`Client::create`].
    pub fn create_sandbox(&self, spec: &SandboxSpec) -> Result<Sandbox> {
        self.create(spec)
    }

    /// Deletes a sandbox by name: [`Client::attach`] and [`Sandbox::delete`].
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if no sandbox has this name, else as [`Sandbox::delete`].
    pub fn delete_sandbox(&self, name: &str) -> Result<()> {
        self.by_name(name, Sandbox::delete)
    }

    /// [`Client::delete_sandbox`] under the name that some know.
    ///
    /// # Errors
    /// As [`Client::delete_sandbox`].
    pub fn shutdown_sandbox(&self, name: &str) -> Result<()> {
        self.delete_sandbox(name)
    }

    /// Runs a command line in a sandbox by name: [`Client::attach`] and [`Sandbox::execute`].
    ///
    /// ```no_run
    /// # fn show(client: &sandbox::Client) -> sandbox::Result<()> {
    /// let output = client.execute_command("my-sandbox", "make test")?;
    /// println!("{}: {}", output.status, output.stdout_text());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As those two.
    pub fn execute_command(&self, name: &str, line: &str) -> Result<Output> {
        self.by_name(name, |sandbox| sandbox.execute(line))
    }

    /// Copies a local file into a sandbox by name: [`Client::attach`] and [`Sandbox::upload_file`].
    ///
    /// ```no_run
    /// # fn show(client: &sandbox::Client) -> sandbox::Result<()> {
    /// client.upload_file("my-sandbox", "input.csv", "/tmp/input.csv")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As those two.
    pub fn upload_file(&self, name: &str, local: impl AsRef<Path>, remote: impl AsRef<Path>) -> Result<u64> {
        self.by_name(name, |sandbox| sandbox.upload_file(&local, &remote))
    }

    /// Copies a file out of a sandbox by name: [`Client::attach`] and [`Sandbox::download_file`].
    ///
    /// ```no_run
    /// # fn show(client: &sandbox::Client) -> sandbox::Result<()> {
    /// let bytes = client.download_file("my-sandbox", "/tmp/result.csv", "result.csv")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As those two.
    pub fn download_file(&self, name: &str, remote: impl AsRef<Path>, local: impl AsRef<Path>) -> Result<u64> {
        self.by_name(name, |sandbox| sandbox.download_file(&remote, &local))
    }

    /// Asks Kubernetes about a sandbox by name: one API call.
    ///
    /// ```no_run
    /// # fn show(client: &sandbox::Client) -> sandbox::Result<()> {
    /// let info = client.get_sandbox_info("my-sandbox")?;
    /// println!("{:?} on {:?} until {:?}", info.phase, info.node, info.expires_at);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if no sandbox has this name.
    pub fn get_sandbox_info(&self, name: &str) -> Result<SandboxInfo> {
        let info = self.ctx.call_api(self.ctx.cluster.get(name)).map(SandboxInfo::from);
        info.map_err(|e| e.during("get sandbox info").on(name))
    }

    /// The SSH port of a sandbox by name, from the cache; the default port for one that the cache does not know.
    pub fn ssh_port(&self, name: &str) -> u16 {
        self.registry.find(name).map_or(self.ctx.config.ssh_port, |endpoint| endpoint.port())
    }

    /// Does `work` with the sandbox that has this name now: if the cache held one that is gone, and nothing was asked of that one,
    /// the work is done with its successor.
    fn by_name<T>(&self, name: &str, work: impl Fn(&Sandbox) -> Result<T>) -> Result<T> {
        let was_cached = self.registry.find(name).is_some();
        match work(&self.attach(name)?) {
            Err(e) if was_cached && e.kind() == ErrorKind::NotFound && self.registry.find(name).is_none() => {
                work(&self.attach(name)?)
            }
            result => result,
        }
    }

    fn handle(&self, name: &str) -> Result<Sandbox> {
        let endpoint = match self.registry.find(name) {
            Some(endpoint) => {
                self.ctx.check_caller()?;
                endpoint
            }
            None => {
                let snapshot = self.ctx.call_api(self.ctx.cluster.get(name))?;
                self.registry.insert(Endpoint::new(&self.ctx, &snapshot, false))?
            }
        };
        Ok(Sandbox::new(&self.registry, Link::new(endpoint), None))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("namespace", &self.namespace()).finish_non_exhaustive()
    }
}

/// A new sandbox's first session.
struct FirstLogin {
    session: Session,
    /// The Pod's address, if it came there.
    address: Option<IpAddr>,
}

/// One call of [`Client::create`].
struct Creation<'a> {
    ctx: &'a Arc<Context>,
    registry: &'a Arc<Registry>,
    spec: &'a SandboxSpec,
    name: &'a str,
    began: Instant,
}

impl Creation<'_> {
    fn run(&self) -> Result<Sandbox> {
        let Self { ctx, spec, name, .. } = self;
        let config = &ctx.config;
        let deadline = Deadline::after(config.create_timeout);
        let lifetime = spec.lifetime_or(config.lifetime);
        let mut identity = PodIdentity {
            name: (*name).to_owned(),
            nonce: text::nonce(),
            public_key: ctx.identity.public().as_str(),
            lifetime,
            expires_at: None,
            hard_limit: spec.hard_limit_for(lifetime),
            guest: Guest::Image,
        };
        // A spec that can't be used is refused before the API server is asked for anything.
        cluster::pod(spec, config, &identity)?;
        let names_image = spec.image.as_deref().is_some_and(|image| image != config::DEFAULT_IMAGE)
            || config.image != config::DEFAULT_IMAGE;
        let guest = config.guest.resolve(names_image, || ctx.call_api(ctx.cluster.has_image_volumes()))?;
        identity.guest = guest;
        identity.expires_at = lifetime
            .map(|lifetime| ctx.call_api(async { cluster::after(ctx.cluster.now().await?, lifetime) }))
            .transpose()?;
        let manifest = cluster::pod(spec, config, &identity)?;
        // From here on there may be a Pod, whatever the answer: the guard deletes it unless all goes well.
        let mut undo = CreateGuard { ctx, name, nonce: &identity.nonce, armed: true };
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
            ctx.runtime.block_on(deadline, "the API server to take the Pod", create).map_err(advise)?;
        let accepted = self.began.elapsed();
        let (login, started) = self.log_in(&snapshot, &mut watch, deadline).map_err(|e| match e.kind() {
            ErrorKind::TimedOut => e.with_verdict(watch.last_state()),
            _ => advise(e),
        })?;
        let timings = CreateTimings { accepted, started, logged_in: self.began.elapsed() };
        let endpoint = Endpoint::new(ctx, &snapshot, true);
        endpoint.add_session(login.session, deadline)?;
        if let Some(address) = login.address {
            endpoint.route().reach(address);
        }
        let link = Link::new(Arc::clone(&endpoint));
        link.greet(deadline)?;
        if config.transport == Transport::Direct {
            let address = ctx.runtime.block_on(deadline, "the Pod's address", watch.address())?;
            endpoint.route().learn_address(address);
        }
        self.finish_in_background(&link, watch, snapshot.expires_at)?;
        // Last, so that a creation that fails leaves nothing behind.
        let endpoint = self.registry.insert(endpoint)?;
        undo.armed = false;
        Ok(Sandbox::new(self.registry, Link::new(endpoint), Some(timings)))
    }

    /// The first login goes through the API server: that is authenticated to exactly this Pod, so the host key that shows there
    /// is the Pod's, and it works before the Pod's address is known.
    ///
    /// Some runtimes have a network of their own, into which Kubernetes's port-forward does not reach. Then the API server's `exec`
    /// vouches for the host key, and the login goes to the Pod's address.
    fn log_in(&self, snapshot: &PodSnapshot, watch: &mut Watch, deadline: Deadline) -> Result<(FirstLogin, Duration)> {
        let ctx = self.ctx;
        ctx.runtime.block_on(deadline, "the container to start", watch.started())?;
        let started = self.began.elapsed();
        let mut pause = FIRST_LOGIN_RETRY;
        let mut host_key = None;
        loop {
            match self.try_log_in(snapshot, watch, deadline) {
                Ok(session) => return Ok((FirstLogin { session, address: None }, started)),
                Err(e) if matches!(e.kind(), ErrorKind::Connect | ErrorKind::Unavailable | ErrorKind::NotFound) => {
                    log::debug!("sandbox {} does not answer yet: {e}", self.name);
                    let waited = self.began.elapsed().saturating_sub(started);
                    if waited >= ASK_BY_EXEC && e.kind() == ErrorKind::Connect {
                        match self.log_in_without_tunnel(snapshot, watch, &mut host_key, deadline) {
                            Ok(login) => return Ok((login, started)),
                            Err(why) if why.verdict().is_some() => return Err(why),
                            Err(why) => log::debug!("nor without the tunnel: {why}"),
                        }
                        if host_key.is_some() && waited >= GIVE_UP_TUNNEL {
                            let why = "the guest runs, but neither Kubernetes's port-forward, which has no way into the network of \
                                       gVisor, nor a connection to the Pod's address reaches it (set SANDBOX_TRANSPORT=direct where \
                                       Pod addresses can be reached)";
                            return Err(e.context(why).with_kind(ErrorKind::Create).with_verdict(watch.last_state()));
                        }
                    }
                    let wait = async {
                        tokio::time::sleep(pause).await;
                        Ok(())
                    };
                    ctx.runtime.block_on(deadline, "the SSH server to answer", unless_failed(watch, wait))?;
                    pause = LAST_LOGIN_RETRY.min(pause * 3 / 2);
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn try_log_in(&self, snapshot: &PodSnapshot, watch: &mut Watch, deadline: Deadline) -> Result<Session> {
        let ctx = self.ctx;
        let tunnel = unless_failed(watch, ctx.cluster.tunnel(self.name, snapshot.ssh_port));
        let stream = Stream::Tunnel(ctx.runtime.block_on(deadline, "the SSH server to answer", tunnel)?);
        let deadline = deadline.within(ctx.config.connect_timeout);
        let login = Login { user: &snapshot.ssh_user, identity: &ctx.identity, host_key: None };
        Session::log_in(stream, &login, deadline)
    }

    /// Logs in at the Pod's address, after asking the guest for its host key by `exec`; the key stays known for the next attempt.
    fn log_in_without_tunnel(
        &self,
        snapshot: &PodSnapshot,
        watch: &mut Watch,
        host_key: &mut Option<PublicKey>,
        deadline: Deadline,
    ) -> Result<FirstLogin> {
        let ctx = self.ctx;
        let unreachable = |why| Error::new(ErrorKind::Connect, why);
        let known = match host_key {
            Some(known) => known,
            None => {
                let asked = ctx.cluster.host_key(self.name, &snapshot.guest, snapshot.ssh_port);
                let line = ctx.runtime.block_on(deadline, "the API server", unless_failed(watch, asked))?;
                host_key.insert(PublicKey::parse(&line).ok_or_else(|| unreachable("the host key can't be understood"))?)
            }
        };
        if ctx.config.transport == Transport::Tunnel {
            return Err(unreachable("the transport is set to the tunnel"));
        }
        let address = ctx.runtime.block_on(deadline, "the Pod's address", watch.address())?;
        let stream = Stream::direct((address, snapshot.ssh_port).into(), deadline.within(LAST_LOGIN_RETRY))?;
        let login = Login { user: &snapshot.ssh_user, identity: &ctx.identity, host_key: Some(known) };
        let session = Session::log_in(stream, &login, deadline.within(ctx.config.connect_timeout))?;
        Ok(FirstLogin { session, address: Some(address) })
    }

    /// What the caller need not wait for: the host key goes into an annotation for other processes, also if this one ends next, and
    /// `auto` tries the Pod's address as soon as it has one. The expiry there is corrected: the sandbox's time began with its start,
    /// not with its creation.
    fn finish_in_background(&self, link: &Link, mut watch: Watch, expires_at: Option<SystemTime>) -> Result<()> {
        let endpoint = link.endpoint();
        let (name, uid) = (endpoint.name().to_owned(), endpoint.uid().to_owned());
        let host_key = endpoint.host_key().map(|key| key.to_string());
        let remaining = link.remaining(&Request::Expiry)?;
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

/// Deletes the Pod of a creation that fails, in whatever way.
struct CreateGuard<'a> {
    ctx: &'a Context,
    name: &'a str,
    nonce: &'a str,
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

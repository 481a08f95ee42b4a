//! The client: create, attach, list, delete and reap sandboxes.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::changes::Changes;
use crate::cluster::{Filter, MemberState, Phase, PodSnapshot};
use crate::command::Output;
use crate::config::Config;
use crate::context::Context;
use crate::creation::{self, Creation};
use crate::endpoint::Endpoint;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::link::Link;
use crate::pool::{Pool, PoolOptions};
use crate::registry::Registry;
use crate::sandbox::{Sandbox, SandboxInfo};
use crate::spec::SandboxSpec;

/// How long after its expiry a sandbox that still exists is deleted by somebody else.
const REAP_MARGIN: Duration = Duration::from_secs(5);

/// A connection to Kubernetes and everything that its sandboxes share: the login key, the cache of addresses, ports and
/// host keys, and the SSH sessions.
///
/// Cloning is cheap and shares all of it. A client may be used from many threads at once. It must not be used in a
/// forked child ([`ErrorKind::Forked`]) or from async code ([`ErrorKind::AsyncContext`]). Dropping the last clone
/// closes the sessions, without waiting for the servers; the sandboxes stay. Dropping the last handle of all clients
/// also stops the library's threads, and waits up to 3 seconds for them.
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

    /// A client with this configuration. Reads the service account or the kubeconfig; the API server is first asked
    /// when there is something to ask.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a setting is not allowed, or no way to authenticate was found: the message says which
    /// were tried.
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

    /// Creates a sandbox and waits until it is ready for commands. A sandbox that fails to start is deleted again.
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
    /// [`ErrorKind::Create`] with the cluster's reason within about a second of the cluster knowing it;
    /// [`ErrorKind::Quota`]; [`ErrorKind::Conflict`] if the spec's name is taken; [`ErrorKind::TimedOut`] with the last
    /// known state; [`ErrorKind::PermissionDenied`], [`ErrorKind::Unavailable`] from the API server.
    pub fn create(&self, spec: &SandboxSpec) -> Result<Sandbox> {
        let name = spec.name.clone().unwrap_or_else(creation::new_name);
        Creation::new(&self.ctx, spec, &name).run(&self.registry).map_err(|e| e.during("create sandbox").on(&name))
    }

    /// A handle for the pool of this name, whose sandboxes of this spec are created in advance; see [`Pool`]. It makes
    /// no API call.
    ///
    /// ```no_run
    /// # fn show(client: &sandbox::Client) -> sandbox::Result<()> {
    /// use sandbox::{Claim, PoolOptions, SandboxSpec};
    ///
    /// // Somebody else fills it.
    /// let pool = client.pool("graders", &SandboxSpec::new(), &PoolOptions::new())?;
    /// let sandbox = pool.claim(&Claim::new())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if the name, the spec or the options are invalid.
    pub fn pool(&self, name: &str, spec: &SandboxSpec, options: &PoolOptions) -> Result<Pool> {
        Pool::open(&self.ctx, &self.registry, name, spec, options).map_err(|e| e.during("open pool"))
    }

    /// A handle for the existing sandbox of this name. It takes one API call, or none if the client's cache has the
    /// sandbox. To use a sandbox of another client, this client needs the same `ssh_key`, or the right to `pods/exec`
    /// to add its own key.
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
    /// [`ErrorKind::NotFound`] if no sandbox has this name; [`ErrorKind::Conflict`] if it is an unclaimed sandbox of a
    /// pool.
    pub fn attach(&self, name: &str) -> Result<Sandbox> {
        self.handle(name).map_err(|e| e.during("attach to sandbox").on(name))
    }

    /// All sandboxes in the namespace, whoever owns them, the oldest first; short for [`Client::find`] with a new
    /// [`Filter`].
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
    /// As [`Client::find`].
    pub fn list(&self) -> Result<Vec<SandboxInfo>> {
        self.find(&Filter::new())
    }

    /// The sandboxes in the namespace that fit, the oldest first, and those of the same second by name. It takes one
    /// API call for every 500 that have the filter's owner and labels.
    ///
    /// ```no_run
    /// # fn show(client: &sandbox::Client) -> sandbox::Result<()> {
    /// use sandbox::{Filter, Phase};
    ///
    /// let mine = Filter::new().owner("me").label("run", "17");
    /// for info in client.find(&mine.phase(Phase::Failed))? {
    ///     println!("{}: {:?}", info.name, info.verdict);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if no Pod can have the owner or a label; [`ErrorKind::PermissionDenied`] and
    /// [`ErrorKind::Unavailable`] from the API server.
    pub fn find(&self, filter: &Filter) -> Result<Vec<SandboxInfo>> {
        let found = self.ctx.call_api(self.ctx.cluster.matching(filter)).map_err(|e| e.during("list sandboxes"))?;
        Ok(found.into_iter().map(SandboxInfo::from).collect())
    }

    /// The changes of the sandboxes in the namespace that fit, as an iterator that waits for each: first all that there
    /// are, then what becomes of them; see [`Changes`]. It is one watch of its own, and keeps what it has told last of
    /// each sandbox.
    ///
    /// ```no_run
    /// # fn show(client: &sandbox::Client) -> sandbox::Result<()> {
    /// use sandbox::{ChangeKind, Filter};
    ///
    /// for change in client.watch(&Filter::new().owner("me"))? {
    ///     let change = change?;
    ///     if change.kind == ChangeKind::Removed {
    ///         println!("{} is gone: {:?}", change.info.name, change.info.verdict);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if no Pod can have the owner or a label, or if the filter asks for an age, which
    /// changes by itself.
    pub fn watch(&self, filter: &Filter) -> Result<Changes> {
        Changes::new(&self.ctx, filter).map_err(|e| e.during("watch sandboxes"))
    }

    /// Deletes every expired sandbox in the namespace, whoever owns it, and returns their names. It does not wait until
    /// the Pods are gone. The API server's clock decides what has expired, not this machine's. A sandbox that is
    /// renewed meanwhile stays.
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
    /// Fails with the first error of the API server; the other sandboxes are deleted all the same.
    pub fn reap(&self) -> Result<Vec<String>> {
        let cluster = &self.ctx.cluster;
        let (found, now) = self
            .ctx
            .call_api(async { Ok((cluster.matching(&Filter::new()).await?, cluster.now().await?)) })
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

    /// An alias of [`Client::create`].
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

    /// An alias of [`Client::delete_sandbox`].
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

    /// Does `work` with the sandbox that has this name now: if the cache held one that is gone, and nothing was asked
    /// of that one, the work is done with its successor.
    fn by_name<T>(&self, name: &str, work: impl Fn(&Sandbox) -> Result<T>) -> Result<T> {
        // The name of a member of a pool may have come to another one, which is somebody else's.
        let was_cached = self.registry.find(name).is_some_and(|endpoint| !endpoint.is_of_a_pool());
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
                if let Some(pool) = snapshot.membership.as_ref().filter(|member| member.state != MemberState::Claimed) {
                    return Err(Error::new(
                        ErrorKind::Conflict,
                        format!("it is a member of the pool {:?} that nobody has claimed", pool.pool),
                    ));
                }
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

//! The handle of one sandbox.

use std::collections::BTreeMap;
use std::net::{IpAddr, TcpStream};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, MutexGuard};
use sandbox_protocol::{Renew, Request, Response};

use crate::cluster::{self, Phase, PodSnapshot};
use crate::command::{Command, Detached, Output};
use crate::context::API_TIMEOUT;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result, Verdict, stable_names};
use crate::files::Files;
use crate::keys::{self, AuthorizedKey};
use crate::link::Link;
use crate::ports::{self, Forward, Local, Target};
use crate::registry::Registry;
use crate::ssh::commands;
use crate::usage::Usage;

/// A running sandbox: a Pod with an SSH server, ready for commands and files.
///
/// Cloning is cheap and gives a second handle of the same sandbox. All methods may be called from many threads at once;
/// each operation takes an SSH session of its own from a pool. **Dropping the handle does not delete the sandbox**: it
/// stays until [`delete`](Sandbox::delete), or until it expires.
///
/// ```no_run
/// let client = sandbox::Client::from_env()?;
/// let sandbox = client.create(&sandbox::SandboxSpec::new())?;
/// let output = sandbox.execute("uname -a")?;
/// println!("{}", output.stdout_text());
/// sandbox.delete()?;
/// # Ok::<(), sandbox::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sandbox {
    link: Link,
    timings: Option<CreateTimings>,
    /// Its background task closes this sandbox's idle sessions, also when the client is dropped before the sandbox.
    _registry: Arc<Registry>,
}

/// How long each phase of a creation, or of a [claim](crate::Pool::claim), took, counted from the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreateTimings {
    /// The API server had stored the Pod, or given the member of a pool to this client.
    pub accepted: Duration,
    /// The container was known to have started.
    pub started: Duration,
    /// The SSH login had succeeded: the sandbox takes commands.
    pub logged_in: Duration,
    /// Where the sandbox comes from.
    pub origin: Origin,
}

/// How many SSH sessions a client has to one sandbox; see [`Sandbox::session_counts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionCounts {
    /// Open, and ready for the next operation.
    pub idle: usize,
    /// In use by an operation, an open file or a running command.
    pub busy: usize,
}

/// Where a sandbox comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// It was created by [`Client::create`](crate::Client::create).
    Created,
    /// A pool had it ready.
    Pool,
    /// The pool was empty, and its next member was waited for.
    PoolWait,
    /// The pool was empty, and it was created instead.
    PoolMiss,
}

stable_names!(Origin, "origin of a sandbox", {
    Created => "created",
    Pool => "pool",
    PoolWait => "pool_wait",
    PoolMiss => "pool_miss",
});

/// What Kubernetes says about a sandbox at one moment.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SandboxInfo {
    /// Name of the sandbox and of its Pod.
    pub name: String,
    /// Namespace of the Pod.
    pub namespace: String,
    /// Kubernetes' unique id of the Pod; another Pod of the same name has another one.
    pub uid: String,
    /// The phase of the Pod.
    pub phase: Phase,
    /// The owner that its creator was configured with.
    pub owner: String,
    /// The image it runs.
    pub image: String,
    /// The node it runs on, once one is chosen.
    pub node: Option<String>,
    /// The Pod's address, once it has one.
    pub pod_ip: Option<IpAddr>,
    /// Port of the SSH server.
    pub ssh_port: u16,
    /// User name for SSH.
    pub ssh_user: String,
    /// The SSH server's host key, as OpenSSH writes it, once it is pinned.
    pub host_key: Option<String>,
    /// When it was created.
    pub created_at: Option<SystemTime>,
    /// When it expires; `None` for never.
    pub expires_at: Option<SystemTime>,
    /// The Pod's labels.
    pub labels: BTreeMap<String, String>,
    /// Why it has stopped or can't start, if either is the case.
    pub verdict: Option<Verdict>,
}

impl From<PodSnapshot> for SandboxInfo {
    fn from(snapshot: PodSnapshot) -> Self {
        Self {
            name: snapshot.name,
            namespace: snapshot.namespace,
            uid: snapshot.uid,
            phase: snapshot.phase,
            owner: snapshot.owner,
            image: snapshot.image,
            node: snapshot.node,
            pod_ip: snapshot.pod_ip,
            ssh_port: snapshot.ssh_port,
            ssh_user: snapshot.ssh_user,
            host_key: snapshot.host_key,
            created_at: snapshot.created_at,
            expires_at: snapshot.expires_at,
            labels: snapshot.labels,
            verdict: snapshot.verdict,
        }
    }
}

impl Sandbox {
    pub(crate) fn new(registry: &Arc<Registry>, link: Link, timings: Option<CreateTimings>) -> Self {
        Self { link, timings, _registry: Arc::clone(registry) }
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// Name of the sandbox and of its Pod.
    pub fn name(&self) -> &str {
        self.link.name()
    }

    /// Kubernetes' unique id of the Pod.
    pub fn uid(&self) -> &str {
        self.link.endpoint().uid()
    }

    /// Port of the SSH server, from the cache.
    pub fn ssh_port(&self) -> u16 {
        self.link.endpoint().port()
    }

    /// The SSH server's host key as it is pinned, in OpenSSH's form; `None` before the first connection.
    pub fn host_key(&self) -> Option<String> {
        self.link.endpoint().host_key().map(|key| key.to_string())
    }

    /// How long the creation or the claim took by phase, and which it was; `None` if this handle was attached.
    pub fn timings(&self) -> Option<CreateTimings> {
        self.timings
    }

    /// The SSH sessions of this client to this sandbox, at this moment.
    pub fn session_counts(&self) -> SessionCounts {
        let (idle, busy) = self.link.endpoint().pool().counts();
        SessionCounts { idle, busy }
    }

    /// Opens an SSH session beside those of the pool, which ends when what this returns is dropped. For the benchmarks,
    /// which can't time a login otherwise.
    #[doc(hidden)]
    pub fn new_session(&self) -> Result<impl Sized + use<>> {
        let deadline = Deadline::after(self.link.ctx().config.connect_timeout);
        self.link.call("open session", || self.link.new_session(deadline))
    }

    /// A command to run: `program` is looked up in the `PATH` of the image and gets its arguments exactly as given.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let output = sandbox.command("wc").arg("-c").stdin("five\n").output()?;
    /// assert_eq!(output.stdout, b"5\n");
    /// # Ok(())
    /// # }
    /// ```
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        Command::program(self.link.clone(), program.as_ref())
    }

    /// A command line for the sandbox's shell.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let lines = sandbox.shell("grep -c \"$1\" *.log | sort").arg("a word").output()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn shell(&self, line: impl AsRef<std::ffi::OsStr>) -> Command {
        Command::shell(self.link.clone(), line.as_ref())
    }

    /// Runs a command line in the sandbox's shell and collects its output; short for `self.shell(line).output()`.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let output = sandbox.execute("cd /tmp && ls -l | wc -l")?.check()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Command::output`].
    pub fn execute(&self, line: impl AsRef<std::ffi::OsStr>) -> Result<Output> {
        self.shell(line).output()
    }

    /// A handle for the command that [`Command::detach`] started under this key, in this process or another. No request
    /// is sent: only the first use of the handle tells whether the command exists.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// if let Some(status) = sandbox.detached("run-7")?.try_wait()? {
    ///     println!("{status}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if the key is invalid.
    pub fn detached(&self, key: impl Into<String>) -> Result<Detached> {
        Detached::new(self.link.clone(), key.into())
    }

    /// The sandbox's files.
    pub fn files(&self) -> Files<'_> {
        Files::new(&self.link)
    }

    /// Copies a local file into the sandbox; short for `self.files().upload(local, remote)`.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let bytes = sandbox.upload_file("program", "/tmp/program")?;
    /// sandbox.execute("/tmp/program")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Files::upload`].
    pub fn upload_file(&self, local: impl AsRef<Path>, remote: impl AsRef<Path>) -> Result<u64> {
        self.files().upload(local, remote)
    }

    /// Copies a file out of the sandbox; short for `self.files().download(remote, local)`.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let bytes = sandbox.download_file("core.dump", "/var/crash/core.dump")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Files::download`].
    pub fn download_file(&self, remote: impl AsRef<Path>, local: impl AsRef<Path>) -> Result<u64> {
        self.files().download(remote, local)
    }

    /// Connects to a TCP port of the sandbox's own loopback addresses, or to a Unix socket in it. The server there may
    /// listen on a loopback address only.
    ///
    /// The stream is an ordinary socket of this machine whose bytes go through an SSH session that all connections into
    /// the sandbox share: encrypted, to the machine with the pinned host key, and over the tunnel where that is the
    /// way. Each side can close its half with [`shutdown`](TcpStream::shutdown). If the connection breaks, on the way
    /// or in the sandbox, reads fail with [`ConnectionReset`](std::io::ErrorKind::ConnectionReset) instead of returning
    /// the end of the data. The stream stays usable after this handle and the client are dropped.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::io::{Read, Write};
    ///
    /// let mut stream = sandbox.connect(8080)?;
    /// stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    /// let mut page = Vec::new();
    /// stream.read_to_end(&mut page)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if nothing listens there, [`ErrorKind::FileNotFound`] and [`ErrorKind::PermissionDenied`]
    /// of a Unix socket, [`ErrorKind::TimedOut`] after the client's time to connect; and those of a connection.
    pub fn connect(&self, target: impl Into<Target>) -> Result<TcpStream> {
        self.link.call("connect to port", || ports::connect(&self.link, &target.into()))
    }

    /// Listens on this machine, and connects each connection to a port of the sandbox or a Unix socket in it, as
    /// [`Sandbox::connect`] does, until what this returns is closed or dropped or the Pod has ended. It does not check
    /// whether anything listens in the sandbox; [`Sandbox::wait_for_port`] waits for that.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// sandbox.wait_for_port(8080, std::time::Duration::from_secs(30))?;
    /// let forward = sandbox.forward(0, 8080)?;
    /// println!("http://{}/", forward.local());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] if the local port or file is in use, [`ErrorKind::PermissionDenied`] if it may not be used;
    /// and those of a connection to the sandbox.
    pub fn forward(&self, local: impl Into<Local>, target: impl Into<Target>) -> Result<Forward> {
        self.link.call("forward port", || Forward::start(self.link.clone(), &local.into(), target.into()))
    }

    /// Waits until something in the sandbox listens on a port or a Unix socket; `None` waits without a limit. The check
    /// makes no connection to the server.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if nothing listens there in time; and those of a connection.
    pub fn wait_for_port(&self, target: impl Into<Target>, timeout: impl Into<Option<Duration>>) -> Result<()> {
        self.link.call("wait for port", || ports::wait_for_port(&self.link, &target.into(), timeout.into()))
    }

    /// Asks Kubernetes about the sandbox: one API call.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let info = sandbox.info()?;
    /// println!("{:?} at {:?}", info.phase, info.pod_ip);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if its Pod is gone, even if a new Pod has the same name.
    pub fn info(&self) -> Result<SandboxInfo> {
        self.link.call("get sandbox info", || self.observe().map(SandboxInfo::from))
    }

    /// What the sandbox uses now. It answers by itself: one round trip, no API call, and no right in the cluster. If it
    /// runs out of memory later, the verdict has what the last call told of its memory.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let usage = sandbox.usage()?;
    /// println!("{:?} of {:?} bytes of memory", usage.memory, usage.memory_limit);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Sandbox::execute`], but for those of the command.
    pub fn usage(&self) -> Result<Usage> {
        self.link.call("get sandbox usage", || {
            // A full sandbox is asked too: not only on the pool's sessions, which may all be busy.
            match self.link.request_aside(&Request::Usage, Deadline::after(self.link.command_timeout()))? {
                Response::Usage(usage) => {
                    let usage = usage.into();
                    self.link.endpoint().note_usage(&usage);
                    Ok(usage)
                }
                _ => Err(commands::not_an_answer()),
            }
        })
    }

    /// Lets somebody else log in with OpenSSH's programs, who has the private key of `key`: a line as in
    /// `authorized_keys`, without options. It is good for `lifetime` from now; `None` is as long as the sandbox lives.
    /// The same key once more is good for that time from then on. Whoever logs in with it can do there what this client
    /// can, but let nobody else in; what is open when the time is over stays open.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let key = std::fs::read_to_string("colleague.pub").unwrap();
    /// sandbox.authorize_key(&key, std::time::Duration::from_secs(3600))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if this is no public key, of the kinds ed25519, ECDSA P-256 and RSA;
    /// [`ErrorKind::Conflict`] if it is the key of a client of this library; [`ErrorKind::PermissionDenied`] if this
    /// client itself was let in so. Else those of a connection.
    pub fn authorize_key(&self, key: &str, lifetime: impl Into<Option<Duration>>) -> Result<()> {
        self.link.call("authorize key", || keys::authorize(&self.link, key, lifetime.into()))
    }

    /// The keys that [`authorize_key`](Self::authorize_key) let in, by whichever client, and that may log in now.
    ///
    /// # Errors
    /// Those of a connection.
    pub fn authorized_keys(&self) -> Result<Vec<AuthorizedKey>> {
        self.link.call("list keys", || keys::authorized(&self.link))
    }

    /// Lets such a key log in no longer, and closes the connections that were made with it. The comment does not
    /// matter. False if there was no such key.
    ///
    /// # Errors
    /// As [`authorize_key`](Self::authorize_key).
    pub fn revoke_key(&self, key: &str) -> Result<bool> {
        self.link.call("revoke key", || keys::revoke(&self.link, key))
    }

    /// Sets the sandbox's expiry to `lifetime` from now. It may be earlier than the current one, and never exceeds the
    /// hard limit of the spec. The sandbox measures the time itself, on a monotonic clock; the returned time is the
    /// expiry by the API server's clock. One request to the sandbox and one API call.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let expiry = sandbox.renew(std::time::Duration::from_secs(3600))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for less than a second, else as [`Sandbox::execute`] and of the API server.
    pub fn renew(&self, lifetime: Duration) -> Result<SystemTime> {
        self.link.call("renew sandbox", || {
            let invalid = |message: &'static str| Error::new(ErrorKind::InvalidArgument, message);
            if lifetime < Duration::from_secs(1) {
                return Err(invalid("a lifetime is at least one second"));
            }
            let lifetime_ms = u64::try_from(lifetime.as_millis()).map_err(|_| invalid("the lifetime is too long"))?;
            // The sandbox first: if the second step fails, it lives on and nothing deletes it too early.
            let renew = Request::Renew(Renew { lifetime_ms: Some(lifetime_ms), shorten: true });
            let remaining =
                self.link.remaining(&renew, Deadline::after(self.link.command_timeout()))?.unwrap_or(lifetime);
            let ctx = self.link.ctx();
            ctx.call_api(async {
                let expiry = cluster::after(ctx.cluster.now().await?, remaining)?;
                let annotation = (cluster::EXPIRES_AT, Some(cluster::time_text(expiry)));
                ctx.cluster.annotate(self.name(), self.uid(), &[annotation]).await?;
                Ok(expiry)
            })
        })
    }

    /// Deletes the sandbox and waits until its Pod is gone. Its handles are closed: later calls with them fail with
    /// [`ErrorKind::Closed`].
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it was gone already, [`ErrorKind::Delete`] if its end could not be confirmed in time.
    pub fn delete(&self) -> Result<()> {
        let ctx = self.link.ctx();
        // Waiting for the container's end is part of it, so this takes longer than other calls.
        let deadline = Deadline::after(Some(2 * API_TIMEOUT));
        let deletion = ctx.cluster.delete(self.name(), self.uid());
        self.link.endpoint().begin_deletion();
        let result = ctx.runtime.block_on(deadline, "the end of the Pod", deletion);
        match &result {
            Ok(()) => self.link.endpoint().close(),
            Err(e) if e.kind() == ErrorKind::NotFound => self.link.endpoint().close(),
            Err(e) if e.kind() == ErrorKind::Cancelled => self.delete_in_background(),
            Err(_) => self.link.endpoint().give_up_deletion(),
        }
        result.map_err(|e| {
            let e = match e.kind() {
                ErrorKind::TimedOut => self.held_back(e.with_kind(ErrorKind::Delete)),
                _ => e,
            };
            e.during("delete sandbox").on(self.name())
        })
    }

    /// A guard that deletes the sandbox when it goes out of scope, also by `?` or a panic.
    ///
    /// Dropping it waits as [`delete`](Sandbox::delete) does. A failure is only logged; call [`DeleteOnDrop::delete`]
    /// to get the error. The sandbox is deleted even if there are other handles.
    ///
    /// ```no_run
    /// # fn show(client: &sandbox::Client) -> sandbox::Result<()> {
    /// let sandbox = client.create(&sandbox::SandboxSpec::new())?.delete_on_drop();
    /// sandbox.execute("make test")?.check()?;
    /// sandbox.delete()
    /// # }
    /// ```
    pub fn delete_on_drop(self) -> DeleteOnDrop {
        DeleteOnDrop { sandbox: self, is_wanted: true }
    }

    /// Names the finalizers of a Pod that does not go.
    fn held_back(&self, e: Error) -> Error {
        let ctx = self.link.ctx();
        match ctx.call_api(ctx.cluster.finalizers(self.name(), self.uid())) {
            Ok(finalizers) if !finalizers.is_empty() => {
                let names = finalizers.join(", ");
                e.context(format!(
                    "the Pod was deleted, but its finalizers keep it until their owner removes them: {names}"
                ))
            }
            _ => e,
        }
    }

    /// Sees to it that a deletion is requested whose caller does not wait any more.
    fn delete_in_background(&self) {
        let ctx = self.link.ctx();
        // Not the endpoint: the task must not keep the runtime that it runs on.
        let (cluster, name, uid) = (ctx.cluster.clone(), self.name().to_owned(), self.uid().to_owned());
        let deletion = async move {
            if let Err(e) = cluster.delete_soon(&name, &uid).await {
                log::warn!("sandbox {name} may not be deleted: {e}");
            }
        };
        // It can't be refused in the middle of a call.
        let _ = ctx.runtime.spawn_to_finish(deletion);
    }

    /// An alias of [`Sandbox::delete`].
    ///
    /// # Errors
    /// As [`Sandbox::delete`].
    pub fn shutdown(&self) -> Result<()> {
        self.delete()
    }

    fn observe(&self) -> Result<PodSnapshot> {
        let ctx = self.link.ctx();
        let mut snapshot = ctx.call_api(ctx.cluster.get(self.name()))?;
        if snapshot.uid != self.uid() {
            return Err(Error::new(ErrorKind::NotFound, "it is gone; another sandbox has its name now"));
        }
        if let Some(verdict) = snapshot.verdict.take() {
            snapshot.verdict = Some(ctx.call_api(ctx.cluster.explained(verdict, self.uid()))?);
        }
        Ok(snapshot)
    }

    /// Waits for the turn of this thread.
    pub(crate) fn lock<'m, T>(&self, mutex: &'m Mutex<T>) -> Result<MutexGuard<'m, T>> {
        self.link.lock(mutex)
    }
}

/// A sandbox that is deleted when this goes out of scope; made by [`Sandbox::delete_on_drop`]. It is used like the
/// [`Sandbox`] in it.
#[must_use = "the sandbox is deleted at once if this is not kept"]
#[derive(Debug)]
pub struct DeleteOnDrop {
    sandbox: Sandbox,
    is_wanted: bool,
}

impl DeleteOnDrop {
    /// Deletes the sandbox now, and says what fails.
    ///
    /// # Errors
    /// As [`Sandbox::delete`].
    pub fn delete(mut self) -> Result<()> {
        self.is_wanted = false;
        self.sandbox.delete()
    }

    /// Returns the sandbox without deleting it.
    pub fn keep(mut self) -> Sandbox {
        self.is_wanted = false;
        self.sandbox.clone()
    }
}

impl Deref for DeleteOnDrop {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.sandbox
    }
}

impl Drop for DeleteOnDrop {
    fn drop(&mut self) {
        if self.is_wanted
            && let Err(e) = self.sandbox.delete()
            && e.kind() != ErrorKind::NotFound
        {
            log::warn!("a sandbox is not deleted: {e}");
        }
    }
}

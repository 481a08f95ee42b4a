//! One sandbox as a client knows it: who it is, the ways to its SSH server, its host key and its sessions.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use crate::cluster::{PodSnapshot, Tunnel};
use crate::config::Transport;
use crate::context::Context;
use crate::deadline::Deadline;
use crate::error::{Cause, Error, ErrorKind, Result, Verdict};
use crate::fork::ForkMutex;
use crate::ssh::identity::PublicKey;
use crate::ssh::pool::{Lease, Pool};
use crate::ssh::ports::{Connection, Ports, SessionHold, SessionSource};
use crate::ssh::session::{Cutter, Login, Session};
use crate::ssh::stream::Stream;
use crate::usage::Usage;

/// How long `auto` waits for an answer from the Pod's address before it stays on the tunnel.
const PROBE: Duration = Duration::from_secs(1);
/// How long a direct connection gets no answer before Kubernetes is asked why.
const SYN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long `auto` stays on the tunnel after the address could not be reached.
const STAY_ON_TUNNEL: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Endpoint {
    ctx: Arc<Context>,
    name: String,
    uid: String,
    created_at: Option<SystemTime>,
    /// The version of the Pod that this was made from.
    version: String,
    /// Whether it belongs to the owner of this client's sandboxes.
    is_own: bool,
    is_of_a_pool: bool,
    user: String,
    /// The guest's file in the sandbox.
    guest: String,
    /// The runtime class of its Pod.
    runtime_class: Option<String>,
    port: u16,
    route: Arc<Route>,
    /// Whether the sandbox knows this client's key: it does from the start if this client created it.
    authorized: AtomicBool,
    /// Why the sandbox has ended, once that is known.
    ended: ForkMutex<Option<Verdict>>,
    /// What it used when it was last asked.
    last_usage: ForkMutex<Option<(Instant, Usage)>>,
    /// How many threads of this client delete it.
    deletions: AtomicUsize,
    /// An end that was no news then.
    unheeded: ForkMutex<Option<Verdict>>,
    /// The watch has seen that it has ended.
    is_seen_to_end: AtomicBool,
    sessions: ForkMutex<Sessions>,
    /// Held by the thread that makes the sandbox know it.
    authorizing: Mutex<()>,
    pool: Arc<Pool>,
    ports: Ports,
}

/// The sessions to a sandbox, lent or not.
#[derive(Debug, Default)]
struct Sessions {
    /// Also those that were closed since the last one was opened.
    open: Vec<Cutter>,
    is_cut: bool,
}

/// The way to a sandbox. Background tasks hold this and not the endpoint: they must not keep the runtime that they run
/// on.
#[derive(Debug)]
pub(crate) struct Route {
    name: String,
    port: u16,
    state: ForkMutex<RouteState>,
}

#[derive(Debug)]
struct RouteState {
    host_key: Option<PublicKey>,
    address: Option<IpAddr>,
    direct: Direct,
}

/// What `auto` knows about the Pod's address.
#[derive(Clone, Copy, Debug)]
enum Direct {
    Untried,
    Reachable,
    UnreachableSince(Instant),
}

impl Route {
    pub(crate) fn learn_address(&self, address: IpAddr) {
        if let Ok(mut state) = self.state.lock() {
            state.address = Some(address);
        }
    }

    /// Whether the Pod has answered at its address.
    pub(crate) fn is_direct(&self) -> bool {
        self.state.lock().is_ok_and(|state| matches!(state.direct, Direct::Reachable))
    }

    /// The Pod has answered at its address.
    pub(crate) fn reach(&self, address: IpAddr) {
        self.learn_address(address);
        self.set_direct(Direct::Reachable);
    }

    /// Tries the Pod's address in the background, so that no caller waits for it; `auto` moves there if it answers.
    pub(crate) async fn probe(&self, address: IpAddr) {
        self.learn_address(address);
        let attempt = tokio::net::TcpStream::connect(SocketAddr::new(address, self.port));
        let answers = matches!(tokio::time::timeout(PROBE, attempt).await, Ok(Ok(_)));
        log::debug!("sandbox {} {} at {address}", self.name, if answers { "answers" } else { "does not answer" });
        self.set_direct(if answers { Direct::Reachable } else { Direct::UnreachableSince(Instant::now()) });
    }

    fn set_direct(&self, direct: Direct) {
        if let Ok(mut state) = self.state.lock() {
            state.direct = direct;
        }
    }
}

impl Endpoint {
    pub(crate) fn new(ctx: &Arc<Context>, snapshot: &PodSnapshot, authorized: bool) -> Arc<Self> {
        let state = RouteState {
            host_key: snapshot.host_key.as_deref().and_then(PublicKey::parse),
            address: snapshot.pod_ip,
            direct: Direct::Untried,
        };
        let route = Route { name: snapshot.name.clone(), port: snapshot.ssh_port, state: ForkMutex::new(state) };
        Arc::new(Self {
            ctx: Arc::clone(ctx),
            name: snapshot.name.clone(),
            uid: snapshot.uid.clone(),
            created_at: snapshot.created_at,
            version: snapshot.resource_version.clone(),
            is_own: snapshot.owner == ctx.config.owner,
            is_of_a_pool: snapshot.membership.is_some(),
            user: snapshot.ssh_user.clone(),
            guest: snapshot.guest.clone(),
            runtime_class: snapshot.runtime_class.clone(),
            port: snapshot.ssh_port,
            route: Arc::new(route),
            authorized: AtomicBool::new(authorized),
            ended: ForkMutex::new(None),
            last_usage: ForkMutex::new(None),
            deletions: AtomicUsize::new(0),
            unheeded: ForkMutex::new(None),
            is_seen_to_end: AtomicBool::new(false),
            sessions: ForkMutex::default(),
            authorizing: Mutex::default(),
            pool: Pool::new(ctx.config.max_sessions, ctx.config.idle_timeout),
            ports: Ports::new(ctx.config.idle_timeout),
        })
    }

    pub(crate) fn route(&self) -> &Arc<Route> {
        &self.route
    }

    pub(crate) fn ctx(&self) -> &Arc<Context> {
        &self.ctx
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn uid(&self) -> &str {
        &self.uid
    }

    /// In whole seconds, by the clock of the API server.
    pub(crate) fn created_at(&self) -> Option<SystemTime> {
        self.created_at
    }

    /// The version of the Pod that this was made from.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Whether it belongs to the owner of this client's sandboxes.
    pub(crate) fn is_own(&self) -> bool {
        self.is_own
    }

    /// Whether it was made for a pool, which chose its name.
    pub(crate) fn is_of_a_pool(&self) -> bool {
        self.is_of_a_pool
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn host_key(&self) -> Option<PublicKey> {
        self.route.state.lock().ok()?.host_key.clone()
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Closes the sessions of a sandbox that was deleted by this client. What is asked of it afterwards fails with
    /// [`ErrorKind::Closed`].
    pub(crate) fn close(&self) {
        self.pool.close();
        if let Err(closed) = self.pool.check_open() {
            self.ports.close(&closed);
        }
    }

    /// While this client deletes it, the end of the Pod is no news.
    pub(crate) fn begin_deletion(&self) {
        self.deletions.fetch_add(1, Ordering::AcqRel);
    }

    /// The deletion has failed, so it is.
    pub(crate) fn give_up_deletion(&self) {
        self.deletions.fetch_sub(1, Ordering::AcqRel);
        let unheeded = self.unheeded.lock().ok().and_then(|mut unheeded| unheeded.take());
        if let Some(verdict) = unheeded {
            self.end(&verdict);
        }
    }

    /// Whether the watch has seen its end before, for which this call counts if it `has_ended`.
    pub(crate) fn is_seen_to_end(&self, has_ended: bool) -> bool {
        self.is_seen_to_end.fetch_or(has_ended, Ordering::AcqRel)
    }

    /// Why the sandbox has ended, once that is known.
    pub(crate) fn ended(&self) -> Option<Verdict> {
        self.ended.lock().ok()?.clone()
    }

    /// Remembers what the sandbox uses, in case that it runs out of memory.
    pub(crate) fn note_usage(&self, usage: &Usage) {
        if let Ok(mut last) = self.last_usage.lock() {
            *last = Some((Instant::now(), usage.clone()));
        }
    }

    /// Closes the sessions of a sandbox that has ended. What is asked of it afterwards fails with this verdict.
    pub(crate) fn end(&self, verdict: &Verdict) {
        // What this client has deleted itself needs no other reason.
        if self.is_closed() {
            return;
        }
        if verdict.cause == Cause::Deleted && self.deletions.load(Ordering::Acquire) > 0 {
            if let Ok(mut unheeded) = self.unheeded.lock() {
                *unheeded = Some(verdict.clone());
            }
            return;
        }
        if let Ok(mut ended) = self.ended.lock() {
            ended.get_or_insert_with(|| self.with_usage(verdict.clone()));
        }
        self.pool.close();
        if let Err(ended) = self.pool.check_open() {
            self.ports.close(&self.with_end(ended));
        }
    }

    /// What was last known of the memory, for one that ran out of it.
    fn with_usage(&self, mut verdict: Verdict) -> Verdict {
        let last = self.last_usage.lock().ok().and_then(|last| last.clone());
        if let (Cause::OutOfMemory, Some((at, usage))) = (verdict.cause, last) {
            verdict.message = format!("{}, and {}", verdict.message, usage.of_memory(at.elapsed()));
        }
        verdict
    }

    /// Ends the sessions in use: nothing comes from the sandbox any more, and a lost node does not say so.
    pub(crate) fn cut(&self) {
        if let Ok(mut sessions) = self.sessions.lock() {
            sessions.is_cut = true;
            sessions.open.iter().for_each(Cutter::cut);
        }
    }

    /// The error of a closed endpoint, which says why the sandbox has ended if it has.
    fn with_end(&self, e: Error) -> Error {
        if e.kind() != ErrorKind::Closed {
            return e;
        }
        let Some(verdict) = self.ended() else { return e };
        let kind = if verdict.cause == Cause::Deleted { ErrorKind::NotFound } else { ErrorKind::Disconnected };
        Error::new(kind, "the sandbox has ended").with_verdict(verdict)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.pool.is_closed()
    }

    /// Whether every session that there may be is in use.
    pub(crate) fn is_busy(&self) -> bool {
        let (idle, lent) = self.pool.counts();
        idle == 0 && lent >= self.ctx.config.max_sessions
    }

    /// A logged-in session for one operation.
    pub(crate) fn lease(&self, deadline: Deadline) -> Result<Lease> {
        self.ctx.check_caller()?;
        let prefers_direct = self.reachable(self.ctx.config.transport).is_some();
        let usable = |session: &Session| session.is_alive() && !(prefers_direct && session.is_tunnel());
        self.pool.lease(deadline, usable, || self.connect(deadline)).map_err(|e| self.with_end(e))
    }

    /// A logged-in session that the pool does not know.
    pub(crate) fn new_session(&self, deadline: Deadline) -> Result<Session> {
        self.ctx.check_caller()?;
        self.pool.check_open().map_err(|e| self.with_end(e))?;
        self.connect(deadline)
    }

    /// The connections into the sandbox.
    pub(crate) fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Has a connection made to something in the sandbox; see [`Ports::connect`].
    pub(crate) fn connect_to(&self, connection: Connection, deadline: Deadline) -> Result<bool> {
        self.ctx.check_caller()?;
        self.ports.connect(connection, self.session_source(deadline))
    }

    /// Holds a session for connections.
    pub(crate) fn hold_for_ports(&self, deadline: Deadline) -> Result<SessionHold> {
        self.ctx.check_caller()?;
        self.ports.hold(self.session_source(deadline))
    }

    fn session_source(&self, deadline: Deadline) -> SessionSource<impl Fn() -> Result<(Session, Arc<Context>)>> {
        let is_direct = self.reachable(self.ctx.config.transport).is_some();
        SessionSource { deadline, is_direct, log_in: move || Ok((self.new_session(deadline)?, Arc::clone(&self.ctx))) }
    }

    /// Puts the session of a first login into the pool and pins its host key.
    pub(crate) fn add_session(&self, session: Session, deadline: Deadline) -> Result<()> {
        self.know(&session)?;
        self.pin(session.host_key());
        self.pool.lease(deadline, |_| false, || Ok(session)).map(Lease::finish)
    }

    fn pin(&self, host_key: &PublicKey) {
        if let Ok(mut state) = self.route.state.lock() {
            state.host_key.get_or_insert_with(|| host_key.clone());
        }
    }

    /// The address that new sessions should go to, if any.
    fn reachable(&self, transport: Transport) -> Option<SocketAddr> {
        let route = self.route.state.lock().ok()?;
        // Before the key is known, only the tunnel can vouch for the other side.
        let address = route.host_key.as_ref().and(route.address).map(|address| SocketAddr::new(address, self.port));
        match (transport, route.direct) {
            (Transport::Direct, _) | (Transport::Auto, Direct::Reachable) => address,
            _ => None,
        }
    }

    /// Starts a probe if `auto` knows an address that it has not tried lately.
    fn probe_if_due(&self) -> Result<()> {
        let mut route = self.route.state.lock()?;
        let due = match route.direct {
            Direct::Untried => true,
            Direct::Reachable => false,
            Direct::UnreachableSince(since) => since.elapsed() >= STAY_ON_TUNNEL,
        };
        let Some(address) = route.address.filter(|_| due) else { return Ok(()) };
        route.direct = Direct::UnreachableSince(Instant::now());
        drop(route);
        let route = Arc::clone(&self.route);
        self.ctx.runtime.spawn(async move { route.probe(address).await })
    }

    fn connect(&self, deadline: Deadline) -> Result<Session> {
        let own_deadline = deadline.within(self.ctx.config.connect_timeout);
        self.connect_with_known_key(own_deadline).map_err(|e| match e.kind() {
            // The time for connecting is over, not the caller's.
            ErrorKind::TimedOut if !deadline.has_passed() => e.with_kind(ErrorKind::Connect),
            ErrorKind::TimedOut | ErrorKind::Cancelled => e.context("no request was sent to the sandbox"),
            _ => e,
        })
    }

    fn connect_with_known_key(&self, deadline: Deadline) -> Result<Session> {
        // Asked first: another thread may get the key in while this one is refused.
        let was_authorized = self.authorized.load(Ordering::Acquire);
        // A key from a file may have come with another client, one of this client's own can't.
        if was_authorized || self.ctx.config.ssh_key.is_some() {
            match self.connect_once(deadline) {
                Err(e) if e.kind() == ErrorKind::Authentication && !was_authorized => {}
                result => return result,
            }
        }
        // Another client made this sandbox: the API server decides whether we may have it.
        self.authorize(deadline)?;
        self.connect_once(deadline)
    }

    /// Makes the sandbox know this client's key: one thread asks, the others wait for it.
    fn authorize(&self, deadline: Deadline) -> Result<()> {
        let _turn = deadline.lock(&self.authorizing, "the sandbox's knowledge of this client's key")?;
        if !self.authorized.load(Ordering::Acquire) {
            let key = self.ctx.identity.public().as_str();
            let asked = self.ctx.cluster.authorize(&self.name, &self.guest, self.port, key);
            self.ctx
                .runtime
                .block_on(deadline, "the API server", asked)
                .map_err(|e| no_way(e, "this client did not create the sandbox, and can't add its key to it"))?;
            self.authorized.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn connect_once(&self, deadline: Deadline) -> Result<Session> {
        match self.ctx.config.transport {
            Transport::Direct => self.connect_direct(deadline),
            Transport::Tunnel => self.connect_tunnel(deadline),
            Transport::Exec => self.connect_exec(deadline),
            Transport::Auto => {
                let Some(address) = self.reachable(Transport::Auto) else {
                    self.probe_if_due()?;
                    return self.connect_through_api_server(deadline);
                };
                match Stream::direct(address, deadline.within(PROBE)) {
                    Ok(stream) => self.log_in(stream, deadline),
                    Err(e) if e.kind() == ErrorKind::Cancelled => Err(e),
                    Err(e) => {
                        log::debug!("sandbox {} goes back to the tunnel: {e}", self.name);
                        self.route.set_direct(Direct::UnreachableSince(Instant::now()));
                        self.connect_through_api_server(deadline)
                    }
                }
            }
        }
    }

    fn connect_direct(&self, deadline: Deadline) -> Result<Session> {
        if self.host_key().is_none() {
            // The session itself is of no use here; its host key is.
            drop(self.connect_through_api_server(deadline)?);
        }
        let address = match self.reachable(Transport::Direct) {
            Some(address) => address,
            None => self.look_up_address(deadline)?,
        };
        loop {
            match Stream::direct(address, deadline.within(SYN_TIMEOUT)) {
                Ok(stream) => return self.log_in(stream, deadline),
                Err(e) if deadline.has_passed() || !is_silence(&e) => return Err(e),
                Err(e) => {
                    // The address of a Pod that is gone answers nothing at all; Kubernetes knows.
                    let asked = self.ctx.cluster.verdict(&self.name, &self.uid);
                    match self.ctx.runtime.block_on(deadline, "the API server", asked) {
                        Ok(Some(verdict)) => return Err(e.with_verdict(verdict)),
                        Ok(None) => {}
                        // It is said only once.
                        Err(interruption) if interruption.kind() == ErrorKind::Cancelled => return Err(interruption),
                        Err(unknown) => log::debug!("no verdict on sandbox {}: {unknown}", self.name),
                    }
                }
            }
        }
    }

    /// Asks until the Pod has an address, which it has about a second after its start.
    fn look_up_address(&self, deadline: Deadline) -> Result<SocketAddr> {
        let address = self.ctx.runtime.block_on(deadline, "the Pod's address", async {
            loop {
                let snapshot = self.ctx.cluster.get(&self.name).await?;
                if snapshot.uid != self.uid {
                    return Err(Error::new(ErrorKind::NotFound, "the sandbox is gone; another one has its name now"));
                }
                match (snapshot.pod_ip, snapshot.verdict) {
                    (Some(address), _) => return Ok(address),
                    (None, Some(verdict)) => {
                        return Err(Error::new(ErrorKind::Connect, "the Pod has no address").with_verdict(verdict));
                    }
                    (None, None) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        })?;
        self.route.learn_address(address);
        Ok(SocketAddr::new(address, self.port))
    }

    /// By port-forward; by exec where that does not reach the guest, as under gVisor, or is refused.
    fn connect_through_api_server(&self, deadline: Deadline) -> Result<Session> {
        let class = self.runtime_class.as_ref();
        if !self.ctx.is_forwarded(class) {
            return self.connect_exec(deadline);
        }
        let unforwarded = match self.connect_tunnel(deadline) {
            Err(e) if may_work_by_exec(&e) => e,
            result => return result,
        };
        match self.connect_exec(deadline) {
            // Only what fails while the guest surely answers will fail for ever.
            Ok(session) => match self.connect_tunnel(deadline) {
                Err(e) if may_work_by_exec(&e) => {
                    self.ctx.forget_forward(class, &e);
                    Ok(session)
                }
                result => result,
            },
            Err(e) if may_work_by_exec(&e) => {
                log::debug!("sandbox {} can't be reached by exec either: {e}", self.name);
                Err(unforwarded)
            }
            Err(e) => Err(e),
        }
    }

    fn connect_tunnel(&self, deadline: Deadline) -> Result<Session> {
        let asked = self.ctx.cluster.tunnel(&self.name, self.port);
        self.log_in_by(asked, "can't open a tunnel through the API server", deadline)
    }

    fn connect_exec(&self, deadline: Deadline) -> Result<Session> {
        let asked = self.ctx.cluster.exec_tunnel(&self.name, &self.guest, self.port);
        self.log_in_by(asked, "can't run the guest's program by the API server's exec", deadline)
    }

    fn log_in_by(
        &self,
        asked: impl Future<Output = Result<Tunnel>>,
        failed: &str,
        deadline: Deadline,
    ) -> Result<Session> {
        let opened = self.ctx.runtime.block_on(deadline, "the tunnel", asked);
        let Tunnel { socket, end } = opened.map_err(|e| no_way(e, failed))?;
        self.log_in(Stream::Tunnel(socket), deadline).map_err(|e| end.explain(e))
    }

    fn log_in(&self, stream: Stream, deadline: Deadline) -> Result<Session> {
        let pinned = self.host_key();
        let login = Login { user: &self.user, identity: &self.ctx.identity, host_key: pinned.as_ref() };
        let session = Session::log_in(stream, &login, deadline)?;
        self.pin(session.host_key());
        self.know(&session)?;
        Ok(session)
    }

    /// Lets the session be cut once the sandbox has ended.
    fn know(&self, session: &Session) -> Result<()> {
        let mut sessions = self.sessions.lock()?;
        sessions.open.retain(Cutter::is_of_use);
        sessions.open.push(session.cutter());
        if sessions.is_cut {
            session.cutter().cut();
        }
        Ok(())
    }
}

/// A failure of the API server on the way to the sandbox is one to connect: Kubernetes may know why.
fn no_way(e: Error, what: &str) -> Error {
    let kind = if e.kind() == ErrorKind::Unavailable { ErrorKind::Connect } else { e.kind() };
    e.context(what).with_kind(kind)
}

/// Whether what port-forward failed with says that exec is worth a try.
pub(crate) fn may_work_by_exec(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::Connect | ErrorKind::PermissionDenied)
}

/// True if a connection failed because nobody answered.
fn is_silence(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::TimedOut)
}

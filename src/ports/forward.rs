//! A local port whose connections end in a sandbox.

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::event::{EventfdFlags, eventfd};
use sandbox_protocol as protocol;

use super::{Target, invalid};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fd::{self, Awaited};
use crate::fork::ForkGuard;
use crate::interrupt::interruptible;
use crate::link::Link;
use crate::ssh::ports::{Connection, Moved, Observer, SessionHold};
use crate::text;

/// The pauses before a lost session is replaced.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// The pause after a connection could not be accepted, for want of descriptors for one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the end of a forward waits for its connections to be broken.
const END: Duration = Duration::from_secs(2);
/// The longest single wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Where a [`Forward`] listens on this machine.
///
/// As text, such as for [`str::parse`], it is a port, which is one of 127.0.0.1, or `ADDRESS:PORT`, or a path with a
/// slash. Port 0 is one that the system chooses.
///
/// ```
/// use sandbox::Local;
///
/// assert_eq!("8080".parse::<Local>()?.to_string(), "127.0.0.1:8080");
/// assert_eq!("0.0.0.0:0".parse::<Local>()?.to_string(), "0.0.0.0:0");
/// # Ok::<(), sandbox::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Local {
    /// A TCP port of a local address. Everyone who can reach the address can connect to the sandbox through it.
    Address(SocketAddr),
    /// A Unix socket, which only the same user can use. The file must not exist; it is removed at the end.
    Path(PathBuf),
}

impl From<u16> for Local {
    fn from(port: u16) -> Self {
        Self::Address((Ipv4Addr::LOCALHOST, port).into())
    }
}

impl From<SocketAddr> for Local {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl From<&Path> for Local {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl From<PathBuf> for Local {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl FromStr for Local {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.contains('/') {
            return Ok(Self::Path(text.into()));
        }
        let port = text.strip_prefix("localhost:").unwrap_or(text);
        match (port.parse::<u16>(), text.parse()) {
            (Ok(port), _) => Ok(port.into()),
            (_, Ok(address)) => Ok(Self::Address(address)),
            _ => Err(invalid(format!("'{}' is no port, ADDRESS:PORT or path with a slash", text::shown(text)))),
        }
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

/// A local port or socket whose connections end in a sandbox; of [`Sandbox::forward`](crate::Sandbox::forward).
///
/// It has a thread of its own and listens until it is closed or dropped, or until its Pod has ended. It never connects
/// to another Pod of the same name. Its connections end with it. If the SSH session is lost, its open connections break
/// and later ones use a new session. It may be used from many threads.
///
/// ```no_run
/// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
/// let forward = sandbox.forward(0, 8080)?;
/// println!("http://{}/", forward.local());
/// forward.wait()
/// # }
/// ```
pub struct Forward {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    process: ForkGuard,
}

struct Shared {
    link: Link,
    /// With the port that the system has chosen.
    local: Local,
    target: Target,
    state: Mutex<State>,
    changed: Condvar,
    is_closing: Arc<AtomicBool>,
    wakeup: OwnedFd,
}

#[derive(Default)]
struct State {
    open: usize,
    last_failure: Option<Error>,
    /// It has ended, by itself if there is an error.
    end: Option<Option<Error>>,
}

impl Forward {
    pub(crate) fn start(link: Link, local: &Local, target: Target) -> Result<Self> {
        let encoded = target.encoded()?;
        let listener = Listener::bind(local)?;
        let held = link.endpoint().hold_for_ports(Deadline::after(link.ctx().config.connect_timeout))?;
        let failed =
            |e: io::Error| Error::new(ErrorKind::Connect, format!("can't start a thread for the connections: {e}"));
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| failed(e.into()))?;
        let shared = Arc::new(Shared {
            link,
            local: listener.local.clone(),
            target,
            state: Mutex::default(),
            changed: Condvar::new(),
            is_closing: Arc::default(),
            wakeup,
        });
        let worker = Worker {
            shared: Arc::clone(&shared),
            listener,
            target: encoded,
            held: Some(held),
            pause: FIRST_PAUSE,
            not_before: Instant::now(),
        };
        let work = move || worker.run();
        let thread = thread::Builder::new().name("sandbox-forward".to_owned()).spawn(work).map_err(failed)?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)), process: ForkGuard::current() })
    }

    /// Where it listens, with the port that the system has chosen for 0.
    pub fn local(&self) -> &Local {
        &self.shared.local
    }

    /// The local port; 0 for a Unix socket.
    pub fn port(&self) -> u16 {
        match &self.shared.local {
            Local::Address(address) => address.port(),
            Local::Path(_) => 0,
        }
    }

    /// Where its connections end in the sandbox.
    pub fn target(&self) -> &Target {
        &self.shared.target
    }

    /// Connections that there are at this moment.
    pub fn connections(&self) -> usize {
        self.state().map_or(0, |state| state.open)
    }

    /// Why the last connection that failed did so, such as [`ErrorKind::Refused`] because nothing listened in the
    /// sandbox. A connection that its local side breaks off does not count as failed.
    pub fn last_failure(&self) -> Option<Error> {
        self.state()?.last_failure.as_ref().map(Error::again)
    }

    /// Whether it still listens.
    pub fn is_open(&self) -> bool {
        self.state().is_some_and(|state| state.end.is_none())
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// The reason, if it has ended by itself: the Pod is gone or its sandbox was deleted, with the verdict where there
    /// is one.
    pub fn wait(&self) -> Result<()> {
        self.shared.link.call("forward port", || {
            let deadline = Deadline::after(None);
            let mut state = self.shared.state.lock();
            loop {
                match &state.end {
                    Some(Some(error)) => return Err(error.again()),
                    Some(None) => return Ok(()),
                    None => {}
                }
                match deadline.next_check().remaining() {
                    None => self.shared.changed.wait(&mut state),
                    Some(left) => drop(self.shared.changed.wait_for(&mut state, left)),
                }
                MutexGuard::unlocked(&mut state, || deadline.check("the end of the forward"))?;
            }
        })
    }

    /// Stops listening and breaks the open connections, for which it waits up to 2 seconds. Dropping it does the same.
    pub fn close(&self) {
        // The thread is the parent's, and so are the connections.
        if !self.process.is_current() {
            return;
        }
        self.shared.is_closing.store(true, Ordering::Release);
        let _ = rustix::io::write(&self.shared.wakeup, &1_u64.to_ne_bytes());
        let Some(thread) = self.thread.lock().take() else { return };
        let _ = thread.join();
    }

    /// `None` in a forked child, where a thread that does not exist may have the lock.
    fn state(&self) -> Option<MutexGuard<'_, State>> {
        self.process.is_current().then(|| self.shared.state.lock())
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        if self.process.is_current() {
            self.close();
        } else {
            std::mem::forget((self.thread.get_mut().take(), Arc::clone(&self.shared)));
        }
    }
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { link, local, target, .. } = &*self.shared;
        f.debug_struct("Forward")
            .field("sandbox", &link.name())
            .field("local", local)
            .field("target", target)
            .finish_non_exhaustive()
    }
}

/// The thread's side.
struct Worker {
    shared: Arc<Shared>,
    listener: Listener,
    target: protocol::Target,
    /// The session whose end tells that the Pod may have ended.
    held: Option<SessionHold>,
    pause: Duration,
    /// When to try the next session.
    not_before: Instant,
}

impl Worker {
    fn run(mut self) {
        // So that closing does not wait for a session that is being made.
        let shared = Arc::clone(&self.shared);
        let end = interruptible(move || shared.is_closing.load(Ordering::Acquire), || self.work());
        let Self { shared, listener, held, .. } = self;
        // Nobody gets into the queue of one that is at its end.
        drop(listener);
        shared.is_closing.store(true, Ordering::Release);
        shared.link.endpoint().ports().ring();
        let deadline = Deadline::after(Some(END));
        let mut state = shared.state.lock();
        while state.open > 0 && !deadline.has_passed() {
            shared.changed.wait_for(&mut state, deadline.remaining().unwrap_or(END));
        }
        if let Some(e) = &end {
            log::info!("forward {} has ended: {e}", shared.local);
        }
        state.end = Some(end);
        drop(state);
        shared.changed.notify_all();
        drop(held);
    }

    /// Forwards until it is closed, or until there will be no session any more.
    fn work(&mut self) -> Option<Error> {
        while !self.shared.is_closing.load(Ordering::Acquire) {
            if self.held.as_ref().is_none_or(SessionHold::is_stale)
                && self.not_before <= Instant::now()
                && let Err(e) = self.hold()
            {
                return Some(e);
            }
            self.wait();
            self.accept();
        }
        None
    }

    /// Makes sure that there is a session. Fails if there never will be one.
    fn hold(&mut self) -> Result<()> {
        let link = &self.shared.link;
        match link.endpoint().hold_for_ports(Deadline::after(link.ctx().config.connect_timeout)) {
            Ok(held) => (self.held, self.pause) = (Some(held), FIRST_PAUSE),
            Err(e) if e.kind() == ErrorKind::Cancelled => {}
            Err(e) => {
                self.held = None;
                let error = link.report(e, "forward port");
                if link.endpoint().is_closed() || error.kind() == ErrorKind::NotFound {
                    return Err(error);
                }
                log::info!("forward {}: {error}", self.shared.local);
                self.shared.state.lock().last_failure = Some(error);
                self.not_before = Instant::now() + self.pause;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            }
        }
        Ok(())
    }

    /// Waits for a connection, the end of the session, or an order.
    fn wait(&self) {
        let mut awaited = vec![Awaited::to_read(self.shared.wakeup.as_fd()), Awaited::to_read(self.listener.as_fd())];
        let mut time = LONGEST_WAIT;
        match &self.held {
            Some(held) => awaited.push(Awaited::to_read(held.end())),
            None => time = self.not_before.saturating_duration_since(Instant::now()),
        }
        fd::poll(&awaited, Deadline::after(Some(time)).remaining_ms(LONGEST_WAIT));
    }

    fn accept(&self) {
        while !self.shared.is_closing.load(Ordering::Acquire) {
            match self.listener.accept() {
                Ok((socket, from)) => self.connect(socket, from),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {}
                Err(e) => {
                    let message = format!("a connection can't be accepted: {e}");
                    self.shared.fail(Error::new(ErrorKind::Connect, message).with_source(e));
                    fd::poll(&[Awaited::to_read(self.shared.wakeup.as_fd())], ACCEPT_PAUSE.as_millis() as u32);
                    return;
                }
            }
        }
    }

    fn connect(&self, socket: OwnedFd, from: String) {
        let shared = &self.shared;
        shared.state.lock().open += 1;
        let forwarded = Forwarded { shared: Arc::clone(shared), from, is_connected: false };
        let connection = Connection::new(self.target.clone(), socket, Arc::clone(&shared.is_closing), forwarded);
        let deadline = Deadline::after(shared.link.ctx().config.connect_timeout);
        // Whatever becomes of it is told to `forwarded`.
        if let Err(e) = shared.link.endpoint().connect_to(connection, deadline) {
            log::debug!("forward {}: {e}", shared.local);
        }
    }
}

impl Shared {
    fn fail(&self, error: Error) {
        let error = error.during("forward port").on(self.link.name());
        self.state.lock().last_failure = Some(error);
    }
}

/// One connection of a forward.
struct Forwarded {
    shared: Arc<Shared>,
    from: String,
    is_connected: bool,
}

impl Forwarded {
    fn tell(&self, what: &dyn fmt::Display) {
        let Shared { link, local, target, .. } = &*self.shared;
        log::info!("forward {local} to {target} of sandbox {}: connection from {} {what}", link.name(), self.from);
    }
}

impl Observer for Forwarded {
    fn connected(&mut self) {
        self.is_connected = true;
        self.tell(&"is there");
    }

    fn ended(&mut self, moved: Moved, result: Result<()>) {
        match result {
            Ok(()) => log::debug!("connection from {}: {} bytes in, {} out", self.from, moved.up, moved.down),
            Err(_) if self.shared.is_closing.load(Ordering::Acquire) => {}
            Err(e) => {
                self.tell(&format_args!("{}: {}", if self.is_connected { "broke" } else { "failed" }, e.message()));
                self.shared.fail(e);
            }
        }
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        self.shared.state.lock().open -= 1;
        self.shared.changed.notify_all();
    }
}

/// What listens on this machine.
struct Listener {
    socket: Socket,
    local: Local,
    /// The socket's file, to be removed.
    file: Option<(u64, u64)>,
    process: ForkGuard,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn bind(local: &Local) -> Result<Self> {
        Self::try_bind(local).map_err(|e| {
            let kind = match e.raw_os_error().map(ErrorKind::of_file) {
                None | Some(ErrorKind::Transfer) => ErrorKind::InvalidArgument,
                Some(kind) => kind,
            };
            let error = Error::new(kind, format!("can't listen on {local}: {e}"));
            match e.raw_os_error() {
                Some(errno) => error.with_errno(errno).with_source(e),
                None => error.with_source(e),
            }
        })
    }

    fn try_bind(local: &Local) -> io::Result<Self> {
        let process = ForkGuard::current();
        match local {
            Local::Address(address) => {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                let local = Local::Address(listener.local_addr()?);
                Ok(Self { socket: Socket::Tcp(listener), local, file: None, process })
            }
            Local::Path(path) => {
                let listener = UnixListener::bind(path)?;
                let of = fs::symlink_metadata(path)?;
                let file = Some((of.dev(), of.ino()));
                let listener = Self { socket: Socket::Unix(listener), local: local.clone(), file, process };
                fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
                if let Socket::Unix(socket) = &listener.socket {
                    socket.set_nonblocking(true)?;
                }
                Ok(listener)
            }
        }
    }

    /// The next connection, which does not block, and who has made it.
    fn accept(&self) -> io::Result<(OwnedFd, String)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (socket, from) = listener.accept()?;
                socket.set_nonblocking(true)?;
                socket.set_nodelay(true)?;
                Ok((socket.into(), from.to_string()))
            }
            Socket::Unix(listener) => {
                let (socket, _) = listener.accept()?;
                socket.set_nonblocking(true)?;
                let peer = rustix::net::sockopt::socket_peercred(&socket);
                let from = peer.map_or("somebody".to_owned(), |peer| format!("process {}", peer.pid.as_raw_nonzero()));
                Ok((socket.into(), from))
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(listener) => listener.as_fd(),
            Socket::Unix(listener) => listener.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let (Local::Path(path), Some(own)) = (&self.local, self.file) else { return };
        // Somebody may have put another file there.
        let is_own = fs::symlink_metadata(path).is_ok_and(|of| (of.dev(), of.ino()) == own);
        if is_own && self.process.is_current() {
            let _ = fs::remove_file(path);
        }
    }
}

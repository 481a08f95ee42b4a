//! The server: its main thread, and what all connections share.

pub(crate) mod channel;
mod connected;
mod forward;
mod login;
mod owners;
pub(crate) mod pipe;
pub(crate) mod poll;
mod process;
mod resolve;
mod session;
mod sftp;
mod socket;

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use rustix::process::{DumpableBehavior, dumpable_behavior};
use sandbox_protocol::{self as protocol, ExitCode, Promises};

use crate::control;
use crate::detached::Detached;
use crate::environment::Environment;
use crate::expiry::{Expiry, now};
use crate::identity::Identity;
use crate::idle::Idle;
use crate::keys::Keys;
use crate::limits::ResourceLimits;
use crate::log::log;
use crate::process::{Notice, Options as SpawnerOptions, Reaper, Running, SpawnError, Spawner, Spec, Starting};
use crate::ssh::{HostKey, PublicKey, PublicKeyRef, ServerConfig};
use crate::sys;
use channel::Context;
use connected::Connections;
use login::Logins;
pub(crate) use owners::Owners;
use poll::{Polls, Waker};

/// What the guest is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address to listen on; all of them if absent.
    pub address: Option<IpAddr>,
    /// The TCP port to listen on. 0: the system chooses one, which is logged.
    pub port: u16,
    /// The name that clients log in with.
    pub user: String,
    /// The public keys that may log in, as lines of `authorized_keys` without options.
    pub keys: Vec<String>,
    /// After so long the sandbox ends, unless it is renewed.
    pub lifetime: Option<Duration>,
    /// After so long it ends in any case.
    pub hard_limit: Option<Duration>,
    /// It ends once nothing has used it for so long.
    pub idle_timeout: Option<Duration>,
    /// Where to write why the guest ended.
    pub termination_log: Option<PathBuf>,
    /// Connections at a time.
    pub max_connections: usize,
    /// Whom commands run as and files are reached as, below a guest that is root: a name or number that `/etc/passwd`
    /// knows, or `UID:GID`. Otherwise they are the guest's user.
    pub commands_as: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: None,
            port: protocol::DEFAULT_PORT,
            user: "sandbox".to_owned(),
            keys: Vec::new(),
            lifetime: None,
            hard_limit: None,
            idle_timeout: None,
            termination_log: Some("/dev/termination-log".into()),
            max_connections: 1024,
            commands_as: None,
        }
    }
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) ssh: Arc<ServerConfig>,
    pub(crate) user: String,
    pub(crate) keys: Keys,
    pub(crate) environment: Environment,
    /// Whom commands run as and files are reached as, if not the guest's own user.
    pub(crate) commands_as: Option<Identity>,
    pub(crate) expiry: Expiry,
    pub(crate) idle: Idle,
    pub(crate) spawner: Arc<Spawner>,
    pub(crate) owners: Arc<Owners>,
    pub(crate) detached: Arc<Detached>,
    pub(crate) limits: ResourceLimits,
    pub(crate) instance: String,
    pub(crate) began: Duration,
    pub(crate) connected: Arc<Connections>,
}

impl Shared {
    /// Whether a user may log in with a key.
    fn accepts(&self, user: &[u8], key: PublicKeyRef<'_>) -> bool {
        user == self.user.as_bytes() && self.keys.accepts(key)
    }

    /// Begins to start a command.
    pub(crate) fn begin(&self, spec: Spec) -> Result<Starting, SpawnError> {
        self.owners.tidy(&self.spawner);
        self.spawner.begin(spec)
    }

    /// A command of a client runs.
    pub(crate) fn started(&self, running: &Running, context: &Context) {
        if running.terminal.is_some() {
            self.owners.add_with_terminal(running.id, &context.client);
        } else {
            self.owners.add(running.id, &context.client, None);
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connected.count()
    }

    /// Whether something in the sandbox attacked the guest or its keepers.
    pub(crate) fn is_tampered_with(&self) -> bool {
        self.spawner.was_tampered_with() || !self.limits.changed().is_empty() || self.limits.restore_processors()
    }

    pub(crate) fn promises(&self) -> Promises {
        Promises {
            first_process: std::process::id() == 1 && !is_gvisor(),
            execute_only: fs::metadata("/proc/self/exe").is_ok_and(|program| program.mode() & 0o444 == 0),
            not_dumpable: dumpable_behavior().is_ok_and(|behavior| behavior == DumpableBehavior::NotDumpable),
            fenced: rustix::thread::no_new_privs().unwrap_or(false),
            descent: Path::new("/proc/thread-self/children").exists(),
            untampered: !self.is_tampered_with(),
        }
    }

    /// Who the guest is, for the control socket.
    pub(crate) fn identity(&self) -> protocol::Authorized {
        protocol::Authorized {
            host_key: self.ssh.host_key.public_line(),
            protocol: protocol::PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            user: self.user.clone(),
            instance: self.instance.clone(),
        }
    }
}

const STACK: usize = 256 << 10;
/// How often the keepers are looked after if nothing happens.
const TEND: Duration = Duration::from_secs(1);
/// How long nobody is accepted when the system has no descriptor or thread left.
const PAUSE: Duration = Duration::from_millis(100);

/// Runs the guest until its end.
pub fn run(config: &Config) -> ExitCode {
    match Server::start(config).and_then(|mut server| server.run()) {
        Ok(code) => {
            if let Some(message) = code.message() {
                tell(config, message);
            }
            code
        }
        Err(message) => {
            tell(config, &message);
            ExitCode::CannotStart
        }
    }
}

/// Does not even begin to run, and tells why.
pub fn refuse(message: &str) -> ExitCode {
    tell(&Config::default(), message);
    ExitCode::CannotStart
}

fn tell(config: &Config, message: &str) {
    log!("{message}");
    if let Some(path) = &config.termination_log {
        write_termination_log(path, message);
    }
}

fn write_termination_log(path: &Path, message: &str) {
    // Only into what the kubelet put there: it takes what is in it to be the guest's word.
    let file = fs::OpenOptions::new().write(true).truncate(true).open(path);
    let _ = file.and_then(|mut file| file.write_all(message.as_bytes()));
}

struct Server {
    shared: Arc<Shared>,
    listener: TcpListener,
    reaper: Reaper,
    logins: Arc<Logins>,
    max_connections: usize,
    paused_until: Option<Instant>,
}

impl Server {
    fn start(config: &Config) -> Result<Self, String> {
        // Before there is a thread and before anything else can run.
        sys::protect().map_err(|e| format!("the guest can't be protected: {e}"))?;
        sys::drop_fault_handlers().map_err(|e| format!("signals: {e}"))?;
        sys::tune_allocator();
        let limits = ResourceLimits::take();
        let reaper = Reaper::new().map_err(|e| format!("signals can't be received: {e}"))?;
        let keys = config.keys.iter().map(|line| PublicKey::from_line(line));
        let keys = keys.collect::<Result<Vec<_>, _>>().map_err(|e| format!("a public key: {e}"))?;
        let host_key = HostKey::generate().map_err(|e| format!("the host key: {e}"))?;
        let mut ssh = ServerConfig::new(host_key);
        // A command that does not read its input must leave room for a signal to it.
        ssh.window = 2 * protocol::STDIN_WINDOW as u32;
        ssh.max_channels = 256;
        let commands_as = config.commands_as.as_deref().map(Identity::parse).transpose()?;
        let environment = Environment::capture(config.user.as_bytes(), commands_as.as_ref())?;
        let listener = bind_listener(config.address, config.port)
            .map_err(|e| format!("port {} can't be listened on: {e}", config.port))?;
        let spawner = Spawner::start(SpawnerOptions::default()).map_err(|e| format!("the keeper of commands: {e}"))?;
        let expiry = Expiry::new(config.lifetime, config.hard_limit).map_err(|e| format!("the timer: {e}"))?;
        let owners = Arc::new(Owners::default());
        let shared = Arc::new(Shared {
            ssh: Arc::new(ssh),
            user: config.user.clone(),
            keys: Keys::new(keys),
            environment,
            commands_as,
            expiry,
            idle: Idle::new(config.idle_timeout),
            spawner,
            detached: Arc::new(Detached::new(Arc::clone(&owners))),
            owners,
            limits,
            instance: instance().map_err(|e| format!("random numbers: {e}"))?,
            began: now(),
            connected: Arc::default(),
        });
        let port = listener.local_addr().map_err(|e| format!("the port: {e}"))?.port();
        control::start(&shared, port)?;
        log!("listening on port {port}, host key {}", shared.ssh.host_key.public_line());
        let logins = Arc::new(Logins::default());
        Ok(Self { shared, listener, reaper, logins, max_connections: config.max_connections, paused_until: None })
    }

    fn run(&mut self) -> Result<ExitCode, String> {
        loop {
            let mut polls = Polls::new();
            polls.add(Part::Reaper, self.reaper.as_fd(), PollFlags::IN);
            polls.add(Part::Expiry, self.shared.expiry.as_fd(), PollFlags::IN);
            polls.add(Part::Spawner, self.shared.spawner.tending(), PollFlags::IN);
            match self.paused_until {
                Some(until) if until > Instant::now() => polls.until(until),
                _ => polls.add(Part::Listener, self.listener.as_fd(), PollFlags::IN),
            }
            polls.until(Instant::now() + TEND);
            let happened = polls.wait().map_err(|e| format!("poll: {e}"))?;
            if self.shared.expiry.has_come() {
                return Ok(ExitCode::Expired);
            }
            if self.shared.idle.has_come(!self.shared.spawner.is_unused()) {
                return Ok(ExitCode::Idle);
            }
            let mut is_tended = false;
            for (part, _) in &happened {
                match part {
                    Part::Reaper => {
                        if self.reaper.handle(&self.shared.spawner).contains(&Notice::Terminate) {
                            log!("told to end");
                            return Ok(ExitCode::Stopped);
                        }
                    }
                    Part::Spawner => {
                        self.shared.spawner.tend();
                        is_tended = true;
                    }
                    Part::Listener => self.accept(),
                    Part::Expiry => {}
                }
            }
            if happened.is_empty() && !is_tended {
                self.shared.spawner.tend();
            }
        }
    }

    fn accept(&mut self) {
        let socket = match self.listener.accept() {
            Ok((socket, _)) => socket,
            Err(e) => {
                // The other errors are of the connection, which is gone already.
                if matches!(Errno::from_io_error(&e), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
                {
                    self.pause(&e);
                }
                return;
            }
        };
        if self.shared.connections() >= self.max_connections || prepare(&socket).is_err() {
            return;
        }
        let waker = match Waker::new() {
            Ok(waker) => Arc::new(waker),
            Err(e) => return self.pause(&e.into()),
        };
        let (shared, socket) = (Arc::clone(&self.shared), Arc::new(socket));
        let login = self.logins.begin(&socket);
        let connected = shared.connected.add(&socket, &waker);
        let thread = std::thread::Builder::new().name("connection".to_owned()).stack_size(STACK);
        let serve = move || {
            // Whatever this thread and those that it starts open is the clients' business.
            match shared.commands_as.as_ref().map_or(Ok(()), Identity::reach_files) {
                Ok(()) => session::serve(&shared, &socket, waker, login, &connected),
                Err(e) => log!("{e}"),
            }
            // The logins may still have the socket for a moment.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        };
        if let Err(e) = thread.spawn(serve) {
            self.pause(&e);
        }
    }

    fn pause(&mut self, error: &io::Error) {
        log!("no connection can be accepted for a moment: {error}");
        self.paused_until = Some(Instant::now() + PAUSE);
    }
}

#[derive(Clone, Copy)]
enum Part {
    Reaper,
    Expiry,
    Spawner,
    Listener,
}

/// A client that vanished is noticed after some two minutes, so that its commands end.
fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_nodelay(true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(socket, Duration::from_secs(15))?;
    sockopt::set_tcp_keepcnt(socket, 4)?;
    Ok(())
}

/// Whether the kernel is gVisor's, where process 1 can be killed from inside. It has said this about itself since its
/// beginning.
fn is_gvisor() -> bool {
    fs::read_to_string("/proc/version").is_ok_and(|version| version.contains("#1 SMP Sun Jan 10 15:06:54 PST 2016"))
}

/// Random, and another one after each start.
fn instance() -> io::Result<String> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn bind_listener(address: Option<IpAddr>, port: u16) -> io::Result<TcpListener> {
    let listener = match address {
        Some(address) => listener(SocketAddr::new(address, port)),
        // IPv4 comes in here, too. Where there is no IPv6, by IPv4 alone.
        None => listener(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port))
            .or_else(|_| listener(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))),
    }?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    bind(&socket, &address)?;
    listen(&socket, 1024)?;
    Ok(socket.into())
}

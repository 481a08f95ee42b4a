//! The guest's side: asks the zygote for keepers, gives them commands, reads their reports.

use super::descent;
use super::messages::{self, Encoded, KeeperMessage, LONGEST_REPORT, Record, Writer, flags};
use super::{NeverRan, Report, SpawnError, Spec, Stage, Stdio, Stream, User, Whom, pty};
use crate::sys;
use rustix::event::{PollFd, PollFlags, Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use rustix::process::{Pid, WaitOptions};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How many keepers without a command are kept for the next ones.
const MOST_IDLE: usize = 64;

/// How many of them are kept also when nothing happens, and after what time the others end.
const FEW_IDLE: usize = 2;
const IDLE_TIME: Duration = Duration::from_secs(5);

/// How much of a command's arguments is kept for lists.
const KEPT_ARGUMENTS: usize = 4096;

/// How long a keeper may be late with what it has to do before it is woken, in case it was stopped; and before it is
/// killed.
const LATE: Duration = Duration::from_millis(500);
const TOO_LATE: Duration = Duration::from_secs(10);

/// How long a start may take, then it is given up: the program lies on a file system that hangs, or somebody keeps
/// stopping the keeper.
const LONGEST_START: Duration = Duration::from_secs(30);

/// How long the thread that notices a lost keeper kills what came to process 1, before it leaves the rest to the main
/// thread.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a command is begun anew when keepers die before they have seen it.
const ATTEMPTS: u32 = 4;

/// How a [`Spawner`] works.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The program that is started as `PROGRAM keeper`; the guest's own if absent. For tests, which are not the guest
    /// themselves.
    pub program: Option<PathBuf>,
    /// Takes on process 1's part of the work also where the guest is another process: it becomes a child subreaper, so
    /// that what a killed keeper leaves behind comes to it. Then every child of it that it did not start through this
    /// module may be killed.
    pub subreaper: bool,
}

/// Starts commands. Shared by all threads of the guest.
#[derive(Debug)]
pub struct Spawner {
    family: Mutex<Family>,
    program: PathBuf,
    /// Whether orphans come to this process.
    adopts: bool,
    was_tampered_with: AtomicBool,
    next_id: AtomicU64,
    /// Commands that are being started.
    beginning: Arc<AtomicUsize>,
    /// The control sockets of commands that the guest has let go of.
    epoll: OwnedFd,
}

/// The processes that the guest has started, all behind one lock: children of this process are waited for, and
/// strangers told from them, only while it is held.
#[derive(Debug, Default)]
struct Family {
    zygote: Option<Zygote>,
    idle: Vec<Idle>,
    commands: BTreeMap<u64, Entry>,
    /// Commands that the guest has let go of.
    left: HashMap<u64, Watch>,
}

#[derive(Debug)]
struct Zygote {
    socket: Arc<OwnedFd>,
    pid: i32,
}

#[derive(Debug)]
struct Idle {
    keeper: i32,
    control: Arc<OwnedFd>,
    since: Instant,
}

#[derive(Debug)]
struct Entry {
    keeper: i32,
    control: Arc<OwnedFd>,
    command: Command,
}

/// A command of the guest, for lists.
#[derive(Debug, Clone)]
pub struct Command {
    /// The guest's number for it; never used twice.
    pub id: u64,
    /// The main process.
    pub pid: i32,
    /// The arguments; long ones are cut.
    pub argv: Arc<[Vec<u8>]>,
    /// When it started.
    pub started: SystemTime,
    /// What of it is alive.
    pub state: State,
}

/// What of a command is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The main process runs.
    Running,
    /// The main process has ended, descendants of it run.
    Background,
}

impl Spawner {
    /// Starts the zygote. Process 1 calls it after [`crate::sys::protect`] and [`super::Reaper::new`].
    pub fn start(options: Options) -> io::Result<Arc<Self>> {
        let own = || PathBuf::from("/proc/self/exe");
        let is_first = std::process::id() == 1;
        if options.subreaper && !is_first {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        }
        let spawner = Self {
            family: Mutex::default(),
            program: options.program.unwrap_or_else(own),
            adopts: is_first || options.subreaper,
            was_tampered_with: AtomicBool::new(false),
            next_id: AtomicU64::new(1),
            beginning: Arc::default(),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        };
        spawner.family().zygote = Some(spawner.start_zygote()?);
        Ok(Arc::new(spawner))
    }

    /// Starts a command and waits until its program runs or is known never to run.
    pub fn spawn(self: &Arc<Self>, spec: Spec) -> Result<Running, SpawnError> {
        self.begin(spec)?.wait()
    }

    /// Starts a command without waiting: a program on a file system that hangs, or a keeper that was stopped, holds
    /// nobody up.
    pub fn begin(self: &Arc<Self>, spec: Spec) -> Result<Starting, SpawnError> {
        let beginning = Beginning::new(&self.beginning);
        let report_delay = spec.announce_late.then(|| beginning.report_delay());
        let request = encode(&spec, report_delay)?;
        let (ours, mut theirs) = open_stdio(spec.stdio, spec.user.as_ref())?;
        theirs.extend(spec.script);
        let dispatched = self.dispatch(&request, &theirs)?;
        let now = Instant::now();
        Ok(Starting {
            spawner: Arc::clone(self),
            control: dispatched.control,
            keeper: dispatched.keeper,
            request,
            theirs,
            attempts: 1,
            ours,
            argv: kept_arguments(spec.argv),
            time_limit: spec.time_limit,
            kill_on_close: spec.kill_on_close,
            since: now,
            next_check: now + LATE,
            _beginning: beginning,
        })
    }

    /// Whether a child of the guest is one of its own: the zygote or a keeper.
    pub fn is_ours(&self, pid: i32) -> bool {
        self.family().is_ours(pid)
    }

    /// The commands of which something is alive, in the order of their start.
    pub fn commands(&self) -> Vec<Command> {
        self.family().commands.values().map(|entry| entry.command.clone()).collect()
    }

    /// Whether no command has anything alive.
    pub fn is_unused(&self) -> bool {
        self.family().commands.is_empty()
    }

    /// Sends a signal to a command of the list. False: there is no such command any more.
    pub fn signal(&self, id: u64, signal: i32, whom: Whom) -> bool {
        self.send_to_keeper(id, &KeeperMessage::Signal(signal, whom))
    }

    /// Kills everything of a command of the list; who holds its [`Running`] gets the report. False: there is no such
    /// command any more.
    pub fn kill_all(&self, id: u64) -> bool {
        self.send_to_keeper(id, &KeeperMessage::Kill)
    }

    /// Readable when [`Spawner::tend`] has something to do. For the main thread's `poll`.
    pub fn tending(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Reads the reports of commands that the guest has let go of, ends idle keepers that are not needed, and kills
    /// strangers once a keeper was lost. The main thread calls it when [`Spawner::tending`] is readable and every
    /// second or so.
    pub fn tend(&self) {
        self.tend_left();
        self.trim_idle();
        if self.was_tampered_with() {
            self.kill_strangers(Duration::ZERO);
        }
    }

    /// Reaps children of the guest: orphans that came to process 1, the zygote. [`super::Reaper`] calls it at SIGCHLD.
    pub fn reap(&self) {
        let mut family = self.family();
        let options = WaitOptions::NOHANG | WaitOptions::from_bits_retain(libc::__WALL.cast_unsigned());
        while let Ok(Some((pid, _))) = rustix::io::retry_on_intr(|| rustix::process::wait(options)) {
            let pid = pid.as_raw_nonzero().get();
            if family.zygote.as_ref().is_some_and(|zygote| zygote.pid == pid) {
                family.zygote = None;
                self.note_tampering();
            }
        }
    }

    /// Whether a keeper or the zygote was ever killed or stopped by somebody: what a command reports is still true, but
    /// no kill since is proved for processes that may have escaped then.
    pub fn was_tampered_with(&self) -> bool {
        self.was_tampered_with.load(Ordering::Relaxed)
    }

    fn note_tampering(&self) {
        self.was_tampered_with.store(true, Ordering::Relaxed);
    }

    fn family(&self) -> MutexGuard<'_, Family> {
        // A panic of another thread while it held the lock leaves lists that are still right.
        self.family.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send_to_keeper(&self, id: u64, message: &KeeperMessage) -> bool {
        // Under the lock: the keeper is not given to another command meanwhile.
        let family = self.family();
        family.commands.get(&id).is_some_and(|entry| message.send(entry.control.as_fd()).is_ok())
    }

    /// Starts a zygote. The lock is held, so that nobody waits for the new child before it is entered.
    fn start_zygote(&self) -> io::Result<Zygote> {
        let (ours, theirs) = pair()?;
        // Without a hook between fork and exec this is posix_spawn, which does not copy the guest's memory.
        let child = std::process::Command::new(&self.program)
            .arg("keeper")
            .env_clear()
            .stdin(theirs)
            .stdout(std::process::Stdio::inherit())
            .stderr(std::process::Stdio::inherit())
            .spawn()?;
        Ok(Zygote { socket: Arc::new(ours), pid: child.id().cast_signed() })
    }

    /// The zygote's socket; a new zygote if there is none, or none but `dead`.
    fn zygote(&self, dead: Option<&Arc<OwnedFd>>) -> io::Result<Arc<OwnedFd>> {
        let mut family = self.family();
        if let Some(zygote) = &family.zygote {
            if dead.is_none_or(|dead| !Arc::ptr_eq(dead, &zygote.socket)) {
                return Ok(Arc::clone(&zygote.socket));
            }
            self.note_tampering();
            end_zygote(zygote);
            family.zygote = None;
        }
        let zygote = self.start_zygote()?;
        let socket = Arc::clone(&zygote.socket);
        family.zygote = Some(zygote);
        Ok(socket)
    }

    /// Gives a request to an idle keeper or to a new one.
    fn dispatch(&self, request: &Encoded, theirs: &[OwnedFd]) -> Result<Dispatched, NeverRan> {
        loop {
            let Some(idle) = self.family().idle.pop() else { break };
            match request.send(idle.control.as_fd(), &borrow(theirs)) {
                Ok(()) => return Ok(Dispatched { control: idle.control, keeper: Some(idle.keeper) }),
                // It was killed while it was idle.
                Err(Errno::PIPE | Errno::CONNRESET) => self.note_tampering(),
                Err(errno) => return Err(resources(errno)),
            }
        }
        let (control, its) = pair().map_err(resources)?;
        request.send(control.as_fd(), &borrow(theirs)).map_err(resources)?;
        let mut dead = None;
        for _ in 0..ATTEMPTS {
            let socket = self.zygote(dead.as_ref()).map_err(|error| resources(errno_of(&error)))?;
            match send_waiting(socket.as_fd(), b"keeper", &[its.as_fd()]) {
                Ok(()) => return Ok(Dispatched { control: Arc::new(control), keeper: None }),
                Err(Errno::PIPE | Errno::CONNRESET | Errno::TIMEDOUT) => dead = Some(socket),
                Err(errno) => return Err(resources(errno)),
            }
        }
        Err(resources(Errno::AGAIN))
    }

    /// Wakes the zygote and all keepers, in case they were stopped.
    fn wake_all(&self) {
        let family = self.family();
        if let Some(zygote) = &family.zygote {
            let _ = sys::kill(zygote.pid, libc::SIGCONT);
            for keeper in descent::children_of(zygote.pid).unwrap_or_default() {
                let _ = sys::kill(keeper, libc::SIGCONT);
            }
        }
    }

    fn note_exit(&self, id: u64) {
        if let Some(entry) = self.family().commands.get_mut(&id) {
            entry.command.state = State::Background;
        }
    }

    /// The command has gone; its keeper is free.
    fn retire(&self, id: u64, keeper: i32, control: Arc<OwnedFd>) {
        let mut family = self.family();
        family.commands.remove(&id);
        family.keep(keeper, control);
    }

    /// A keeper was killed with this command in it (None: while it started).
    fn lost(&self, id: Option<u64>, keeper: Option<i32>) {
        self.note_tampering();
        // Its sockets close before its children become those of process 1: wait for its end.
        let until = Instant::now() + KILL_TIMEOUT;
        while keeper.is_some_and(|keeper| descent::state_and_parent(keeper).is_some()) && Instant::now() < until {
            self.reap();
            std::thread::sleep(Duration::from_micros(200));
        }
        if let Some(id) = id {
            self.family().commands.remove(&id);
        }
        if keeper.is_none() {
            // Its number is not known. It takes a moment to die; later, `tend` finds what it leaves.
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill_strangers(KILL_TIMEOUT);
    }

    /// Kills the children of this process that it did not start, until none is left or the time is over.
    fn kill_strangers(&self, timeout: Duration) {
        if !self.adopts {
            return;
        }
        let until = Instant::now() + timeout;
        loop {
            let is_done = {
                let mut family = self.family();
                let strangers = children_of_guest().into_iter().filter(|pid| !family.is_ours(*pid));
                let mut strangers: Vec<i32> = strangers.collect();
                // They can't be waited for by anybody else meanwhile, so their numbers stay theirs.
                descent::signal_tree(&strangers, libc::SIGKILL);
                strangers.retain(|pid| !has_ended(*pid));
                family.zygote.take_if(|zygote| has_ended(zygote.pid));
                strangers.is_empty()
            };
            if is_done || Instant::now() >= until {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn tend_left(&self) {
        let mut events = Vec::with_capacity(64);
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let ready: Vec<u64> = match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&now)) {
            Ok(_) => events.iter().map(|event| event.data.u64()).collect(),
            Err(_) => Vec::new(),
        };
        let now = Instant::now();
        let is_due = |watch: &Watch| watch.wake_at().is_some_and(|at| at <= now);
        let due: Vec<Watch> = {
            let mut family = self.family();
            let due = |(id, watch): (&u64, &Watch)| (ready.contains(id) || is_due(watch)).then_some(*id);
            let ids: Vec<u64> = family.left.iter().filter_map(due).collect();
            // Not watched here any more: its keeper may be the next command's in a moment.
            let remove = |id| {
                let watch = family.left.remove(&id)?;
                let _ = epoll::delete(&self.epoll, &*watch.control);
                Some(watch)
            };
            ids.into_iter().filter_map(remove).collect()
        };
        for mut watch in due {
            while watch.next(self).is_some() {}
            if !watch.is_over {
                self.leave(watch);
            }
        }
    }

    fn leave(&self, watch: Watch) {
        let data = epoll::EventData::new_u64(watch.id);
        let mut family = self.family();
        // Out of memory for it: the socket is closed, and the keeper goes on by its own.
        if epoll::add(&self.epoll, &*watch.control, data, epoll::EventFlags::IN).is_ok() {
            family.left.insert(watch.id, watch);
        } else {
            family.commands.remove(&watch.id);
        }
    }

    fn trim_idle(&self) {
        let mut family = self.family();
        // The most recently used are at the end.
        while family.idle.len() > FEW_IDLE && family.idle[0].since.elapsed() > IDLE_TIME {
            family.idle.remove(0);
        }
        let before = family.idle.len();
        family.idle.retain(|idle| !is_hung_up(idle.control.as_fd()));
        if family.idle.len() < before {
            self.note_tampering();
        }
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        let mut family = self.family();
        if let Some(zygote) = family.zygote.take() {
            end_zygote(&zygote);
        }
    }
}

impl Family {
    fn is_ours(&self, pid: i32) -> bool {
        self.zygote.as_ref().is_some_and(|zygote| zygote.pid == pid)
            || self.idle.iter().any(|idle| idle.keeper == pid)
            || self.commands.values().any(|entry| entry.keeper == pid)
    }

    fn keep(&mut self, keeper: i32, control: Arc<OwnedFd>) {
        if self.idle.len() < MOST_IDLE {
            self.idle.push(Idle { keeper, control, since: Instant::now() });
        }
    }
}

/// Kills a zygote and waits for it. Its keepers live on.
fn end_zygote(zygote: &Zygote) {
    let _ = sys::kill(zygote.pid, libc::SIGKILL);
    let _ = rustix::io::retry_on_intr(|| rustix::process::waitpid(Pid::from_raw(zygote.pid), WaitOptions::empty()));
}

/// Waits for a child if it has ended. True also if there is no such child.
fn has_ended(pid: i32) -> bool {
    let options = WaitOptions::NOHANG | WaitOptions::from_bits_retain(libc::__WALL.cast_unsigned());
    !matches!(rustix::io::retry_on_intr(|| rustix::process::waitpid(Pid::from_raw(pid), options)), Ok(None))
}

fn children_of_guest() -> Vec<i32> {
    descent::children_of(std::process::id().cast_signed()).unwrap_or_default()
}

fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Sends to the zygote, which may have many requests before this one.
fn send_waiting(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let until = Instant::now() + TOO_LATE;
    loop {
        match messages::send(socket, bytes, descriptors) {
            Err(Errno::AGAIN) if Instant::now() < until => {
                let mut descriptors = [PollFd::from_borrowed_fd(socket, PollFlags::OUT)];
                let _ = rustix::event::poll(&mut descriptors, Some(&timespec(LATE)));
            }
            Err(Errno::AGAIN) => return Err(Errno::TIMEDOUT),
            result => return result,
        }
    }
}

fn is_hung_up(socket: BorrowedFd<'_>) -> bool {
    let mut descriptors = [PollFd::from_borrowed_fd(socket, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut descriptors, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Sends a signal to a keeper, and never to another process that has got its number.
fn signal_keeper(keeper: i32, control: BorrowedFd<'_>, signal: i32) {
    let pid = Pid::from_raw(keeper);
    let pidfd = pid.map(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()));
    // If the keeper still holds its socket, it was alive when the pidfd was made.
    if is_hung_up(control) {
        return;
    }
    match pidfd {
        Some(Ok(pidfd)) => drop(sys::pidfd_kill(pidfd.as_fd(), signal)),
        // A kernel or a runtime without pidfds.
        Some(Err(Errno::NOSYS)) => drop(sys::kill(keeper, signal)),
        Some(Err(_)) | None => {}
    }
}

fn timespec(duration: Duration) -> Timespec {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec: seconds, tv_nsec: i64::from(duration.subsec_nanos()) }
}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn resources(errno: Errno) -> NeverRan {
    NeverRan { stage: Stage::Resources, errno: errno.raw_os_error(), path: None }
}

fn kept_arguments(argv: Vec<Vec<u8>>) -> Arc<[Vec<u8>]> {
    let mut room = KEPT_ARGUMENTS;
    let mut kept = Vec::new();
    for mut argument in argv {
        if room == 0 {
            break;
        }
        argument.truncate(room);
        argument.shrink_to_fit();
        room = room.saturating_sub(argument.len() + 1);
        kept.push(argument);
    }
    kept.into()
}

/// Puts a request into bytes, as [`messages::Request::decode`] reads them.
fn encode(spec: &Spec, report_delay: Option<Duration>) -> Result<Encoded, NeverRan> {
    let arguments = |errno: Errno| NeverRan { stage: Stage::Arguments, errno: errno.raw_os_error(), path: None };
    let path = |stage, path: &[u8]| {
        let path = Some(path.to_vec());
        move |errno: Errno| NeverRan { stage, errno: errno.raw_os_error(), path }
    };
    if spec.argv.is_empty() {
        return Err(arguments(Errno::INVAL));
    }
    let (is_terminal, stdio, term): (bool, [u8; 3], &[u8]) = match &spec.stdio {
        Stdio::Terminal(terminal) => (true, [0; 3], &terminal.term),
        Stdio::Streams { stderr: Stream::Stdout, .. } => (false, [0, 1, 1], b""),
        Stdio::Streams { .. } => (false, [0, 1, 2], b""),
    };
    let mut bits = 0;
    let mut set = |bit, is_set: bool| bits |= if is_set { bit } else { 0 };
    set(flags::PROGRAM, spec.program.is_some());
    set(flags::DIRECTORY, spec.directory.is_some());
    set(flags::USER, spec.user.is_some());
    set(flags::UMASK, spec.umask.is_some());
    set(flags::TERMINAL, is_terminal);
    set(flags::KILL_ON_CLOSE, spec.kill_on_close);
    set(flags::TIME_LIMIT, spec.time_limit.is_some());
    set(flags::REPORT_DELAY, report_delay.is_some());
    let mut writer = Writer::new();
    writer.number(bits);
    // The script comes after the last of them; the standard input is always the first.
    let script = if spec.script.is_some() { stdio[2] + 1 } else { 0 };
    writer.number(u32::from_le_bytes([stdio[0], stdio[1], stdio[2], script]));
    if let Some(limit) = spec.time_limit {
        writer.long(u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
    }
    if let Some(report_delay) = report_delay {
        writer.number(u32::try_from(report_delay.as_micros()).unwrap_or(u32::MAX));
    }
    if let Some(umask) = spec.umask {
        writer.number(umask);
    }
    if let Some(user) = &spec.user {
        writer.number(user.uid);
        writer.number(user.gid);
        writer.number(u32::try_from(user.groups.len()).unwrap_or(u32::MAX));
        user.groups.iter().for_each(|group| writer.number(*group));
    }
    writer.number(u32::try_from(spec.limits.len()).unwrap_or(u32::MAX));
    for limit in &spec.limits {
        writer.number(limit.resource);
        writer.long(limit.soft);
        writer.long(limit.hard);
    }
    if let Some(directory) = &spec.directory {
        writer.string(&[directory]).map_err(path(Stage::Directory, directory))?;
    }
    if let Some(program) = &spec.program {
        writer.string(&[program]).map_err(path(Stage::Program, program))?;
    }
    writer.number(u32::try_from(spec.argv.len()).unwrap_or(u32::MAX));
    for argument in &spec.argv {
        writer.string(&[argument]).map_err(arguments)?;
    }
    let env = environment(spec, term).ok_or_else(|| arguments(Errno::INVAL))?;
    writer.number(u32::try_from(env.len()).unwrap_or(u32::MAX));
    for (name, value) in env {
        writer.string(&[name, b"=", value]).map_err(arguments)?;
    }
    writer.finish().map_err(resources)
}

/// The environment: the last of each name, in the order in which they came first. None: a name is empty or has a `=`.
fn environment<'a>(spec: &'a Spec, term: &'a [u8]) -> Option<Vec<(&'a [u8], &'a [u8])>> {
    let mut places: HashMap<&[u8], usize> = HashMap::new();
    let mut env: Vec<(&[u8], &[u8])> = Vec::with_capacity(spec.env.len() + 1);
    if !term.is_empty() {
        env.push((b"TERM", term));
        places.insert(b"TERM", 0);
    }
    for (name, value) in &spec.env {
        if name.is_empty() || name.contains(&b'=') {
            return None;
        }
        match places.get(name.as_slice()) {
            Some(place) => env[*place].1 = value,
            None => {
                places.insert(name, env.len());
                env.push((name, value));
            }
        }
    }
    Some(env)
}

/// The guest's ends of a command's standard descriptors.
#[derive(Debug, Default)]
struct Ours {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
}

/// Opens the standard descriptors of a command: the guest's ends and the command's.
fn open_stdio(stdio: Stdio, user: Option<&User>) -> Result<(Ours, Vec<OwnedFd>), NeverRan> {
    let (stdin, stdout, stderr) = match stdio {
        Stdio::Terminal(terminal) => {
            let failed = |errno: Errno| NeverRan {
                stage: Stage::Terminal,
                errno: errno.raw_os_error(),
                path: Some(b"/dev/ptmx".to_vec()),
            };
            let (master, slave) = pty::open(&terminal, user).map_err(failed)?;
            return Ok((Ours { terminal: Some(master), ..Ours::default() }, vec![slave]));
        }
        Stdio::Streams { stdin, stdout, stderr } => (stdin, stdout, stderr),
    };
    let mut ours = Ours::default();
    let mut theirs = Vec::with_capacity(3);
    theirs.push(match stdin {
        Stream::Pipe => {
            let (read, write) = pipe()?;
            rustix::io::ioctl_fionbio(&write, true).map_err(resources)?;
            ours.stdin = Some(write);
            read
        }
        // Without the device, a pipe of which nobody has the other end is as empty.
        Stream::Null => open_null().or_else(|_| pipe().map(|(read, _)| read))?,
        Stream::File(file) => file,
        Stream::Stdout => return Err(NeverRan { stage: Stage::Stdio, errno: libc::EINVAL, path: None }),
    });
    let mut output = |stream: Stream| match stream {
        Stream::Pipe => {
            let (read, write) = pipe()?;
            rustix::io::ioctl_fionbio(&read, true).map_err(resources)?;
            theirs.push(write);
            Ok(Some(read))
        }
        Stream::Null => {
            theirs.push(open_null()?);
            Ok(None)
        }
        Stream::File(file) => {
            theirs.push(file);
            Ok(None)
        }
        Stream::Stdout => Err(NeverRan { stage: Stage::Stdio, errno: libc::EINVAL, path: None }),
    };
    ours.stdout = output(stdout)?;
    if !matches!(stderr, Stream::Stdout) {
        ours.stderr = output(stderr)?;
    }
    Ok((ours, theirs))
}

fn pipe() -> Result<(OwnedFd, OwnedFd), NeverRan> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(resources)
}

fn open_null() -> Result<OwnedFd, NeverRan> {
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NOCTTY;
    rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()).map_err(|errno| NeverRan {
        stage: Stage::Stdio,
        errno: errno.raw_os_error(),
        path: Some(b"/dev/null".to_vec()),
    })
}

fn borrow(descriptors: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    descriptors.iter().map(AsFd::as_fd).collect()
}

/// How long the start of a command need not be reported ([`Spec::announce_late`]): most commands that do little are
/// over by then. Where many are started at the same time each takes longer, and the wake-ups that this saves are worth
/// more.
const REPORT_DELAY: Duration = Duration::from_millis(2);
const REPORT_DELAY_PER_COMMAND: Duration = Duration::from_micros(500);
const LONGEST_REPORT_DELAY: Duration = Duration::from_millis(30);

/// Counts a command among those that are being started.
#[derive(Debug)]
struct Beginning(Arc<AtomicUsize>);

impl Beginning {
    fn new(all: &Arc<AtomicUsize>) -> Self {
        all.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(all))
    }

    fn report_delay(&self) -> Duration {
        let others = self.0.load(Ordering::Relaxed).saturating_sub(1);
        let others = u32::try_from(others).unwrap_or(u32::MAX);
        REPORT_DELAY_PER_COMMAND.saturating_mul(others).saturating_add(REPORT_DELAY).min(LONGEST_REPORT_DELAY)
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A keeper that has got a request.
struct Dispatched {
    control: Arc<OwnedFd>,
    /// None: it is being forked, and its number is not known yet.
    keeper: Option<i32>,
}

/// A command whose start is under way. Dropping it gives it up: it is not started any more, or killed.
#[derive(Debug)]
pub struct Starting {
    spawner: Arc<Spawner>,
    control: Arc<OwnedFd>,
    keeper: Option<i32>,
    request: Encoded,
    /// The command's descriptors, until it is known that they have arrived.
    theirs: Vec<OwnedFd>,
    attempts: u32,
    ours: Ours,
    argv: Arc<[Vec<u8>]>,
    time_limit: Option<Duration>,
    kill_on_close: bool,
    since: Instant,
    next_check: Instant,
    _beginning: Beginning,
}

impl Starting {
    /// Whether it runs, never ran, or (None) is not decided. Call it when the descriptor of [`Starting::as_fd`], which
    /// may change each time, is readable and at [`Starting::wake_at`]; not again after a decision.
    pub fn poll(&mut self) -> Option<Result<Running, SpawnError>> {
        let mut packet = [0; LONGEST_REPORT];
        loop {
            let flags = RecvFlags::DONTWAIT;
            match messages::receive(self.control.as_fd(), &mut packet, &mut Vec::new(), flags) {
                Ok(0) => return Some(Err(self.lost())),
                Ok(length) => return Some(self.decided(&packet[..length])),
                Err(Errno::AGAIN) => return self.check(),
                // The keeper died, or never was, before it had read the request: it is sure that nothing ran.
                Err(Errno::CONNRESET) if self.attempts < ATTEMPTS => {
                    self.spawner.note_tampering();
                    self.attempts += 1;
                    match self.spawner.dispatch(&self.request, &self.theirs) {
                        Ok(dispatched) => {
                            self.control = dispatched.control;
                            self.keeper = dispatched.keeper;
                        }
                        Err(reason) => return Some(Err(reason.into())),
                    }
                }
                Err(Errno::CONNRESET) => return Some(Err(resources(Errno::AGAIN).into())),
                Err(_) => return Some(Err(self.lost())),
            }
        }
    }

    /// When [`Starting::poll`] is to be called even if the descriptor is not readable.
    pub fn wake_at(&self) -> Instant {
        self.next_check
    }

    /// Waits for the decision.
    pub fn wait(&mut self) -> Result<Running, SpawnError> {
        loop {
            if let Some(decision) = self.poll() {
                return decision;
            }
            wait_readable(self.control.as_fd(), Some(self.next_check));
        }
    }

    fn decided(&mut self, mut packet: &[u8]) -> Result<Running, SpawnError> {
        match Record::decode(&mut packet) {
            Some(Record::Started { keeper, main }) => Ok(self.started(keeper, main, packet)),
            Some(Record::NeverRan { keeper, reason }) => {
                self.spawner.family().keep(keeper, Arc::clone(&self.control));
                Err(reason.into())
            }
            Some(Record::NoKeeper(errno)) => Err(resources(Errno::from_raw_os_error(errno)).into()),
            _ => Err(self.lost()),
        }
    }

    fn started(&mut self, keeper: i32, main: i32, rest: &[u8]) -> Running {
        let spawner = Arc::clone(&self.spawner);
        let id = spawner.next_id.fetch_add(1, Ordering::Relaxed);
        let control = Arc::clone(&self.control);
        let command =
            Command { id, pid: main, argv: Arc::clone(&self.argv), started: SystemTime::now(), state: State::Running };
        spawner.family().commands.insert(id, Entry { keeper, control: Arc::clone(&control), command });
        self.theirs.clear();
        let mut watch = Watch {
            id,
            keeper,
            control,
            reports: VecDeque::new(),
            limit_at: self.time_limit.and_then(|limit| Instant::now().checked_add(limit)),
            kill_asked: None,
            next_check: None,
            has_exited: false,
            kill_on_close: self.kill_on_close,
            is_over: false,
        };
        watch.decode(rest);
        let Ours { stdin, stdout, stderr, terminal } = std::mem::take(&mut self.ours);
        Running { id, pid: main, stdin, stdout, stderr, terminal, watch: Some(watch), spawner }
    }

    /// Nothing has come yet.
    fn check(&mut self) -> Option<Result<Running, SpawnError>> {
        let now = Instant::now();
        if now < self.next_check {
            return None;
        }
        self.next_check = now + LATE;
        if now - self.since > LONGEST_START {
            if let Some(keeper) = self.keeper {
                signal_keeper(keeper, self.control.as_fd(), libc::SIGKILL);
            }
            return Some(Err(self.lost()));
        }
        self.spawner.wake_all();
        if let Some(keeper) = self.keeper {
            signal_keeper(keeper, self.control.as_fd(), libc::SIGCONT);
        }
        None
    }

    fn lost(&self) -> SpawnError {
        self.spawner.lost(None, self.keeper);
        SpawnError::Lost
    }
}

impl AsFd for Starting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }
}

/// Waits until a descriptor is readable or the time is over (None: for ever).
fn wait_readable(descriptor: BorrowedFd<'_>, until: Option<Instant>) {
    let mut descriptors = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
    let pause = until.map(|until| timespec(until.saturating_duration_since(Instant::now())));
    let _ = rustix::event::poll(&mut descriptors, pause.as_ref());
}

/// What the guest knows of a command and its keeper.
#[derive(Debug)]
struct Watch {
    id: u64,
    keeper: i32,
    control: Arc<OwnedFd>,
    reports: VecDeque<Report>,
    /// When the keeper must have said that the time limit has passed.
    limit_at: Option<Instant>,
    /// Since when the answer to a kill is awaited.
    kill_asked: Option<Instant>,
    /// When a keeper that is late is looked after again.
    next_check: Option<Instant>,
    has_exited: bool,
    kill_on_close: bool,
    /// `Gone` is among the reports or was.
    is_over: bool,
}

impl Watch {
    /// The next report, if there is one.
    fn next(&mut self, spawner: &Spawner) -> Option<Report> {
        if self.reports.is_empty() && !self.is_over {
            self.receive(spawner);
        }
        let report = self.reports.pop_front()?;
        match report {
            Report::TimedOut => {
                self.limit_at = None;
                self.kill_asked = Some(Instant::now());
            }
            Report::Exited(_) => {
                self.has_exited = true;
                self.limit_at = None;
                spawner.note_exit(self.id);
            }
            Report::Killed { .. } => self.kill_asked = None,
            // If it was not proved, the keeper has been seen to already.
            Report::Gone { proved: true } => spawner.retire(self.id, self.keeper, Arc::clone(&self.control)),
            Report::Gone { proved: false } => {}
        }
        Some(report)
    }

    fn receive(&mut self, spawner: &Spawner) {
        let mut packet = [0; 512];
        match messages::receive(self.control.as_fd(), &mut packet, &mut Vec::new(), RecvFlags::DONTWAIT) {
            Ok(0) => self.lose(spawner),
            Ok(length) => self.decode(&packet[..length]),
            Err(Errno::AGAIN) => self.check(spawner),
            Err(_) => self.lose(spawner),
        }
    }

    fn decode(&mut self, mut packet: &[u8]) {
        while let Some(record) = Record::decode(&mut packet) {
            let report = match record {
                Record::TimedOut => Report::TimedOut,
                Record::Exited(exit) => Report::Exited(exit),
                Record::Killed { proved, left } => Report::Killed { proved, left },
                Record::Gone => Report::Gone { proved: true },
                Record::Started { .. } | Record::NeverRan { .. } | Record::NoKeeper(_) => continue,
            };
            self.is_over |= record == Record::Gone;
            self.reports.push_back(report);
        }
    }

    fn lose(&mut self, spawner: &Spawner) {
        spawner.lost(Some(self.id), Some(self.keeper));
        self.is_over = true;
        self.reports.push_back(Report::Gone { proved: false });
    }

    /// When the keeper was to have said something.
    fn due(&self) -> Option<Instant> {
        self.limit_at.into_iter().chain(self.kill_asked).min()
    }

    fn wake_at(&self) -> Option<Instant> {
        if self.is_over {
            return None;
        }
        self.next_check.max(self.due().map(|due| due + LATE)).filter(|_| self.due().is_some())
    }

    /// Wakes a keeper that is late, and kills it if that does not help.
    fn check(&mut self, spawner: &Spawner) {
        let now = Instant::now();
        let Some(due) = self.due() else { return };
        if self.wake_at().is_none_or(|at| at > now) {
            return;
        }
        self.next_check = Some(now + LATE);
        if now - due > TOO_LATE {
            spawner.note_tampering();
            signal_keeper(self.keeper, self.control.as_fd(), libc::SIGKILL);
        } else {
            signal_keeper(self.keeper, self.control.as_fd(), libc::SIGCONT);
        }
    }
}

/// A command that runs. Dropping it lets go of the command: with [`Spec::kill_on_close`] all of it is killed if its
/// main process runs, else it lives on, in the list of [`Spawner::commands`].
#[derive(Debug)]
pub struct Running {
    /// The guest's number for it, as in [`Command::id`].
    pub id: u64,
    /// The main process.
    pub pid: i32,
    /// To write to, if it is a pipe. Not blocking, as are the others.
    pub stdin: Option<OwnedFd>,
    /// To read from, if it is a pipe.
    pub stdout: Option<OwnedFd>,
    /// To read from, if it is a pipe.
    pub stderr: Option<OwnedFd>,
    /// The terminal's master. Closing it hangs up.
    pub terminal: Option<OwnedFd>,
    /// None only while it is being dropped.
    watch: Option<Watch>,
    spawner: Arc<Spawner>,
}

impl Running {
    /// The next report, if there is one. Call it, until it says None, when the descriptor of [`Running::as_fd`] is
    /// readable and at [`Running::wake_at`]. After `Gone` the descriptor is another command's: poll it no more.
    pub fn report(&mut self) -> Option<Report> {
        self.watch.as_mut()?.next(&self.spawner)
    }

    /// When [`Running::report`] is to be called even if the descriptor is not readable: the guest watches that the
    /// keeper keeps the time limit and answers, because code of the same user may have stopped it.
    pub fn wake_at(&self) -> Option<Instant> {
        self.watch.as_ref()?.wake_at()
    }

    /// Whether `Gone` has been reported: there is nothing to wait for any more.
    pub fn is_gone(&self) -> bool {
        self.watch.as_ref().is_none_or(|watch| watch.is_over && watch.reports.is_empty())
    }

    /// The next report, waiting until then (None: for ever). None also after `Gone`.
    pub fn wait_report(&mut self, until: Option<Instant>) -> Option<Report> {
        loop {
            if let Some(report) = self.report() {
                return Some(report);
            }
            if self.is_gone() || until.is_some_and(|until| Instant::now() >= until) {
                return None;
            }
            wait_readable(self.as_fd(), self.wake_at().into_iter().chain(until).min());
        }
    }

    /// Sends a signal. It reaches nobody if they have ended.
    pub fn signal(&self, signal: i32, whom: Whom) {
        self.send_to_keeper(&KeeperMessage::Signal(signal, whom));
    }

    /// Kills everything of the command with SIGKILL. `Killed` says whether it is proved; only `Gone` comes if it had
    /// ended already.
    pub fn kill_all(&mut self) {
        self.send_to_keeper(&KeeperMessage::Kill);
        if let Some(watch) = &mut self.watch {
            watch.kill_asked.get_or_insert_with(Instant::now);
        }
    }

    /// Tells the terminal its new size.
    pub fn resize(&self, columns: u16, rows: u16, width: u16, height: u16) -> io::Result<()> {
        let Some(terminal) = &self.terminal else { return Err(io::ErrorKind::InvalidInput.into()) };
        Ok(pty::resize(terminal.as_fd(), columns, rows, width, height)?)
    }

    fn send_to_keeper(&self, message: &KeeperMessage) {
        if let Some(watch) = self.watch.as_ref().filter(|watch| !watch.is_over) {
            // If the keeper has gone, a report says so.
            let _ = message.send(watch.control.as_fd());
        }
    }
}

impl AsFd for Running {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.watch {
            Some(watch) => watch.control.as_fd(),
            None => self.spawner.epoll.as_fd(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(mut watch) = self.watch.take() else { return };
        while watch.next(&self.spawner).is_some() {}
        if watch.is_over {
            return;
        }
        if watch.kill_on_close && !watch.has_exited {
            let _ = KeeperMessage::Kill.send(watch.control.as_fd());
            watch.kill_asked.get_or_insert_with(Instant::now);
        }
        self.spawner.leave(watch);
    }
}

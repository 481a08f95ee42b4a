//! The keeper of commands.
//!
//! The guest never forks itself: it has threads and the memory of all sessions. A *zygote*, the guest's own program
//! started anew as `sandbox-guest keeper`, is small and has one thread; it forks *keepers*. A keeper runs one command
//! at a time. It is a child subreaper, so that whatever a command's processes do (sessions of their own, double forks,
//! a cleared environment), their orphans become the keeper's children. It kills them by descent and proves it: it has
//! no child any more.
//!
//! ```text
//! guest (process 1) ── zygote ─┬─ keeper ── main process of a command ── its descendants
//!                              └─ keeper (idle, taken for the next command)
//! ```
//!
//! Guest and keeper talk over a socket pair of which a command never holds an end. Zygote and keepers are not dumpable
//! and block all signals. What the same user can still do to them is SIGKILL and SIGSTOP: both are noticed, and then no
//! kill counts as proved.

mod descent;
mod fence;
mod keeper;
mod launch;
mod messages;
mod pending;
mod pty;
mod reaper;
mod spawner;
mod zygote;

pub(crate) use pending::Pending;
pub use pty::Terminal;
pub use reaper::{Notice, Reaper};
pub use spawner::{Command, Options, Running, Spawner, Starting, State};
pub use zygote::main as zygote_main;

use std::fmt;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// A command to run: everything is data, nothing is inherited but the working directory and the umask, if they are not
/// given.
#[derive(Debug, Default)]
pub struct Spec {
    /// The program's file, if it is not the first argument (a login shell is called `-sh`). Without a slash it is
    /// looked up in the `PATH` of `env`.
    pub program: Option<Vec<u8>>,
    /// The arguments; the first names the program. Not empty.
    pub argv: Vec<Vec<u8>>,
    /// The whole environment. A later entry of the same name replaces an earlier one.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// The working directory, the guest's own if absent.
    pub directory: Option<Vec<u8>>,
    /// The user, the guest's own if absent. Another user needs a guest that runs as root.
    pub user: Option<User>,
    /// The file creation mask, the guest's own if absent.
    pub umask: Option<u32>,
    /// Resource limits, the guest's own if absent.
    pub limits: Vec<Limit>,
    /// What the command's standard descriptors are.
    pub stdio: Stdio,
    /// After so long the keeper kills the command with all its descendants, unless its main process has ended before.
    /// It is counted on a clock that nobody can set and that goes on while the machine sleeps.
    pub time_limit: Option<Duration>,
    /// If the guest lets go of the command (drops [`Running`]) while the main process runs, everything of it is killed.
    pub kill_on_close: bool,
    /// The start of a command that ends within milliseconds is reported together with its end: most commands do, and
    /// the guest is woken once instead of two to four times. Until the report, nobody reads the output.
    pub announce_late: bool,
    /// A file that the command gets as its descriptor 3.
    pub script: Option<OwnedFd>,
}

/// Who a command runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// The supplementary groups.
    pub groups: Vec<u32>,
}

/// A resource limit of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// One of Linux' `RLIMIT_` numbers, as in the crate `libc`.
    pub resource: u32,
    /// The soft limit; `u64::MAX` is none.
    pub soft: u64,
    /// The hard limit; `u64::MAX` is none.
    pub hard: u64,
}

/// The standard descriptors of a command.
#[derive(Debug)]
pub enum Stdio {
    /// Three streams.
    Streams {
        /// Standard input.
        stdin: Stream,
        /// Standard output.
        stdout: Stream,
        /// Standard error.
        stderr: Stream,
    },
    /// A pseudo-terminal of its own, the controlling terminal of the command's session.
    Terminal(Terminal),
}

impl Default for Stdio {
    fn default() -> Self {
        Self::Streams { stdin: Stream::Pipe, stdout: Stream::Pipe, stderr: Stream::Pipe }
    }
}

/// One standard descriptor of a command.
#[derive(Debug)]
pub enum Stream {
    /// A pipe, whose other end [`Running`] has.
    Pipe,
    /// `/dev/null`.
    Null,
    /// A descriptor of the caller's.
    File(OwnedFd),
    /// The same as standard output; only for standard error.
    Stdout,
}

/// Why a command has no [`Running`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpawnError {
    /// The program did not run: not one instruction of it.
    NeverRan(NeverRan),
    /// The keeper was killed or stopped while it started the command. Whether the program ran is not known; what could
    /// be found of it has been killed.
    Lost,
}

/// The exact reason why a program never ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeverRan {
    /// What failed.
    pub stage: Stage,
    /// The error number of Linux.
    pub errno: i32,
    /// The file or directory that it is about, if there is one: the program as found in `PATH`, the missing
    /// interpreter, the directory.
    pub path: Option<Vec<u8>>,
}

/// What failed before a program ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The working directory could not be entered.
    Directory,
    /// The program was not found, is not executable, or is in no known format.
    Program,
    /// The program is there; the interpreter of its `#!` line or its dynamic linker is not.
    Interpreter,
    /// Arguments and environment: too long (`E2BIG`), or no argument at all, or a zero byte in one (`EINVAL`).
    Arguments,
    /// The user or the groups could not be taken on.
    User,
    /// A resource limit could not be set.
    Limits,
    /// The pseudo-terminal could not be made.
    Terminal,
    /// `/dev/null` could not be opened.
    Stdio,
    /// No more processes, memory or descriptors.
    Resources,
}

impl fmt::Display for NeverRan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.as_deref().map(String::from_utf8_lossy);
        let path = path.as_deref().unwrap_or("?");
        match (self.stage, self.errno) {
            (Stage::Directory, libc::ENOENT) => write!(f, "there is no directory '{path}'")?,
            (Stage::Directory, _) => write!(f, "the directory '{path}' can't be entered")?,
            (Stage::Program, libc::ENOENT) => write!(f, "there is no program '{path}'")?,
            (Stage::Program, _) => write!(f, "the program '{path}' can't be executed")?,
            (Stage::Interpreter, _) => write!(f, "there is no '{path}', which the program needs to run")?,
            (Stage::Arguments, libc::E2BIG) => write!(f, "the arguments and the environment are too long")?,
            (Stage::Arguments, _) => write!(f, "the arguments or the environment can't be handed to a program")?,
            (Stage::User, _) => write!(f, "the user can't be changed")?,
            (Stage::Limits, _) => write!(f, "the resource limits can't be set")?,
            (Stage::Terminal, _) => write!(f, "there is no terminal to be had")?,
            (Stage::Stdio, _) => write!(f, "'{path}' can't be opened")?,
            (Stage::Resources, _) => write!(f, "no process can be started")?,
        }
        // As C programs say it, without the number.
        let text = rustix::io::Errno::from_raw_os_error(self.errno).to_string();
        write!(f, ": {}", text.split(" (os error").next().unwrap_or_default())
    }
}

impl std::error::Error for NeverRan {}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverRan(reason) => write!(f, "the program never ran: {reason}"),
            Self::Lost => {
                write!(f, "the keeper was killed or stopped while it started the command; whether it ran is not known")
            }
        }
    }
}

impl std::error::Error for SpawnError {}

impl From<NeverRan> for SpawnError {
    fn from(reason: NeverRan) -> Self {
        Self::NeverRan(reason)
    }
}

/// How a main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code (0 to 255).
    Code(i32),
    /// By a signal.
    Signal {
        /// Its number.
        number: i32,
        /// Whether a core was dumped.
        core_dumped: bool,
    },
}

/// What a keeper says of its command. The order is: `TimedOut` if it was so, `Exited`, `Killed` for each kill, `Gone`
/// as the last; or `Gone { proved: false }` at any time, if the keeper was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// The time limit has passed; everything of the command is being killed, `Killed` follows.
    TimedOut,
    /// The main process has ended. Descendants may live on.
    Exited(Exit),
    /// The answer to [`Running::kill_all`] and to a time limit.
    Killed {
        /// Whether no descendant is left.
        proved: bool,
        /// How many were alive when the keeper gave up waiting; it goes on killing.
        left: u32,
    },
    /// The end: nothing of the command is left. No report follows.
    Gone {
        /// False if the keeper was killed or had to be: how the command ended is then not known beyond earlier reports,
        /// and descendants may have escaped. Everything that had become a child of process 1 was killed.
        proved: bool,
    },
}

/// Who gets a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// The main process.
    Main,
    /// The process group of the main process.
    Group,
    /// Every descendant that is found. For SIGKILL use [`Running::kill_all`], which proves it.
    All,
}

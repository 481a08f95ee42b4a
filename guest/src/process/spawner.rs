//! The guest's side: asks the zygote for keepers, gives them commands, reads their reports.

use super::{Report, SpawnError, Spec, Whom};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// How a [`Spawner`] works.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The program that is started as `PROGRAM keeper`; `/proc/self/exe` if absent. For tests, which are not the guest themselves.
    pub program: Option<PathBuf>,
}

/// Starts commands. Shared by all threads of the guest.
#[derive(Debug)]
pub struct Spawner {}

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
        let _ = options;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Starts a command and waits until its program runs or is known never to run.
    pub fn spawn(self: &Arc<Self>, spec: Spec) -> Result<Running, SpawnError> {
        let mut starting = self.begin(spec)?;
        starting.wait()
    }

    /// Starts a command without waiting: a program on a file system that hangs, or a keeper that was stopped, holds nobody up.
    pub fn begin(self: &Arc<Self>, spec: Spec) -> Result<Starting, SpawnError> {
        let _ = spec;
        Err(SpawnError::Lost)
    }

    /// Whether a child of the guest is one of its own: the zygote or a keeper.
    pub fn is_ours(&self, pid: i32) -> bool {
        let _ = pid;
        false
    }

    /// The commands of which something is alive, in the order of their start.
    pub fn commands(&self) -> Vec<Command> {
        Vec::new()
    }

    /// Sends a signal to a command of the list. False: there is no such command any more.
    pub fn signal(&self, id: u64, signal: i32, whom: Whom) -> bool {
        let _ = (id, signal, whom);
        false
    }

    /// Readable when [`Spawner::tend`] has something to do. For the main thread's `poll`.
    pub fn tending(&self) -> BorrowedFd<'_> {
        unimplemented!()
    }

    /// Reads the reports of commands that the guest has let go of, ends idle keepers that are not needed, and kills strangers once a
    /// keeper was lost. The main thread calls it when [`Spawner::tending`] is readable and every second or so.
    pub fn tend(&self) {}

    /// Reaps children of the guest: orphans that came to process 1, the zygote. [`super::Reaper`] calls it at SIGCHLD.
    pub fn reap(&self) {}

    /// Whether a keeper or the zygote was ever killed or stopped by somebody: what a command reports is still true, but no kill since
    /// is proved for processes that may have escaped then.
    pub fn was_tampered_with(&self) -> bool {
        false
    }
}

/// A command whose start is under way.
#[derive(Debug)]
pub struct Starting {
    control: OwnedFd,
}

impl Starting {
    /// Whether it runs, never ran, or (None) is not decided. Call it when the descriptor is readable and at [`Starting::wake_at`].
    pub fn poll(&mut self) -> Option<Result<Running, SpawnError>> {
        None
    }

    /// When [`Starting::poll`] is to be called even if the descriptor is not readable.
    pub fn wake_at(&self) -> Option<Instant> {
        None
    }

    /// Waits for the decision.
    pub fn wait(&mut self) -> Result<Running, SpawnError> {
        Err(SpawnError::Lost)
    }
}

impl AsFd for Starting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }
}

/// A command that runs. Dropping it lets go of the command: with [`Spec::kill_on_close`] what runs is killed, else it lives on.
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
    control: OwnedFd,
}

impl Running {
    /// The next report, if there is one. Call it when the descriptor of [`Running::as_fd`] is readable and at [`Running::wake_at`].
    /// After `Gone` the descriptor says nothing: poll it no more.
    pub fn report(&mut self) -> Option<Report> {
        None
    }

    /// When [`Running::report`] is to be called even if the descriptor is not readable: the guest watches that the keeper keeps the time
    /// limit and answers, because code of the same user may have stopped it.
    pub fn wake_at(&self) -> Option<Instant> {
        None
    }

    /// The next report, waiting for at most so long (None: for ever).
    pub fn wait_report(&mut self, until: Option<Instant>) -> Option<Report> {
        let _ = until;
        None
    }

    /// Sends a signal. It reaches nobody if they have ended.
    pub fn signal(&self, signal: i32, whom: Whom) {
        let _ = (signal, whom);
    }

    /// Kills everything of the command with SIGKILL; the report `Killed` says whether it is proved.
    pub fn kill_all(&mut self) {}

    /// Tells the terminal its new size.
    pub fn resize(&self, columns: u16, rows: u16, width: u16, height: u16) -> io::Result<()> {
        let _ = (columns, rows, width, height);
        Ok(())
    }
}

impl AsFd for Running {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }
}

//! Commands that outlive their connection, found again by key. One thread keeps them all; it reads what they write and
//! keeps it in files without a name.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use rustix::event::PollFlags;
use sandbox_protocol::{Bytes, DetachedInfo, Ended, Failure, FailureKind, NeverRan};

use crate::expiry::{milliseconds, now};
use crate::log::log;
use crate::outcome::{Outcome, never_ran};
use crate::process::{Running, SpawnError, Starting};
use crate::server::Owners;
use crate::server::pipe::OutputEnd;
use crate::server::poll::{Polls, Waker};
use crate::store::Store;

/// Bytes of each output stream that are kept if the request does not say it.
pub(crate) const DEFAULT_OUTPUT_LIMIT: u64 = 256 << 20;
/// Detached commands, those that have ended included.
const MOST: usize = 4096;
const STACK: usize = 192 << 10;
const BUFFER: usize = 256 << 10;

/// A detached command.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Of the request that started it, with the input.
    digest: [u8; 32],
    argv: Vec<Bytes>,
    /// What of it may be too long for Linux.
    excess: Option<String>,
    client: Arc<str>,
    began: Duration,
    pub(crate) stdout: Store,
    pub(crate) stderr: Store,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Whether nothing of it is left to kill.
    is_gone: bool,
    kills_wanted: u64,
    kills_answered: u64,
    watchers: Vec<Weak<Waker>>,
}

/// How far a detached command is.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// It is not known yet whether it runs.
    Starting,
    /// It never ran; its key is free.
    NeverRan(NeverRan),
    /// Its main process runs.
    Running { id: u64, pid: i32 },
    /// Its main process has ended.
    Ended { id: u64, pid: i32, ended: Ended },
}

/// What is needed to make an [`Entry`].
#[derive(Debug)]
pub(crate) struct NewEntry {
    pub(crate) key: String,
    pub(crate) digest: [u8; 32],
    pub(crate) argv: Vec<Bytes>,
    pub(crate) excess: Option<String>,
    pub(crate) client: Arc<str>,
    pub(crate) stdout: Store,
    pub(crate) stderr: Store,
}

impl Entry {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the waker's thread look whenever something changes.
    pub(crate) fn watch(&self, waker: &Arc<Waker>) {
        let mut state = self.lock();
        state.watchers.retain(|known| known.strong_count() > 0 && !known.ptr_eq(&Arc::downgrade(waker)));
        state.watchers.push(Arc::downgrade(waker));
    }

    fn notify(&self) {
        let mut state = self.lock();
        state.watchers.retain(|watcher| watcher.upgrade().map(|waker| waker.wake()).is_some());
    }

    pub(crate) fn phase(&self) -> Phase {
        self.lock().phase.clone()
    }

    /// Whether its main process has ended and all of its output is there.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.lock().phase, Phase::Ended { .. })
    }

    /// What a client is told; `started` if it was that client's request that started it.
    pub(crate) fn info(&self, started: bool) -> DetachedInfo {
        let (id, pid, ended) = match self.phase() {
            Phase::Running { id, pid } => (id, pid, None),
            Phase::Ended { id, pid, ended } => (id, pid, Some(ended)),
            Phase::Starting | Phase::NeverRan(_) => (0, 0, None),
        };
        DetachedInfo {
            key: self.key.clone(),
            id,
            pid,
            argv: self.argv.clone(),
            started,
            ended,
            stdout: self.stdout.info(),
            stderr: self.stderr.info(),
            age_ms: milliseconds(now().saturating_sub(self.began)),
        }
    }

    /// Whether the kill with this number, or a later one, has been answered.
    pub(crate) fn is_killed(&self, number: u64) -> bool {
        let state = self.lock();
        state.is_gone || state.kills_answered >= number
    }
}

/// What the thread is told.
#[derive(Debug)]
enum Task {
    Keep(Arc<Entry>, Starting),
    Kill(Arc<Entry>),
    /// The entry is forgotten: what its command left in the background is nobody's any more.
    LetGo(Arc<Entry>),
}

/// All detached commands.
#[derive(Debug)]
pub(crate) struct Detached {
    entries: Mutex<BTreeMap<String, Arc<Entry>>>,
    tasks: Mutex<Vec<Task>>,
    waker: OnceLock<Waker>,
    owners: Arc<Owners>,
}

/// What became of a request to start a command.
#[derive(Debug)]
pub(crate) enum Start {
    /// The key was free: this started it.
    New(Arc<Entry>),
    /// The same request has started it before.
    Known(Arc<Entry>),
}

fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure { kind, message: message.into(), errno: None }
}

impl Detached {
    pub(crate) fn new(owners: Arc<Owners>) -> Self {
        Self { entries: Mutex::new(BTreeMap::new()), tasks: Mutex::new(Vec::new()), waker: OnceLock::new(), owners }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a command under a key that is free, by what `begin` gives.
    pub(crate) fn start(
        self: &Arc<Self>,
        new: NewEntry,
        begin: impl FnOnce() -> Result<Starting, SpawnError>,
    ) -> Result<Start, Failure> {
        if !is_key(&new.key) {
            let text = "1 to 64 letters, digits, '.', '_' and '-', the first a letter or digit";
            return Err(failure(FailureKind::Invalid, format!("{:?} is no key: {text}", new.key)));
        }
        self.start_thread()?;
        let mut entries = self.lock();
        if let Some(known) = entries.get(&new.key) {
            if known.digest == new.digest {
                return Ok(Start::Known(Arc::clone(known)));
            }
            return Err(failure(FailureKind::Conflict, format!("'{}' is the key of another command", new.key)));
        }
        if entries.len() >= MOST {
            return Err(failure(FailureKind::Limit, format!("there are {MOST} detached commands; remove some")));
        }
        let state =
            State { phase: Phase::Starting, is_gone: false, kills_wanted: 0, kills_answered: 0, watchers: Vec::new() };
        let NewEntry { key, digest, argv, excess, client, stdout, stderr } = new;
        let entry = Entry { key, digest, argv, excess, client, began: now(), stdout, stderr, state: Mutex::new(state) };
        let entry = Arc::new(entry);
        entries.insert(entry.key.clone(), Arc::clone(&entry));
        // Beginning does not wait for anything, so the lock may be held: nobody sees the key without the command.
        match begin() {
            Ok(starting) => {
                drop(entries);
                self.tell(Task::Keep(Arc::clone(&entry), starting));
            }
            Err(error) => {
                drop(entries);
                self.fail(&entry, &error);
            }
        }
        Ok(Start::New(entry))
    }

    /// The start of a command has failed.
    fn fail(&self, entry: &Arc<Entry>, error: &SpawnError) {
        match error {
            SpawnError::NeverRan(reason) => {
                // Nothing of it ran, so the key is free for another try.
                self.lock().remove(&entry.key);
                entry.lock().phase = Phase::NeverRan(never_ran(reason, entry.excess.as_deref()));
            }
            SpawnError::Lost => {
                let mut state = entry.lock();
                state.phase = Phase::Ended { id: 0, pid: 0, ended: Outcome::lost().ended(0, 0, true) };
                state.is_gone = true;
            }
        }
        entry.notify();
    }

    pub(crate) fn get(&self, key: &str) -> Result<Arc<Entry>, Failure> {
        let found = self.lock().get(key).cloned();
        found.ok_or_else(|| failure(FailureKind::NotFound, format!("there is no detached command '{key}'")))
    }

    pub(crate) fn list(&self) -> Vec<Arc<Entry>> {
        self.lock().values().cloned().collect()
    }

    /// Kills a command with its descendants; returns the number for [`Entry::is_killed`].
    pub(crate) fn kill(&self, entry: &Arc<Entry>) -> u64 {
        let number = {
            let mut state = entry.lock();
            state.kills_wanted += 1;
            state.kills_wanted
        };
        self.tell(Task::Kill(Arc::clone(entry)));
        number
    }

    /// Forgets a command that has ended.
    pub(crate) fn remove(&self, key: &str) -> Result<(), Failure> {
        let entry = self.get(key)?;
        if !entry.has_ended() {
            return Err(failure(FailureKind::Conflict, format!("'{key}' runs")));
        }
        let mut entries = self.lock();
        if entries.get(key).is_some_and(|known| Arc::ptr_eq(known, &entry)) {
            entries.remove(key);
        }
        drop(entries);
        self.tell(Task::LetGo(entry));
        Ok(())
    }

    fn tell(&self, task: Task) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task);
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }

    /// There is no thread before there is a detached command.
    fn start_thread(self: &Arc<Self>) -> Result<(), Failure> {
        let _guard = self.lock();
        if self.waker.get().is_some() {
            return Ok(());
        }
        let cannot = |e: &dyn std::fmt::Display| failure(FailureKind::Other, format!("no thread can be started: {e}"));
        let waker = Waker::new().map_err(|e| cannot(&e))?;
        let _ = self.waker.set(waker);
        let thread = std::thread::Builder::new().name("detached".to_owned()).stack_size(STACK);
        let detached = Arc::clone(self);
        thread.spawn(move || detached.run()).map_err(|e| cannot(&e))?;
        Ok(())
    }

    fn run(&self) {
        let mut jobs: Vec<Job> = Vec::new();
        loop {
            let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
            for task in tasks {
                match task {
                    Task::Keep(entry, starting) => jobs.push(Job::new(entry, starting)),
                    Task::Kill(entry) => match jobs.iter_mut().find(|job| Arc::ptr_eq(&job.entry, &entry)) {
                        Some(job) => job.kill(),
                        None => {
                            // Nothing is left of it.
                            let mut state = entry.lock();
                            state.kills_answered = state.kills_wanted;
                            drop(state);
                            entry.notify();
                        }
                    },
                    Task::LetGo(entry) => jobs.retain(|job| !Arc::ptr_eq(&job.entry, &entry)),
                }
            }
            let mut buffer = Vec::new();
            jobs.retain_mut(|job| job.progress(self, &mut buffer));
            drop(buffer);
            let happened = self.wait(&jobs);
            for ((number, slot), _) in happened {
                if let Some(job) = jobs.get_mut(number) {
                    match slot {
                        STDOUT => job.stdout.set_ready(),
                        STDERR => job.stderr.set_ready(),
                        _ => {}
                    }
                }
            }
        }
    }

    fn wait(&self, jobs: &[Job]) -> Vec<((usize, u8), PollFlags)> {
        let mut polls = Polls::new();
        if let Some(waker) = self.waker.get() {
            waker.clear();
            // Cleared before the tasks are looked at, so that none is missed.
            if !self.tasks.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
                return Vec::new();
            }
            polls.add((usize::MAX, 0), waker.as_fd(), PollFlags::IN);
        }
        for (number, job) in jobs.iter().enumerate() {
            job.register(number, &mut polls);
        }
        polls.wait().unwrap_or_else(|e| {
            log!("detached commands can't be waited for: {e}");
            std::thread::sleep(Duration::from_millis(100));
            Vec::new()
        })
    }
}

const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const CONTROL: u8 = 3;

#[derive(Debug)]
enum Process {
    Starting(Starting),
    Running(Running),
}

/// A detached command of which something is alive.
#[derive(Debug)]
struct Job {
    entry: Arc<Entry>,
    process: Process,
    outcome: Outcome,
    stdout: OutputEnd,
    stderr: OutputEnd,
    is_draining: bool,
    kill_wanted: bool,
}

impl Job {
    fn new(entry: Arc<Entry>, starting: Starting) -> Self {
        Self {
            entry,
            process: Process::Starting(starting),
            outcome: Outcome::new(),
            stdout: OutputEnd::default(),
            stderr: OutputEnd::default(),
            is_draining: false,
            kill_wanted: false,
        }
    }

    fn kill(&mut self) {
        match &mut self.process {
            Process::Starting(_) => self.kill_wanted = true,
            Process::Running(running) => {
                self.outcome.cancel();
                running.kill_all();
            }
        }
    }

    fn register<'a>(&'a self, number: usize, polls: &mut Polls<'a, (usize, u8)>) {
        let (control, wake_at) = match &self.process {
            Process::Starting(starting) => (starting.as_fd(), Some(starting.wake_at())),
            Process::Running(running) => (running.as_fd(), running.wake_at()),
        };
        // After the last report the descriptor would end each poll at once.
        if !self.outcome.is_gone() {
            polls.add((number, CONTROL), control, PollFlags::IN);
            if let Some(time) = wake_at {
                polls.until(time);
            }
        }
        for (slot, end) in [(STDOUT, &self.stdout), (STDERR, &self.stderr)] {
            if end.is_ready() {
                polls.at_once();
            } else if let Some(descriptor) = end.waits_for() {
                polls.add((number, slot), descriptor, PollFlags::IN);
            }
        }
    }

    /// Whether there is more to do.
    fn progress(&mut self, detached: &Detached, buffer: &mut Vec<u8>) -> bool {
        let mut changed = false;
        if let Process::Starting(starting) = &mut self.process {
            match starting.poll() {
                None => return true,
                Some(Err(error)) => {
                    detached.fail(&self.entry, &error);
                    return false;
                }
                Some(Ok(mut running)) => {
                    detached.owners.add(running.id, &self.entry.client, Some(&self.entry.key));
                    self.stdout = OutputEnd::pipe(running.stdout.take());
                    self.stderr = OutputEnd::pipe(running.stderr.take());
                    self.entry.lock().phase = Phase::Running { id: running.id, pid: running.pid };
                    self.process = Process::Running(running);
                    changed = true;
                    if self.kill_wanted {
                        self.kill();
                    }
                }
            }
        }
        let Process::Running(running) = &mut self.process else { return true };
        let was_answered = self.outcome.is_kill_answered();
        while !self.outcome.is_gone()
            && let Some(report) = running.report()
        {
            self.outcome.add(report);
        }
        if self.outcome.has_ended() && !self.is_draining {
            self.is_draining = true;
            self.stdout.drain();
            self.stderr.drain();
        }
        for (end, store) in [(&mut self.stdout, &self.entry.stdout), (&mut self.stderr, &self.entry.stderr)] {
            if end.is_ready() {
                buffer.resize(BUFFER, 0);
                let count = end.read(buffer);
                store.append(&buffer[..count]);
                changed |= count > 0;
            }
        }
        let is_over = self.outcome.is_complete() && self.stdout.is_closed() && self.stderr.is_closed();
        let (id, pid) = (running.id, running.pid);
        let is_answered = self.outcome.is_kill_answered();
        {
            let mut state = self.entry.lock();
            let was_over = matches!(state.phase, Phase::Ended { .. });
            if is_over && (!was_over || is_answered != was_answered) {
                let (stdout, stderr) = (self.entry.stdout.length(), self.entry.stderr.length());
                state.phase = Phase::Ended { id, pid, ended: self.outcome.ended(stdout, stderr, false) };
                changed = true;
            }
            if is_over && is_answered && state.kills_answered < state.kills_wanted {
                state.kills_answered = state.kills_wanted;
                changed = true;
            }
            if is_over && self.outcome.is_gone() {
                state.is_gone = true;
                changed = true;
            }
        }
        if changed {
            self.entry.notify();
        }
        !(is_over && self.outcome.is_gone())
    }
}

fn is_key(key: &str) -> bool {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let begins_well = key.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    begins_well && key.len() <= 64 && key.bytes().all(is_fit)
}

#[cfg(test)]
mod tests {
    use super::is_key;

    #[test]
    fn keys() {
        for good in ["a", "Run-7", "0.1_x", &"k".repeat(64)] {
            assert!(is_key(good), "{good}");
        }
        for bad in ["", ".a", "-a", "_a", "a/b", "a b", "ä", "a\n", &"k".repeat(65)] {
            assert!(!is_key(bad), "{bad}");
        }
    }
}

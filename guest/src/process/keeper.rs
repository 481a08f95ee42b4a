//! The process that runs one command at a time and answers for its descendants.

use super::descent::{self, Children};
use super::launch;
use super::messages::{self, KeeperMessage, LONGEST_PACKET, Record, Request};
use super::{Exit, NeverRan, Stage, Whom};
use crate::sys;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::WaitOptions;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// After so long without an end, a kill is answered as not proved. It goes on.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the pauses between the rounds of a kill are.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// The keeper's whole life.
pub(super) fn run(control: OwnedFd) -> ! {
    // The zygote lets the kernel reap; a keeper wants to know.
    let ready =
        sys::await_children().is_ok() && rustix::process::set_child_subreaper(Some(rustix::process::getpid())).is_ok();
    // Not the zygote's: for gVisor a descriptor of signals belongs to the process that made it.
    let signals = sys::signal_descriptor(&[libc::SIGCHLD]);
    let (true, Ok(signals)) = (ready, signals) else { sys::exit_now(1) };
    let mut keeper = Keeper { control, signals, stack: sys::Stack::new(64 * 1024), children: Children::new() };
    let mut packet = vec![0; LONGEST_PACKET];
    loop {
        let mut descriptors = Vec::new();
        let length = match messages::receive(keeper.control.as_fd(), &mut packet, &mut descriptors, RecvFlags::empty())
        {
            Ok(0) | Err(_) => sys::exit_now(0),
            Ok(length) => length,
        };
        let request = &packet[..length];
        let goes_on = match KeeperMessage::decode(request) {
            Some(KeeperMessage::Start) => keeper.start(request, descriptors),
            Some(KeeperMessage::StartInFile(length)) => match read_file(length, &mut descriptors) {
                Ok(request) => keeper.start(&request, descriptors),
                Err(errno) => keeper.refuse(NeverRan { stage: Stage::Resources, errno, path: None }),
            },
            // For the command before, which had ended when it was sent.
            Some(KeeperMessage::Signal(..) | KeeperMessage::Kill) | None => true,
        };
        if !goes_on {
            sys::exit_now(0);
        }
    }
}

fn read_file(length: u64, descriptors: &mut Vec<OwnedFd>) -> Result<Vec<u8>, i32> {
    let file = File::from(descriptors.pop().ok_or(libc::EMFILE)?);
    let mut request = Vec::new();
    let length = usize::try_from(length).map_err(|_| libc::E2BIG)?;
    request.try_reserve_exact(length).map_err(|_| libc::ENOMEM)?;
    request.resize(length, 0);
    file.read_exact_at(&mut request, 0).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
    Ok(request)
}

struct Keeper {
    control: OwnedFd,
    signals: OwnedFd,
    stack: sys::Stack,
    children: Children,
}

impl Keeper {
    /// Runs a command until nothing of it is left. False: the guest has gone, and so should the keeper.
    fn start(&mut self, request: &[u8], descriptors: Vec<OwnedFd>) -> bool {
        let Some(request) = Request::decode(request) else {
            return self.refuse(NeverRan { stage: Stage::Arguments, errno: libc::EINVAL, path: None });
        };
        // If the guest gave up meanwhile, it has said that it does not know; then better not.
        if self.guest_has_gone() {
            return false;
        }
        let main = match launch::launch(&request, &descriptors, &mut self.stack) {
            Ok(main) => main,
            Err(reason) => return self.refuse(reason),
        };
        drop(descriptors);
        let mut reports = Vec::with_capacity(64);
        Record::Started { keeper: std::process::id().cast_signed(), main }.encode(&mut reports);
        let held = request.report_delay.map(|delay| Duration::from_micros(delay.into()));
        let mut command = Command {
            keeper: self,
            main: Some(main),
            pgid: main,
            timer: None,
            kill_on_close: request.kill_on_close,
            killing: None,
            is_closed: false,
            is_announced: false,
            held_until: held.map(|delay| Instant::now() + delay),
            reports,
        };
        command.send_reports();
        if let Some(limit) = request.time_limit {
            match timer(limit) {
                Ok(timer) => command.timer = Some(timer),
                // A limit that nobody would keep: the command may not run on.
                Err(_) => command.time_out(),
            }
        }
        command.run()
    }

    fn refuse(&self, reason: NeverRan) -> bool {
        let mut packet = Vec::new();
        Record::NeverRan { keeper: std::process::id().cast_signed(), reason }.encode(&mut packet);
        messages::send(self.control.as_fd(), &packet, &[]).is_ok()
    }

    fn guest_has_gone(&self) -> bool {
        let mut descriptors = [PollFd::new(&self.control, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut descriptors, Some(&now)).is_ok_and(|ready| ready > 0)
    }
}

/// A timer that ends once, after so many nanoseconds; it counts the time that the machine sleeps.
fn timer(nanoseconds: u64) -> Result<OwnedFd, Errno> {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let timer = rustix::time::timerfd_create(TimerfdClockId::Boottime, flags)
        .or_else(|_| rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags))?;
    // 0 would be no limit.
    let value = timespec(Duration::from_nanos(nanoseconds.max(1)));
    let none = Timespec { tv_sec: 0, tv_nsec: 0 };
    let setting = Itimerspec { it_interval: none, it_value: value };
    rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &setting)?;
    Ok(timer)
}

fn timespec(duration: Duration) -> Timespec {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec: seconds, tv_nsec: i64::from(duration.subsec_nanos()) }
}

struct Killing {
    since: Instant,
    /// How many `Killed` the guest is waiting for.
    answers: u32,
    /// When the children are killed again, and the pause after that.
    next: Instant,
    pause: Duration,
}

/// The command that runs.
struct Command<'a> {
    keeper: &'a mut Keeper,
    /// The main process, until it was waited for.
    main: Option<i32>,
    /// The process group that it began with.
    pgid: i32,
    timer: Option<OwnedFd>,
    kill_on_close: bool,
    killing: Option<Killing>,
    /// The guest has gone, or has let go of the command.
    is_closed: bool,
    /// The guest has been told that it runs.
    is_announced: bool,
    /// Until then the guest does not wait for that, unless there is more to tell.
    held_until: Option<Instant>,
    /// Records that are to be sent.
    reports: Vec<u8>,
}

impl Command<'_> {
    /// Until nothing is left. False: the guest has gone.
    fn run(&mut self) -> bool {
        loop {
            if self.reap() || (self.kill_if_due() && self.reap()) {
                self.answer_kill(true, 0);
                Record::Gone.encode(&mut self.reports);
                return self.deliver();
            }
            self.give_answer_if_late();
            self.send_reports();
            self.wait();
        }
    }

    /// Waits for something to happen and takes the guest's orders.
    fn wait(&mut self) {
        let pause = match &self.killing {
            Some(killing) => Some(timespec(killing.next.saturating_duration_since(Instant::now()))),
            None if self.reports.is_empty() => None,
            None => Some(timespec(self.held().unwrap_or(LONGEST_PAUSE))),
        };
        let mut descriptors = vec![PollFd::new(&self.keeper.signals, PollFlags::IN)];
        let control = if self.is_closed {
            None
        } else {
            descriptors.push(PollFd::new(&self.keeper.control, PollFlags::IN));
            Some(descriptors.len() - 1)
        };
        let timer = self.timer.as_ref().map(|timer| {
            descriptors.push(PollFd::new(timer, PollFlags::IN));
            descriptors.len() - 1
        });
        if rustix::event::poll(&mut descriptors, pause.as_ref()).is_err() {
            return;
        }
        let is_ready = |index: Option<usize>| index.is_some_and(|index| !descriptors[index].revents().is_empty());
        let (child, control, timer) = (is_ready(Some(0)), is_ready(control), is_ready(timer));
        if child {
            // Several signals are one; it is only to be taken away.
            let _ = rustix::io::read(&self.keeper.signals, &mut [0; 128]);
        }
        if control {
            self.take_order();
        }
        if timer {
            // A main process that ended first was in time, even if nobody has looked since.
            self.reap();
            self.timer = None;
            if self.main.is_some() {
                self.time_out();
            }
        }
    }

    fn take_order(&mut self) {
        let mut packet = [0; 64];
        let mut descriptors = Vec::new();
        match messages::receive(self.keeper.control.as_fd(), &mut packet, &mut descriptors, RecvFlags::DONTWAIT) {
            Ok(0) => self.close(),
            Ok(length) => match KeeperMessage::decode(&packet[..length]) {
                Some(KeeperMessage::Kill) => self.begin_to_kill(true),
                Some(KeeperMessage::Signal(signal, whom)) => self.signal(signal, whom),
                Some(KeeperMessage::Start | KeeperMessage::StartInFile(_)) | None => {}
            },
            Err(Errno::AGAIN) => {}
            Err(_) => self.close(),
        }
    }

    fn close(&mut self) {
        self.is_closed = true;
        // Nobody knows of one that was not announced.
        if (self.kill_on_close || !self.is_announced) && self.main.is_some() {
            self.begin_to_kill(false);
        }
    }

    fn time_out(&mut self) {
        Record::TimedOut.encode(&mut self.reports);
        self.begin_to_kill(true);
    }

    fn begin_to_kill(&mut self, answer: bool) {
        let now = Instant::now();
        let killing = self.killing.get_or_insert(Killing { since: now, answers: 0, next: now, pause: SHORTEST_PAUSE });
        if answer {
            killing.answers += 1;
        }
        killing.since = now;
        killing.next = now;
        killing.pause = SHORTEST_PAUSE;
        // What is already under way when the guest is told.
        self.send_reports();
    }

    /// Kills all that can be found, if it is time to. What dies wakes the keeper; what was started or orphaned
    /// meanwhile does not.
    fn kill_if_due(&mut self) -> bool {
        let Some(killing) = self.killing.as_mut().filter(|killing| killing.next <= Instant::now()) else {
            return false;
        };
        let pause = killing.pause;
        killing.pause = (pause * 2).min(LONGEST_PAUSE);
        match self.keeper.children.list() {
            Ok(children) => descent::signal_tree(&children, libc::SIGKILL),
            // Without /proc, or out of memory: at least the group.
            Err(_) => self.signal(libc::SIGKILL, Whom::Group),
        }
        if let Some(killing) = &mut self.killing {
            killing.next = Instant::now() + pause;
        }
        true
    }

    /// Waits for the children that have died. True: there is none any more, neither living nor dead.
    fn reap(&mut self) -> bool {
        let options = WaitOptions::NOHANG | WaitOptions::from_bits_retain(libc::__WALL.cast_unsigned());
        loop {
            match rustix::process::wait(options) {
                Ok(Some((pid, status))) => {
                    if self.main == Some(pid.as_raw_nonzero().get()) {
                        self.main = None;
                        // The limit is the main process's; what lives on in the background has none.
                        self.timer = None;
                        Record::Exited(exit(status.as_raw())).encode(&mut self.reports);
                    }
                    if let Some(killing) = &mut self.killing {
                        killing.pause = SHORTEST_PAUSE;
                    }
                }
                Ok(None) => return false,
                Err(Errno::INTR) => {}
                Err(_) => return true,
            }
        }
    }

    fn give_answer_if_late(&mut self) {
        if self.killing.as_ref().is_some_and(|killing| killing.answers > 0 && killing.since.elapsed() > KILL_TIMEOUT) {
            let left = self.keeper.children.list().map_or(0, |children| children.len());
            self.answer_kill(false, u32::try_from(left).unwrap_or(u32::MAX).max(1));
        }
    }

    fn answer_kill(&mut self, proved: bool, left: u32) {
        let answers = self.killing.as_mut().map_or(0, |killing| std::mem::take(&mut killing.answers));
        for _ in 0..answers {
            Record::Killed { proved, left }.encode(&mut self.reports);
        }
    }

    fn signal(&mut self, signal: i32, whom: Whom) {
        match (whom, self.main) {
            (Whom::Main, Some(main)) => drop(sys::kill(main, signal)),
            (Whom::Main, None) => {}
            (Whom::Group, Some(_)) => drop(sys::kill(-self.pgid, signal)),
            // The number of the group may be another's by now; those of our children are not.
            (Whom::Group, None) => {
                let group = rustix::process::Pid::from_raw(self.pgid);
                for child in self.keeper.children.list().unwrap_or_default() {
                    let pid = rustix::process::Pid::from_raw(child);
                    if rustix::process::getpgid(pid).is_ok_and(|its| Some(its) == group) {
                        let _ = sys::kill(child, signal);
                    }
                }
            }
            (Whom::All, _) => {
                let children = self.keeper.children.list().unwrap_or_default();
                descent::signal_tree(&children, signal);
            }
        }
    }

    /// How long the report of the start waits for that of the end.
    fn held(&self) -> Option<Duration> {
        let until = self.held_until.filter(|_| self.main.is_some() && self.killing.is_none())?;
        until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// Sends what can be sent without waiting.
    fn send_reports(&mut self) {
        if self.reports.is_empty() || self.held().is_some() {
            return;
        }
        if self.is_closed {
            self.reports.clear();
            return;
        }
        match messages::send(self.keeper.control.as_fd(), &self.reports, &[]) {
            Ok(()) => {
                self.reports.clear();
                self.is_announced = true;
            }
            // The guest has many reports to read. Later.
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => {}
            Err(_) => {
                self.reports.clear();
                self.close();
            }
        }
    }

    /// Sends the last reports, however long it takes. False: the guest has gone.
    fn deliver(&mut self) -> bool {
        loop {
            self.send_reports();
            if self.reports.is_empty() {
                return !self.is_closed;
            }
            let mut descriptors = [PollFd::new(&self.keeper.control, PollFlags::OUT)];
            let _ = rustix::event::poll(&mut descriptors, Some(&timespec(LONGEST_PAUSE)));
        }
    }
}

/// The end of a process from its wait status.
fn exit(status: i32) -> Exit {
    match status & 0x7f {
        0 => Exit::Code(status >> 8 & 0xff),
        number => Exit::Signal { number, core_dumped: status & 0x80 != 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses_are_told_apart() {
        assert_eq!(exit(0), Exit::Code(0));
        assert_eq!(exit(0xff00), Exit::Code(255));
        assert_eq!(exit(9), Exit::Signal { number: 9, core_dumped: false });
        assert_eq!(exit(0x8b), Exit::Signal { number: 11, core_dumped: true });
        assert_eq!(exit(64), Exit::Signal { number: 64, core_dumped: false });
    }
}

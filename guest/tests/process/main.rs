//! The keeper of commands against commands that misbehave. Each scenario runs as process 1 of a process namespace of
//! its own, as the guest does, and as a user of its own without privileges or as root. Making the namespace needs root;
//! without it nothing is tested, and that is said.
//!
//! This program is, by its first argument: the test (none, or a part of the names of the scenarios to run), process 1
//! (`inside`), the zygote (`keeper`), or a program that a scenario runs as a command (see `tools.rs`).

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test")]

mod scenarios;
mod tools;

use rustix::event::{PollFd, PollFlags, Timespec};
use sandbox_guest::process::{Notice, Options, Reaper, Spawner};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a scenario has.
pub(crate) struct World {
    pub(crate) spawner: Arc<Spawner>,
    /// What the signals to process 1 have asked for.
    pub(crate) notices: Arc<Mutex<Vec<Notice>>>,
    /// A directory that the scenario's user may write to.
    pub(crate) directory: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    /// A user without privileges, and `no_new_privs`, as in a Pod of the standard *restricted*.
    User,
    /// Root with all capabilities.
    Root,
}

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) who: As,
    pub(crate) run: fn(&World),
    /// What happens outside of the namespace once the scenario has printed `ready`. It is given the number of process 1
    /// out here.
    pub(crate) outside: Option<fn(u32)>,
}

/// No scenario takes so long, even on a machine that is busy.
const LONGEST: Duration = Duration::from_secs(180);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("keeper") => ExitCode::from(u8::from(sandbox_guest::process::zygote_main() != 0)),
        Some("inside") => inside(&arguments[1]),
        Some("tool") => tools::main(&arguments[1..]),
        _ => run_all(arguments.iter().find(|argument| !argument.starts_with('-'))),
    }
}

fn run_all(filter: Option<&String>) -> ExitCode {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: the keeper's tests need root, to make process namespaces. Not one was run.");
        return ExitCode::SUCCESS;
    }
    let directory = std::env::temp_dir().join(format!("sandbox-guest-process-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let scenarios: Vec<&Scenario> = scenarios::ALL
        .iter()
        .filter(|scenario| filter.is_none_or(|part| scenario.name.contains(part.as_str())))
        .collect();
    // Where every user may execute it.
    let program = directory.join("program");
    std::fs::copy("/proc/self/exe", &program).unwrap();
    let guest = directory.join("guest");
    std::fs::copy(env!("CARGO_BIN_EXE_sandbox-guest"), &guest).unwrap();
    for path in [&directory, &program] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    // As it lies in a sandbox: nobody may read it.
    std::fs::set_permissions(&guest, std::fs::Permissions::from_mode(0o111)).unwrap();
    println!("\nrunning {} scenarios", scenarios.len());
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begin = Instant::now();
                    let result = run_one(scenario, &directory);
                    let seconds = begin.elapsed().as_secs_f32();
                    match result {
                        Ok(()) => println!("scenario {} ... ok ({seconds:.1} s)", scenario.name),
                        Err(output) => {
                            println!("scenario {} ... FAILED ({seconds:.1} s)\n{output}", scenario.name);
                            failed.lock().unwrap().push(scenario.name);
                        }
                    }
                }
            });
        }
    });
    std::fs::remove_dir_all(&directory).unwrap();
    let failed = failed.into_inner().unwrap();
    println!("\n{} passed; {} failed {failed:?}", scenarios.len() - failed.len(), failed.len());
    ExitCode::from(u8::from(!failed.is_empty()))
}

fn run_one(scenario: &Scenario, directory: &Path) -> Result<(), String> {
    // A user of its own: the limit of processes counts all of a user's.
    let index = scenarios::ALL.iter().position(|other| other.name == scenario.name).unwrap();
    let user = match scenario.who {
        As::User => u32::try_from(20_000 + index).unwrap(),
        As::Root => 0,
    };
    let home = directory.join(scenario.name.replace(' ', "-"));
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(user), Some(user)).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL"]);
    if scenario.who == As::User {
        command.args(["setpriv", "--clear-groups", "--no-new-privs"]);
        command.args([format!("--reuid={user}"), format!("--regid={user}")]);
    }
    // As a careless runtime may start the guest: with an open descriptor and ignored signals.
    let script = "exec 9</dev/null; trap '' HUP USR1 PIPE; exec \"$@\"";
    command.args(["sh", "-c", script, "sh"]).arg(directory.join("program")).arg("inside").arg(scenario.name);
    command.current_dir(&home).env("SECRET_OF_THE_GUEST", "1").env("RUST_BACKTRACE", "1");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    let output = Arc::new(Mutex::new(String::new()));
    let errors = collect(child.stderr.take().unwrap(), Arc::clone(&output), None);
    let stdin = child.stdin.take().unwrap();
    let parent = child.id();
    let outside = scenario.outside.map(|outside| (outside, parent, stdin));
    let printed = collect(child.stdout.take().unwrap(), Arc::clone(&output), outside);
    let until = Instant::now() + LONGEST;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
            break status;
        }
        if Instant::now() > until {
            end(&mut child);
            output.lock().unwrap().push_str("it did not end in time\n");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    errors.join().unwrap();
    printed.join().unwrap();
    if status.success() { Ok(()) } else { Err(format!("{}{status}", output.lock().unwrap())) }
}

/// Ends a namespace by its process 1, with which everything in it dies.
fn end(unshare: &mut Child) {
    if let Some(pid) = child_of(unshare.id()).and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    let _ = unshare.kill();
}

fn child_of(pid: u32) -> Option<u32> {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?.split_whitespace().next()?.parse().ok()
}

type Outside = (fn(u32), u32, std::process::ChildStdin);

fn collect(
    stream: impl Read + Send + 'static,
    output: Arc<Mutex<String>>,
    mut outside: Option<Outside>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { break };
            if line == "ready"
                && let Some((act, parent, mut stdin)) = outside.take()
            {
                act(child_of(parent).unwrap());
                // The end of its input tells the scenario that it is done.
                stdin.flush().unwrap();
                drop(stdin);
            }
            output.lock().unwrap().push_str(&(line + "\n"));
        }
    })
}

/// Tells the world outside to act, and waits until it has.
pub(crate) fn let_outside_act() {
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Process 1: its main thread does what the guest's does, while the scenario runs in another.
fn inside(name: &str) -> ExitCode {
    assert_eq!(std::process::id(), 1);
    sandbox_guest::sys::protect().unwrap();
    let reaper = Reaper::new().unwrap();
    let spawner = Spawner::start(Options::default()).unwrap();
    let scenario = scenarios::ALL.iter().find(|scenario| scenario.name == name).unwrap();
    let notices = Arc::new(Mutex::new(Vec::new()));
    let directory = std::env::current_dir().unwrap().to_str().unwrap().to_owned();
    let world = World { spawner: Arc::clone(&spawner), notices: Arc::clone(&notices), directory };
    let thread = std::thread::spawn(move || (scenario.run)(&world));
    while !thread.is_finished() {
        let mut descriptors =
            [PollFd::new(&reaper, PollFlags::IN), PollFd::from_borrowed_fd(spawner.tending(), PollFlags::IN)];
        let pause = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let _ = rustix::event::poll(&mut descriptors, Some(&pause));
        if !descriptors[0].revents().is_empty() {
            notices.lock().unwrap().extend(reaper.handle(&spawner));
        }
        spawner.tend();
    }
    ExitCode::from(u8::from(thread.join().is_err()))
}

//! One behaviour, every language: the scenarios of `scenarios.md` in Rust.
#![allow(clippy::unwrap_used, reason = "a scenario fails by panicking")]

mod commands;
mod files;
mod pool;
mod ports;
mod sandboxes;

use std::fmt::Debug;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use sandbox::{
    Cause, ChangeKind, CheckState, Child, Claim, Client, Command, Config, Error, ErrorKind, Filter, Local, LogLevel,
    LogLine, OnMiss, OpenOptions, Origin, Output, OutputStream, Phase, PoolOptions, Position, Progress, Result,
    Sandbox, SandboxSpec, SessionCounts, Stdin, Target, Transport, diagnose, set_log_handler,
};

type Scenario = (&'static str, fn(&World));

const SCENARIOS: [Scenario; 26] = [
    ("life", sandboxes::life),
    ("by-name", sandboxes::by_name),
    ("run", commands::run),
    ("streams", commands::streams),
    ("exit-status", commands::exit_status),
    ("timeout", commands::timeout),
    ("cancel", commands::cancel),
    ("terminal", commands::terminal),
    ("detached", commands::detached),
    ("ports", ports::ports),
    ("bytes", commands::bytes),
    ("large", commands::large),
    ("files", files::files),
    ("transfers", files::transfers),
    ("trees", files::trees),
    ("errors", sandboxes::errors),
    ("file-errors", files::file_errors),
    ("use-after-close", sandboxes::use_after_close),
    ("threads", commands::threads),
    ("fork", commands::fork),
    ("callback", commands::callback),
    ("fleet", sandboxes::fleet),
    ("pool", pool::pool),
    ("settings", sandboxes::settings),
    ("doctor", sandboxes::doctor),
    ("end", sandboxes::end),
];

/// What the scenarios share.
struct World {
    directory: PathBuf,
    /// A label value that only this process's sandboxes have, or begin with.
    owner: String,
    client: Client,
    /// Made by the scenario `life`.
    sandbox: OnceLock<Sandbox>,
}

impl World {
    fn sandbox(&self) -> &Sandbox {
        self.sandbox.get().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The names of the sandboxes whose owner begins so.
    fn listed(&self, owner: &str) -> Vec<String> {
        let all = self.client.list().unwrap().into_iter();
        all.filter(|info| info.owner.starts_with(owner)).map(|info| info.name).collect()
    }

    /// Whether something runs whose command line matches: write `slee[p] 1`, not to be found itself.
    fn runs(&self, pattern: &str) -> bool {
        self.sandbox().command("pgrep").args(["-f", pattern]).status().unwrap().success()
    }

    fn still_works(&self) {
        assert_eq!(self.sandbox().execute("echo works on").unwrap().stdout, b"works on\n");
    }
}

/// The settings that all clients here have.
fn config(owner: &str) -> Config {
    let minute = Duration::from_secs(60);
    let config = Config::from_env().unwrap().owner(owner).lifetime(minute * 10);
    config.create_timeout(minute).command_timeout(minute).transfer_timeout(minute)
}

/// The call fails with this kind, and its message has this text.
#[track_caller]
fn fails<T: Debug>(kind: ErrorKind, text: &str, result: Result<T>) -> Error {
    let error = result.unwrap_err();
    assert!(error.kind() == kind && error.to_string().contains(text), "{kind:?} with {text:?} expected, got {error:?}");
    error
}

#[track_caller]
fn await_that(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 60 s: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn stdout(command: &Command) -> Vec<u8> {
    command.output().unwrap().check().unwrap().stdout
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The numbers from 0 on, as four bytes each.
fn numbers(length: usize) -> Vec<u8> {
    (0..length as u32 / 4).flat_map(u32::to_le_bytes).collect()
}

const LARGE: usize = 16 << 20;

/// Runs a scenario and says how it went.
fn passes((name, scenario): Scenario, world: &World) -> bool {
    static WHY: Mutex<String> = Mutex::new(String::new());
    panic::set_hook(Box::new(|info| *WHY.lock().unwrap() = info.to_string().replace('\n', " ")));
    let has_passed = panic::catch_unwind(AssertUnwindSafe(|| scenario(world))).is_ok();
    match has_passed {
        true => println!("ok {name}"),
        false => println!("failed {name}: {}", WHY.lock().unwrap()),
    }
    has_passed
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(directory) = arguments.next() else { return ExitCode::from(2) };
    let asked = arguments.collect::<Vec<_>>();
    let owner = format!("conformance-rust-{}", std::process::id());
    let client = Client::new(config(&owner)).unwrap();
    let world = World { directory: directory.into(), owner, client, sandbox: OnceLock::new() };
    let is_asked_for = |name: &str| asked.is_empty() || name == "life" || asked.iter().any(|one| one == name);
    let chosen = SCENARIOS.into_iter().filter(|(name, _)| is_asked_for(name));
    let failures = chosen.filter(|scenario| !passes(*scenario, &world)).count();
    // What a failed scenario, or a choice of them, has left.
    for name in world.listed(&world.owner) {
        let _ = world.client.delete_sandbox(&name);
    }
    ExitCode::from(u8::from(failures > 0))
}

//! `sandbox run`: a command with this program's streams, signals and exit code.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl};
use sandbox::{Child, Client, Error, ErrorKind, ExitStatus};
use signal_hook::consts::SIGWINCH;
use signal_hook::iterator::Signals;

use crate::arguments::Run;
use crate::copy::check_no_home;
use crate::output::Failure;
use crate::stream::write_all;
use crate::{signals, terminal};

const TIMED_OUT: u8 = 124;
const DID_NOT_RUN: u8 = 127;
const FAILED: u8 = 255;
/// One read of an output stream.
const BUFFER: usize = 64 << 10;
const HANG_UP: &str = "HUP";
/// It is repeated: bash 5.2 loses one that comes after its prompt and before it waits for keys.
const HANG_UP_INTERVAL: Duration = Duration::from_secs(1);

/// What happens while a command runs.
enum Event {
    Signal(i32),
    /// An output stream came to its end, or nobody takes it here.
    Output(io::Result<()>),
    Ended(sandbox::Result<ExitStatus>),
}

pub(crate) fn run(client: &Client, run: &Run) -> Result<ExitCode, Failure> {
    let child = start(client, run)?;
    // Until here a signal ends this program, and a terminal is as it was.
    follow(child, run.tty)
}

/// A failure of this program's own.
pub(crate) fn failed(e: Error) -> Failure {
    let code = if e.kind() == ErrorKind::Command { DID_NOT_RUN } else { FAILED };
    Failure::from(e).with_code(code)
}

fn here(e: io::Error) -> Failure {
    Failure::here(e.to_string()).with_code(FAILED)
}

fn start(client: &Client, run: &Run) -> Result<Child, Failure> {
    if run.tty {
        terminal::check().map_err(|failure| failure.with_code(FAILED))?;
    }
    let sandbox = client.attach(&run.name).map_err(failed)?;
    let limit = run.timeout.and_then(|limit| limit.0);
    let mut command = sandbox.command(&run.command[0]).args(&run.command[1..]).timeout(limit);
    // nohup leaves an input that can't be read.
    if !run.no_stdin && fcntl_getfl(io::stdin()).is_ok_and(|flags| flags & OFlags::ACCMODE != OFlags::WRONLY) {
        command = command.stdin(io::stdin().as_fd().try_clone_to_owned().map_err(here)?);
    }
    for (name, value) in &run.env {
        command = command.env(name, value);
    }
    if let Some(directory) = &run.workdir {
        check_no_home(directory).map_err(|failure| failure.with_code(FAILED))?;
        command = command.current_dir(directory);
    }
    if let Some(user) = &run.user {
        command = command.user(user);
    }
    if run.tty {
        let (columns, rows) = terminal::size();
        command = command.terminal(terminal::kind(), columns, rows);
    }
    command.spawn().map_err(failed)
}

fn follow(mut child: Child, is_tty: bool) -> Result<ExitCode, Failure> {
    let mut listened = signals::that_end();
    if is_tty {
        listened.push(SIGWINCH);
    }
    let mut listener = Signals::new(listened).map_err(here)?;
    let _raw = is_tty.then(terminal::Raw::begin).transpose().map_err(here)?;
    if is_tty {
        // It may have changed while nobody listened.
        resize(&child);
    }
    // What comes after this program's own input: nothing.
    child.stdin = None;
    let (sender, events) = channel();
    if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
        pass_on(stdout, io::stdout().as_fd().try_clone_to_owned().map_err(here)?, sender.clone());
        pass_on(stderr, io::stderr().as_fd().try_clone_to_owned().map_err(here)?, sender.clone());
    }
    let child = Arc::new(child);
    let (awaited, ended) = (Arc::clone(&child), sender.clone());
    thread::spawn(move || ended.send(Event::Ended(awaited.wait_shared())));
    thread::spawn(move || listener.forever().try_for_each(|signal| sender.send(Event::Signal(signal))));

    let (mut open_outputs, mut interruptions, mut unwritten, mut result) = (2, 0, None, None);
    loop {
        let timeout = if is_tty && interruptions == 1 { HANG_UP_INTERVAL } else { Duration::MAX };
        match events.recv_timeout(timeout) {
            Err(RecvTimeoutError::Timeout) => child.signal(HANG_UP).map_err(failed)?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::here("the threads of this command are gone").with_code(FAILED));
            }
            Ok(Event::Signal(SIGWINCH)) => resize(&child),
            Ok(Event::Signal(signal)) => {
                interruptions += 1;
                match interruptions {
                    1 if result.is_none() => child.signal(asked(signal, is_tty)).map_err(failed)?,
                    2 if result.is_none() => child.kill().map_err(failed)?,
                    _ => return Ok(ExitCode::from(128 + signals::number(signals::name(signal)))),
                }
            }
            Ok(Event::Output(written)) => {
                open_outputs -= 1;
                if let Err(e) = written {
                    child.kill().map_err(failed)?;
                    unwritten.get_or_insert(e);
                }
            }
            Ok(Event::Ended(ended)) => result = Some(ended),
        }
        if open_outputs == 0
            && let Some(result) = result.take()
        {
            return finish(result, unwritten);
        }
    }
}

fn resize(child: &Child) {
    let (columns, rows) = terminal::size();
    child.resize(columns, rows);
}

/// What a command is asked with when this program is asked to end. A shell on a terminal ignores most signals, but not
/// that the terminal is gone.
fn asked(signal: i32, is_tty: bool) -> &'static str {
    if is_tty { HANG_UP } else { signals::name(signal) }
}

fn finish(result: sandbox::Result<ExitStatus>, unwritten: Option<io::Error>) -> Result<ExitCode, Failure> {
    if let Some(e) = unwritten {
        return Err(Failure::from(e).with_code(FAILED));
    }
    let status = result.map_err(|e| match e.kind() {
        ErrorKind::TimedOut => Failure::from(e).with_code(TIMED_OUT),
        _ => failed(e),
    })?;
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(FAILED),
        (None, name) => 128 + signals::number(name.unwrap_or_default()),
    };
    Ok(ExitCode::from(code))
}

/// Copies an output stream on a thread of its own.
fn pass_on(mut from: impl Read + Send + 'static, to: OwnedFd, events: Sender<Event>) {
    let mut copy = move || {
        let mut buffer = vec![0; BUFFER];
        loop {
            match from.read(&mut buffer) {
                // A lost connection ends the stream too; the command's end tells why.
                Ok(0) => return Ok(()),
                Ok(length) => write_all(to.as_fd(), &buffer[..length])?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Ok(()),
            }
        }
    };
    thread::spawn(move || events.send(Event::Output(copy())));
}

//! Commands that run beside their caller, after `std::process::Child`.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::pipes::Pipes;
use super::streams::Collector;
use super::{Command, ExitStatus, Output};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fd::Awaited;
use crate::fork::ForkGuard;
use crate::ssh::commands::{ControlRequest, Size, StreamId, Streams};

/// A command that was started by [`Command::spawn`].
///
/// Its streams can be taken and used from other threads. As with a process of this machine, a command blocks when
/// nobody reads its output and the buffers are full, so read both streams at once, or use [`Child::wait_with_output`].
/// A stream that is dropped is read and thrown away, or closed.
///
/// **Dropping a `Child` does not end its command**, and does not wait: the command runs on to its end or its timeout,
/// with its input closed.
#[derive(Debug)]
pub struct Child {
    /// Writes to the command's standard input; dropping it ends the input.
    pub stdin: Option<ChildStdin>,
    /// Reads the command's standard output.
    pub stdout: Option<ChildStdout>,
    /// Reads the command's standard error.
    pub stderr: Option<ChildStderr>,
    id: String,
    output_limit: usize,
    shared: Arc<Shared>,
}

/// The standard input of a [`Child`].
#[derive(Debug)]
pub struct ChildStdin(End);

/// The standard output of a [`Child`]. As with a socket, a shared reference is enough to read.
#[derive(Debug)]
pub struct ChildStdout(End);

/// The standard error of a [`Child`]. As with a socket, a shared reference is enough to read.
#[derive(Debug)]
pub struct ChildStderr(End);

/// The caller's end of a stream.
#[derive(Debug)]
struct End {
    socket: UnixStream,
    process: ForkGuard,
}

/// What a child and the thread that runs it share.
#[derive(Debug)]
pub(super) struct Shared {
    process: ForkGuard,
    state: Mutex<State>,
    changed: Condvar,
    requests: Mutex<VecDeque<ControlRequest>>,
    /// A byte written here makes the thread look for them.
    wake_tx: UnixStream,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// The command's number in the sandbox, once its program has been executed.
    pub(super) id: Option<u64>,
    result: Option<Result<ExitStatus>>,
}

impl State {
    fn result(&self) -> Option<Result<ExitStatus>> {
        Some(match self.result.as_ref()? {
            Ok(status) => Ok(*status),
            Err(e) => Err(e.again()),
        })
    }
}

impl Child {
    pub(crate) fn spawn(command: Command) -> Result<Self> {
        let pairs =
            || Ok::<_, io::Error>([UnixStream::pair()?, UnixStream::pair()?, UnixStream::pair()?, UnixStream::pair()?]);
        let unusable =
            |e: io::Error| Error::new(ErrorKind::Command, format!("this process can't start a command: {e}"));
        let [(wake_tx, wake_rx), (stdin, input), (stdout, out), (stderr, err)] = pairs().map_err(unusable)?;
        // Those of the caller too: it waits where it can be interrupted.
        for ours in [&wake_tx, &wake_rx, &stdin, &out, &stdout, &err, &stderr] {
            ours.set_nonblocking(true).map_err(unusable)?;
        }
        let (state, changed, requests) = (Mutex::default(), Condvar::new(), Mutex::default());
        let process = ForkGuard::current();
        let shared = Arc::new(Shared { process, state, changed, requests, wake_tx });
        let mut pipes = Pipes::new(Arc::clone(&shared), wake_rx, input, [out, err]);
        let (output_limit, command) = (command.output_limit, command.with_more_input());
        let run = move || {
            let result = command.call(|| command.run(&mut pipes));
            pipes.end(result);
        };
        thread::Builder::new().name("sandbox-command".into()).spawn(run).map_err(unusable)?;
        let started = shared.wait_until("the start of the command", |state| match state.id {
            Some(id) => Some(Ok(id.to_string())),
            // A result without a start is a failure.
            None => state.result().map(|result| result.map(|_| String::new())),
        });
        let id = started.map_err(|e| match e.kind() {
            ErrorKind::Cancelled => {
                shared.request(ControlRequest::Kill);
                e.context("the command is killed as soon as it starts")
            }
            _ => e,
        })?;
        let [stdin, stdout, stderr] = [stdin, stdout, stderr].map(|socket| End { socket, process });
        let (stdin, stdout, stderr) = (ChildStdin(stdin), ChildStdout(stdout), ChildStderr(stderr));
        Ok(Self { stdin: Some(stdin), stdout: Some(stdout), stderr: Some(stderr), id, output_limit, shared })
    }
}

impl Child {
    /// The command's number in the sandbox, as text.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Closes the input if it was not taken, and waits until the command has ended. May be called again.
    ///
    /// # Errors
    /// As [`Command::output`].
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.stdin = None;
        self.shared.wait()
    }

    /// Waits until the command has ended, without closing its input, so that other threads can use the child meanwhile.
    ///
    /// # Errors
    /// As [`Child::wait`].
    pub fn wait_shared(&self) -> Result<ExitStatus> {
        self.shared.wait()
    }

    /// The status if the command has ended, `None` if it runs.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let child = sandbox.command("sleep").arg("1").spawn()?;
    /// while child.try_wait()?.is_none() {
    ///     std::thread::sleep(std::time::Duration::from_millis(100));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Child::wait`].
    pub fn try_wait(&self) -> Result<Option<ExitStatus>> {
        self.shared.process.check()?;
        self.shared.state.lock().result().transpose()
    }

    /// Closes the input, reads both output streams to their ends, and waits. It keeps [`Command::output_limit`] bytes
    /// of each stream in memory, and counts the rest.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let child = sandbox.command("sha256sum").stdin("some bytes").spawn()?;
    /// println!("{}", child.wait_with_output()?.stdout_text());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Child::wait`].
    pub fn wait_with_output(mut self) -> Result<Output> {
        self.stdin = None;
        self.collect(self.stdout.as_ref(), self.stderr.as_ref())
    }

    /// Call this before taking a lock: after `fork` its owner may not exist.
    pub(crate) fn check_process(&self) -> Result<()> {
        self.shared.process.check()
    }

    /// Waits for the turn of this thread.
    pub(crate) fn lock<'m, T>(&self, mutex: &'m Mutex<T>) -> Result<MutexGuard<'m, T>> {
        self.check_process()?;
        Deadline::after(None).lock(mutex, "a call of another thread")
    }

    /// What [`Child::wait_with_output`] does, with streams that were taken.
    pub(crate) fn collect(&self, stdout: Option<&ChildStdout>, stderr: Option<&ChildStderr>) -> Result<Output> {
        self.check_process()?;
        let mut collected = Collector::up_to(self.output_limit);
        let ends = [stdout.map(|end| (StreamId::Stdout, &end.0)), stderr.map(|end| (StreamId::Stderr, &end.0))];
        let result = read_all(ends.into_iter().flatten().collect(), &mut collected).and_then(|()| self.shared.wait());
        let Collector { stdout, stderr, dropped, .. } = collected;
        match result {
            Ok(status) => Ok(Output { status, stdout, stderr, truncated: dropped }),
            Err(e) => Err(e.with_output(stdout, stderr)),
        }
    }

    /// Kills the command and all processes that it started. [`Child::wait`] returns when they are gone.
    ///
    /// # Errors
    /// [`ErrorKind::Forked`]; a command that has ended needs no signal.
    pub fn kill(&self) -> Result<()> {
        self.shared.process.check()?;
        self.shared.request(ControlRequest::Kill);
        Ok(())
    }

    /// Sends the command's process group a signal, named without `SIG`, such as `INT` or `TERM`.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let mut child = sandbox.command("server").spawn()?;
    /// child.signal("TERM")?;
    /// println!("{}", child.wait()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if there is no signal of this name.
    pub fn signal(&self, name: &str) -> Result<()> {
        check_signal(name)?;
        self.shared.process.check()?;
        self.shared.request(ControlRequest::Signal(name.to_owned()));
        Ok(())
    }

    /// Changes the size of the command's terminal, in characters.
    pub fn resize(&self, columns: u16, rows: u16) {
        if self.shared.process.is_current() {
            self.shared.request(ControlRequest::Resize(Size { columns, rows }));
        }
    }
}

/// Reads streams to their ends. A lost connection is an end too; the reason comes from `wait`.
fn read_all(mut open: Vec<(StreamId, &End)>, collected: &mut Collector) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    while !open.is_empty() {
        let awaited: Vec<_> = open.iter().map(|(_, end)| Awaited::to_read(end.socket.as_fd())).collect();
        Awaited::wait(&awaited, Deadline::after(None), "the command's output")?;
        open.retain(|(stream, end)| match (&end.socket).read(&mut buffer) {
            Ok(length) => length > 0 && collected.output(*stream, &buffer[..length]).is_ok(),
            Err(e) => matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        });
    }
    Ok(())
}

pub(super) fn check_signal(name: &str) -> Result<()> {
    if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidArgument,
        format!("there is no signal {name:?}; signals have names such as TERM or INT"),
    ))
}

impl Shared {
    fn wait(&self) -> Result<ExitStatus> {
        self.wait_until("the command", State::result)
    }

    fn wait_until<T>(&self, waiting_for: &str, is_so: impl Fn(&State) -> Option<Result<T>>) -> Result<T> {
        self.process.check()?;
        let (deadline, mut state) = (Deadline::after(None), self.state.lock());
        loop {
            if let Some(result) = is_so(&state) {
                return result;
            }
            match deadline.next_check().remaining() {
                None => self.changed.wait(&mut state),
                Some(left) => drop(self.changed.wait_for(&mut state, left)),
            }
            MutexGuard::unlocked(&mut state, || deadline.check(waiting_for))?;
        }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }

    /// Makes the result known; the first one counts.
    pub(super) fn end(&self, result: Result<ExitStatus>) {
        self.change(|state| {
            state.result.get_or_insert(result);
        });
    }

    fn request(&self, control: ControlRequest) {
        self.requests.lock().push_back(control);
        // A full socket wakes the thread anyway; EPIPE means that it has ended.
        let _ = (&self.wake_tx).write(&[0]);
    }

    pub(super) fn next_request(&self) -> Option<ControlRequest> {
        self.requests.lock().pop_front()
    }
}

impl End {
    fn here(&self) -> io::Result<&UnixStream> {
        self.process.check()?;
        Ok(&self.socket)
    }

    /// Repeats `step` until it is done, waiting for the socket in between.
    fn drive<'a>(
        &'a self,
        awaited: impl Fn(BorrowedFd<'a>) -> Awaited<'a>,
        mut step: impl FnMut(&'a UnixStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let (socket, deadline) = (self.here()?, Deadline::after(None));
        loop {
            // Also where there is never anything to wait for.
            deadline.check("the command")?;
            match step(socket) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            Awaited::wait(&[awaited(socket.as_fd())], deadline, "the command")?;
        }
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.drive(Awaited::to_read, |mut socket| socket.read(buffer))
    }

    /// Ends the stream, and with it the calls that are blocked there.
    fn shut(&self, how: Shutdown) {
        // In a forked child this would cut off the process that made it.
        if self.process.is_current() {
            let _ = self.socket.shutdown(how);
        }
    }
}

impl Read for &ChildStdout {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Read for ChildStdout {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Read for &ChildStderr {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Read for ChildStderr {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl ChildStdout {
    /// Lets go of the stream while other threads may be blocked in it, who find its end.
    pub(crate) fn close(&self) {
        self.0.shut(Shutdown::Both);
    }
}

impl ChildStderr {
    /// As [`ChildStdout::close`].
    pub(crate) fn close(&self) {
        self.0.shut(Shutdown::Both);
    }
}

impl Write for ChildStdin {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.drive(Awaited::to_write, |mut socket| socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for ChildStdin {
    fn drop(&mut self) {
        self.0.shut(Shutdown::Write);
    }
}

//! Commands that run beside their caller, after `std::process::Child`.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::thread;

use parking_lot::{Condvar, Mutex};

use super::input::Inflow;
use super::line::NEVER_RAN;
use super::{Command, ExitStatus, Output};
use crate::error::{Error, ErrorKind, Result};
use crate::nonce;
use crate::runtime::Process;
use crate::ssh::exec::{Awaited, Collector, Ending, Input, Order, Size, StreamId, Streams};

/// A command that was started by [`Command::spawn`].
///
/// Its streams can be taken and used from other threads. As with a process of this machine, a command whose output nobody reads
/// stops when the buffers are full, so read both streams at once, or use [`Child::wait_with_output`]. A stream that is dropped is
/// read and thrown away, or closed.
///
/// **Dropping a `Child` does not end its command**: it runs on to its end or its timeout, with its input closed.
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
    process: Process,
}

/// What a child and the thread that runs it share.
#[derive(Debug)]
struct Shared {
    process: Process,
    result: Mutex<Option<Result<ExitStatus>>>,
    ended: Condvar,
    orders: Mutex<VecDeque<Order>>,
    /// A byte written here makes the thread look for orders.
    bell: UnixStream,
}

impl Child {
    pub(crate) fn spawn(command: Command) -> Result<Self> {
        let pairs =
            || Ok::<_, io::Error>([UnixStream::pair()?, UnixStream::pair()?, UnixStream::pair()?, UnixStream::pair()?]);
        let unusable =
            |e: io::Error| Error::new(ErrorKind::Command, format!("this process can't start a command: {e}"));
        let [(bell, heard), (stdin, input), (stdout, out), (stderr, err)] = pairs().map_err(unusable)?;
        for ours in [&bell, &heard, &out, &err] {
            ours.set_nonblocking(true).map_err(unusable)?;
        }
        let (result, orders) = (Mutex::new(None), Mutex::default());
        let process = Process::current();
        let shared = Arc::new(Shared { process, result, ended: Condvar::new(), orders, bell });
        let (started, start) = mpsc::sync_channel(1);
        let id = nonce::hex();
        let mut pipes = Pipes {
            started: Some(started),
            shared: Arc::clone(&shared),
            heard,
            input: Some(Inflow::new(input)),
            outputs: [OutputPipe::new(out), OutputPipe::new(err)],
        };
        let (its_id, output_limit) = (id.clone(), command.output_limit);
        let run = move || {
            let result = command.run(&its_id, &mut pipes);
            pipes.end(result.map(ExitStatus).map_err(|e| command.explain(e)));
        };
        thread::Builder::new().name("sandbox-command".into()).spawn(run).map_err(unusable)?;
        if start.recv().is_err() {
            // The thread is gone without a start: its result says why.
            return shared.wait().and_then(|_| Err(Error::new(ErrorKind::Command, "the command did not start")));
        }
        let [stdin, stdout, stderr] = [stdin, stdout, stderr].map(|socket| End { socket, process });
        let (stdin, stdout, stderr) = (ChildStdin(stdin), ChildStdout(stdout), ChildStderr(stderr));
        Ok(Self { stdin: Some(stdin), stdout: Some(stdout), stderr: Some(stderr), id, output_limit, shared })
    }
}

impl Child {
    /// The value of `SANDBOX_COMMAND_ID` in the environment of the command's processes.
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

    /// Waits until the command has ended and leaves its input as it is, so that other threads may use the child meanwhile.
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
        match &*self.shared.result.lock() {
            None => Ok(None),
            Some(Ok(status)) => Ok(Some(status.clone())),
            Some(Err(e)) => Err(e.again()),
        }
    }

    /// Closes the input, reads both output streams to their ends, and waits. It keeps [`Command::output_limit`] bytes of each stream
    /// in memory, and counts the rest.
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
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        self.collect(stdout, stderr)
    }

    /// For who has to take a lock first, which another thread may have held when this process was forked.
    pub(crate) fn check_process(&self) -> Result<()> {
        self.shared.process.check()
    }

    /// What [`Child::wait_with_output`] does, with streams that were taken.
    pub(crate) fn collect(&self, stdout: Option<impl Read>, stderr: Option<impl Read + Send>) -> Result<Output> {
        self.check_process()?;
        let limit = self.output_limit;
        let ((stdout, lost), (stderr, lost_too)) = thread::scope(|scope| {
            let reader = scope.spawn(|| read_all(stderr, limit));
            (read_all(stdout, limit), reader.join().unwrap_or_default())
        });
        match self.shared.wait() {
            Ok(status) => Ok(Output { status, stdout, stderr, truncated: lost + lost_too }),
            Err(e) => Err(e.with_output(stdout, stderr)),
        }
    }

    /// Sends the command's process group the signal `KILL`. [`Child::wait`] tells when it has ended.
    ///
    /// # Errors
    /// [`ErrorKind::Forked`]; a command that has ended needs no signal.
    pub fn kill(&self) -> Result<()> {
        self.signal("KILL")
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
    /// [`ErrorKind::InvalidArgument`] if this is no name of a signal.
    pub fn signal(&self, name: &str) -> Result<()> {
        check_signal(name)?;
        self.shared.process.check()?;
        self.shared.give(Order::Signal(name.to_owned()));
        Ok(())
    }

    /// Tells the command that its terminal has another size, in characters.
    pub fn resize(&self, columns: u16, rows: u16) {
        if self.shared.process.is_current() {
            self.shared.give(Order::Resize(Size { columns, rows }));
        }
    }
}

/// Reads a stream to its end: what is kept of it, and how many bytes are not. A lost connection ends the stream; the reason comes
/// from `wait`.
fn read_all(stream: Option<impl Read>, limit: usize) -> (Vec<u8>, u64) {
    let (mut kept, mut lost, mut buffer) = (Vec::new(), 0, vec![0; 64 << 10]);
    let Some(mut stream) = stream else { return (kept, lost) };
    loop {
        match stream.read(&mut buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Ok(length @ 1..) => lost += Collector::keep(&mut kept, limit, &buffer[..length]),
            _ => return (kept, lost),
        }
    }
}

pub(super) fn check_signal(name: &str) -> Result<()> {
    if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidArgument, format!("{name:?} is no signal; one is TERM, another INT")))
}

impl Shared {
    fn wait(&self) -> Result<ExitStatus> {
        self.process.check()?;
        let mut result = self.result.lock();
        loop {
            match &*result {
                None => self.ended.wait(&mut result),
                Some(Ok(status)) => return Ok(status.clone()),
                Some(Err(e)) => return Err(e.again()),
            }
        }
    }

    /// Makes the result known; the first one counts.
    fn end(&self, result: Result<ExitStatus>) {
        self.result.lock().get_or_insert(result);
        self.ended.notify_all();
    }

    fn give(&self, order: Order) {
        self.orders.lock().push_back(order);
        // A full bell rings already; a thread that is gone needs no order.
        let _ = (&self.bell).write(&[0]);
    }
}

impl End {
    fn here(&self) -> io::Result<&UnixStream> {
        self.process.check()?;
        Ok(&self.socket)
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
        self.0.here()?.read(buffer)
    }
}

impl Read for ChildStdout {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Read for &ChildStderr {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.here()?.read(buffer)
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
        self.0.here()?.write(bytes)
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

/// The thread's side of a child's streams.
struct Pipes {
    started: Option<mpsc::SyncSender<()>>,
    shared: Arc<Shared>,
    heard: UnixStream,
    /// `None` once it has ended.
    input: Option<Inflow>,
    outputs: [OutputPipe; 2],
}

/// One output stream: what its reader has not taken yet.
struct OutputPipe {
    /// `None` once nobody reads it.
    socket: Option<UnixStream>,
    pending: Vec<u8>,
}

impl OutputPipe {
    fn new(socket: UnixStream) -> Self {
        Self { socket: Some(socket), pending: Vec::new() }
    }

    /// Hands over what the reader has room for; true if nothing is left.
    fn flush(&mut self) -> bool {
        while !self.pending.is_empty() {
            let Some(socket) = &mut self.socket else {
                self.pending.clear();
                break;
            };
            match socket.write(&self.pending) {
                Ok(length) => drop(self.pending.drain(..length)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.socket = None,
            }
        }
        true
    }

    fn awaited(&self) -> Option<Awaited<'_>> {
        let socket = self.socket.as_ref().filter(|_| !self.pending.is_empty())?;
        Some(Awaited::to_write(socket.as_fd()))
    }
}

impl Pipes {
    /// Makes the result known, then hands the rest of the output to whoever still reads.
    fn end(mut self, result: Result<ExitStatus>) {
        self.shared.end(result);
        // `spawn` still waits if the command never started.
        drop(self.started.take());
        self.input = None;
        loop {
            for output in &mut self.outputs {
                if output.flush() {
                    output.socket = None;
                }
            }
            let awaited: Vec<_> = self.outputs.iter().filter_map(OutputPipe::awaited).collect();
            if awaited.is_empty() {
                return;
            }
            Awaited::wait(&awaited);
        }
    }
}

impl Streams for Pipes {
    fn started(&mut self) {
        if let Some(started) = self.started.take() {
            let _ = started.send(());
        }
    }

    fn input(&mut self) -> Result<Input<'_>> {
        if let Some(input) = &mut self.input
            && !input.fill().unwrap_or(false)
        {
            self.input = None;
        }
        Ok(self.input.as_ref().map_or(Input::End, Inflow::input))
    }

    fn sent(&mut self, length: usize) {
        if let Some(input) = &mut self.input {
            input.sent(length);
        }
    }

    fn has_room(&mut self, stream: StreamId) -> Result<bool> {
        Ok(self.outputs[stream as usize].flush())
    }

    fn output(&mut self, stream: StreamId, bytes: &[u8]) -> Result<()> {
        self.outputs[stream as usize].pending.extend_from_slice(bytes);
        Ok(())
    }

    fn ended(&mut self, ending: &Ending) {
        // What this code means is only known once the sandbox has been asked.
        if *ending != Ending::Code(NEVER_RAN) {
            self.shared.end(Ok(ExitStatus(ending.clone())));
        }
    }

    fn order(&mut self) -> Option<Order> {
        // First the bell: an order given in between rings again.
        let mut rings = [0; 64];
        while matches!(self.heard.read(&mut rings), Ok(1..)) {}
        self.shared.orders.lock().pop_front()
    }

    fn descriptors(&self, takes_input: bool) -> Vec<Awaited<'_>> {
        let bell = Some(Awaited::to_read(self.heard.as_fd()));
        let input = self.input.as_ref().filter(|_| takes_input).and_then(Inflow::awaited);
        let outputs = self.outputs.iter().map(OutputPipe::awaited);
        [bell, input].into_iter().chain(outputs).flatten().collect()
    }
}

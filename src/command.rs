//! Commands, after `std::process`.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use crate::child::Child;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::nonce;
use crate::sandbox::Sandbox;
use crate::ssh::exec::{Awaited, Ending, Input, Order, Running, Size, StreamId, Streams};

/// Bytes of each output stream that are kept in memory unless [`Command::output_limit`] says otherwise.
const OUTPUT_LIMIT: usize = 256 << 20;
/// libssh2 puts a command line into one packet of about 32 kB; a longer one travels as input.
const LONGEST_LINE: usize = 30_000;
/// Where the start script left the image's environment and working directory.
const PRELUDE: &[u8] = b". /dev/shm/.sandbox/env\n";

/// A command to run in a sandbox; made by [`Sandbox::command`] or [`Sandbox::shell`].
///
/// It sees the image's environment, then the spec's, then its own, and begins in the image's working directory, as with
/// `docker run IMAGE COMMAND`; no start-up file of a shell runs. By default:
///
/// - its input is empty,
/// - both output streams are kept in memory, 256 MiB of each,
/// - the configured `command_timeout` applies.
///
/// It may be run again and again; each run is a new process. **A run happens at most once**: when the connection is lost after
/// the command was requested, the error is [`ErrorKind::OutcomeUnknown`] and the command is not sent again. When its time runs
/// out, its processes are killed in the sandbox, those that left its process group too, and the error has its output so far.
#[derive(Clone)]
pub struct Command {
    sandbox: Sandbox,
    what: What,
    env: Vec<(OsString, OsString)>,
    directory: Option<OsString>,
    input: Vec<u8>,
    timeout: Option<Duration>,
    output_limit: usize,
    terminal: Option<Terminal>,
}

#[derive(Clone, Debug)]
struct Terminal {
    kind: String,
    size: Size,
}

#[derive(Clone, Debug)]
enum What {
    Program(Vec<OsString>),
    Shell { line: OsString, args: Vec<OsString> },
}

/// What a command wrote and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// How the command ended.
    pub status: ExitStatus,
    /// The bytes of its standard output, up to the limit.
    pub stdout: Vec<u8>,
    /// The bytes of its standard error, up to the limit.
    pub stderr: Vec<u8>,
    /// How many bytes of both streams were beyond the limit and are lost.
    pub truncated: u64,
}

/// How a command ended: with an exit code, or by a signal. The server really said so; nothing is made up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitStatus(pub(crate) Ending);

/// One of the two output streams, for [`Command::stream`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl ExitStatus {
    /// True for exit code 0.
    pub fn success(&self) -> bool {
        self.code() == Some(0)
    }

    /// The exit code, unless a signal ended the command.
    pub fn code(&self) -> Option<i32> {
        match self.0 {
            Ending::Code(code) => Some(code),
            Ending::Signal(_) => None,
        }
    }

    /// The name of the signal that ended the command, without `SIG`, such as `KILL`.
    pub fn signal(&self) -> Option<&str> {
        match &self.0 {
            Ending::Code(_) => None,
            Ending::Signal(name) => Some(name),
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ending::Code(code) => write!(f, "exit code {code}"),
            Ending::Signal(name) => write!(f, "signal {name}"),
        }
    }
}

impl Output {
    /// The standard output as text; bytes that are not UTF-8 become `U+FFFD`.
    pub fn stdout_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }

    /// The standard error as text; bytes that are not UTF-8 become `U+FFFD`.
    pub fn stderr_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stderr)
    }

    /// The output of a command that succeeded, else an error that has it.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let version = sandbox.command("gcc").arg("--version").output()?.check()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::CommandFailed`] with the status and the last line of the standard error.
    pub fn check(self) -> Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        let text = self.stderr_text();
        let message = match text.trim_end().lines().next_back() {
            Some(line) => format!("the command ended with {}: {line}", self.status),
            None => format!("the command ended with {}", self.status),
        };
        Err(Error::new(ErrorKind::CommandFailed, message).with_output(self.stdout, self.stderr))
    }
}

impl Command {
    pub(crate) fn program(sandbox: Sandbox, program: &OsStr) -> Self {
        Self::new(sandbox, What::Program(vec![program.to_owned()]))
    }

    pub(crate) fn shell(sandbox: Sandbox, line: &OsStr) -> Self {
        Self::new(sandbox, What::Shell { line: line.to_owned(), args: Vec::new() })
    }

    fn new(sandbox: Sandbox, what: What) -> Self {
        let timeout = sandbox.core.config.command_timeout;
        Self {
            sandbox,
            what,
            env: Vec::new(),
            directory: None,
            input: Vec::new(),
            timeout,
            output_limit: OUTPUT_LIMIT,
            terminal: None,
        }
    }

    /// Adds an argument. For a shell line the arguments are `$1`, `$2`, ….
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        let (What::Program(words) | What::Shell { args: words, .. }) = &mut self.what;
        words.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(self, args: impl IntoIterator<Item = A>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Sets an environment variable for the command. Its value may hold any bytes but NUL.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let output = sandbox.command("env").env("STAGE", "test").output()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Directory to run in, relative to the image's working directory.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let status = sandbox.command("make").current_dir("/src/project").status()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn current_dir(mut self, directory: impl AsRef<OsStr>) -> Self {
        self.directory = Some(directory.as_ref().to_owned());
        self
    }

    /// Bytes for the command's standard input, which ends after them. Default: none.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let sorted = sandbox.command("sort").stdin("b\na\n").output()?;
    /// assert_eq!(sorted.stdout, b"a\nb\n");
    /// # Ok(())
    /// # }
    /// ```
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Time after which the command is killed; `None` for no limit. Default: the configured `command_timeout`.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// use std::time::Duration;
    /// use sandbox::ErrorKind;
    ///
    /// match sandbox.command("solve").timeout(Duration::from_secs(10)).output() {
    ///     Err(e) if e.kind() == ErrorKind::TimedOut => {
    ///         println!("so far: {:?}", e.partial_output().map(|output| output.stdout.len()));
    ///     }
    ///     result => println!("{}", result?.status),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Runs the command on a terminal of this kind (such as `xterm-256color`) and size in characters. Both output streams come
    /// as standard output then, and the terminal turns line ends into `\r\n`. Default: no terminal.
    pub fn terminal(mut self, kind: impl Into<String>, columns: u16, rows: u16) -> Self {
        self.terminal = Some(Terminal { kind: kind.into(), size: Size { columns, rows } });
        self
    }

    /// Bytes of each output stream to keep in memory; [`Output::truncated`] counts the rest. Default: 256 MiB.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let output = sandbox.command("yes").arg("no").output_limit(1 << 20).output()?;
    /// println!("{} bytes more", output.truncated);
    /// # Ok(())
    /// # }
    /// ```
    pub fn output_limit(mut self, bytes: usize) -> Self {
        self.output_limit = bytes;
        self
    }

    /// Runs the command to its end and collects its output. 2 round trips on a warm connection, no API call.
    ///
    /// # Errors
    /// [`ErrorKind::Connect`], [`ErrorKind::Authentication`], [`ErrorKind::HostKeyMismatch`] or [`ErrorKind::NotFound`] if the
    /// sandbox can't be reached; [`ErrorKind::Command`] if the command did not run; [`ErrorKind::TimedOut`] if it was killed at
    /// its deadline; [`ErrorKind::OutcomeUnknown`] if the connection was lost while it may have run. A non-zero exit code is
    /// not an error; see [`Output::check`].
    pub fn output(&self) -> Result<Output> {
        let (id, mut collected) = (nonce::hex(), Collector { limit: self.output_limit, ..Collector::default() });
        let result = self.run(&id, &mut collected);
        let Collector { stdout, stderr, dropped, .. } = collected;
        match result {
            Ok(ending) => self.judge(Output { status: ExitStatus(ending), stdout, stderr, truncated: dropped }, &id),
            Err(e) => Err(self.explain(e.with_output(stdout, stderr))),
        }
    }

    /// Runs the command and throws its output away.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// if sandbox.command("test").args(["-e", "/tmp/flag"]).status()?.success() {
    ///     println!("the flag is set");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Command::output`].
    pub fn status(&self) -> Result<ExitStatus> {
        // What tells a missing program from an exit code of 127 stands at the end of a short standard error.
        self.clone().output_limit(4096).output().map(|output| output.status)
    }

    /// Runs the command and hands its output over as it comes, in pieces of any size, on this thread. An error from `receive`,
    /// such as [`Error::cancelled`], kills the command and is returned; `receive` is not called again then.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// use std::io::Write;
    /// use sandbox::{Error, OutputStream};
    ///
    /// let status = sandbox.shell("make 2>&1").stream(|stream, bytes| {
    ///     let written = match stream {
    ///         OutputStream::Stdout => std::io::stdout().write_all(bytes),
    ///         OutputStream::Stderr => std::io::stderr().write_all(bytes),
    ///     };
    ///     written.map_err(|e| Error::cancelled(e.to_string()))
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Command::output`], and what `receive` returns.
    pub fn stream(&self, receive: impl FnMut(OutputStream, &[u8]) -> Result<()>) -> Result<ExitStatus> {
        let (id, mut handed_over) = (nonce::hex(), Receiver { receive, last: Tail::default(), is_stopped: false });
        let result = self.run(&id, &mut handed_over);
        self.finish(result, &id, handed_over.last)
    }

    /// Starts the command and returns while it runs, with its streams to write and read. It runs on a thread of this process and
    /// an SSH session of its own until it ends.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::io::{BufRead, BufReader, Write};
    ///
    /// let mut child = sandbox.command("bc").spawn()?;
    /// let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    /// stdin.write_all(b"6 * 7\n")?;
    /// assert_eq!(BufReader::new(stdout).lines().next().unwrap()?, "42");
    /// drop(stdin);
    /// assert!(child.wait()?.success());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Command::output`], as far as the start is concerned; the rest comes from [`Child::wait`].
    pub fn spawn(&self) -> Result<Child> {
        Child::spawn(self.clone()).map_err(|e| self.explain(e))
    }

    /// The status of a command whose output somebody else has, but for the end of its standard error.
    pub(crate) fn finish(&self, result: Result<Ending>, id: &str, last: Tail) -> Result<ExitStatus> {
        let status = ExitStatus(result.map_err(|e| self.explain(e))?);
        let output = Output { status, stdout: Vec::new(), stderr: last.0, truncated: 0 };
        self.judge(output, id).map(|output| output.status)
    }

    fn explain(&self, error: Error) -> Error {
        self.sandbox.explain(error, "run command")
    }

    /// Tells a command that never ran from one that ended with the same code.
    fn judge(&self, mut output: Output, id: &str) -> Result<Output> {
        if output.status.code() != Some(NEVER_RAN) {
            return Ok(output);
        }
        let mark = mark(id);
        let Some(at) = output.stderr.windows(mark.len()).rposition(|window| window == mark.as_bytes()) else {
            return Ok(output);
        };
        let reason = String::from_utf8_lossy(&output.stderr[at + mark.len()..]).trim().to_owned();
        output.stderr.truncate(at);
        let error = Error::new(ErrorKind::Command, format!("the command did not run: {reason}"));
        Err(self.explain(error.with_output(output.stdout, output.stderr)))
    }

    /// Runs the command once, with what `streams` has behind the command's own input.
    pub(crate) fn run(&self, id: &str, streams: &mut impl Streams) -> Result<Ending> {
        let line = self.line(id)?;
        if line.len() <= LONGEST_LINE {
            return self.run_line(&line, id, &mut Prefixed { prefix: &self.input, streams });
        }
        let loader = format!("eval \"$(head -c {})\"", line.len());
        let prefix = [&line, &self.input[..]].concat();
        self.run_line(loader.as_bytes(), id, &mut Prefixed { prefix: &prefix, streams })
    }

    fn run_line(&self, line: &[u8], id: &str, streams: &mut impl Streams) -> Result<Ending> {
        let Sandbox { core, endpoint, .. } = &self.sandbox;
        let deadline = Deadline::after(self.timeout);
        loop {
            let lease = endpoint.lease(core, deadline)?;
            let running = match Running::open(&lease, deadline) {
                Ok(running) => running,
                // An idle session whose peer went away unnoticed; nothing was asked of it yet.
                Err(e) if e.kind() == ErrorKind::Disconnected && lease.is_reused() => continue,
                Err(e) => return Err(e),
            };
            if let Some(Terminal { kind, size }) = &self.terminal {
                running.request_terminal(kind, *size, deadline)?;
            }
            let result = running.start(line, deadline).and_then(|()| {
                streams.started();
                running.run(streams, deadline)
            });
            let result = match result {
                Err(e) if e.kind() == ErrorKind::TimedOut || streams.is_stopped() => {
                    let is_killed = running.kill(streams);
                    let is_swept = is_killed && running.close().is_ok() && Running::sweep(&lease, &marker(id));
                    let error = self.killed(e, streams.is_stopped(), is_swept);
                    if is_swept {
                        lease.finish();
                    }
                    return Err(error);
                }
                result => result,
            };
            // After an unknown outcome the session is thrown away; on a broken connection libssh2 would go on reading packets.
            let is_lost = result.as_ref().is_err_and(|e| e.kind() == ErrorKind::OutcomeUnknown);
            if !is_lost && running.close().is_ok() {
                lease.finish();
            }
            return result;
        }
    }

    /// Says whether the end of a killed command is proved. An error of the caller's own stays what it is.
    fn killed(&self, error: Error, is_stopped: bool, is_proved: bool) -> Error {
        let proof = if is_proved {
            "it and all its processes were killed"
        } else {
            "it was told to end, but the sandbox did not confirm that all its processes are gone"
        };
        match self.timeout {
            Some(timeout) if !is_stopped => Error::new(
                ErrorKind::TimedOut,
                format!("the command ran longer than {} s; {proof}", timeout.as_secs_f64()),
            ),
            _ => error.context(proof),
        }
    }

    /// What the sandbox's shell gets: the environment, the directory, then the program in its place or the line itself.
    fn line(&self, id: &str) -> Result<Vec<u8>> {
        let mut line = PRELUDE.to_vec();
        append(&mut line, &[b"export ", marker(id).as_bytes(), b"\n"]);
        // Variables that the shell itself can't have, but processes may.
        let mut odd = Vec::new();
        for (name, value) in &self.env {
            let (name, value) = (argument(name)?, argument(value)?);
            if name.is_empty() || name.contains(&b'=') {
                return Err(invalid("the name of an environment variable is empty or has a '='"));
            }
            if is_identifier(name) {
                append(&mut line, &[b"export ", name, b"=", &quoted(value), b"\n"]);
            } else {
                append(&mut odd, &[b" ", &quoted(&[name, b"=", value].concat())]);
            }
        }
        let program = match &self.what {
            What::Program(words) => Some(quoted(argument(&words[0])?)),
            What::Shell { .. } => None,
        };
        if program.is_some() || self.directory.is_some() {
            // `judge` looks for what this writes.
            let (mark, code) = (mark(id), NEVER_RAN);
            line.extend(format!("fail() {{ printf '\\n{mark}%s' \"$1\" >&2; exit {code}; }}\n").bytes());
        }
        if let Some(directory) = &self.directory {
            let directory = quoted(argument(directory)?);
            append(&mut line, &[b"cd -- ", &directory, b" 2> /dev/null || fail ", NO_DIRECTORY, &directory, b"\n"]);
        }
        if let Some(program) = program {
            append(&mut line, &[b"command -v ", &program, b" > /dev/null || fail ", NO_PROGRAM, &program, b"\n"]);
        }
        match &self.what {
            What::Program(words) => {
                append(&mut line, &[if odd.is_empty() { b"exec" } else { b"exec env" }, &odd]);
                append_words(&mut line, words)?;
            }
            What::Shell { line: shell, args } => {
                let shell = argument(shell)?;
                if odd.is_empty() {
                    if !args.is_empty() {
                        line.extend_from_slice(b"set --");
                        append_words(&mut line, args)?;
                        line.push(b'\n');
                    }
                    line.extend_from_slice(shell);
                } else {
                    append(&mut line, &[b"exec env", &odd, b" /bin/sh -c ", &quoted(shell), b" sh"]);
                    append_words(&mut line, args)?;
                }
            }
        }
        Ok(line)
    }
}

fn append(line: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| line.extend_from_slice(part));
}

fn append_words(line: &mut Vec<u8>, words: &[OsString]) -> Result<()> {
    words.iter().try_for_each(|word| {
        append(line, &[b" ", &quoted(argument(word)?)]);
        Ok(())
    })
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The environment and the input may hold secrets.
        f.debug_struct("Command")
            .field("sandbox", &self.sandbox.name())
            .field("what", &self.what)
            .field("directory", &self.directory)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Exit code of a shell for what it can't find; `judge` looks further when it comes.
pub(crate) const NEVER_RAN: i32 = 127;
const NO_PROGRAM: &[u8] = b"'there is no program '";
const NO_DIRECTORY: &[u8] = b"'there is no directory '";

/// The variable by which the processes of one command are found in the sandbox.
fn marker(id: &str) -> String {
    format!("SANDBOX_COMMAND_ID={id}")
}

/// What stands before the reason why a command never ran.
fn mark(id: &str) -> String {
    format!("sandbox-{id}: ")
}

fn invalid(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidArgument, what)
}

/// The bytes of a text that can be handed to a process.
fn argument(text: &OsStr) -> Result<&[u8]> {
    let bytes = text.as_bytes();
    if bytes.contains(&0) { Err(invalid("a command, argument or variable has a NUL byte")) } else { Ok(bytes) }
}

fn is_identifier(name: &[u8]) -> bool {
    !name[0].is_ascii_digit() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// One word of a shell's line, whatever its bytes are.
fn quoted(bytes: &[u8]) -> Vec<u8> {
    let mut word = Vec::with_capacity(bytes.len() + 2);
    word.push(b'\'');
    for &byte in bytes {
        if byte == b'\'' {
            word.extend(b"'\\''");
        } else {
            word.push(byte);
        }
    }
    word.push(b'\'');
    word
}

/// Keeps output up to a limit and counts the rest.
#[derive(Debug, Default)]
struct Collector {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    limit: usize,
    dropped: u64,
}

impl Collector {
    fn keep(kept: &mut Vec<u8>, limit: usize, bytes: &[u8]) -> u64 {
        let room = limit.saturating_sub(kept.len()).min(bytes.len());
        kept.extend_from_slice(&bytes[..room]);
        (bytes.len() - room) as u64
    }
}

impl Streams for Collector {
    fn input(&mut self) -> Result<Input<'_>> {
        Ok(Input::End)
    }

    fn sent(&mut self, _: usize) {}

    fn output(&mut self, stream: StreamId, bytes: &[u8]) -> Result<()> {
        let kept = match stream {
            StreamId::Stdout => &mut self.stdout,
            StreamId::Stderr => &mut self.stderr,
        };
        self.dropped += Self::keep(kept, self.limit, bytes);
        Ok(())
    }
}

/// Hands output over until the caller wants no more.
struct Receiver<F> {
    receive: F,
    last: Tail,
    is_stopped: bool,
}

impl<F: FnMut(OutputStream, &[u8]) -> Result<()>> Streams for Receiver<F> {
    fn input(&mut self) -> Result<Input<'_>> {
        Ok(Input::End)
    }

    fn sent(&mut self, _: usize) {}

    fn output(&mut self, stream: StreamId, bytes: &[u8]) -> Result<()> {
        let result = match stream {
            StreamId::Stdout => (self.receive)(OutputStream::Stdout, bytes),
            StreamId::Stderr => {
                self.last.push(bytes);
                (self.receive)(OutputStream::Stderr, bytes)
            }
        };
        self.is_stopped = result.is_err();
        result
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped
    }
}

/// The end of a command's standard error, where `judge` looks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail(Vec<u8>);

impl Tail {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        const KEPT: usize = 4096;
        self.0.extend_from_slice(&bytes[bytes.len().saturating_sub(KEPT)..]);
        self.0.drain(..self.0.len().saturating_sub(KEPT));
    }
}

/// Streams with bytes before their own input.
struct Prefixed<'a, S> {
    prefix: &'a [u8],
    streams: &'a mut S,
}

impl<S: Streams> Streams for Prefixed<'_, S> {
    fn started(&mut self) {
        self.streams.started();
    }

    fn input(&mut self) -> Result<Input<'_>> {
        if self.prefix.is_empty() { self.streams.input() } else { Ok(Input::Bytes(self.prefix)) }
    }

    fn sent(&mut self, length: usize) {
        if self.prefix.is_empty() {
            self.streams.sent(length);
        } else {
            self.prefix = &self.prefix[length..];
        }
    }

    fn has_room(&mut self, stream: StreamId) -> Result<bool> {
        self.streams.has_room(stream)
    }

    fn output(&mut self, stream: StreamId, bytes: &[u8]) -> Result<()> {
        self.streams.output(stream, bytes)
    }

    fn ended(&mut self, ending: &Ending) {
        self.streams.ended(ending);
    }

    fn is_stopped(&self) -> bool {
        self.streams.is_stopped()
    }

    fn order(&mut self) -> Option<Order> {
        self.streams.order()
    }

    fn descriptors(&self) -> Vec<Awaited<'_>> {
        self.streams.descriptors()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_every_byte() {
        assert_eq!(quoted(b""), b"''");
        assert_eq!(quoted(b"a 'b' $c"), b"'a '\\''b'\\'' $c'");
        let all: Vec<u8> = (1..=255).collect();
        let script = [b"printf %s ", &quoted(&all)[..]].concat();
        let output = std::process::Command::new("sh").arg("-c").arg(OsStr::from_bytes(&script)).output().unwrap();
        assert_eq!(output.stdout, all);
    }

    #[test]
    fn keeps_up_to_the_limit_and_counts_the_rest() {
        let mut collector = Collector { limit: 4, ..Collector::default() };
        collector.output(StreamId::Stdout, b"abc").unwrap();
        collector.output(StreamId::Stdout, b"def").unwrap();
        collector.output(StreamId::Stderr, b"123456").unwrap();
        assert_eq!((&collector.stdout[..], &collector.stderr[..], collector.dropped), (&b"abcd"[..], &b"1234"[..], 4));
    }
}

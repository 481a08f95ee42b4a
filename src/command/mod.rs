//! Commands, after `std::process`.

mod child;
mod detached;
mod input;
mod output;
mod pipes;
mod request;
mod streams;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::time::Duration;

pub use child::{Child, ChildStderr, ChildStdin, ChildStdout};
pub use detached::{Detached, Position};
pub use input::Stdin;
pub use output::{Output, OutputStream};

use sandbox_protocol::{Cause, Ended, Failure, FailureKind, Input, Request, Response, Run};

use request::{OutputMode, Program};
use streams::{Collector, PrefixedStreams, Receiver};

use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::exit_status::ExitStatus;
use crate::link::Link;
use crate::ssh::commands::{self, Answer, Size, Streams};
use crate::text;

/// What is said of a killed command if code of the same user has killed its keeper in the sandbox.
const NOT_PROVED: &str = "it is not proved that all its processes are gone: the process that supervised them was \
                          killed from inside the sandbox";
/// Bytes of each output stream that are kept in memory unless [`Command::output_limit`] says otherwise.
const OUTPUT_LIMIT: usize = 256 << 20;

/// A command to run in a sandbox; made by [`Sandbox::command`](crate::Sandbox::command) or
/// [`Sandbox::shell`](crate::Sandbox::shell).
///
/// Its environment is the image's, overridden by the spec's, overridden by its own. It starts in the image's working
/// directory, as with `docker run IMAGE COMMAND`; no start-up file of a shell runs. By default:
///
/// - its input is empty,
/// - both output streams are kept in memory, 256 MiB of each,
/// - the configured `command_timeout` applies.
///
/// It may be run again and again; each run is a new process. **A run happens at most once**: when the connection is
/// lost after the command was requested, the error is [`ErrorKind::OutcomeUnknown`] and the command is not sent again.
/// After its timeout, all its processes are killed in the sandbox, also those that left its process group, and the
/// error has the output up to then.
#[derive(Clone)]
pub struct Command {
    link: Link,
    program: Program,
    env: Vec<(OsString, OsString)>,
    directory: Option<OsString>,
    user: Option<String>,
    input: Stdin,
    /// More input may come than `input` says: that of a child.
    takes_input: bool,
    stdout: OutputMode,
    stderr: OutputMode,
    /// As configured unless it was set.
    timeout: Option<Option<Duration>>,
    output_limit: usize,
    terminal: Option<Terminal>,
}

#[derive(Clone, Debug)]
struct Terminal {
    kind: String,
    size: Size,
}

impl Command {
    pub(crate) fn program(link: Link, program: &OsStr) -> Self {
        Self::new(link, Program::Words(vec![program.to_owned()]))
    }

    pub(crate) fn shell(link: Link, line: &OsStr) -> Self {
        Self::new(link, Program::Shell { line: line.to_owned(), args: Vec::new() })
    }

    /// One of the guest's own tools, which need nothing of the image.
    pub(crate) fn guest_tool(link: Link, words: &[&OsStr]) -> Self {
        Self::new(link, Program::Guest(words.iter().map(|word| (*word).to_owned()).collect()))
    }

    fn new(link: Link, program: Program) -> Self {
        Self {
            link,
            program,
            env: Vec::new(),
            directory: None,
            user: None,
            input: Stdin::empty(),
            takes_input: false,
            stdout: OutputMode::Kept,
            stderr: OutputMode::Kept,
            timeout: None,
            output_limit: OUTPUT_LIMIT,
            terminal: None,
        }
    }

    /// Adds an argument. For a shell line the arguments are `$1`, `$2`, ….
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        let (Program::Words(words) | Program::Guest(words) | Program::Shell { args: words, .. }) = &mut self.program;
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

    /// User to run as, by name, with that user's groups and `HOME`. Only a sandbox that runs as root allows another
    /// user than its own; elsewhere the run fails with [`ErrorKind::Command`]. Default: the sandbox's own user.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let output = sandbox.command("id").user("nobody").output()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn user(mut self, name: impl Into<String>) -> Self {
        self.user = Some(name.into());
        self
    }

    /// The command's standard input, which ends after it: bytes, a file, or any reader, see [`Stdin`]. Default: none.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let sorted = sandbox.command("sort").stdin("b\na\n").output()?;
    /// assert_eq!(sorted.stdout, b"a\nb\n");
    /// # Ok(())
    /// # }
    /// ```
    pub fn stdin(mut self, input: impl Into<Stdin>) -> Self {
        self.input = input.into();
        self
    }

    /// Sends the standard output to `/dev/null` in the sandbox, so that none of it is transferred.
    pub fn discard_stdout(mut self) -> Self {
        self.stdout = OutputMode::Discarded;
        self
    }

    /// Sends the standard error to `/dev/null` in the sandbox, so that none of it is transferred.
    pub fn discard_stderr(mut self) -> Self {
        self.stderr = OutputMode::Discarded;
        self
    }

    /// Sends the standard error to where the standard output goes, in the order in which the command writes both.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let log = sandbox.command("make").merge_stderr().output()?.stdout;
    /// # Ok(())
    /// # }
    /// ```
    pub fn merge_stderr(mut self) -> Self {
        self.stderr = OutputMode::Merged;
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
        self.timeout = Some(timeout.into());
        self
    }

    /// Runs the command on a terminal of this type, such as `xterm-256color`, and this size in characters. Both output
    /// streams then arrive as standard output, and the terminal turns `\n` into `\r\n`. Default: no terminal.
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

    /// Runs the command to its end and collects its output. 1 round trip on a warm connection, no API call.
    ///
    /// # Errors
    /// [`ErrorKind::Connect`], [`ErrorKind::Authentication`], [`ErrorKind::HostKeyMismatch`] or [`ErrorKind::NotFound`]
    /// if the sandbox can't be reached; [`ErrorKind::Command`] if the command did not run; [`ErrorKind::TimedOut`] if
    /// it was killed at its deadline; [`ErrorKind::OutcomeUnknown`] if the connection was lost while it may have run. A
    /// non-zero exit code is not an error; see [`Output::check`].
    pub fn output(&self) -> Result<Output> {
        let mut collected = Collector::up_to(self.output_limit);
        self.call(|| {
            let result = self.run(&mut collected);
            let Collector { stdout, stderr, dropped, .. } = collected;
            match result {
                Ok(status) => Ok(Output { status, stdout, stderr, truncated: dropped }),
                Err(e) => Err(e.with_output(stdout, stderr)),
            }
        })
    }

    /// Runs the command and discards its output, in the sandbox itself unless it has a terminal.
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
        let mut command = self.clone().output_limit(0);
        if command.terminal.is_none() {
            command = command.discard_stdout().discard_stderr();
        }
        command.output().map(|output| output.status)
    }

    /// Runs the command and passes its output to `receive` as it arrives, in pieces of any size, on this thread. An
    /// error from `receive`, such as [`Error::cancelled`], kills the command and is returned; `receive` is not called
    /// again then.
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
        self.call(|| self.run(&mut Receiver::new(receive)))
    }

    /// Starts the command and returns while it runs, with its streams to write and read. It runs on a thread of this
    /// process and an SSH session of its own until it ends.
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
    /// Errors of the start are those of [`Command::output`]; later ones are reported by [`Child::wait`].
    pub fn spawn(&self) -> Result<Child> {
        self.call(|| Child::spawn(self.clone()))
    }

    /// Starts the command so that it depends on neither this process nor a connection, and returns. Any process finds
    /// it again by its key. **It starts at most once per key**: if the sandbox knows the key already, this returns a
    /// handle of the command that has it, running or ended. So the same call can be repeated after a lost connection,
    /// or made by a second process.
    ///
    /// A key has 1 to 64 ASCII letters, digits, `.`, `_` or `-`, and begins with a letter or digit. The sandbox keeps
    /// [`Command::output_limit`] bytes of each output stream; later output is dropped and counted. The input must be
    /// bytes or empty, and there is no terminal. Only the command's own timeout applies, not the configured one.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// sandbox.command("train").arg("--epochs=90").detach("run-7")?;
    /// // Later, in another process:
    /// let status = sandbox.detached("run-7")?.wait(None)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if one of these rules is broken; [`ErrorKind::Conflict`] if the key belongs to a
    /// command with another program, argument, input or setting; else as [`Command::output`].
    pub fn detach(&self, key: impl Into<String>) -> Result<Detached> {
        self.link.call("detach command", || detached::start(self, &key.into()))
    }

    fn call<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.link.call("run command", work)
    }

    fn limit(&self) -> Option<Duration> {
        self.timeout.unwrap_or(self.link.command_timeout())
    }

    /// The same command, whose input goes on after its own.
    fn with_more_input(self) -> Self {
        Self { takes_input: true, ..self }
    }

    /// Whether something may come on the standard input.
    fn has_input(&self) -> bool {
        self.takes_input || self.input.bytes().is_none_or(|bytes| !bytes.is_empty())
    }

    /// Runs the command once, with what `streams` has behind the command's own input.
    fn run(&self, streams: &mut impl Streams) -> Result<ExitStatus> {
        let (deadline, mut streams) =
            (Deadline::after(self.limit()), PrefixedStreams::new(self.input.take()?, streams));
        let run = self.request(deadline.remaining())?;
        // A child's start is waited for, and it has input.
        let request = Request::Run(Run { announce_late: run.stdin == Input::Empty, ..run });
        let answer = self.link.request(&request, &mut streams, deadline)?;
        self.status_of(answer, streams.is_stopped())
    }

    fn status_of(&self, Answer { response, cancelled }: Answer, is_stopped: bool) -> Result<ExitStatus> {
        match response {
            Response::NeverRan(reason) => Err(request::never_ran(&reason)),
            Response::Failed(failure) => Err(match cancelled {
                Some(e) => e.context(format!("the command did not run: {}", text::shown(&failure.message))),
                None => {
                    let error = failed(&failure);
                    match error.kind() {
                        ErrorKind::InvalidArgument => error,
                        // To who runs a command, the other kinds say something about the sandbox.
                        _ => error.with_kind(ErrorKind::Command),
                    }
                }
            }),
            Response::Ended(ended) => match (cancelled, ended.cause) {
                // It may have ended just then.
                (Some(e), Cause::TimeLimit | Cause::Cancelled) => Err(self.killed(e, is_stopped, &ended)),
                (Some(e), Cause::Itself) => Err(e.context("the command had just ended")),
                (None, Cause::TimeLimit) => Err(self.killed(Deadline::error("the command"), is_stopped, &ended)),
                (None, Cause::Cancelled) if !is_gone(&ended) => {
                    Err(Error::new(ErrorKind::Command, format!("the command was killed; {NOT_PROVED}")))
                }
                (None, Cause::Itself | Cause::Cancelled) => ExitStatus::new(&ended),
            },
            _ => Err(commands::not_an_answer()),
        }
    }

    /// Says whether the end of a killed command is proved. An error of the caller's own stays what it is.
    fn killed(&self, error: Error, is_stopped: bool, ended: &Ended) -> Error {
        let proof = match is_gone(ended) {
            true => "it and all its processes were killed".to_owned(),
            false => format!("it was killed; {NOT_PROVED}"),
        };
        match self.limit() {
            Some(timeout) if error.kind() == ErrorKind::TimedOut && !is_stopped => Error::new(
                ErrorKind::TimedOut,
                format!("the command ran longer than {} s; {proof}", timeout.as_secs_f64()),
            ),
            _ => error.context(proof),
        }
    }
}

/// Whether it is proved that no process of a killed command is left.
fn is_gone(ended: &Ended) -> bool {
    ended.proved && ended.left == 0
}

/// The error of a request that the guest could not carry out.
fn failed(failure: &Failure) -> Error {
    let kind = match failure.kind {
        FailureKind::NotFound => ErrorKind::DetachedNotFound,
        FailureKind::Conflict => ErrorKind::Conflict,
        FailureKind::Invalid => ErrorKind::InvalidArgument,
        // Nobody here has cancelled it, or that would be the error.
        FailureKind::Cancelled
        | FailureKind::Unsupported
        | FailureKind::Limit
        | FailureKind::TimedOut
        | FailureKind::Other => ErrorKind::Command,
    };
    Error::new(kind, text::shown(&failure.message)).with_errno(failure.errno.unwrap_or(0))
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The environment and the input may hold secrets.
        f.debug_struct("Command")
            .field("sandbox", &self.link.name())
            .field("program", &self.program)
            .field("directory", &self.directory)
            .field("timeout", &self.limit())
            .finish_non_exhaustive()
    }
}

//! Commands, their output and how they ended.

use std::ffi::{CString, OsStr, c_char, c_void};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;

use super::boundary::{self, NulTerminated, Text, require};
use super::child::sbx_child;
use super::detached::sbx_detached;
use super::error::{sbx_error, sbx_status};
use crate::{Command, Error, ErrorKind, ExitStatus, Output, OutputStream, Result};

/// A command to run in a sandbox, made by sbx_sandbox_command() or sbx_sandbox_shell() and freed with
/// sbx_command_free().
///
/// It sees the image's environment, then the spec's, then its own, and begins in the image's working directory. It may
/// be run again and again, from several threads too; each run is a new process. A run happens at most once: when the
/// connection is lost after the command was requested, the status is SBX_ERR_OUTCOME_UNKNOWN. It keeps what it needs of
/// its sandbox alive.
#[derive(Debug)]
pub struct sbx_command {
    /// Missing only after a panic in the midst of a change.
    command: Option<Command>,
}

impl sbx_command {
    pub(super) fn new(command: Command) -> Self {
        Self { command: Some(command) }
    }

    fn get(&self) -> Result<&Command> {
        self.command.as_ref().ok_or_else(Self::lost)
    }

    fn change(&mut self, change: impl FnOnce(Command) -> Command) -> Result<()> {
        self.command = Some(change(self.command.take().ok_or_else(Self::lost)?));
        Ok(())
    }

    fn lost() -> Error {
        Error::new(ErrorKind::Panic, "this command was lost in an earlier panic")
    }
}

/// The two output streams of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum sbx_stream {
    /// Standard output.
    SBX_STREAM_STDOUT = 1,
    /// Standard error.
    SBX_STREAM_STDERR = 2,
}

pub(super) const STREAMS: &[(i32, OutputStream)] = &[
    (sbx_stream::SBX_STREAM_STDOUT as i32, OutputStream::Stdout),
    (sbx_stream::SBX_STREAM_STDERR as i32, OutputStream::Stderr),
];

/// Receives output of a command as it arrives, for sbx_command_stream() and sbx_detached_stream(): `len` bytes at
/// `data`, not followed by a NUL, in pieces of any size. Returns 0 to continue; anything else ends the call.
///
/// It is called on the thread that made the call, and only during that call. It may call this library, also for the
/// same sandbox, but must not change or free the object that the call belongs to. It must not throw, longjmp or end its
/// thread.
pub type sbx_output_fn =
    Option<unsafe extern "C" fn(userdata: *mut c_void, stream: sbx_stream, data: *const u8, len: usize) -> i32>;

/// Adds an argument. The command gets exactly its bytes; no shell sees them. For a shell line the arguments are $1, $2,
/// …
#[unsafe(no_mangle)]
pub extern "C" fn sbx_command_add_arg(
    command: Option<&mut sbx_command>,
    value: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (command, value) = (require(command, "command")?, value.bytes("value")?);
        command.change(|command| command.arg(value))
    })
}

/// Adds an argument of `len` bytes at `data`, for callers whose strings have no NUL at their end. `data` may be NULL if
/// `len` is 0. A NUL among the bytes makes the run fail with SBX_ERR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_command_add_arg_bytes(
    command: Option<&mut sbx_command>,
    data: *const u8,
    len: usize,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let command = require(command, "command")?;
        // SAFETY: the C caller promises `len` bytes at `data` during the call.
        let data = unsafe { boundary::bytes(data, len, "data") }?;
        command.change(|command| command.arg(OsStr::from_bytes(data)))
    })
}

/// Sets an environment variable for the command. Name and value are bytes; the name has no '='.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_command_set_env(
    command: Option<&mut sbx_command>,
    name: Text,
    value: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (command, name, value) = (require(command, "command")?, name.bytes("name")?, value.bytes("value")?);
        command.change(|command| command.env(name, value))
    })
}

/// Sets the directory to run in; a relative one begins at the image's working directory.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_command_set_current_dir(
    command: Option<&mut sbx_command>,
    directory: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (command, directory) = (require(command, "command")?, directory.bytes("directory")?);
        command.change(|command| command.current_dir(directory))
    })
}

/// Sets the user to run as, by name, with that user's groups and HOME. Only a sandbox that runs as root allows another
/// user than its own; elsewhere the run fails with SBX_ERR_COMMAND. Default: the SSH user.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_command_set_user(
    command: Option<&mut sbx_command>,
    name: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (command, name) = (require(command, "command")?, name.utf8("name")?);
        command.change(|command| command.user(name))
    })
}

/// Sets the command's standard input to a copy of `len` bytes at `data`; it ends after them. `data` may be NULL if
/// `len` is 0. Default: no input.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_command_set_stdin(
    command: Option<&mut sbx_command>,
    data: *const u8,
    len: usize,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let command = require(command, "command")?;
        // SAFETY: the C caller promises `len` bytes at `data` during the call.
        let data = unsafe { boundary::bytes(data, len, "data") }?;
        command.change(|command| command.stdin(data))
    })
}

/// Lets the command read its standard input from an open file, pipe or socket of this process, from the current
/// position to the end. The library duplicates `fd`, so the caller may close its own at once, and reads from the
/// duplicate while the command runs. One run consumes the input: the next run fails with SBX_ERR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_command_set_stdin_fd(
    command: Option<&mut sbx_command>,
    fd: i32,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (command, fd) = (require(command, "command")?, boundary::duplicate(fd, "fd")?);
        command.change(|command| command.stdin(fd))
    })
}

/// Sends the standard output to /dev/null in the sandbox, so that none of it is transferred.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_command_discard_stdout(
    command: Option<&mut sbx_command>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || require(command, "command")?.change(Command::discard_stdout))
}

/// Sends the standard error to /dev/null in the sandbox, so that none of it is transferred.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_command_discard_stderr(
    command: Option<&mut sbx_command>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || require(command, "command")?.change(Command::discard_stderr))
}

/// Sends the standard error to where the standard output goes, in the order in which the command writes both.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_command_merge_stderr(
    command: Option<&mut sbx_command>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || require(command, "command")?.change(Command::merge_stderr))
}

/// Sets the time in seconds after which the command is killed; a negative number for no limit. Default: the configured
/// command_timeout.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_command_set_timeout(
    command: Option<&mut sbx_command>,
    seconds: f64,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let timeout = boundary::optional_seconds(seconds, "seconds")?;
        require(command, "command")?.change(|command| command.timeout(timeout))
    })
}

/// Runs the command on a terminal of this type, such as "xterm-256color", and this size in characters. Both output
/// streams then arrive as standard output, and the terminal turns "\n" into "\r\n". Default: no terminal.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_command_set_terminal(
    command: Option<&mut sbx_command>,
    kind: Text,
    columns: u16,
    rows: u16,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (command, kind) = (require(command, "command")?, kind.utf8("kind")?);
        command.change(|command| command.terminal(kind, columns, rows))
    })
}

/// Sets how many bytes of each output stream sbx_command_output() keeps; sbx_output_truncated() counts the rest.
/// Default: 256 MiB.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_command_set_output_limit(
    command: Option<&mut sbx_command>,
    bytes: usize,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || require(command, "command")?.change(|command| command.output_limit(bytes)))
}

/// Runs the command to its end and collects its output, which the caller frees with sbx_output_free(). A non-zero exit
/// code is no error; see sbx_output_check().
///
/// SBX_ERR_COMMAND if it did not run; SBX_ERR_TIMED_OUT if it was killed at its deadline (the error has its output so
/// far); SBX_ERR_OUTCOME_UNKNOWN if the connection was lost while it may have run; SBX_ERR_CONNECT and its like if the
/// sandbox can't be reached.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_command_output(
    command: Option<&sbx_command>,
    output: Option<&mut MaybeUninit<*mut sbx_output>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (command, place) = (require(command, "command")?.get()?, require(output, "output")?);
        command.output().map(|output| boundary::write_handle(place, sbx_output::new(output)))
    })
}

/// Runs the command to its end and discards its output. The caller frees `*exit_status` with sbx_exit_status_free();
/// `exit_status` may be NULL. Fails as sbx_command_output().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_command_run(
    command: Option<&sbx_command>,
    exit_status: Option<&mut MaybeUninit<*mut sbx_exit_status>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let status = require(command, "command")?.get()?.status()?;
        sbx_exit_status::write_handle(exit_status, status);
        Ok(())
    })
}

/// Runs the command to its end and passes its output to `receive` as it arrives, with `userdata` as first argument. The
/// caller frees `*exit_status` with sbx_exit_status_free(); `exit_status` may be NULL.
///
/// SBX_ERR_CANCELLED if `receive` asked to stop; the command was killed then. Else as sbx_command_output().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_command_stream(
    command: Option<&sbx_command>,
    receive: sbx_output_fn,
    userdata: *mut c_void,
    exit_status: Option<&mut MaybeUninit<*mut sbx_exit_status>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (command, receive) = (require(command, "command")?.get()?, require(receive, "receive")?);
        sbx_exit_status::write_handle(exit_status, command.stream(receiver(receive, userdata))?);
        Ok(())
    })
}

/// A callback of C as Rust takes it.
pub(super) fn receiver(
    receive: unsafe extern "C" fn(*mut c_void, sbx_stream, *const u8, usize) -> i32,
    userdata: *mut c_void,
) -> impl FnMut(OutputStream, &[u8]) -> Result<()> {
    move |stream, bytes| {
        let stream = match stream {
            OutputStream::Stdout => sbx_stream::SBX_STREAM_STDOUT,
            OutputStream::Stderr => sbx_stream::SBX_STREAM_STDERR,
        };
        // SAFETY: the C caller gave a function of this type, which gets valid bytes.
        match unsafe { receive(userdata, stream, bytes.as_ptr(), bytes.len()) } {
            0 => Ok(()),
            answer => Err(Error::cancelled(format!("the callback returned {answer}"))),
        }
    }
}

/// Starts the command and returns while it runs. The caller frees the child with sbx_child_free().
///
/// Errors of the start are those of sbx_command_output(); later ones are reported by sbx_child_wait().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_command_spawn(
    command: Option<&sbx_command>,
    child: Option<&mut MaybeUninit<*mut sbx_child>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (command, place) = (require(command, "command")?.get()?, require(child, "child")?);
        command.spawn().map(|child| boundary::write_handle(place, sbx_child::new(child)))
    })
}

/// Starts the command so that it depends on neither this process nor a connection, and returns. Any process finds it
/// again by its key. It starts at most once per key: if the sandbox knows the key already, this returns a handle of the
/// command that has it, running or ended. The caller frees `*detached` with sbx_detached_free().
///
/// A key has 1 to 64 ASCII letters, digits, '.', '_' or '-', and begins with a letter or digit. The sandbox keeps the
/// output, up to the command's output limit for each stream; later output is dropped and counted. The input must be
/// bytes, and there is no terminal. Only the command's own timeout applies, not the configured one.
///
/// SBX_ERR_INVALID_ARGUMENT if one of these rules is broken; SBX_ERR_CONFLICT if the key belongs to another command;
/// otherwise as sbx_command_output().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_command_detach(
    command: Option<&sbx_command>,
    key: Text,
    detached: Option<&mut MaybeUninit<*mut sbx_detached>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (command, key) = (require(command, "command")?.get()?, key.utf8("key")?);
        let place = require(detached, "detached")?;
        command.detach(key).map(|detached| boundary::write_handle(place, sbx_detached::new(detached)))
    })
}

/// Frees a command.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_command_free(command: Option<Box<sbx_command>>) {
    boundary::free(command);
}

/// How a command ended: with an exit code, or by a signal. It is always what the sandbox reported, never a default.
/// Freed with sbx_exit_status_free(). May be read from several threads.
#[derive(Debug)]
pub struct sbx_exit_status {
    status: ExitStatus,
    signal: Option<CString>,
}

impl sbx_exit_status {
    fn new(status: ExitStatus) -> Self {
        Self { signal: status.signal().map(boundary::c_text), status }
    }

    pub(super) fn write_handle(place: boundary::Out<'_, *mut Self>, status: ExitStatus) {
        if let Some(place) = place {
            boundary::write_handle(place, Self::new(status));
        }
    }
}

/// True if the command ended with exit code 0.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_exit_status_success(exit_status: Option<&sbx_exit_status>) -> bool {
    boundary::get(exit_status, false, |exit_status| exit_status.status.success())
}

/// True, and the exit code in `*code`, unless a signal ended the command. `code` may be NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_exit_status_code(
    exit_status: Option<&sbx_exit_status>,
    code: Option<&mut MaybeUninit<i32>>,
) -> bool {
    boundary::get(exit_status, false, |exit_status| boundary::write_some(code, exit_status.status.code()))
}

/// The name of the signal that ended the command, without SIG, such as "KILL"; NULL if it ended by itself.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_exit_status_signal(exit_status: Option<&sbx_exit_status>) -> *const c_char {
    boundary::get_text(exit_status, |exit_status| exit_status.signal.as_deref())
}

/// Frees an exit status.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_exit_status_free(exit_status: Option<Box<sbx_exit_status>>) {
    boundary::free(exit_status);
}

/// What a command wrote and how it ended. Freed with sbx_output_free(). May be read from several threads.
#[derive(Debug)]
pub struct sbx_output {
    exit_status: sbx_exit_status,
    stdout: NulTerminated,
    stderr: NulTerminated,
    truncated: u64,
}

impl sbx_output {
    pub(super) fn new(output: Output) -> Self {
        Self {
            exit_status: sbx_exit_status::new(output.status),
            stdout: NulTerminated::new(output.stdout),
            stderr: NulTerminated::new(output.stderr),
            truncated: output.truncated,
        }
    }

    fn check(&self) -> Result<()> {
        if self.exit_status.status.success() {
            return Ok(());
        }
        let (stdout, stderr) = (self.stdout.as_slice().to_vec(), self.stderr.as_slice().to_vec());
        Output { status: self.exit_status.status, stdout, stderr, truncated: self.truncated }.check().map(drop)
    }
}

/// True if the command ended with exit code 0.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_output_success(output: Option<&sbx_output>) -> bool {
    boundary::get(output, false, |output| output.exit_status.status.success())
}

/// True, and the exit code in `*code`, unless a signal ended the command. `code` may be NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_output_exit_code(output: Option<&sbx_output>, code: Option<&mut MaybeUninit<i32>>) -> bool {
    boundary::get(output, false, |output| boundary::write_some(code, output.exit_status.status.code()))
}

/// The name of the signal that ended the command, without SIG, such as "KILL"; NULL if it ended by itself.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_output_signal(output: Option<&sbx_output>) -> *const c_char {
    boundary::get_text(output, |output| output.exit_status.signal.as_deref())
}

/// The bytes of the standard output, borrowed from the output, and their number in `*len`; they are followed by a NUL.
/// `len` may be NULL. Returns NULL, with 0 in `*len`, only if `output` is NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_output_stdout(output: Option<&sbx_output>, len: Option<&mut MaybeUninit<usize>>) -> *const u8 {
    boundary::get_bytes(output, len, |output| Some(&output.stdout))
}

/// As sbx_output_stdout(), for the standard error.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_output_stderr(output: Option<&sbx_output>, len: Option<&mut MaybeUninit<usize>>) -> *const u8 {
    boundary::get_bytes(output, len, |output| Some(&output.stderr))
}

/// How many bytes of both streams were beyond the limit and are lost.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_output_truncated(output: Option<&sbx_output>) -> u64 {
    boundary::get(output, 0, |output| output.truncated)
}

/// SBX_OK if the command ended with exit code 0, else SBX_ERR_COMMAND_FAILED: its message has the code and the last
/// line of the standard error, and the error has both streams.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_output_check(
    output: Option<&sbx_output>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || require(output, "output")?.check())
}

/// Frees an output and all that was borrowed from it.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_output_free(output: Option<Box<sbx_output>>) {
    boundary::free(output);
}

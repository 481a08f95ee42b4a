//! Commands that run beside their caller.

use std::ffi::{CString, c_char};
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::sync::Arc;

use parking_lot::Mutex;

use super::boundary::{self, Text, require};
use super::command::{sbx_exit_status, sbx_output};
use super::error::{sbx_error, sbx_status};
use crate::{Child, ChildStderr, ChildStdin, ChildStdout, Error, ErrorKind, Result};

/// A command that runs, made by sbx_command_spawn(). May be used from several threads at once: one writes, two read,
/// one waits. As with a process of this machine, a command whose output nobody reads stops when the buffers are full.
/// Freed with sbx_child_free(), which does not end the command.
#[derive(Debug)]
pub struct sbx_child {
    child: Child,
    id: CString,
    /// Writes take turns.
    stdin: Slot<Mutex<ChildStdin>>,
    stdout: Slot<ChildStdout>,
    stderr: Slot<ChildStderr>,
}

/// Bytes that a stream is read by: as many as a pipe of this machine holds.
const AT_ONCE: usize = 64 << 10;

/// A stream until it is closed. It is taken out to be used, so that nobody ever waits for the lock: not for a call that
/// is blocked in the stream, and not in a forked child for a thread that is not there, since there the process is
/// looked at first.
type Slot<T> = Mutex<Option<Arc<T>>>;

fn slot<T>(stream: Option<T>) -> Slot<T> {
    Mutex::new(stream.map(Arc::new))
}

impl sbx_child {
    pub(super) fn new(mut child: Child) -> Self {
        Self {
            id: boundary::c_text(child.id()),
            stdin: slot(child.stdin.take().map(Mutex::new)),
            stdout: slot(child.stdout.take()),
            stderr: slot(child.stderr.take()),
            child,
        }
    }

    fn taken<T>(&self, slot: &Slot<T>) -> Result<Option<Arc<T>>> {
        self.child.check_process()?;
        Ok(slot.lock().take())
    }

    /// A write that is under way is finished still: the input ends with the last who has it.
    fn close_stdin(&self) -> Result<()> {
        self.taken(&self.stdin).map(drop)
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        let closed = |what: &'static str| Error::new(ErrorKind::Closed, what);
        self.child.check_process()?;
        let stdin = self.stdin.lock().clone().ok_or_else(|| closed("the command's input was closed"))?;
        self.child.lock(&stdin)?.write_all(data).map_err(|e| ours(e, |_| closed("the command takes no more input")))
    }

    fn read<T>(&self, slot: &Slot<T>, buffer: &mut [u8]) -> Result<usize>
    where
        for<'a> &'a T: Read,
    {
        self.child.check_process()?;
        let Some(stream) = slot.lock().clone() else { return Ok(0) };
        loop {
            match (&*stream).read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    let broken =
                        |e| Error::new(ErrorKind::Disconnected, format!("the command's output can't be read: {e}"));
                    return result.map_err(|e| ours(e, broken));
                }
            }
        }
    }
}

/// This library's own error, or what another one means.
fn ours(error: io::Error, other: impl FnOnce(io::Error) -> Error) -> Error {
    error.downcast::<Error>().unwrap_or_else(other)
}

/// The command's number in the sandbox, as text.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_child_id(child: Option<&sbx_child>) -> *const c_char {
    boundary::get_text(child, |child| Some(&child.id))
}

/// Writes `len` bytes at `data` to the command's standard input, and blocks while its buffers are full.
///
/// SBX_ERR_CLOSED if the input was closed or the command takes no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_child_write_stdin(
    child: Option<&sbx_child>,
    data: *const u8,
    len: usize,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        // SAFETY: the C caller promises `len` bytes at `data` during the call.
        let data = unsafe { boundary::bytes(data, len, "data") }?;
        require(child, "child")?.write(data)
    })
}

/// Ends the command's standard input. Does not wait; a write of another thread is finished first.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_child_close_stdin(child: Option<&sbx_child>) {
    boundary::get(child, (), |child| drop(child.close_stdin()));
}

/// Reads from the command's standard output into the `capacity` bytes at `buffer`, and sets `*len` to their number: 1
/// or more, or 0 at the end of the output. Blocks until there is output. A lost connection ends the output too;
/// sbx_child_wait() reports it.
///
/// SBX_ERR_INVALID_ARGUMENT if `capacity` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_child_read_stdout(
    child: Option<&sbx_child>,
    buffer: *mut u8,
    capacity: usize,
    len: Option<&mut MaybeUninit<usize>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (child, len) = (require(child, "child")?, require(len, "len")?);
        // SAFETY: the C caller promises room for `capacity` bytes at `buffer` during the call.
        let length = unsafe { boundary::fill(buffer, capacity, AT_ONCE, |buffer| child.read(&child.stdout, buffer)) }?;
        boundary::write_out(Some(len), length);
        Ok(())
    })
}

/// As sbx_child_read_stdout(), for the standard error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_child_read_stderr(
    child: Option<&sbx_child>,
    buffer: *mut u8,
    capacity: usize,
    len: Option<&mut MaybeUninit<usize>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (child, len) = (require(child, "child")?, require(len, "len")?);
        // SAFETY: the C caller promises room for `capacity` bytes at `buffer` during the call.
        let length = unsafe { boundary::fill(buffer, capacity, AT_ONCE, |buffer| child.read(&child.stderr, buffer)) }?;
        boundary::write_out(Some(len), length);
        Ok(())
    })
}

/// Closes the command's standard output: output that still arrives is discarded, so it need not be read. Does not wait.
/// A read by another thread returns the end of the output.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_child_close_stdout(child: Option<&sbx_child>) {
    boundary::get(child, (), |child| {
        if let Ok(Some(stream)) = child.taken(&child.stdout) {
            stream.close();
        }
    });
}

/// As sbx_child_close_stdout(), for the standard error.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_child_close_stderr(child: Option<&sbx_child>) {
    boundary::get(child, (), |child| {
        if let Ok(Some(stream)) = child.taken(&child.stderr) {
            stream.close();
        }
    });
}

/// Ends the command's standard input and waits until the command has ended. May be called again. The caller frees
/// `*exit_status` with sbx_exit_status_free(); `exit_status` may be NULL. Fails as sbx_command_output().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_child_wait(
    child: Option<&sbx_child>,
    exit_status: Option<&mut MaybeUninit<*mut sbx_exit_status>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let child = require(child, "child")?;
        child.close_stdin()?;
        sbx_exit_status::write_handle(exit_status, child.child.wait_shared()?);
        Ok(())
    })
}

/// Ends the command's standard input, reads both its output streams to their ends, and waits. The caller frees
/// `*output` with sbx_output_free(). It has what nobody read before, and of each stream at most the command's output
/// limit. Both streams are closed afterwards. Fails as sbx_command_output().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_child_wait_with_output(
    child: Option<&sbx_child>,
    output: Option<&mut MaybeUninit<*mut sbx_output>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (child, place) = (require(child, "child")?, require(output, "output")?);
        child.close_stdin()?;
        let (stdout, stderr) = (child.taken(&child.stdout)?, child.taken(&child.stderr)?);
        child
            .child
            .collect(stdout.as_deref(), stderr.as_deref())
            .map(|output| boundary::write_handle(place, sbx_output::new(output)))
    })
}

/// Sets `*has_ended` to whether the command has ended. If it has, sets `*exit_status`, which may be NULL, to how; the
/// caller frees that with sbx_exit_status_free(). Does not wait. Fails as sbx_command_output().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_child_try_wait(
    child: Option<&sbx_child>,
    has_ended: Option<&mut MaybeUninit<bool>>,
    exit_status: Option<&mut MaybeUninit<*mut sbx_exit_status>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let status = require(child, "child")?.child.try_wait()?;
        boundary::write_out(has_ended, status.is_some());
        if let Some(status) = status {
            sbx_exit_status::write_handle(exit_status, status);
        }
        Ok(())
    })
}

/// Kills the command and all processes that it started. Does not wait; sbx_child_wait() does. Does nothing if the
/// command has ended.
///
/// SBX_ERR_FORKED in a forked child. There is no other error.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_child_kill(
    child: Option<&sbx_child>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || require(child, "child")?.child.kill())
}

/// Sends the command's process group a signal, named without SIG, such as "INT" or "TERM".
///
/// SBX_ERR_INVALID_ARGUMENT if there is no signal of this name.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_child_signal(
    child: Option<&sbx_child>,
    name: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || require(child, "child")?.child.signal(name.utf8("name")?))
}

/// Tells the command that its terminal has another size, in characters.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_child_resize(child: Option<&sbx_child>, columns: u16, rows: u16) {
    boundary::get(child, (), |child| child.child.resize(columns, rows));
}

/// Frees a child, without waiting. Its command runs on to its end or its timeout, with its input closed and its output
/// discarded.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_child_free(child: Option<Box<sbx_child>>) {
    boundary::free(child);
}

//! Commands that run beside their caller.

use std::ffi::{CString, c_char};
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;

use parking_lot::Mutex;

use super::boundary::{self, Text, given};
use super::command::{sbx_ending, sbx_output};
use super::error::{sbx_error, sbx_status};
use crate::{Child, ChildStderr, ChildStdin, ChildStdout, Error, ErrorKind, Result};

/// A command that runs, made by sbx_command_spawn(). May be used from several threads at once: one writes, two read, one waits.
/// As with a process of this machine, a command whose output nobody reads stops when the buffers are full. Freed with
/// sbx_child_free(), which does not end the command.
#[derive(Debug)]
pub struct sbx_child {
    child: Child,
    id: CString,
    stdin: Mutex<Option<ChildStdin>>,
    stdout: Mutex<Option<ChildStdout>>,
    stderr: Mutex<Option<ChildStderr>>,
}

impl sbx_child {
    pub(super) fn new(mut child: Child) -> Self {
        Self {
            id: boundary::c_text(child.id()),
            stdin: Mutex::new(child.stdin.take()),
            stdout: Mutex::new(child.stdout.take()),
            stderr: Mutex::new(child.stderr.take()),
            child,
        }
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        let closed = |what: &'static str| Error::new(ErrorKind::Closed, what);
        let mut stdin = self.stdin.lock();
        let stdin = stdin.as_mut().ok_or_else(|| closed("the command's input was closed"))?;
        stdin.write_all(data).map_err(|e| ours(e, |_| closed("the command takes no more input")))
    }
}

/// This library's own error, or what another one means.
fn ours(error: io::Error, other: impl FnOnce(io::Error) -> Error) -> Error {
    error.downcast::<Error>().unwrap_or_else(other)
}

fn read(stream: &Mutex<Option<impl Read>>, buffer: &mut [u8]) -> Result<usize> {
    let mut stream = stream.lock();
    let Some(stream) = &mut *stream else { return Ok(0) };
    loop {
        match stream.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => {
                let broken =
                    |e| Error::new(ErrorKind::Disconnected, format!("the command's output can't be read: {e}"));
                return result.map_err(|e| ours(e, broken));
            }
        }
    }
}

/// The value of SANDBOX_COMMAND_ID in the environment of the command's processes.
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
        given(child, "child")?.write(data)
    })
}

/// Ends the command's standard input. Waits for a write of another thread.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_child_close_stdin(child: Option<&sbx_child>) {
    boundary::get(child, (), |child| *child.stdin.lock() = None);
}

/// Reads from the command's standard output into the `capacity` bytes at `buffer`, and puts into `*len` how many came: 0 at the
/// end, else 1 or more. Blocks until there are some.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_child_read_stdout(
    child: Option<&sbx_child>,
    buffer: *mut u8,
    capacity: usize,
    len: Option<&mut MaybeUninit<usize>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (child, len) = (given(child, "child")?, given(len, "len")?);
        // SAFETY: the C caller promises room for `capacity` bytes at `buffer` during the call.
        let length = unsafe { boundary::fill(buffer, capacity, |buffer| read(&child.stdout, buffer)) }?;
        boundary::put(Some(len), length);
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
        let (child, len) = (given(child, "child")?, given(len, "len")?);
        // SAFETY: the C caller promises room for `capacity` bytes at `buffer` during the call.
        let length = unsafe { boundary::fill(buffer, capacity, |buffer| read(&child.stderr, buffer)) }?;
        boundary::put(Some(len), length);
        Ok(())
    })
}

/// Lets go of the command's standard output: what still comes is thrown away, so that nobody needs to read it.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_child_close_stdout(child: Option<&sbx_child>) {
    boundary::get(child, (), |child| *child.stdout.lock() = None);
}

/// As sbx_child_close_stdout(), for the standard error.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_child_close_stderr(child: Option<&sbx_child>) {
    boundary::get(child, (), |child| *child.stderr.lock() = None);
}

/// Ends the command's standard input and waits until the command has ended. May be called again. The caller frees `*ending` with
/// sbx_ending_free(); `ending` may be NULL. Fails as sbx_command_output().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_child_wait(
    child: Option<&sbx_child>,
    ending: Option<&mut MaybeUninit<*mut sbx_ending>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let child = given(child, "child")?;
        *child.stdin.lock() = None;
        sbx_ending::give(ending, child.child.wait_shared()?);
        Ok(())
    })
}

/// Ends the command's standard input, reads both its output streams to their ends, and waits. The caller frees `*output` with
/// sbx_output_free(). It has what nobody read before, and of each stream at most the command's output limit. Both streams are closed
/// afterwards. Fails as sbx_command_output().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_child_wait_with_output(
    child: Option<&sbx_child>,
    output: Option<&mut MaybeUninit<*mut sbx_output>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (child, place) = (given(child, "child")?, given(output, "output")?);
        *child.stdin.lock() = None;
        let (stdout, stderr) = (child.stdout.lock().take(), child.stderr.lock().take());
        child.child.collect(stdout, stderr).map(|output| boundary::give(place, sbx_output::new(output)))
    })
}

/// Puts into `*has_ended` whether the command has ended, and if so into `*ending`, which may be NULL, how; the caller frees that
/// with sbx_ending_free(). Does not wait. Fails as sbx_command_output().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_child_try_wait(
    child: Option<&sbx_child>,
    has_ended: Option<&mut MaybeUninit<bool>>,
    ending: Option<&mut MaybeUninit<*mut sbx_ending>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let status = given(child, "child")?.child.try_wait()?;
        boundary::put(has_ended, status.is_some());
        if let Some(status) = status {
            sbx_ending::give(ending, status);
        }
        Ok(())
    })
}

/// Sends the command's process group the signal KILL. sbx_child_wait() tells when it has ended.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_child_kill(
    child: Option<&sbx_child>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || given(child, "child")?.child.kill())
}

/// Sends the command's process group a signal, named without SIG, such as "INT" or "TERM".
///
/// SBX_ERR_INVALID_ARGUMENT if this is no name of a signal.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_child_signal(
    child: Option<&sbx_child>,
    name: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || given(child, "child")?.child.signal(name.utf8("name")?))
}

/// Tells the command that its terminal has another size, in characters.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_child_resize(child: Option<&sbx_child>, columns: u16, rows: u16) {
    boundary::get(child, (), |child| child.child.resize(columns, rows));
}

/// Frees a child. Its command runs on to its end or its timeout, with its input closed and its output thrown away.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_child_free(child: Option<Box<sbx_child>>) {
    boundary::free(child);
}

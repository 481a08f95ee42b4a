//! Commands that outlive their connection.

use std::ffi::{CString, c_char, c_void};
use std::mem::MaybeUninit;

use super::boundary::{self, require};
use super::command::{STREAMS, receiver, sbx_exit_status, sbx_output_fn};
use super::error::{sbx_error, sbx_status};
use super::files::sbx_bytes;
use crate::{Detached, Position};

/// A command that runs in the sandbox whether anybody is connected or not, made by sbx_command_detach() or
/// sbx_sandbox_detached(). Its output and its status stay in the sandbox until sbx_detached_remove(). It may be used
/// from several threads, and from other processes under its key. Freed with sbx_detached_free(), which does nothing to
/// the command.
#[derive(Debug)]
pub struct sbx_detached {
    detached: Detached,
    key: CString,
}

impl sbx_detached {
    pub(super) fn new(detached: Detached) -> Self {
        Self { key: boundary::c_text(detached.key()), detached }
    }
}

/// The key that it was started with.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_detached_key(detached: Option<&sbx_detached>) -> *const c_char {
    boundary::get_text(detached, |detached| Some(&detached.key))
}

/// Puts into `*has_ended` whether the command has ended, and if so into `*exit_status`, which may be NULL, how; the
/// caller frees that with sbx_exit_status_free(). Does not wait for it.
///
/// SBX_ERR_DETACHED_NOT_FOUND if no command has this key; SBX_ERR_TIMED_OUT if its own timeout ended it;
/// SBX_ERR_COMMAND if it did not run; SBX_ERR_OUTCOME_UNKNOWN if the process that supervises it in the sandbox was
/// killed; SBX_ERR_CONNECT and the other connection errors if the sandbox can't be reached.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_detached_try_wait(
    detached: Option<&sbx_detached>,
    has_ended: Option<&mut MaybeUninit<bool>>,
    exit_status: Option<&mut MaybeUninit<*mut sbx_exit_status>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let status = require(detached, "detached")?.detached.try_wait()?;
        boundary::write_out(has_ended, status.is_some());
        if let Some(status) = status {
            sbx_exit_status::write_handle(exit_status, status);
        }
        Ok(())
    })
}

/// Waits at most `seconds` until the command has ended; a negative number is for ever. The caller frees `*exit_status`
/// with sbx_exit_status_free(); `exit_status` may be NULL.
///
/// SBX_ERR_TIMED_OUT if it still runs; it keeps running. Otherwise as sbx_detached_try_wait().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_detached_wait(
    detached: Option<&sbx_detached>,
    seconds: f64,
    exit_status: Option<&mut MaybeUninit<*mut sbx_exit_status>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let timeout = boundary::optional_seconds(seconds, "seconds")?;
        sbx_exit_status::write_handle(exit_status, require(detached, "detached")?.detached.wait(timeout)?);
        Ok(())
    })
}

/// Reads what the command has written so far to a stream (an sbx_stream), starting at byte `offset`: at most `limit`
/// bytes, which the caller frees with sbx_bytes_free(). Does not wait. No bytes means that there is no more output yet,
/// or none at all if the command has ended.
///
/// SBX_ERR_DETACHED_NOT_FOUND if no command has this key; SBX_ERR_CONNECT and its like if the sandbox can't be reached.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_detached_read(
    detached: Option<&sbx_detached>,
    stream: i32,
    offset: u64,
    limit: usize,
    bytes: Option<&mut MaybeUninit<*mut sbx_bytes>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (detached, stream) = (require(detached, "detached")?, boundary::enum_from_i32(stream, "stream", STREAMS)?);
        let place = require(bytes, "bytes")?;
        detached.detached.read(stream, offset, limit).map(|bytes| boundary::write_handle(place, sbx_bytes::new(bytes)))
    })
}

/// Passes the output to `receive` as it arrives, with `userdata` as first argument, until the command has ended. It
/// starts `*stdout_position` and `*stderr_position` bytes after the beginning of the streams. When the call returns,
/// both are updated, so that after an error the same call continues where this one stopped. The caller frees
/// `*exit_status` with sbx_exit_status_free(); `exit_status` may be NULL.
///
/// SBX_ERR_CANCELLED if `receive` asked to stop; the command keeps running. Otherwise as sbx_detached_try_wait().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_detached_stream(
    detached: Option<&sbx_detached>,
    stdout_position: Option<&mut u64>,
    stderr_position: Option<&mut u64>,
    receive: sbx_output_fn,
    userdata: *mut c_void,
    exit_status: Option<&mut MaybeUninit<*mut sbx_exit_status>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (detached, receive) = (require(detached, "detached")?, require(receive, "receive")?);
        let stdout = require(stdout_position, "stdout_position")?;
        let stderr = require(stderr_position, "stderr_position")?;
        let mut position = Position::new(*stdout, *stderr);
        let status = detached.detached.stream(&mut position, receiver(receive, userdata));
        (*stdout, *stderr) = (position.stdout, position.stderr);
        sbx_exit_status::write_handle(exit_status, status?);
        Ok(())
    })
}

/// Kills the command and all its descendants, also those that left its process group, and returns when they are gone.
/// Does nothing if the command has ended.
///
/// SBX_ERR_DETACHED_NOT_FOUND if no command has this key; SBX_ERR_COMMAND if some process can't be killed;
/// SBX_ERR_CONNECT and its like if the sandbox can't be reached.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_detached_kill(
    detached: Option<&sbx_detached>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || require(detached, "detached")?.detached.kill())
}

/// Sends the command's process group a signal, named without SIG, such as "INT" or "TERM". Does nothing if the command
/// has ended.
///
/// SBX_ERR_INVALID_ARGUMENT if this is no name of a signal; else as sbx_detached_kill().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_detached_signal(
    detached: Option<&sbx_detached>,
    name: boundary::Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || require(detached, "detached")?.detached.signal(name.utf8("name")?))
}

/// Removes the output and the status of a command that has ended. Its key is free again.
///
/// SBX_ERR_CONFLICT if it runs; SBX_ERR_DETACHED_NOT_FOUND if no command has this key; SBX_ERR_CONNECT and its like if
/// the sandbox can't be reached.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_detached_remove(
    detached: Option<&sbx_detached>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || require(detached, "detached")?.detached.remove())
}

/// Frees the handle, without waiting. The command runs on, and is found again under its key.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_detached_free(detached: Option<Box<sbx_detached>>) {
    boundary::free(detached);
}

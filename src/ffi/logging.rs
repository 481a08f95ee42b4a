//! Log lines for a program's own logger.

use std::ffi::{c_char, c_void};
use std::mem::MaybeUninit;

use super::boundary;
use super::config::{LEVELS, sbx_log_level};
use super::error::{sbx_error, sbx_status};
use crate::{LogHandler, LogLevel, LogLine, set_log_handler};

/// Receives a line of the library's log: its level, the part of the library that wrote it, such as "sandbox::client",
/// and the message, without a newline. The texts are valid until it returns.
///
/// It is called on the thread that logs, which may be one of the library's own, and by several threads at once. It must
/// not wait for calls of this library, nor throw, longjmp or end its thread. Lines that its own calls of this library
/// would log are dropped.
pub type sbx_log_fn = Option<
    unsafe extern "C" fn(userdata: *mut c_void, level: sbx_log_level, target: *const c_char, message: *const c_char),
>;

struct Callback(unsafe extern "C" fn(*mut c_void, sbx_log_level, *const c_char, *const c_char), *mut c_void);

// SAFETY: the header says that the function is called on any thread with its userdata.
unsafe impl Send for Callback {}
// SAFETY: and by several threads at once.
unsafe impl Sync for Callback {}

impl Callback {
    fn take(&self, line: &LogLine<'_>) {
        let level = match line.level {
            LogLevel::Error => sbx_log_level::SBX_LOG_ERROR,
            LogLevel::Warn => sbx_log_level::SBX_LOG_WARN,
            LogLevel::Info => sbx_log_level::SBX_LOG_INFO,
            LogLevel::Debug => sbx_log_level::SBX_LOG_DEBUG,
            LogLevel::Off | LogLevel::Trace => sbx_log_level::SBX_LOG_TRACE,
        };
        let (target, message) = (boundary::c_text(line.target), boundary::c_text(line.message));
        // SAFETY: the C caller gave a function of this type, for as long as it is set, which gets valid texts.
        unsafe { self.0(self.1, level, target.as_ptr(), message.as_ptr()) };
    }
}

/// Passes the library's log lines, up to the sbx_log_level `level`, to `receive` with `userdata` as its first argument.
/// This holds for all clients of the process, until it is called again; NULL stops it. An earlier function is replaced:
/// once this returns, it is not called any more, and its `userdata` may be freed. Without this and
/// sbx_config_init_logging() the library writes nothing.
///
/// SBX_ERR_INVALID_ARGUMENT if it is called by such a function; SBX_ERR_TIMED_OUT if the function to be replaced does
/// not return within 5 seconds.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_log_set_handler(
    level: i32,
    receive: sbx_log_fn,
    userdata: *mut c_void,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let callback = receive.map(|receive| Callback(receive, userdata));
        let handler = callback.map(|callback| -> LogHandler { Box::new(move |line| callback.take(line)) });
        set_log_handler(boundary::enum_from_i32(level, "level", LEVELS)?, handler)
    })
}

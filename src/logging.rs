//! Where log lines go in a program that has no logger of its own, such as one in another language.

use std::cell::Cell;
use std::io::Write as _;
use std::panic::{self, AssertUnwindSafe};
use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use log::{LevelFilter, Log, Metadata, Record};
use parking_lot::RwLock;

use crate::error::{Error, ErrorKind, Result, stable_names};

/// How much is logged: lines of this level and of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LogLevel {
    /// Nothing at all.
    Off,
    /// Failures that no call can report.
    Error,
    /// Conditions that may need attention.
    Warn,
    /// Sandboxes that come and go.
    Info,
    /// Each request and connection.
    Debug,
    /// Everything.
    Trace,
}

stable_names!(LogLevel, "log level", {
    Off => "off",
    Error => "error",
    Warn => "warn",
    Info => "info",
    Debug => "debug",
    Trace => "trace",
});

impl LogLevel {
    fn filter(self) -> LevelFilter {
        match self {
            Self::Off => LevelFilter::Off,
            Self::Error => LevelFilter::Error,
            Self::Warn => LevelFilter::Warn,
            Self::Info => LevelFilter::Info,
            Self::Debug => LevelFilter::Debug,
            Self::Trace => LevelFilter::Trace,
        }
    }
}

impl From<log::Level> for LogLevel {
    fn from(level: log::Level) -> Self {
        match level {
            log::Level::Error => Self::Error,
            log::Level::Warn => Self::Warn,
            log::Level::Info => Self::Info,
            log::Level::Debug => Self::Debug,
            log::Level::Trace => Self::Trace,
        }
    }
}

/// A line of this library's log; see [`set_log_handler`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LogLine<'a> {
    /// How important it is; never [`LogLevel::Off`].
    pub level: LogLevel,
    /// The part of the library that it is from, such as `sandbox::client`.
    pub target: &'a str,
    /// What it says, on one line.
    pub message: &'a str,
}

/// What takes the lines: see [`set_log_handler`].
pub type LogHandler = Box<dyn Fn(&LogLine<'_>) + Send + Sync>;

/// The one logger of the process, if no other was there first.
struct Logger(RwLock<Option<LogHandler>>);

static LOGGER: Logger = Logger(RwLock::new(None));
/// Whether the process's log comes to this one.
static IS_INSTALLED: OnceLock<bool> = OnceLock::new();
/// How long a handler that is replaced may be at work on its last lines.
const REPLACING: Duration = Duration::from_secs(10);

thread_local! {
    /// This thread is in a handler. What that logs itself would come back to it without an end.
    static IS_HANDLING: Cell<bool> = const { Cell::new(false) };
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        target == "sandbox" || target.starts_with("sandbox::")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) || IS_HANDLING.replace(true) {
            return;
        }
        // Not waited for: in a forked child the thread that replaces a handler does not exist.
        if let Some(handler) = self.0.try_read().as_ref().and_then(|handler| handler.as_ref()) {
            let message = record.args().to_string().replace(['\n', '\r'], " ");
            let line = LogLine { level: record.level().into(), target: record.target(), message: &message };
            // A panic must not come out of whatever had something to log.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| handler(&line)));
        }
        IS_HANDLING.set(false);
    }

    fn flush(&self) {}
}

/// Passes this library's log lines to `handler`, for programs that have no logger for the crate `log`; `None` stops it.
/// An earlier handler is replaced: once this returns, it is not called any more.
///
/// The handler is called on the thread that logs, which may be one of the library's own, and by several threads at
/// once. It must not wait for calls of this library. Lines that it logs itself are dropped.
///
/// ```
/// use sandbox::{LogLevel, set_log_handler};
///
/// let write = |line: &sandbox::LogLine<'_>| println!("{} {}: {}", line.level, line.target, line.message);
/// set_log_handler(LogLevel::Info, Some(Box::new(write)))?;
/// set_log_handler(LogLevel::Off, None)?;
/// # Ok::<(), sandbox::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Config`] if the process has another logger, which receives the lines; [`ErrorKind::InvalidArgument`] if
/// a handler calls it; [`ErrorKind::TimedOut`] if the handler to be replaced does not return within 10 seconds.
pub fn set_log_handler(level: LogLevel, handler: Option<LogHandler>) -> Result<()> {
    install(level, handler, true)
}

/// Sends the lines to standard error, unless there is a handler already.
pub(crate) fn log_to_stderr(level: LogLevel) -> Result<()> {
    install(level, Some(Box::new(write_to_stderr)), false)
}

fn install(level: LogLevel, handler: Option<LogHandler>, replaces: bool) -> Result<()> {
    if IS_HANDLING.get() {
        return Err(Error::new(ErrorKind::InvalidArgument, "a handler of log lines can't replace itself"));
    }
    if !IS_INSTALLED.get_or_init(|| log::set_logger(&LOGGER).is_ok()) {
        return Err(taken());
    }
    let mut place = LOGGER.0.try_write_for(REPLACING).ok_or_else(|| {
        Error::new(ErrorKind::TimedOut, "the handler of log lines that is to be replaced does not return")
    })?;
    if place.is_some() && !replaces {
        return Err(taken());
    }
    log::set_max_level(if handler.is_some() { level.filter() } else { LevelFilter::Off });
    *place = handler;
    Ok(())
}

fn taken() -> Error {
    Error::new(ErrorKind::Config, "this process has a logger already; it receives this library's lines")
}

fn write_to_stderr(line: &LogLine<'_>) {
    let text = format!("{:.3} {:5} {}: {}\n", Timestamp::now(), line.level, line.target, line.message);
    // In one piece, and without a word where nobody reads it.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use parking_lot::Mutex;

    use super::*;

    /// One test, since there is one logger.
    #[test]
    fn lines_reach_one_handler_and_nothing_comes_back_to_it() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        let keep = move |line: &LogLine<'_>| {
            log::error!(target: "sandbox::test", "not this");
            assert_eq!(set_log_handler(LogLevel::Off, None).unwrap_err().kind(), ErrorKind::InvalidArgument);
            if line.target == "sandbox::test" {
                kept.lock().push(format!("{} {}", line.level, line.message));
            }
            assert_ne!(line.message, "panic");
        };
        set_log_handler(LogLevel::Info, Some(Box::new(keep))).unwrap();
        log::warn!(target: "sandbox::test", "one\nline");
        log::info!(target: "sandbox::test", "panic");
        log::debug!(target: "sandbox::test", "not this");
        log::error!(target: "sandboxed", "nor this");
        assert_eq!(*lines.lock(), ["warn one line", "info panic"]);
        assert_eq!(log_to_stderr(LogLevel::Info).unwrap_err().kind(), ErrorKind::Config);

        // A handler that was replaced is not called again, whatever other threads log.
        let (calls, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted, over) = (Arc::clone(&calls), Arc::clone(&is_over));
        let count = move |_: &LogLine<'_>| {
            assert_eq!(over.load(Ordering::SeqCst), 0);
            counted.fetch_add(1, Ordering::SeqCst);
        };
        set_log_handler(LogLevel::Trace, Some(Box::new(count))).unwrap();
        std::thread::scope(|scope| {
            let logging = || (0..1000).for_each(|_| log::trace!(target: "sandbox::test", "x"));
            (0..4).for_each(|_| drop(scope.spawn(logging)));
            while calls.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            set_log_handler(LogLevel::Off, None).unwrap();
            is_over.store(1, Ordering::SeqCst);
            let before = calls.load(Ordering::SeqCst);
            log::error!(target: "sandbox::test", "nobody");
            assert_eq!(calls.load(Ordering::SeqCst), before);
        });
        log_to_stderr(LogLevel::Off).unwrap();
        assert_eq!(log_to_stderr(LogLevel::Off).unwrap_err().kind(), ErrorKind::Config);
    }
}

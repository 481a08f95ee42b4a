//! Signals to this program.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::{flag, low_level};

/// Those that ask this program to end, but for the ones that its starter wants ignored, as nohup does.
pub(crate) fn that_end() -> Vec<i32> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    let is_ignored = |signal: &i32| ignored.unwrap_or(0) >> (signal - 1) & 1 == 1;
    [SIGHUP, SIGINT, SIGQUIT, SIGTERM].into_iter().filter(|signal| !is_ignored(signal)).collect()
}

/// Its name without `SIG`.
pub(crate) fn name(signal: i32) -> &'static str {
    low_level::signal_name(signal).and_then(|name| name.strip_prefix("SIG")).unwrap_or("TERM")
}

/// The number of a signal by its name without `SIG`; 0 for one that this system does not know.
pub(crate) fn number(wanted: &str) -> u8 {
    (1..=31).find(|signal| name(i32::from(*signal)) == wanted).unwrap_or(0)
}

/// Notes that this program was told to end, so that it can tidy up first; the second signal ends it at once.
#[derive(Clone, Default)]
pub(crate) struct Interruption {
    has_come: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Interruption {
    pub(crate) fn listen() -> io::Result<Self> {
        let interruption = Self::default();
        for signal in that_end() {
            flag::register_conditional_default(signal, Arc::clone(&interruption.has_come))?;
            flag::register(signal, Arc::clone(&interruption.has_come))?;
            flag::register_usize(signal, Arc::clone(&interruption.signal), signal.unsigned_abs() as usize)?;
        }
        Ok(interruption)
    }

    pub(crate) fn has_come(&self) -> bool {
        self.has_come.load(Ordering::SeqCst)
    }

    /// What a program's exit code is that was told to end.
    pub(crate) fn code(&self) -> u8 {
        u8::try_from(128 + self.signal.load(Ordering::SeqCst)).unwrap_or(u8::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_belong_together() {
        for (number_of, name_of) in [(1, "HUP"), (2, "INT"), (9, "KILL"), (11, "SEGV"), (15, "TERM"), (31, "SYS")] {
            assert_eq!((number(name_of), name(i32::from(number_of))), (number_of, name_of));
        }
        assert_eq!(number("TERM@openssh.com"), 0);
    }
}

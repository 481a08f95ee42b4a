//! What a sandbox uses.

use std::mem::MaybeUninit;
use std::time::Duration;

use super::boundary::{self, require};
use super::error::{sbx_error, sbx_status};
use super::sandbox::sbx_sandbox;
use crate::Usage;

/// What a sandbox uses at one moment, from sbx_sandbox_usage(). Freed with sbx_usage_free(). May be read from several
/// threads.
#[derive(Debug)]
pub struct sbx_usage(Usage);

/// What sbx_usage_value() tells. Memory, processor time and processes are those of the sandbox's container, with its
/// guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum sbx_usage_kind {
    /// Microseconds of processor time since the container started.
    SBX_USAGE_CPU = 0,
    /// Microseconds for which it had to wait because it had used up its share of the processors.
    SBX_USAGE_THROTTLED = 1,
    /// Bytes of memory, with the files that the kernel keeps in memory for it.
    SBX_USAGE_MEMORY = 2,
    /// The most that it has been.
    SBX_USAGE_MEMORY_PEAK = 3,
    /// What it may be at most.
    SBX_USAGE_MEMORY_LIMIT = 4,
    /// Processes that were killed because there was no more memory.
    SBX_USAGE_OOM_KILLS = 5,
    /// Processes and threads.
    SBX_USAGE_PROCESSES = 6,
    /// What they may be at most.
    SBX_USAGE_PROCESSES_LIMIT = 7,
    /// Bytes in use on the file system of the home directory. Where the sandbox has no volume there, that is the node's
    /// disk, with all that others keep on it.
    SBX_USAGE_DISK = 8,
    /// Bytes of that file system.
    SBX_USAGE_DISK_LIMIT = 9,
    /// Bytes received through the Pod's network interfaces but loopback.
    SBX_USAGE_RECEIVED = 10,
    /// Bytes sent through them.
    SBX_USAGE_SENT = 11,
    /// Bytes of memory of the guest itself, which is the sandbox's main process.
    SBX_USAGE_GUEST_MEMORY = 12,
    /// Commands that run, of all clients.
    SBX_USAGE_COMMANDS = 13,
    /// SSH connections of all clients.
    SBX_USAGE_CONNECTIONS = 14,
}

/// Asks the sandbox what it uses now: one round trip and no API call. The caller frees the answer with
/// sbx_usage_free().
///
/// As sbx_sandbox_execute(), but for the errors of the command.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_usage(
    sandbox: Option<&sbx_sandbox>,
    usage: Option<&mut MaybeUninit<*mut sbx_usage>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (sandbox, place) = (require(sandbox, "sandbox")?, require(usage, "usage")?);
        sandbox.sandbox.usage().map(|usage| boundary::write_handle(place, sbx_usage(usage)))
    })
}

/// True, and the value in `*value`, if the sandbox's kernel tells it; false also where there is no limit, for NULL, and
/// for a number that stands for no sbx_usage_kind. `value` may be NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_usage_value(usage: Option<&sbx_usage>, kind: i32, value: Option<&mut MaybeUninit<u64>>) -> bool {
    boundary::get(usage, false, |sbx_usage(usage)| {
        use sbx_usage_kind as of;
        let microseconds =
            |time: Option<Duration>| time.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        let known = [
            (of::SBX_USAGE_CPU, microseconds(usage.cpu)),
            (of::SBX_USAGE_THROTTLED, microseconds(usage.throttled)),
            (of::SBX_USAGE_MEMORY, usage.memory),
            (of::SBX_USAGE_MEMORY_PEAK, usage.memory_peak),
            (of::SBX_USAGE_MEMORY_LIMIT, usage.memory_limit),
            (of::SBX_USAGE_OOM_KILLS, usage.oom_kills),
            (of::SBX_USAGE_PROCESSES, usage.processes),
            (of::SBX_USAGE_PROCESSES_LIMIT, usage.processes_limit),
            (of::SBX_USAGE_DISK, usage.disk),
            (of::SBX_USAGE_DISK_LIMIT, usage.disk_limit),
            (of::SBX_USAGE_RECEIVED, usage.received),
            (of::SBX_USAGE_SENT, usage.sent),
            (of::SBX_USAGE_GUEST_MEMORY, usage.guest_memory),
            (of::SBX_USAGE_COMMANDS, Some(usage.commands)),
            (of::SBX_USAGE_CONNECTIONS, Some(usage.connections)),
        ];
        boundary::write_some(value, known.into_iter().find(|(of, _)| *of as i32 == kind).and_then(|(_, value)| value))
    })
}

/// Frees what sbx_sandbox_usage() gave out.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_usage_free(usage: Option<Box<sbx_usage>>) {
    boundary::free(usage);
}

//! What a sandbox uses.

use std::time::Duration;

use sandbox_protocol as protocol;

/// What a sandbox uses at one moment, as its kernel tells it: what the kernel does not tell is `None`, as most of it is
/// under gVisor. Memory, processor time and processes are those of the sandbox's container, with its guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Usage {
    /// Processor time since the container started.
    pub cpu: Option<Duration>,
    /// Time for which it had to wait because it had used up its share of the processors.
    pub throttled: Option<Duration>,
    /// Bytes of memory, with the files that the kernel keeps in memory for it.
    pub memory: Option<u64>,
    /// The most that it has been.
    pub memory_peak: Option<u64>,
    /// What it may be at most; `None` without a limit.
    pub memory_limit: Option<u64>,
    /// Processes that were killed because there was no more memory.
    pub oom_kills: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// What they may be at most; `None` without a limit.
    pub processes_limit: Option<u64>,
    /// Bytes in use on the file system of the home directory. Where the sandbox has no volume there, that is the
    /// node's disk, with all that others keep on it.
    pub disk: Option<u64>,
    /// Bytes of that file system.
    pub disk_limit: Option<u64>,
    /// Bytes received through the Pod's network interfaces but loopback.
    pub received: Option<u64>,
    /// Bytes sent through them.
    pub sent: Option<u64>,
    /// Bytes of memory of the guest itself, which is the sandbox's main process.
    pub guest_memory: Option<u64>,
    /// Commands that run, of all clients.
    pub commands: u64,
    /// SSH connections of all clients.
    pub connections: u64,
}

impl Usage {
    /// What is to be said of the memory so long afterwards.
    pub(crate) fn of_memory(&self, ago: Duration) -> String {
        let bytes = |bytes: Option<u64>| bytes.map_or("an unknown number".to_owned(), |bytes| bytes.to_string());
        let (used, limit, peak) = (bytes(self.memory), bytes(self.memory_limit), bytes(self.memory_peak));
        let seconds = ago.as_secs_f64();
        format!("{seconds:.1} s before, {used} of {limit} bytes of memory were in use, and {peak} at most")
    }
}

impl From<protocol::Usage> for Usage {
    fn from(usage: protocol::Usage) -> Self {
        Self {
            cpu: usage.cpu_us.map(Duration::from_micros),
            throttled: usage.throttled_us.map(Duration::from_micros),
            memory: usage.memory,
            memory_peak: usage.memory_peak,
            memory_limit: usage.memory_limit,
            oom_kills: usage.oom_kills,
            processes: usage.processes,
            processes_limit: usage.processes_limit,
            disk: usage.disk,
            disk_limit: usage.disk_limit,
            received: usage.received,
            sent: usage.sent,
            guest_memory: usage.guest_memory,
            commands: usage.commands,
            connections: usage.connections,
        }
    }
}

//! What the sandbox uses, as the kernel tells it in the container's cgroup.

use std::fs;

use sandbox_protocol::Usage;

use crate::server::Shared;

pub(super) fn usage(shared: &Shared) -> Usage {
    let changed_limits = shared.limits.changed();
    let common = Usage {
        guest_memory: guest_memory(),
        commands: shared.spawner.commands().len() as u64,
        connections: shared.connections() as u64,
        changed_limits,
        ..Usage::default()
    };
    let file = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok();
    let number = |name: &str| file(name).and_then(|text| text.trim().parse().ok());
    let entry = |name: &str, key: &str| file(name).and_then(|text| value(&text, key));
    if fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or(false) {
        return Usage {
            memory: number("memory.current"),
            memory_limit: number("memory.max"),
            memory_peak: number("memory.peak"),
            oom_kills: entry("memory.events", "oom_kill"),
            cpu_us: entry("cpu.stat", "usage_usec"),
            processes: number("pids.current"),
            processes_limit: number("pids.max"),
            ..common
        };
    }
    // The first version of cgroups has a directory for each controller. No limit is a huge number there.
    let no_limit = |limit: &u64| *limit < 1 << 60;
    Usage {
        memory: number("memory/memory.usage_in_bytes"),
        memory_limit: number("memory/memory.limit_in_bytes").filter(no_limit),
        memory_peak: number("memory/memory.max_usage_in_bytes"),
        oom_kills: entry("memory/memory.oom_control", "oom_kill"),
        cpu_us: number("cpuacct/cpuacct.usage").map(|nanoseconds| nanoseconds / 1000),
        processes: number("pids/pids.current"),
        processes_limit: number("pids/pids.max"),
        ..common
    }
}

/// The value in a line `key value`.
fn value(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

/// Bytes that are resident.
fn guest_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_lines() {
        let text = "low 0\noom 1\noom_kill 3\noom_group_kill 4\n";
        assert_eq!(value(text, "oom_kill"), Some(3));
        assert_eq!(value(text, "oom"), Some(1));
        assert_eq!(value(text, "max"), None);
    }

    #[test]
    fn the_own_memory() {
        assert!(guest_memory().is_some_and(|bytes| bytes > 100_000));
    }
}

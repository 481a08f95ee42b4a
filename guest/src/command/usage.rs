//! What the sandbox uses, as the kernel tells it, most of it in the container's cgroup.

use std::fs;

use rustix::fs::statvfs;
use sandbox_protocol::Usage;

use crate::server::Shared;

pub(super) fn usage(shared: &Shared) -> Usage {
    let changed_limits = shared.limits.changed();
    let disk = statvfs(shared.environment.home()).ok();
    let (received, sent) = fs::read_to_string("/proc/self/net/dev").ok().map(|text| traffic(&text)).unzip();
    let common = Usage {
        disk: disk.as_ref().map(|disk| disk.f_blocks.saturating_sub(disk.f_bfree).saturating_mul(disk.f_frsize)),
        disk_limit: disk.as_ref().map(|disk| disk.f_blocks.saturating_mul(disk.f_frsize)),
        received,
        sent,
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
            throttled_us: entry("cpu.stat", "throttled_usec"),
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
        throttled_us: entry("cpu/cpu.stat", "throttled_time").map(|nanoseconds| nanoseconds / 1000),
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

/// Bytes received and sent in the kernel's table of network interfaces, without loopback.
fn traffic(table: &str) -> (u64, u64) {
    let interfaces = table.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| name.trim() != "lo");
    let counts = interfaces.filter_map(|(_, counts)| {
        let mut counts = counts.split_ascii_whitespace().map(str::parse::<u64>);
        Some((counts.next()?.ok()?, counts.nth(7)?.ok()?))
    });
    counts.fold((0, 0), |sum, (received, sent)| (sum.0 + received, sum.1 + sent))
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
    fn traffic_is_counted_without_loopback() {
        let table = "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets\n\
                     \u{20}   lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  eth0: 1000 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n\
                     eth1:7 1 0 0 0 0 0 0 3 1 0 0 0 0 0 0\n";
        assert_eq!(traffic(table), (1007, 23));
        assert_eq!(traffic(""), (0, 0));
    }

    #[test]
    fn the_own_memory() {
        assert!(guest_memory().is_some_and(|bytes| bytes > 100_000));
    }
}

//! The guest's own resource limits, which code of the same user may try to take away.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use sandbox_protocol as protocol;

use crate::process::Limit;

/// All resources, with their names and Linux's numbers.
const RESOURCES: [(&str, Resource, u32); 16] = [
    ("cpu", Resource::Cpu, libc::RLIMIT_CPU),
    ("fsize", Resource::Fsize, libc::RLIMIT_FSIZE),
    ("data", Resource::Data, libc::RLIMIT_DATA),
    ("stack", Resource::Stack, libc::RLIMIT_STACK),
    ("core", Resource::Core, libc::RLIMIT_CORE),
    ("rss", Resource::Rss, libc::RLIMIT_RSS),
    ("nproc", Resource::Nproc, libc::RLIMIT_NPROC),
    ("nofile", Resource::Nofile, libc::RLIMIT_NOFILE),
    ("memlock", Resource::Memlock, libc::RLIMIT_MEMLOCK),
    ("as", Resource::As, libc::RLIMIT_AS),
    ("locks", Resource::Locks, libc::RLIMIT_LOCKS),
    ("sigpending", Resource::Sigpending, libc::RLIMIT_SIGPENDING),
    ("msgqueue", Resource::Msgqueue, libc::RLIMIT_MSGQUEUE),
    ("nice", Resource::Nice, libc::RLIMIT_NICE),
    ("rtprio", Resource::Rtprio, libc::RLIMIT_RTPRIO),
    ("rttime", Resource::Rttime, libc::RLIMIT_RTTIME),
];

/// Descriptors that the guest wants for itself, if it may have them.
const DESCRIPTORS: u64 = 65536;

/// The limits that the guest started with.
#[derive(Debug)]
pub(crate) struct ResourceLimits {
    /// What the container gave.
    open_files: Rlimit,
    /// What the guest goes on with.
    own: Vec<Rlimit>,
    /// The processors that the guest may run on.
    processors: Option<CpuSet>,
    was_bound: AtomicBool,
}

impl ResourceLimits {
    /// Takes more descriptors for the guest, and remembers all limits.
    pub(crate) fn take() -> Self {
        let open_files = getrlimit(Resource::Nofile);
        let most = open_files.maximum.unwrap_or(DESCRIPTORS).min(DESCRIPTORS);
        if open_files.current.is_some_and(|current| current < most) {
            // If it may not have more, it goes on with what it has.
            let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: open_files.maximum });
        }
        let own = RESOURCES.iter().map(|(_, resource, _)| getrlimit(*resource)).collect();
        Self { open_files, own, processors: sched_getaffinity(None).ok(), was_bound: AtomicBool::new(false) }
    }

    /// Lets the calling thread run on all processors again, if somebody has bound it to some, and says whether any
    /// thread ever was found so. Commands may bind themselves, and no filter of system calls can tell their threads
    /// from the guest's.
    pub(crate) fn restore_processors(&self) -> bool {
        if let Some(processors) = &self.processors
            && sched_getaffinity(None).is_ok_and(|now| now != *processors)
        {
            self.was_bound.store(true, Ordering::Relaxed);
            // The container itself may have fewer now: then this has no effect.
            let _ = sched_setaffinity(None, processors);
        }
        self.was_bound.load(Ordering::Relaxed)
    }

    /// What commands get where they are not to have the guest's own.
    pub(crate) fn for_commands(&self) -> Vec<Limit> {
        vec![limit(libc::RLIMIT_NOFILE, self.open_files.current, self.open_files.maximum)]
    }

    /// The limits of a command that asks for some.
    ///
    /// # Errors
    /// The name that is no resource.
    pub(crate) fn for_command(&self, wanted: &[protocol::Limit]) -> Result<Vec<Limit>, String> {
        let mut limits = self.for_commands();
        for protocol::Limit { resource, soft, hard } in wanted {
            let Some((.., number)) = RESOURCES.iter().find(|(name, ..)| name == resource) else {
                return Err(resource.clone());
            };
            limits.retain(|limit| limit.resource != *number);
            limits.push(limit(*number, *soft, hard.or(*soft)));
        }
        Ok(limits)
    }

    /// Limits of the guest that are no longer what they were: somebody in the sandbox has changed them.
    pub(crate) fn changed(&self) -> Vec<protocol::Limit> {
        let now = RESOURCES.iter().map(|(name, resource, _)| (*name, getrlimit(*resource)));
        let changed = now.zip(&self.own).filter(|((_, now), then)| now != *then);
        changed
            .map(|((name, now), _)| protocol::Limit { resource: name.to_owned(), soft: now.current, hard: now.maximum })
            .collect()
    }
}

fn limit(resource: u32, soft: Option<u64>, hard: Option<u64>) -> Limit {
    Limit { resource, soft: soft.unwrap_or(u64::MAX), hard: hard.unwrap_or(u64::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_gets_what_it_asks_for() {
        let limits = ResourceLimits::take();
        assert!(limits.changed().is_empty());
        let wanted = [
            protocol::Limit { resource: "nofile".to_owned(), soft: Some(10), hard: None },
            protocol::Limit { resource: "core".to_owned(), soft: None, hard: None },
        ];
        let found = limits.for_command(&wanted).unwrap();
        assert_eq!(found, [limit(libc::RLIMIT_NOFILE, Some(10), Some(10)), limit(libc::RLIMIT_CORE, None, None)]);
        let unknown = [protocol::Limit { resource: "luck".to_owned(), soft: None, hard: None }];
        assert_eq!(limits.for_command(&unknown), Err("luck".to_owned()));
    }
}

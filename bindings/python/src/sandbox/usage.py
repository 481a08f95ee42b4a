"""What a sandbox uses."""

from ctypes import byref, c_uint64
from dataclasses import dataclass
from typing import Optional

from . import _abi as abi
from ._abi import UsageKind
from ._boundary import Handle


@dataclass(frozen=True)
class Usage:
    """What a sandbox uses at one moment, as its kernel tells it; None is what the kernel does not tell, or no limit.
    Memory, processor time and processes are those of the sandbox's container, with its guest.

    cpu: seconds of processor time since the container started.
    throttled: seconds for which it had to wait because it had used up its share of the processors.
    memory: bytes of memory, with the files that the kernel keeps in memory for it.
    memory_peak: the most that it has been.
    memory_limit: what it may be at most.
    oom_kills: processes that were killed because there was no more memory.
    processes: processes and threads.
    processes_limit: what they may be at most.
    disk: bytes in use on the file system of the home directory. Where the sandbox has no volume there, that is the
        node's disk, with all that others keep on it.
    disk_limit: bytes of that file system.
    received: bytes received through the Pod's network interfaces but loopback.
    sent: bytes sent through them.
    guest_memory: bytes of memory of the guest itself, which is the sandbox's main process.
    commands: commands that run, of all clients.
    connections: SSH connections of all clients.
    """

    cpu: Optional[float]
    throttled: Optional[float]
    memory: Optional[int]
    memory_peak: Optional[int]
    memory_limit: Optional[int]
    oom_kills: Optional[int]
    processes: Optional[int]
    processes_limit: Optional[int]
    disk: Optional[int]
    disk_limit: Optional[int]
    received: Optional[int]
    sent: Optional[int]
    guest_memory: Optional[int]
    commands: int
    connections: int


def usage_of(usage: Handle) -> Usage:
    """A copy of what the library's usage says."""

    def value(kind: UsageKind) -> Optional[int]:
        place = c_uint64()
        return place.value if abi.sbx_usage_value(usage, kind, byref(place)) else None

    def time(kind: UsageKind) -> Optional[float]:
        microseconds = value(kind)
        return None if microseconds is None else microseconds / 1e6

    return Usage(
        cpu=time(UsageKind.CPU),
        throttled=time(UsageKind.THROTTLED),
        memory=value(UsageKind.MEMORY),
        memory_peak=value(UsageKind.MEMORY_PEAK),
        memory_limit=value(UsageKind.MEMORY_LIMIT),
        oom_kills=value(UsageKind.OOM_KILLS),
        processes=value(UsageKind.PROCESSES),
        processes_limit=value(UsageKind.PROCESSES_LIMIT),
        disk=value(UsageKind.DISK),
        disk_limit=value(UsageKind.DISK_LIMIT),
        received=value(UsageKind.RECEIVED),
        sent=value(UsageKind.SENT),
        guest_memory=value(UsageKind.GUEST_MEMORY),
        commands=value(UsageKind.COMMANDS) or 0,
        connections=value(UsageKind.CONNECTIONS) or 0,
    )

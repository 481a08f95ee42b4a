"""The cluster's control group: everything that it runs is in there, and nothing else is.

So `down` finds every process of the cluster, also those that lost their parent, and never
one that is not ours. Works with cgroup v2 (one tree) and v1 (a tree per controller).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from console import Failure
from layout import NAME

SERVICES = "services"


def mounts() -> list[tuple[Path, str]]:
    """The mounted control group trees, each with its type."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind = right.split()[0]
        if kind in ("cgroup", "cgroup2"):
            found.append((Path(left.split()[4]), kind))
    if not found:
        raise Failure("no control groups are mounted under /sys/fs/cgroup; kubelet needs them")
    return found


def create() -> None:
    """Makes our group in every tree: for our own processes, and for kubelet's Pods below it."""
    for mount, kind in mounts():
        ours, services = mount / NAME, mount / NAME / SERVICES
        services.mkdir(parents=True, exist_ok=True)
        if kind == "cgroup2":
            for group in (mount, ours):
                for controller in (group / "cgroup.controllers").read_text().split():
                    # Kubelet names those that it misses.
                    with contextlib.suppress(OSError):
                        (group / "cgroup.subtree_control").write_text(f"+{controller}")
        elif (ours / "cpuset.cpus").exists():
            # A new cpuset is empty, and takes no process until it is filled.
            for name in ("cpuset.cpus", "cpuset.mems"):
                value = (mount / name).read_text()
                for group in (ours, services):
                    (group / name).write_text(value)


def join_services() -> None:
    """Moves the calling process, a service that is about to start, into our group."""
    for mount, _ in mounts():
        (mount / NAME / SERVICES / "cgroup.procs").write_text(str(os.getpid()))


def groups() -> Iterator[Path]:
    """Our groups in every tree, innermost first."""
    for mount, _ in mounts():
        for directory, _, _ in os.walk(mount / NAME, topdown=False):
            yield Path(directory)


def processes() -> set[int]:
    found: set[int] = set()
    for group in groups():
        with contextlib.suppress(OSError):  # it may be removed while we read
            found.update(int(pid) for pid in (group / "cgroup.procs").read_text().split())
    return found


def is_ours(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False
    return any(f":/{NAME}/" in f"{line}/" for line in text.splitlines())


def kill_everything(limit: float = 30) -> None:
    """Ends all processes in our group and removes it."""
    deadline = time.monotonic() + limit
    while pids := processes():
        for pid in pids:
            try:
                handle = os.pidfd_open(pid)
            except OSError:
                continue
            try:
                # The handle stands for one process for good: is that one ours?
                if is_ours(pid):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            except ProcessLookupError:
                pass
            finally:
                os.close(handle)
        if time.monotonic() > deadline:
            names = ", ".join(map(str, sorted(pids)))
            raise Failure(f"processes {names} do not end, though killed; see their state with ps")
        time.sleep(0.05)
    while left := [group for group in groups() if group.exists()]:
        for group in left:
            try:
                group.rmdir()
            except OSError as error:
                if time.monotonic() > deadline:
                    raise Failure(f"the control group {group} cannot be removed: {error}") from error
        time.sleep(0.02)

"""The cluster's own processes: started in its namespaces, recorded, recognised again."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cgroups
from api import ApiError
from commands import environment
from console import Failure, tail
from layout import LOGS, PROCESSES

# Processes that only hold namespaces; others join them: those of the cluster, and the network of a
# machine that reaches nothing but its API server.
HOLDER = "namespaces"
OUTSIDE_HOLDER = "network-outside"
ADVICE = (
    "What to do: the log's last lines name the cause, and tests/cluster/README.md explains the "
    "usual ones; `cluster.py up` starts anew."
)


def start_time(pid: int) -> str | None:
    """When a process started, in kernel ticks: with the pid, it names one process for good."""
    try:
        # The name in parentheses may hold anything, so count from its end.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def recorded() -> dict[str, tuple[int, str]]:
    try:
        return {name: (pid, when) for name, (pid, when) in json.loads(PROCESSES.read_text()).items()}
    except (OSError, ValueError):
        return {}


def pid_of(name: str) -> int | None:
    """The pid of a component that we started and that still runs."""
    pid, when = recorded().get(name, (0, ""))
    return pid if pid and start_time(pid) == when else None


def start(name: str, command: Sequence[str]) -> int:
    """Starts a component in our control group. It outlives us."""
    log = LOGS / f"{name}.log"
    with log.open("wb") as file:
        try:
            process = subprocess.Popen(
                command,
                env=environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=cgroups.join_services,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise Failure(f"{name} does not start: {error}") from error
    # Its end is looked up in /proc; without this, Python would warn that nobody waited for it.
    process.returncode = 0
    when = start_time(process.pid) or "ended at once"
    everything = {**recorded(), name: (process.pid, when)}
    new = PROCESSES.with_suffix(".new")
    new.write_text(json.dumps(everything))
    new.rename(PROCESSES)
    return process.pid


def joining(name: str, which: Sequence[str], command: Sequence[str]) -> list[str]:
    holder = pid_of(name)
    if holder is None:
        raise Failure("the cluster is down; start it with: tests/cluster/cluster.py up")
    return ["nsenter", "--target", str(holder), *which, "--", *command]


def inside(command: Sequence[str], *, mounts: bool = True) -> list[str]:
    """A command that runs in the cluster's network, and with its mounts if wanted."""
    return joining(HOLDER, ["--net", "--mount"] if mounts else ["--net"], command)


def outside(command: Sequence[str]) -> list[str]:
    """A command that runs in a network with loopback only, where the API server answers."""
    return joining(OUTSIDE_HOLDER, ["--net"], command)


def require_running(names: Sequence[str]) -> None:
    for name in names:
        if pid_of(name) is None:
            raise Failure(f"{name} ended; {tail(LOGS / f'{name}.log')}\n{ADVICE}")


def wait_until(
    what: str,
    condition: Callable[[], bool],
    *,
    component: str,
    limit: float,
    advice: Callable[[], str] = lambda: "",
) -> None:
    """Waits for a condition while all components live, and explains a wait in vain."""
    deadline = time.monotonic() + limit
    while True:
        last = ""
        try:
            if condition():
                return
        except ApiError as error:
            last = f" ({error})"
        require_running(list(recorded()))
        if time.monotonic() > deadline:
            end = tail(LOGS / f"{component}.log")
            raise Failure(f"{component}: {what}: not within {limit:.0f} s{last}. {advice()}\n{end}\n{ADVICE}")
        time.sleep(0.05)


def left(pid: int, *kinds: str) -> bool:
    """Whether a process has left our own namespaces of these kinds."""
    try:
        return all(os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}") for kind in kinds)
    except OSError:
        return False

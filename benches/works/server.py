"""What the servers cost: the guest, and sshd beside it."""

import contextlib
from collections.abc import Iterator

from peers import LIMIT, OURS, OpenSsh, Peer, Target
from places import GUESTS

from .stage import Stage
from .tables import Table

MIB = 1 << 20
# A second in ticks, as /proc counts them on every machine.
TICKS = 100
# The servers' own processes; what is called otherwise is a command. The last is how the guest's
# zygote and keepers are called.
OWN = {"sshd", "sandbox-guest", "exe"}
# Statistics of all processes, and the status of the main one.
ASK = "cat /proc/[0-9]*/stat 2>/dev/null; echo; cat /proc/1/status"
IDLE_SESSIONS = 100
# Bytes that pass in each way while the memory is looked at.
STREAMED = 256 * MIB
# MiB: idle, with idle sessions, and the most while data passes, which the windows bound.
IDLE_MIB, SESSIONS_MIB, STREAMING_MIB = 4, 12, 24
GUEST_MIB = 5
REMOTE = "/tmp/bench-streamed"


class Usage:
    """What a server has used so far."""

    def __init__(self, told: str) -> None:
        processes, _, status = told.partition("\n\n")
        self.seconds = 0.0
        for line in processes.splitlines():
            # The name, in brackets, may hold anything.
            head, _, tail = line.rpartition(")")
            if head.partition("(")[2] in OWN:
                fields = tail.split()
                self.seconds += (int(fields[11]) + int(fields[12])) / TICKS
        found = {}
        for line in status.splitlines():
            name, _, rest = line.partition(":")
            found[name] = rest.split()
        # Of the main process.
        self.kib, self.most_kib = int(found["VmRSS"][0]), int(found["VmHWM"][0])


class Costs:
    """Processor time of the peers' servers, without that of the commands."""

    def __init__(self, stage: Stage, title: str, factor: float) -> None:
        self.stage, self.factor = stage, factor
        self._table = Table(title, "CPU s")

    @contextlib.contextmanager
    def of(self, peer: Peer) -> Iterator[None]:
        shell = self.stage.shells[peer.server]
        before = Usage(shell(ASK)).seconds
        yield
        spent = Usage(shell(ASK)).seconds - before
        self._table.add(peer.name, [spent * self.factor])

    def table(self) -> Table:
        self._table.times("OpenSSH, sshd", most=0.6)
        return self._table


def server(stage: Stage) -> list[Table]:
    """The guest's memory and its size."""
    memory = Table("memory of the guest", "MiB")
    made = stage.owner.do("create", key=stage.target.key)
    target = Target(
        **made,
        key=stage.target.key,
        openssh_key=stage.target.openssh_key,
        scratch=stage.target.scratch,
    )
    with contextlib.ExitStack() as stack:
        helper, many, ours = OpenSsh(), LIMIT(), OURS()
        for peer in (helper, many, ours):
            stack.callback(peer.close)
        helper.open(target)
        bars = []
        memory.add("idle", [_settled(helper)])
        bars.append(("idle", IDLE_MIB))
        many.open(target)
        many.do("hold", count=IDLE_SESSIONS, sftp=False)
        memory.add(f"{IDLE_SESSIONS} idle sessions", [_settled(helper)])
        bars.append((f"{IDLE_SESSIONS} idle sessions", SESSIONS_MIB))
        many.close()
        ours.open(target)
        source = f"{target.scratch}/streamed"
        with open(source, "wb") as file:
            file.truncate(STREAMED)
        ours.do("output", bytes=STREAMED)
        ours.do("upload", local=source, remote=REMOTE)
        ours.do("download", remote=REMOTE, local=f"{source}-back")
        memory.add("the most so far, streaming too", [Usage(helper.shell(ASK)).most_kib / 1024])
        bars.append(("the most so far, streaming too", STREAMING_MIB))
    for name, most in bars:
        memory.at_most(f"MiB, {name},", memory.figure(name)["p50"], most)
    size = Table("size of the guest", "MiB")
    built = sorted(GUESTS.glob("*/guest/sandbox-guest"), key=lambda path: path.stat().st_mtime)
    if built:
        size.add("sandbox-guest", [built[-1].stat().st_size / MIB])
        size.at_most("MiB", size.figure("sandbox-guest")["p50"], GUEST_MIB)
    return [memory, size]


def _settled(helper: OpenSsh) -> float:
    """MiB once buffers were given back, which happens a second after the last use: the least of
    some looks, each of which takes a session's memory for a moment.
    """
    return min(Usage(helper.shell(f"sleep 0.3; {ASK}")).kib for _ in range(10)) / 1024

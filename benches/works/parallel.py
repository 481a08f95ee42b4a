"""Many threads at once."""

import os
import statistics

from .stage import Stage, processor_seconds
from .tables import OURS_NAME, Table

THREADS = 64
SANDBOXES = 8
ROUNDS = 3
# Runs of each thread in a round.
COUNT = 10
# Percent of all cores; the rest is the start and the end of a round.
BUSY = 90
WHY = (
    "The machine is the limit: sshd and the shell that it starts for each command take most of "
    "its time, whichever client asks. What a client itself takes stands above."
)


def parallel(stage: Stage) -> list[Table]:
    """`true` by 64 threads, on one sandbox and on 8."""
    targets = [(stage.target.name, stage.target.address)]
    tables = [_table(stage, f"{THREADS} threads", targets)]
    for _ in range(SANDBOXES - 1):
        made = stage.owner.do("create", key=stage.target.key)
        targets.append((made["name"], made["address"]))
    return [*tables, _table(stage, f"{THREADS} threads, {SANDBOXES} sandboxes", targets)]


def _table(stage: Stage, title: str, targets: list[tuple[str, str]]) -> Table:
    table = Table(title, "commands/s")
    busy: dict[str, list[float]] = {}
    # Milliseconds of processor time for a command: in the client, and everywhere else.
    client: dict[str, list[float]] = {}
    others: dict[str, list[float]] = {}
    names, addresses = [name for name, _ in targets], [address for _, address in targets]
    with stage.peers("parallel") as peers:
        for peer in peers:
            peer.do("gather", names=names, addresses=addresses, threads=THREADS)
        for turn in stage.rounds(ROUNDS, peers):
            for peer in turn:
                before = processor_seconds(peer.pid)
                measured = peer.do("parallel", count=COUNT)
                own = processor_seconds(peer.pid) - before
                seconds, share = measured["seconds"], measured["busy"]
                table.add(peer.name, [THREADS * COUNT / seconds])
                busy.setdefault(peer.name, []).append(100 * share)
                each = 1000 / (THREADS * COUNT)
                client.setdefault(peer.name, []).append(own * each)
                whole = share * seconds * (os.cpu_count() or 1)
                others.setdefault(peer.name, []).append((whole - own) * each)
    for name in table.samples:
        table.notes[name] = (
            f"{statistics.median(busy[name]):.0f} % of all cores busy; "
            f"a command takes {statistics.median(client[name]):.2f} ms of processor time "
            f"in the client, {statistics.median(others[name]):.2f} ms elsewhere"
        )
    table.at_least("percent of all cores busy", statistics.median(busy[OURS_NAME]), BUSY)
    table.beside("paramiko", 5, WHY)
    return table

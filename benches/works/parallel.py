"""Many threads at once."""

import statistics

from .stage import Stage
from .tables import LIMIT_NAME, OURS_NAME, Table

THREADS = 64
SANDBOXES = 8
ROUNDS = 3
# Runs of each thread in a round.
COUNT = 10
# Of all cores; the rest is the driver's own start and end.
BUSY = 90


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
    names, addresses = [name for name, _ in targets], [address for _, address in targets]
    with stage.peers("parallel") as peers:
        for peer in peers:
            peer.do("gather", names=names, addresses=addresses, threads=THREADS)
        for turn in stage.rounds(ROUNDS, peers):
            for peer in turn:
                measured = peer.do("parallel", count=COUNT)
                table.add(peer.name, [THREADS * COUNT / measured["seconds"]])
                busy.setdefault(peer.name, []).append(100 * measured["busy"])
    middle = {name: round(statistics.median(shares)) for name, shares in busy.items()}
    table.notes |= {f"percent of all cores busy, {name}": share for name, share in middle.items()}
    table.at_least("percent of all cores busy", middle[OURS_NAME], BUSY)
    table.beside(LIMIT_NAME, 1 / 1.1)
    table.beside("paramiko", 5)
    return table

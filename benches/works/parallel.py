"""Many threads at once."""

import os
import statistics
from pathlib import Path

from .stage import Stage, processor_seconds, same
from .tables import OURS_NAME, SSHD_NAME, Table

THREADS = 64
SANDBOXES = 8
ROUNDS = 3
# Runs of each thread in a round.
COUNT = 10
MIB = 1 << 20
# Threads that move files of so many bytes, and the sandboxes that they move them to and from.
MOVERS, MOVED, MOVED_TO = 16, 64 * MIB, 4
REMOTE = "/tmp/bench-file"
# Percent of all cores; the rest is the start and the end of a round.
BUSY = 90


def parallel(stage: Stage) -> list[Table]:
    """`true` by 64 threads on one sandbox."""
    return [_table(stage, f"{THREADS} threads", stage.sandboxes(1))]


def parallel_many(stage: Stage) -> list[Table]:
    """`true` by 64 threads on 8 sandboxes."""
    title = f"{THREADS} threads, {SANDBOXES} sandboxes"
    return [_table(stage, title, stage.sandboxes(SANDBOXES))]


def parallel_files(stage: Stage) -> list[Table]:
    """A file by each of 16 threads, to and from 4 sandboxes. All that arrives is looked at."""
    title = f"{MOVERS} threads, {MOVED // MIB} MiB each, {MOVED_TO} sandboxes"
    up, down = Table(f"{title}, up", "MB/s"), Table(f"{title}, down", "MB/s")
    busy: dict[tuple[str, str], list[float]] = {}
    scratch = Path(stage.target.scratch)
    source, back = scratch / "source", scratch / "back"
    source.write_bytes(os.urandom(MOVED))
    targets = stage.sandboxes(MOVED_TO)
    names, addresses = [name for name, _ in targets], [address for _, address in targets]
    with stage.peers("upload_together") as opened:
        peers = [peer for peer in opened if peer.server == "guest"]
        for peer in peers:
            peer.do("gather", names=names, addresses=addresses, threads=MOVERS)
        for turn in stage.rounds(ROUNDS, peers):
            for peer in turn:
                for table, work, local in (
                    (up, "upload_together", source),
                    (down, "download_together", back),
                ):
                    measured = peer.do(work, local=str(local), remote=REMOTE)
                    table.add(peer.name, [MOVERS * MOVED / measured["seconds"] / 1e6])
                    busy.setdefault((table.work, peer.name), []).append(100 * measured["busy"])
                for thread in range(MOVERS):
                    arrived = back.with_name(f"{back.name}-{thread}")
                    if not same(source, arrived):
                        raise RuntimeError(f"{peer.name} changed a file on its way")
                    arrived.unlink()
                # Ours reaches all of the sandboxes.
                peers[0].do("remove_together", remote=REMOTE)
    source.unlink()
    for table in (up, down):
        for name in table.samples:
            share = statistics.median(busy[table.work, name])
            table.notes[name] = f"{share:.0f} % of all cores busy"
        share = statistics.median(busy[table.work, OURS_NAME])
        table.at_least("percent of all cores busy", share, BUSY)
    return [up, down]


def _table(stage: Stage, title: str, targets: list[tuple[str, str]]) -> Table:
    table = Table(title, "commands/s")
    busy: dict[str, list[float]] = {}
    # Milliseconds of processor time for a command: in the client, and everywhere else.
    client: dict[str, list[float]] = {}
    others: dict[str, list[float]] = {}
    names, addresses = [name for name, _ in targets], [address for _, address in targets]
    with stage.peers("parallel") as peers:
        for peer in peers:
            # There is one Pod with sshd.
            places = addresses if peer.server == "guest" else [stage.sshd.address]
            peer.do("gather", names=names, addresses=places, threads=THREADS)
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
    table.times(SSHD_NAME, least=1.6)
    table.times("paramiko, sshd", least=2.5)
    return table

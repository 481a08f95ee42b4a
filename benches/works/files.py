"""Files in both directions."""

import contextlib
import os
from pathlib import Path

from peers import Peer

from .server import Costs
from .stage import Growth, Stage, same
from .tables import OURS_NAME, Table

MIB = 1 << 20
# Of the file of the long comparison; scaled, but long enough to last.
LARGE, LEAST = 1024 * MIB, 256 * MIB
ROUNDS = 3
# Several times slower than the others, or the same as another but for its start.
OTHERS = {"paramiko, sshd", "asyncssh, sshd", "scp, sshd"}
# What the process may grow by while it moves a file: windows, buffers, and pages that it uses first
# then.
FLAT_MIB = 32
BY_TUNNEL = 256 * MIB
BY_TUNNEL_ROUNDS = 3
BY_TUNNEL_WHY = (
    "The processors are the limit. containerd takes two fifths of their time: 2.0 s for 256 MiB, "
    "of which a third is its garbage collector and a sixth its reader of WebSockets. What kubectl "
    "sends comes there as SPDY and takes 0.8 s, but costs the API server 1.7 s instead of 0.6; by "
    "SPDY all the way there would be a quarter less to do than now, which is not enough either. "
    "Frames of 1 to 256 KiB were tried: the largest are the fastest."
)
SMALL = 1024
# Rounds, and runs of each peer in a round.
SMALL_COUNTS = (8, 20)
REMOTE = "/tmp/bench-file"


def transfer(stage: Stage) -> list[Table]:
    """A large file up and down."""
    growth = Growth()
    size = max(LEAST, round(LARGE * min(1, stage.scale)))
    costs = tuple(Costs(stage, f"1 GiB {way}, server", LARGE / size) for way in ("up", "down"))
    with stage.peers("upload", by_address=True, but=OTHERS) as peers:
        up, down = both_ways(stage, peers, size, ROUNDS, "", growth, costs)
        for peer in peers:
            if peer.takes("cipher"):
                up.notes[f"cipher, {peer.name}"] = peer.do("cipher")
    for table in (up, down):
        table.times("OpenSSH, sshd", least=1.2)
        table.times(OURS_NAME, least=0.95, ours="ours, checked")
    up.notes |= growth.notes()
    up.at_most("MiB that the process grew by", growth.mib[OURS_NAME], FLAT_MIB)
    return [up, down, *(cost.table() for cost in costs)]


def tunnel(stage: Stage) -> list[Table]:
    """A file through the API server."""
    with stage.peers("upload", by_address=False) as peers:
        up, down = both_ways(stage, peers, BY_TUNNEL, BY_TUNNEL_ROUNDS, " by tunnel")
    for table, least in ((up, 1.0), (down, 1.5)):
        table.ours = "ours by tunnel"
        table.times("kubectl", least=least, why=BY_TUNNEL_WHY)
    return [up, down]


def small(stage: Stage) -> list[Table]:
    """A file of 1 KiB on an open connection, beside `true`."""
    written, read, true = Table("1 KiB written", "ms"), Table("1 KiB read", "ms"), Table("", "ms")
    rounds, count = SMALL_COUNTS
    file = {"remote": REMOTE, "bytes": SMALL, "count": count}
    with stage.peers("write") as peers:
        for turn in stage.rounds(rounds, peers):
            for peer in turn:
                written.add(peer.name, [s * 1000 for s in peer.do("write", **file)])
                read.add(peer.name, [s * 1000 for s in peer.do("read", **file)])
                if peer is peers[0]:
                    true.add(peer.name, [s * 1000 for s in peer.do("warm", count=count)])
    stage.shell(f"rm -f {REMOTE}")
    warm = true.figure(OURS_NAME)["p50"]
    for table in (written, read):
        table.notes["ms of our warm `true` meanwhile"] = warm
        table.at_most("ms", table.figure(OURS_NAME)["p50"], 2 * warm)
    return [written, read]


def both_ways(
    stage: Stage,
    peers: list[Peer],
    size: int,
    rounds: int,
    what: str,
    growth: Growth | None = None,
    costs: tuple[Costs, ...] = (),
) -> tuple[Table, Table]:
    """Moves a file up and down. It is new on both sides each time, and is looked at afterwards."""
    growth = growth or Growth()

    def cost(way: int, peer: Peer) -> contextlib.AbstractContextManager[None]:
        return costs[way].of(peer) if costs else contextlib.nullcontext()

    title = f"{size // MIB} MiB"
    up, down = Table(f"{title} up{what}", "MB/s"), Table(f"{title} down{what}", "MB/s")
    source, back = Path(stage.target.scratch, "source"), Path(stage.target.scratch, "back")
    # SFTP is started before anything is measured.
    source.write_bytes(b"x")
    for peer in peers:
        peer.do("upload", local=str(source), remote=REMOTE)
    with source.open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
    size = source.stat().st_size
    for turn in stage.rounds(rounds, peers):
        for peer in turn:
            # One place that the next file replaces: what is freed costs the same for all.
            stage.shell(f"rm -f {REMOTE}")
            back.unlink(missing_ok=True)
            with growth.of(peer):
                fields = {"local": str(source), "remote": REMOTE}
                with cost(0, peer):
                    seconds = stage.tried(up, peer, "upload", **fields)
                if not seconds:
                    continue
                up.add(peer.name, [size / s / 1e6 for s in seconds])
                fields = {"remote": REMOTE, "local": str(back)}
                with cost(1, peer):
                    seconds = stage.tried(down, peer, "download", **fields)
                if not seconds:
                    continue
                down.add(peer.name, [size / s / 1e6 for s in seconds])
            if not same(source, back):
                raise RuntimeError(f"{peer.name} changed the file on its way")
    stage.shell(f"rm -f {REMOTE}")
    source.unlink()
    back.unlink(missing_ok=True)
    return up, down

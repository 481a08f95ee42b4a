"""A command that writes much."""

from .server import Costs
from .stage import Growth, Stage
from .tables import OURS_NAME, Table

MIB = 1 << 20
BYTES = 1024 * MIB
ROUNDS = 3
# What the process may grow by while it reads: a window, buffers, and pages that it uses first then.
FLAT_MIB = 16


def output(stage: Stage) -> list[Table]:
    """1 GiB of standard output, thrown away as it comes."""
    table = Table("1 GiB of stdout", "MB/s")
    size = round(BYTES * min(1, stage.scale))
    growth, costs = Growth(), Costs(stage, "1 GiB of stdout, server", MIB * 1024 / size)
    with stage.peers("output") as peers:
        for turn in stage.rounds(ROUNDS, peers):
            for peer in turn:
                with growth.of(peer), costs.of(peer):
                    seconds = stage.tried(table, peer, "output", bytes=size)
                table.add(peer.name, [size / s / 1e6 for s in seconds])
    table.notes |= growth.notes()
    table.times("OpenSSH, sshd", least=1.2)
    table.at_most("MiB that the process grew by", growth.mib[OURS_NAME], FLAT_MIB)
    return [table, costs.table()]

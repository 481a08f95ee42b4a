"""Files in both directions."""

import os
from pathlib import Path

from .stage import Stage, same
from .tables import Table

MIB = 1 << 20
SIZE = 256 * MIB
ROUNDS = 5
REMOTE = "/tmp/bench-file"


def transfer(stage: Stage) -> list[Table]:
    """256 MiB up and down. Every file is new on both sides, and is looked at afterwards."""
    up, down = Table("upload", "MB/s"), Table("download", "MB/s")
    source, back = Path(stage.target.scratch, "source"), Path(stage.target.scratch, "back")
    with source.open("wb") as file:
        for _ in range(SIZE // MIB):
            file.write(os.urandom(MIB))
    with stage.peers("upload") as peers:
        for turn in stage.rounds(ROUNDS, peers):
            for peer in turn:
                # One place that the next file replaces: what is freed costs the same for all.
                stage.shell(f"rm -f {REMOTE}")
                back.unlink(missing_ok=True)
                seconds = stage.tried(up, peer, "upload", local=str(source), remote=REMOTE)
                if not seconds:
                    continue
                up.add(peer.name, [SIZE / s / 1e6 for s in seconds])
                seconds = stage.tried(down, peer, "download", remote=REMOTE, local=str(back))
                if not seconds:
                    continue
                down.add(peer.name, [SIZE / s / 1e6 for s in seconds])
                if not same(source, back):
                    raise RuntimeError(f"{peer.name} changed the file on its way")
    stage.shell(f"rm -f {REMOTE}")
    source.unlink()
    back.unlink(missing_ok=True)
    for table in (up, down):
        table.beside("OpenSSH", 1.1)
    return [up, down]

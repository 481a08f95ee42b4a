"""Directories with many small files."""

import os
import shutil
import subprocess
from pathlib import Path

from .stage import Stage
from .tables import Table

DIRECTORIES, FILES, SIZE = 50, 100, 4096
ROUNDS = 5
# Many times slower than the others.
SLOW = {"scp, sshd", "asyncssh, sshd"}
# In memory as on this side: else the journal of the machine's disk is what is measured.
REMOTE = "/dev/shm/bench-tree"
# The same for trees with the same contents.
DIGEST = "cd {} && find . -type f -exec sha256sum {{}} + | LC_ALL=C sort -k 2 | sha256sum"


def trees(stage: Stage) -> list[Table]:
    """5,000 files of 4 KiB. The tree is new on both sides each time, and looked at afterwards."""
    title = f"{DIRECTORIES * FILES} files of {SIZE // 1024} KiB"
    up, down = Table(f"{title} up", "ms"), Table(f"{title} down", "ms")
    source, back = Path(stage.target.scratch, "tree"), Path(stage.target.scratch, "tree-back")
    for directory in (source / f"directory-{index}" for index in range(DIRECTORIES)):
        directory.mkdir(parents=True)
        for index in range(FILES):
            (directory / f"file-{index}").write_bytes(os.urandom(SIZE))
    expected = _here(DIGEST.format(source))
    with stage.peers("upload_tree", by_address=True, but=SLOW) as peers:
        for turn in stage.rounds(ROUNDS, peers):
            for peer in turn:
                stage.shell(f"rm -rf {REMOTE}")
                shutil.rmtree(back, ignore_errors=True)
                seconds = peer.do("upload_tree", local=str(source), remote=REMOTE)
                up.add(peer.name, [s * 1000 for s in seconds])
                seconds = peer.do("download_tree", remote=REMOTE, local=str(back))
                down.add(peer.name, [s * 1000 for s in seconds])
                shell = stage.shells[peer.server]
                for found in (shell(DIGEST.format(REMOTE)), _here(DIGEST.format(back))):
                    if found != expected:
                        raise RuntimeError(f"{peer.name} changed the tree on its way")
    stage.shell(f"rm -rf {REMOTE}")
    shutil.rmtree(source)
    shutil.rmtree(back)
    for table in (up, down):
        # It is measured in time.
        table.times("tar through ssh, sshd", most=1 / 1.5)
    return [up, down]


def _here(line: str) -> str:
    return subprocess.run(["sh", "-c", line], check=True, capture_output=True, text=True).stdout

"""What a session costs that waits."""

from .stage import Stage, resident
from .tables import Table

SESSIONS = 200


def memory(stage: Stage) -> list[Table]:
    """Idle sessions of one process, which have run a command: what each adds to its memory."""
    tables = {
        False: Table("memory of an idle session", "KiB"),
        True: Table("the same, with SFTP", "KiB"),
    }
    count = stage.scaled(SESSIONS)
    with stage.peers("hold") as peers:
        for peer in peers:
            before, _ = resident(peer.pid)
            for sftp, table in tables.items():
                peer.do("hold", count=count, sftp=sftp)
                table.add(peer.name, [(resident(peer.pid)[0] - before) / count / 1024])
            peer.close()
    return list(tables.values())

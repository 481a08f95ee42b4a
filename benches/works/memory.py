"""What a session costs that waits."""

from .stage import Stage, resident
from .tables import Table

SESSIONS = 200
# Measured with glibc's `mallinfo2`, and read in libssh2's transport.
WHERE = (
    "of a session's 83 KiB, 70 are libssh2's two packet buffers; what ours has beyond that is "
    "what glibc keeps of the stacks and heaps of 200 threads that ran commands at the same time"
)


def memory(stage: Stage) -> list[Table]:
    """Idle sessions of one process, which have run a command: what each adds to its memory."""
    idle, with_sftp = Table("an idle session", "KiB"), Table("an idle session that has SFTP", "KiB")
    count = stage.scaled(SESSIONS)
    with stage.peers("hold") as peers:
        for peer in peers:
            before, _ = resident(peer.pid)
            for sftp, table in ((False, idle), (True, with_sftp)):
                peer.do("hold", count=count, sftp=sftp)
                table.add(peer.name, [(resident(peer.pid)[0] - before) / count / 1024])
            peer.close()
    idle.notes["where it goes"] = WHERE
    # It has none.
    with_sftp.samples.pop("ours, sessions alone", None)
    return [idle, with_sftp]

"""Single commands and logins."""

from .stage import Stage
from .tables import LIMIT_NAME, OURS_NAME, SSHD_NAME, Table

# Rounds, and runs of each peer in a round.
WARM = (16, 20)
CONNECT = (12, 3)


def warm(stage: Stage) -> list[Table]:
    """`true` on an open connection, and how many calls to the API server ours made for it."""
    table, calls = Table("warm", "ms"), Table("API calls of a warm command", "calls")
    with stage.peers("warm") as peers:
        ours = peers[0]
        for turn in stage.rounds(WARM[0], peers):
            for peer in turn:
                before = ours.do("api_requests") if peer is ours else 0
                table.add(peer.name, [s * 1000 for s in peer.do("warm", count=WARM[1])])
                if peer is ours:
                    calls.add(OURS_NAME, [(ours.do("api_requests") - before) / WARM[1]])
    table.times(SSHD_NAME, most=0.55)
    table.times(LIMIT_NAME, most=1.15)
    calls.at_most("the most of a round", max(calls.samples[OURS_NAME]), 0)
    return [table, calls]


def connect(stage: Stage) -> list[Table]:
    """Connect and log in."""
    table = _logins(stage, "connect")
    # The same client at both.
    table.times(SSHD_NAME, most=0.2, ours=LIMIT_NAME)
    table.times(SSHD_NAME, most=0.2)
    return [table]


def first(stage: Stage) -> list[Table]:
    """Connect, log in, and the first `true`."""
    return [_logins(stage, "first")]


def _logins(stage: Stage, work: str) -> Table:
    table = Table(work, "ms")
    with stage.peers(work) as peers:
        for turn in stage.rounds(CONNECT[0], peers):
            for peer in turn:
                table.add(peer.name, [s * 1000 for s in peer.do(work, count=CONNECT[1])])
    return table

"""New sandboxes."""

from .stage import Stage
from .tables import OURS_NAME, Table

ROUNDS = 10
PHASES = ("accepted", "started", "logged in", "first command")
# The others take several times as long.
ROUNDS_OF_OTHERS = 5


def create(stage: Stage) -> list[Table]:
    """Ours by phase, counted from the call; beside its last phase the others as a whole."""
    tables = {phase: Table(f"create: {phase}", "ms") for phase in PHASES}
    with stage.peers("create") as others:
        for index in range(stage.scaled(ROUNDS)):
            times = stage.owner.do("phases", key=stage.target.key)
            for phase in PHASES:
                tables[phase].add(OURS_NAME, [times[phase] * 1000])
            for peer in others if index % (ROUNDS // ROUNDS_OF_OTHERS) == 0 else []:
                tables["first command"].add(peer.name, [s * 1000 for s in peer.do("create")])
    return list(tables.values())

"""New sandboxes."""

from .stage import Stage
from .tables import OURS_NAME, Table

ROUNDS = 6
PHASES = ("accepted", "started", "logged in", "first command")
# The others take several times as long.
ROUNDS_OF_OTHERS = 3
# How the guest gets into an image that does not have it, and that image.
WAYS = ("volume", "copy")
PLAIN_IMAGE = "localhost/plain:dev"
# What an image volume may add: the kubelet looks for a Pod's first volume every 300 ms.
VOLUME_MS = 300


def create(stage: Stage) -> list[Table]:
    """Ours by phase, counted from the call; beside its last phase the others as a whole."""
    tables = {phase: Table(f"create: {phase}", "ms") for phase in PHASES}
    with stage.peers("create") as others:
        for index in range(stage.scaled(ROUNDS)):
            times = stage.owner.do("phases", key=stage.target.key)
            for phase in PHASES:
                tables[phase].add(OURS_NAME, [times[phase] * 1000])
            for way in WAYS:
                times = stage.owner.do("phases", key=stage.target.key, guest=way, image=PLAIN_IMAGE)
                tables["first command"].add(_name(way), [times["first command"] * 1000])
            for peer in others if index % (ROUNDS // ROUNDS_OF_OTHERS) == 0 else []:
                tables["first command"].add(peer.name, [s * 1000 for s in peer.do("create")])
    last = tables["first command"]
    ours, by_volume = last.figure(OURS_NAME)["p50"], last.figure(_name("volume"))["p50"]
    last.at_most("ms that an image volume adds", by_volume - ours, VOLUME_MS)
    return list(tables.values())


def _name(way: str) -> str:
    return f"{OURS_NAME}, any image by {way}"

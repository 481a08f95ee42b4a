"""What each language adds to a call of this library."""

from peers import LANGUAGES, Peer

from .stage import Stage
from .tables import Table

RUST = LANGUAGES[0]().name
# Rounds, runs of each language in a round, and calls in a run.
TRIVIAL = (6, 5, 10_000)
WARM = (16, 20)
# Nanoseconds that a call that does next to nothing takes beyond Rust's.
MOST = {"C": 1_000, "C++": 1_000, "Go": 2_000, "Python": 20_000}


def boundary(stage: Stage) -> list[Table]:
    """Calls that do next to nothing, the best run of each language; and `true`."""
    warm = Table("boundary: warm", "us", RUST)
    with stage.opened([make() for make in LANGUAGES]) as peers:
        tables = [_trivial(stage, work, peers) for work in ("ssh_port", "host_key", "detached")]
        for turn in stage.rounds(WARM[0], peers):
            for peer in turn:
                seconds = peer.do("warm", count=WARM[1], calls=1)
                warm.add(peer.name, [s * 1e6 for s in seconds])
    for name in MOST:
        added = warm.figure(name)["p50"] - warm.figure(RUST)["p50"]
        warm.notes[f"us that {name} adds to the p50"] = round(added, 1)
    return [*tables, warm]


def _trivial(stage: Stage, work: str, peers: list[Peer]) -> Table:
    rounds, count, calls = TRIVIAL
    runs = Table(f"boundary: {work}", "ns", RUST)
    runs.notes["each"] = f"the best of {stage.scaled(rounds) * count} runs of {calls:,} calls"
    for turn in stage.rounds(rounds, peers):
        for peer in turn:
            seconds = peer.do(work, count=count, calls=calls)
            runs.add(peer.name, [s / calls * 1e9 for s in seconds])
    # Whatever else the machine did makes a run longer, never shorter.
    best = {name: min(samples) for name, samples in runs.samples.items()}
    runs.samples = {name: [ns] for name, ns in best.items()}
    for name, most in MOST.items():
        runs.at_most(f"ns that {name} adds", best[name] - best[RUST], most)
    return runs

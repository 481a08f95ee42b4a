"""What a work yields: the figures of each peer, and the bars that ours has to reach."""

from dataclasses import dataclass, field

from peers import LIMIT, OURS

OURS_NAME, LIMIT_NAME = OURS().name, LIMIT().name
# The same client as the limit, at OpenSSH's server.
SSHD_NAME = f"{LIMIT_NAME}, sshd"
MORE_IS_BETTER = {"MB/s", "commands/s"}


@dataclass(frozen=True)
class Bar:
    """A promise, and whether this run has kept it."""

    what: str
    is_met: bool
    # What is known of a bar that is not reached.
    why: str = ""


@dataclass
class Table:
    """The samples of each peer in one unit. Less is better in all units but a few."""

    work: str
    unit: str
    # Which of our own is compared with the others.
    ours: str = OURS_NAME
    samples: dict[str, list[float]] = field(default_factory=dict)
    # What else belongs to it.
    notes: dict[str, float | str] = field(default_factory=dict)
    bars: list[Bar] = field(default_factory=list)

    def add(self, peer: str, values: list[float]) -> None:
        self.samples.setdefault(peer, []).extend(values)

    def figure(self, peer: str) -> dict[str, float]:
        """Median, and what 99 % are not worse than."""
        ordered = sorted(self.samples[peer], reverse=self.unit in MORE_IS_BETTER)
        at = {
            share: ordered[min(len(ordered) - 1, int(share * len(ordered)))]
            for share in (0.5, 0.99)
        }
        return {"p50": round(at[0.5], 3), "p99": round(at[0.99], 3), "samples": len(ordered)}

    def factor(self, other: str, ours: str | None = None) -> float:
        """How many times better ours is than another."""
        one, theirs = self.figure(ours or self.ours)["p50"], self.figure(other)["p50"]
        if self.unit in MORE_IS_BETTER:
            one, theirs = theirs, one
        return theirs / one if one else float("inf")

    def beside(self, other: str, least: float, why: str = "", ours: str | None = None) -> None:
        """A bar: ours is at least so many times better than another. None if one is not there."""
        ours = ours or self.ours
        if {ours, other} <= self.samples.keys():
            factor = self.factor(other, ours)
            what = f"{ours} {factor:.2f} x {other}, at least {least:.2f}"
            self.bars.append(Bar(f"{self.work}: {what}", factor >= least, why))

    def times(
        self,
        other: str,
        most: float | None = None,
        least: float | None = None,
        ours: str | None = None,
        why: str = "",
    ) -> None:
        """A bar: ours is at most, or at least, so many times another's figure. None if one is not
        there.
        """
        ours = ours or self.ours
        if not {ours, other} <= self.samples.keys():
            return
        ratio = self.figure(ours)["p50"] / self.figure(other)["p50"]
        what = f"{self.work}: {ours} is {ratio:.2f} x {other}"
        if most is not None:
            self.bars.append(Bar(f"{what}, at most {most:.2f}", ratio <= most, why))
        if least is not None:
            self.bars.append(Bar(f"{what}, at least {least:.2f}", ratio >= least, why))

    def at_most(self, what: str, value: float, most: float, why: str = "") -> None:
        """A bar: ours is at most so much."""
        self.bars.append(
            Bar(f"{self.work}: {what} {value:.1f}, at most {most:.1f}", value <= most, why)
        )

    def at_least(self, what: str, value: float, least: float, why: str = "") -> None:
        """A bar: ours is at least so much."""
        what = f"{what} {value:.1f}, at least {least:.1f}"
        self.bars.append(Bar(f"{self.work}: {what}", value >= least, why))

"""Runs the works in rounds: every peer has its turn in each, and every other round goes backwards.

A machine that gets slower meanwhile, and what a peer leaves for the next one, then shows in all of
them alike.
"""

import contextlib
import os
import platform
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from peers import PEERS, Library, OpenSsh, Peer, Plain, Target
from places import OUTPUT

MIB = 1 << 20
TRANSFER = 256 * MIB
# Rounds, and runs of each peer in a round.
WARM = (16, 20)
CONNECT = (12, 3)
TRANSFERS = 5
CREATIONS = 10
PHASES = ("accepted", "started", "logged in", "first command")
# kubectl takes several times as long.
CREATIONS_OF_PEERS = 5
# The whole comparison; beyond it something hangs.
LONGEST = 900


@dataclass
class Work:
    """What was measured: the samples of each peer, in seconds."""

    name: str
    # What a sample stands for: "ms" or "MB/s".
    unit: str
    samples: dict[str, list[float]] = field(default_factory=dict)
    # Counts that belong to it.
    notes: dict[str, int] = field(default_factory=dict)

    def add(self, peer: str, seconds: list[float]) -> None:
        self.samples.setdefault(peer, []).extend(seconds)


def measure(
    works: list[str] | None, peers: list[str] | None, scale: float
) -> tuple[list[Work], str]:
    """All works, or those asked for, and what is to be known of the machine."""
    # An exception and not the end of the process: the sandbox is to be deleted.
    signal.signal(signal.SIGALRM, _too_long)
    signal.signal(signal.SIGTERM, _too_long)
    signal.alarm(LONGEST)
    load_before = os.getloadavg()[0]
    began = time.monotonic()
    with _bench(peers, scale) as bench:
        results = []
        for name, run in bench.works().items():
            if works is None or name in works:
                results += run()
    note = (
        f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, "
        f"load {load_before:.1f} before and {os.getloadavg()[0]:.1f} after, "
        f"{time.monotonic() - began:.0f} s, client and Pod on the same machine"
    )
    return results, note


def _too_long(*_: object) -> None:
    raise TimeoutError("stopped, or the comparison takes too long")


@contextlib.contextmanager
def _bench(names: list[str] | None, scale: float) -> Iterator["Bench"]:
    """One sandbox and all peers with it; nothing of it is left afterwards."""
    # In memory, so that the local disk is not what is measured.
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 4 * TRANSFER
    place = tempfile.TemporaryDirectory(prefix="sandbox-bench-", dir=memory if roomy else OUTPUT)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(place))
        key, openssh_key = _make_key(scratch)
        owner = Library()
        stack.callback(owner.close)
        made = owner.ask("create", key=str(key))
        target = Target(**made, key=key, openssh_key=openssh_key, scratch=scratch)
        chosen = [made for made in PEERS if names is None or made.name in names]
        peers = [Library(), Plain(), *(made() for made in chosen)]
        helper = next((peer for peer in peers if isinstance(peer, OpenSsh)), None)
        if helper is None:
            helper = OpenSsh()
            helper.open(target)
            stack.callback(helper.close)
        for peer in peers:
            stack.callback(peer.close)
            peer.open(target)
        yield Bench(owner, peers, target, helper.shell, scale)


def _make_key(directory: Path) -> tuple[Path, Path]:
    """A new key in both forms: OpenSSH before 9.6 does not read PKCS#8, this library only that."""
    key = Ed25519PrivateKey.generate()
    paths = []
    for name, form in (
        ("key.pem", serialization.PrivateFormat.PKCS8),
        ("key", serialization.PrivateFormat.OpenSSH),
    ):
        path = directory / name
        path.touch(mode=0o600)
        encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        path.write_bytes(key.private_bytes(encoding, form, plain))
        paths.append(path)
    return paths[0], paths[1]


@dataclass
class Bench:
    """The works."""

    owner: Library
    peers: list[Peer]
    target: Target
    shell: Callable[[str], str]
    scale: float

    def works(self) -> dict[str, Callable[[], list[Work]]]:
        return {
            "warm": lambda: [self._commands("warm", *WARM)],
            "connect": lambda: [self._commands("connect", *CONNECT)],
            "first": lambda: [self._commands("first", *CONNECT)],
            "transfer": self._transfers,
            "create": self._creations,
        }

    def _rounds(self, count: int) -> Iterator[list[Peer]]:
        for index in range(max(1, round(count * self.scale))):
            yield self.peers if index % 2 == 0 else self.peers[::-1]

    def _commands(self, name: str, rounds: int, count: int) -> Work:
        work = Work(name, "ms")
        for peers in self._rounds(rounds):
            for peer in peers:
                if peer.takes(name):
                    work.add(peer.name, getattr(peer, name)(count))
        if name == "warm" and any(isinstance(peer, Library) for peer in self.peers):
            ours = next(peer for peer in self.peers if isinstance(peer, Library))
            work.notes["API requests during ours"] = ours.api_requests
        return work

    def _transfers(self) -> list[Work]:
        """Every file is new on both sides, and is looked at afterwards."""
        up, down = Work("upload", "MB/s"), Work("download", "MB/s")
        source = self.target.scratch / "source"
        with source.open("wb") as file:
            for _ in range(TRANSFER // MIB):
                file.write(os.urandom(MIB))
        # One place that the next file replaces: what is freed costs the same for all.
        remote, back = "/tmp/bench-file", self.target.scratch / "back"
        for peers in self._rounds(TRANSFERS):
            for peer in peers:
                if not peer.takes("upload"):
                    continue
                self.shell(f"rm -f {remote}")
                up.add(peer.name, peer.upload(source, remote))
                back.unlink(missing_ok=True)
                down.add(peer.name, peer.download(remote, back))
                if not _same(source, back):
                    raise RuntimeError(f"{peer.name} changed the file on its way")
        self.shell(f"rm -f {remote}")
        return [up, down]

    def _creations(self) -> list[Work]:
        """Ours by phase, counted from the call; beside its last phase the others as a whole."""
        phases = {phase: Work(f"create: {phase}", "ms") for phase in PHASES}
        others = [peer for peer in self.peers if peer.takes("create")]
        for index in range(max(1, round(CREATIONS * self.scale))):
            times = self.owner.ask("phases", key=str(self.target.key))
            for phase in PHASES:
                phases[phase].add("ours", [times[phase]])
            for peer in others if index % (CREATIONS // CREATIONS_OF_PEERS) == 0 else []:
                phases["first command"].add(peer.name, peer.create())
        return list(phases.values())


def _same(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        while piece := first.read(MIB):
            if piece != second.read(MIB):
                return False
    return True

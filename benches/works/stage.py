"""What the works are done on: one sandbox, and the peers with it."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from peers import LIMIT, OURS, PEERS, Library, OpenSsh, Peer, Target, sshd_pod
from places import OUTPUT

from .tables import OURS_NAME, Table

# Beside the local files of a work.
ROOM = 4 << 30


@dataclass
class Stage:
    """One sandbox, and what makes the peers."""

    owner: Library
    target: Target
    # The Pod beside it, which runs sshd.
    sshd: Target
    makers: list[Callable[[], Peer]]
    # The output of a command line in the sandbox and in the other Pod, for what is not measured.
    shells: dict[str, Callable[[str], str]]
    scale: float
    # Names and addresses of what was created beside the one.
    others: list[tuple[str, str]] = field(default_factory=list)

    @contextlib.contextmanager
    def peers(
        self,
        work: str,
        targets: dict[str, Target] | None = None,
        by_address: bool | None = None,
        but: Collection[str] = (),
    ) -> Iterator[list[Peer]]:
        """All that take the work, new and open: ours is the first. On request only those that
        connect to the target's address, or only those that do not; and none of those named.

        Targets of their own stand for the sandbox and the Pod with sshd.
        """
        if targets is not None:
            by_address = True
        peers = [peer for make in self.makers if (peer := make()).takes(work)]
        peers = [peer for peer in peers if by_address in (None, peer.by_address)]
        with self.opened([peer for peer in peers if peer.name not in but], targets) as ready:
            yield ready

    @contextlib.contextmanager
    def opened(
        self, peers: list[Peer], targets: dict[str, Target] | None = None
    ) -> Iterator[list[Peer]]:
        """These, for the Pods or for targets that stand for them."""
        targets = targets or self.targets
        with contextlib.ExitStack() as stack:
            for peer in peers:
                stack.callback(peer.close)
                peer.open(targets[peer.server])
            yield peers

    @property
    def targets(self) -> dict[str, Target]:
        return {"guest": self.target, "sshd": self.sshd}

    def shell(self, line: str) -> None:
        """Runs a line in both Pods."""
        for shell in self.shells.values():
            shell(line)

    def rounds(self, count: int, peers: list[Peer]) -> Iterator[list[Peer]]:
        """Every peer has its turn in each round, and every other round goes backwards.

        A machine that gets slower meanwhile, and what a peer leaves for the next one, then shows in
        all of them alike.
        """
        for index in range(self.scaled(count)):
            yield peers if index % 2 == 0 else peers[::-1]

    def sandboxes(self, count: int) -> list[tuple[str, str]]:
        """Names and addresses of so many sandboxes; they stay for the next work that wants some."""
        while len(self.others) + 1 < count:
            made = self.owner.do("create", key=self.target.key)
            self.others.append((made["name"], made["address"]))
        return [(self.target.name, self.target.address), *self.others[: count - 1]]

    def tried(self, table: Table, peer: Peer, work: str, **fields: object) -> list[float]:
        """What it measures. A peer that fails is noted, and begins anew: paramiko sometimes does
        when it exchanges keys again in the middle of much data.
        """
        try:
            return list(peer.do(work, **fields))
        except (RuntimeError, TimeoutError) as error:
            if peer.name == OURS_NAME:
                raise
            table.notes[f"{peer.name} failed"] = str(error)
            peer.close()
            peer.open(self.targets[peer.server])
            return []

    def scaled(self, count: int) -> int:
        return max(1, round(count * self.scale))


@contextlib.contextmanager
def stage(names: list[str] | None, scale: float) -> Iterator[Stage]:
    """Nothing of it is left afterwards."""
    # In memory, so that the local disk is not what is measured.
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > ROOM
    place = tempfile.TemporaryDirectory(prefix="sandbox-bench-", dir=memory if roomy else OUTPUT)
    makers = [OURS, LIMIT, *(make for make in PEERS if names is None or make().name in names)]
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(place))
        key, openssh_key = _make_key(scratch)
        owner = Library()
        stack.callback(owner.close)
        made = owner.do("create", key=key)
        target = Target(**made, key=key, openssh_key=openssh_key, scratch=str(scratch))
        public_key = Path(key).with_name("key.pub")
        sshd = stack.enter_context(sshd_pod(target, public_key))
        shells: dict[str, Callable[[str], str]] = {}
        for server, to in (("guest", target), ("sshd", sshd)):
            helper = OpenSsh()
            stack.callback(helper.close)
            helper.open(to)
            shells[server] = helper.shell
        yield Stage(owner, target, sshd, makers, shells, scale)


def _make_key(directory: Path) -> tuple[str, str]:
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
        paths.append(str(path))
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    (directory / "key.pub").write_bytes(public + b"\n")
    return paths[0], paths[1]


class Growth:
    """What the processes of the peers grew by at most while something was done."""

    def __init__(self) -> None:
        self.mib: dict[str, float] = {}

    @contextlib.contextmanager
    def of(self, peer: Peer) -> Iterator[None]:
        if peer.pid is None:
            yield
            return
        forget_peak(peer.pid)
        before, _ = resident(peer.pid)
        yield
        # One that failed has begun anew.
        if peer.pid is not None:
            grown = (resident(peer.pid)[1] - before) / (1 << 20)
            self.mib[peer.name] = max(self.mib.get(peer.name, 0), round(grown, 1))

    def notes(self) -> dict[str, float | str]:
        return {f"MiB that the process grew by, {name}": mib for name, mib in self.mib.items()}


def resident(pid: int | None) -> tuple[int, int]:
    """Bytes of memory that the process has now, and the most that it had since `forget_peak`."""
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        found[name] = rest.split()
    return int(found["VmRSS"][0]) * 1024, int(found["VmHWM"][0]) * 1024


def processor_seconds(pid: int | None) -> float:
    """What the process has used so far."""
    # The name, in brackets, may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def forget_peak(pid: int | None) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def same(one: Path, other: Path) -> bool:
    """Whether two files have the same contents."""
    piece = 1 << 20
    with one.open("rb") as first, other.open("rb") as second:
        if os.fstat(first.fileno()).st_size != os.fstat(second.fileno()).st_size:
            return False
        while left := first.read(piece):
            if left != second.read(piece):
                return False
    return True

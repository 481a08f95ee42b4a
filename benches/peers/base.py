"""What a client under comparison offers to the driver."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# No single step of a peer takes longer than this unless it hangs.
STEP_SECONDS = 120


@dataclass(frozen=True)
class Target:
    """The sandbox that all peers use, and the key that opens it."""

    name: str
    namespace: str
    image: str
    address: str
    port: int
    user: str
    host_key: str
    # The same private key in two forms: PKCS#8, which this library reads, and OpenSSH's own.
    key: Path
    openssh_key: Path
    # A directory that is ours, for sockets and the like.
    scratch: Path


class Peer:
    """A client. It takes part in the works for which it has a method that is not None.

    Each returns seconds:

    warm(count)              `true` on a connection that is open
    connect(count)           connect and log in
    first(count)             connect, log in, and run `true`
    upload(local, remote)    one file that is not there yet, on a connection that is open
    download(remote, local)  the same in the other direction
    create()                 a new Pod up to the end of its first command; it is gone afterwards
    """

    name: str

    def open(self, target: Target) -> None:
        """Gets ready: what happens here is not measured."""

    def close(self) -> None:
        """Ends what `open` began."""

    def takes(self, work: str) -> bool:
        return getattr(self, work, None) is not None


def timed(count: int, run: Callable[[], object]) -> list[float]:
    """Seconds of each of `count` runs."""
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return seconds

"""What a client under comparison offers to the driver."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# No single step of a peer takes longer than this unless it hangs.
STEP_SECONDS = 120


@dataclass(frozen=True)
class Target:
    """A sandbox, and the key that opens it."""

    name: str
    namespace: str
    image: str
    address: str
    port: int
    user: str
    host_key: str
    # The same private key in two forms: PKCS#8, which this library reads, and OpenSSH's own.
    key: str
    openssh_key: str
    # A directory that is ours, for sockets and the like.
    scratch: str


class Peer:
    """A client. It takes part in the works for which it has a method that is not None.

    Those that measure return seconds, one figure for each run:

    warm(count)              `true` on a connection that is open
    connect(count)           connect and log in
    first(count)             connect, log in, and run `true`
    output(bytes)            so many bytes of a command's output, thrown away as they come
    upload(local, remote)    one file that is not there yet, on a connection that is open
    download(remote, local)  the same in the other direction
    upload_tree(local, remote), download_tree(remote, local)  a directory that is not there yet
    write(remote, bytes, count), read(remote, bytes, count)   a small file
    create()                 a new Pod up to the end of its first command; it is gone afterwards

    Those that measure many threads return {"seconds": what all took, "busy": the share of the
    machine's processors that was in use}:

    parallel(count)                   so many times `true` on each thread
    upload_together(local, remote)    by each thread that file to `remote`-NUMBER
    download_together(remote, local)  `remote`-NUMBER to `local`-NUMBER

    cipher() returns the name of what encrypts.

    These get ready, and return nothing:

    gather(names, addresses, threads)  for many threads: each has its sandbox in turn
    hold(count, sftp)                  so many idle connections, with SFTP in use or not
    """

    name: str
    # Whether it connects to the sandbox or to the Pod with sshd beside it.
    server = "guest"
    # Whether it connects to the target's address: such a one can be led over a slow link.
    by_address = True
    # Its process, if that is nothing else's.
    pid: int | None = None

    def open(self, target: Target) -> None:
        """Gets ready: what happens here is not measured."""

    def close(self) -> None:
        """Ends what `open` began."""

    def takes(self, work: str) -> bool:
        return getattr(self, work, None) is not None

    def do(self, work: str, **fields: object) -> Any:
        return getattr(self, work)(**fields)


def timed(count: int, run: Callable[[], object]) -> list[float]:
    """Seconds of each of `count` runs."""
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return seconds


class Processors:
    """How busy the machine is from now on."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.all, self.idle = self._ticks()

    def measured(self) -> dict[str, float]:
        seconds = time.perf_counter() - self.began
        now_all, now_idle = self._ticks()
        busy = 1 - (now_idle - self.idle) / max(1, now_all - self.all)
        return {"seconds": seconds, "busy": busy}

    @staticmethod
    def _ticks() -> tuple[int, int]:
        # user nice system idle iowait irq softirq steal; what follows is in user and nice already.
        first = Path("/proc/stat").read_text().splitlines()[0]
        ticks = [int(text) for text in first.split()[1:9]]
        return sum(ticks), ticks[3] + ticks[4]

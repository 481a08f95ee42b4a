"""Runs the works, and says what is to be known of the machine."""

import os
import platform
import signal
import time

from works import MORE_WORKS, WORKS, Table, stage

# The whole comparison; beyond it something hangs.
LONGEST = 1800


def measure(works: list[str], peers: list[str] | None, scale: float) -> tuple[list[Table], str]:
    """These works, and what is to be known of the machine."""
    # An exception and not the end of the process: the sandboxes are to be deleted.
    signal.signal(signal.SIGALRM, _too_long)
    signal.signal(signal.SIGTERM, _too_long)
    signal.alarm(LONGEST)
    load_before = os.getloadavg()[0]
    began = time.monotonic()
    tables = []
    with stage(peers, scale) as ready:
        for name, work in (WORKS | MORE_WORKS).items():
            if name in works:
                at = time.monotonic()
                tables += work(ready)
                print(f"{name}: {time.monotonic() - at:.0f} s", flush=True)
    note = (
        f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, "
        f"load {load_before:.1f} before and {os.getloadavg()[0]:.1f} after, "
        f"{time.monotonic() - began:.0f} s, client and Pods on the same machine"
    )
    return tables, note


def _too_long(*_: object) -> None:
    raise TimeoutError("stopped, or the comparison takes too long")

"""A long way between client and sandbox."""

import contextlib
import dataclasses
import json
import secrets
import statistics
import time
from collections.abc import Iterator
from typing import Any

from peers import Relay, Target
from peers.kubectl import kubectl

from .files import both_ways
from .stage import Stage
from .tables import OURS_NAME, Table

DELAY_MS = 25
ROUNDS, COUNT = 4, 10
# Large enough for the windows to count, and not the login.
SIZE, FILE_ROUNDS = 64 << 20, 4
# What a warm command may take beside its round trip.
EXTRA_MS = 10
# In which the library's note of the host key reaches the Pod.
NOTED = 20


def link(stage: Stage) -> list[Table]:
    """A warm `true` with 25 ms each way."""
    table = Table(f"warm, {DELAY_MS} ms each way", "ms")
    with slow(stage) as (targets, round_trips), stage.peers("warm", targets) as peers:
        for turn in stage.rounds(ROUNDS, peers):
            for peer in turn:
                table.add(peer.name, [s * 1000 for s in peer.do("warm", count=COUNT)])
    table.notes["ms of a round trip"] = round(statistics.median(round_trips), 1)
    table.at_most("ms", table.figure(OURS_NAME)["p50"], 2 * DELAY_MS + EXTRA_MS)
    return [table]


def link_files(stage: Stage) -> list[Table]:
    """A file with 25 ms each way."""
    with slow(stage) as (targets, _), stage.peers("upload", targets) as peers:
        tables = both_ways(stage, peers, SIZE, FILE_ROUNDS, f", {DELAY_MS} ms each way")
    for table in tables:
        table.times("OpenSSH, sshd", least=1)
    return list(tables)


@contextlib.contextmanager
def slow(stage: Stage) -> Iterator[tuple[dict[str, Target], list[float]]]:
    """Both Pods behind relays that delay, and milliseconds of a byte there and back."""
    target, sshd, relay = stage.target, stage.sshd, Relay()
    with contextlib.ExitStack() as stack:
        stack.callback(relay.close)
        seconds = relay.do("round_trip", delay_ms=DELAY_MS, count=20)
        port, sshd_port = (
            relay.do("listen", delay_ms=DELAY_MS, address=to.address, port=to.port)
            for to in (target, sshd)
        )
        name = f"bench-link-{secrets.token_hex(4)}"
        delete = ("delete", "pod", name, "--grace-period=0", "--force", "--ignore-not-found")
        stack.callback(kubectl, target.namespace, *delete)
        _stand_in(target, name, port)
        here = dataclasses.replace(target, name=name, address="127.0.0.1", port=port)
        there = dataclasses.replace(sshd, address="127.0.0.1", port=sshd_port)
        yield {"guest": here, "sshd": there}, [s * 1000 for s in seconds]


def _stand_in(target: Target, name: str, port: int) -> None:
    """A Pod that never runs and says that it does, at the relay: what leads the library there."""
    real = _noted(target)
    labels, annotations = real["metadata"]["labels"], real["metadata"]["annotations"]
    metadata = {"name": name, "labels": labels, "annotations": annotations}
    annotations["sandbox/ssh-port"] = str(port)
    # Without a scheduler no node takes it, and nobody but us writes its status.
    spec = real["spec"] | {"schedulerName": "nobody", "nodeName": None}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    kubectl(target.namespace, "create", "--filename=-", manifest=pod)
    address = {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}
    patch = json.dumps({"status": {"phase": "Running", **address}})
    kubectl(target.namespace, "patch", "pod", name, "--subresource=status", f"--patch={patch}")


def _noted(target: Target) -> dict[str, Any]:
    """The real Pod, once its host key stands in it."""
    deadline = time.monotonic() + NOTED
    while time.monotonic() < deadline:
        pod = json.loads(kubectl(target.namespace, "get", "pod", target.name, "--output=json"))
        if "sandbox/host-key" in pod["metadata"]["annotations"]:
            return dict(pod)
        time.sleep(0.2)
    raise TimeoutError("the sandbox's host key does not stand in its Pod")

"""OpenSSH's server in a Pod of its own beside the sandbox, and the clients that connect to it."""

import contextlib
import dataclasses
import json
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from places import BENCHES

from .base import Peer, Target
from .kubectl import kubectl

# `tests/cluster/cluster.py up --sshd` makes it, from benches/sshd.
IMAGE = "localhost/bench-sshd:dev"
PORT = 2222
# Until it answers.
START_SECONDS = 60


def by_sshd(make: Callable[[], Peer]) -> Callable[[], Peer]:
    """The same client, at sshd."""

    def made() -> Peer:
        peer = make()
        peer.server = "sshd"
        peer.name = f"{peer.name}, sshd"
        return peer

    return made


@contextlib.contextmanager
def sshd_pod(sandbox: Target, key: Path) -> Iterator[Target]:
    """A Pod with sshd as a sandbox's, for the same user and key. It is gone afterwards."""
    name = f"bench-sshd-{secrets.token_hex(4)}"
    delete = ("delete", "pod", name, "--grace-period=0", "--force", "--ignore-not-found")
    try:
        kubectl(sandbox.namespace, "create", "--filename=-", manifest=_pod(name, key.read_text()))
        ready = ("wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={START_SECONDS}s")
        kubectl(sandbox.namespace, *ready)
        pod = json.loads(kubectl(sandbox.namespace, "get", "pod", name, "--output=json"))
        address = pod["status"]["podIP"]
        _await(address)
        cat = ("exec", name, "--", "cat", "/dev/shm/sshd/host_key.pub")
        host_key = " ".join(kubectl(sandbox.namespace, *cat).split()[:2])
        own = {"name": name, "address": address, "port": PORT, "host_key": host_key}
        yield dataclasses.replace(sandbox, image=IMAGE, user="sandbox", **own)
    finally:
        kubectl(sandbox.namespace, *delete)


def _await(address: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection((address, PORT), 5).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _pod(name: str, key: str) -> dict[str, object]:
    """As safe as a sandbox's, with the same resources."""
    start = (BENCHES / "sshd" / "start.sh").read_text()
    container = {
        "name": "sshd",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", start, "sshd", key.strip()],
        "env": [{"name": "PORT", "value": str(PORT)}],
        "resources": {
            "requests": {"cpu": "50m", "memory": "64Mi"},
            "limits": {"cpu": "4", "memory": "4Gi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "activeDeadlineSeconds": 1800,
            "containers": [container],
        },
    }

"""The clients that are compared. A new one is a class like `Peer`, and a line here."""

from collections.abc import Callable

from .asyncssh_client import AsyncSsh
from .base import Peer, Target
from .boundary import C, Cpp, Go, Python, Rust
from .kubectl import Kubectl
from .kubernetes_client import KubernetesClient
from .openssh import OpenSsh, Scp, TarThroughSsh
from .paramiko_client import Paramiko
from .program import (
    Library,
    LibraryAlone,
    LibraryByTunnel,
    LibraryChecked,
    LibraryShell,
    Plain,
    Relay,
    hosted,
)
from .sshd import by_sshd, sshd_pod

OURS: Callable[[], Peer] = Library
# What can be reached.
LIMIT: Callable[[], Peer] = Plain
PEERS: list[Callable[[], Peer]] = [
    LibraryShell,
    LibraryByTunnel,
    LibraryAlone,
    LibraryChecked,
    OpenSsh,
    # The same client as the limit, and what people use, at OpenSSH's server.
    by_sshd(Plain),
    by_sshd(OpenSsh),
    by_sshd(Scp),
    by_sshd(TarThroughSsh),
    by_sshd(hosted(Paramiko)),
    by_sshd(hosted(AsyncSsh)),
    Kubectl,
    hosted(KubernetesClient),
]
# This library from each language; only the work `boundary` compares these.
LANGUAGES: list[Callable[[], Peer]] = [Rust, C, Cpp, Go, Python]

__all__ = [
    "LANGUAGES",
    "LIMIT",
    "OURS",
    "PEERS",
    "Library",
    "OpenSsh",
    "Peer",
    "Plain",
    "Relay",
    "Target",
    "sshd_pod",
]

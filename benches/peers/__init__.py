"""The clients that are compared. A new one is a class like `Peer`, and a line here."""

from collections.abc import Callable

from .asyncssh_client import AsyncSsh
from .base import Peer, Target
from .border import C, Cpp, Go, Python, Rust
from .kubectl import Kubectl
from .kubernetes_client import KubernetesClient
from .openssh import OpenSsh, OpenSshAlone, Scp, TarThroughSsh, TarThroughSshAlone
from .paramiko_client import Paramiko, ParamikoWithoutDelay
from .program import Library, LibraryAlone, LibraryByTunnel, LibraryChecked, Plain, Relay, hosted

OURS: Callable[[], Peer] = Library
# What can be reached.
LIMIT: Callable[[], Peer] = Plain
PEERS: list[Callable[[], Peer]] = [
    LibraryByTunnel,
    LibraryAlone,
    LibraryChecked,
    OpenSsh,
    OpenSshAlone,
    Scp,
    TarThroughSsh,
    TarThroughSshAlone,
    hosted(Paramiko),
    hosted(ParamikoWithoutDelay),
    hosted(AsyncSsh),
    Kubectl,
    hosted(KubernetesClient),
]
# This library from each language; only the work `border` compares these.
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
]

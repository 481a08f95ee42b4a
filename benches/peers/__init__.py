"""The clients that are compared. A new one is a class like `Peer`, and a line here."""

from .base import Peer, Target
from .kubectl import Kubectl
from .openssh import OpenSsh
from .paramiko_client import Paramiko, ParamikoWithoutDelay
from .program import Library, LibraryByTunnel, Plain

# Beside `Library`, which is ours, and `Plain`, which is the limit.
PEERS: list[type[Peer]] = [LibraryByTunnel, OpenSsh, Paramiko, ParamikoWithoutDelay, Kubectl]

__all__ = ["PEERS", "Library", "OpenSsh", "Peer", "Plain", "Target"]

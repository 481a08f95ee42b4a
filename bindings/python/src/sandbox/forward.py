"""Ports of a sandbox that are local ports too."""

from typing import Optional

from . import _abi as abi
from . import errors
from ._boundary import Closable, Handle, call, decoded, interruptible
from .errors import SandboxError


class Forward(Closable):
    """A local port or Unix socket whose connections end in a sandbox, made by Machine.forward().

    It has a thread of its own and listens until it is closed, or until its Pod has ended. It never connects to another
    Pod of the same name. Its connections end with it. If the SSH session is lost, its open connections break and later
    ones use a new session. It may be used from several threads, and as a context manager that closes it.

    local: where it listens, such as "127.0.0.1:8080", or a path.
    port: the local port, also where the system has chosen it; 0 for a Unix socket.
    """

    def __init__(self, handle: Handle) -> None:
        self._handle: Optional[Handle] = handle
        self.local = decoded(abi.sbx_forward_local(handle))
        self.port: int = abi.sbx_forward_port(handle)

    @property
    def connections(self) -> int:
        """How many there are at this moment."""
        return abi.sbx_forward_connections(self._open())

    @property
    def is_open(self) -> bool:
        """Whether it still listens."""
        return not self.closed and abi.sbx_forward_is_open(self._open())

    @property
    def last_failure(self) -> Optional[SandboxError]:
        """Why the last connection that failed did so, such as RefusedError because nothing listened in the sandbox.
        A connection that its local side breaks off does not count as failed.
        """
        failure = Handle(abi.sbx_error_free)
        if not abi.sbx_forward_last_failure(self._open(), failure.place):
            return None
        return errors.taken(failure, SandboxError)

    def wait(self) -> None:
        """Waits until it has ended, and returns if another thread has closed it. Else it raises the reason: the Pod is
        gone, or its sandbox was deleted.
        """
        interruptible(call, abi.sbx_forward_wait, self._open())

    def close(self) -> None:
        """Stops listening and breaks the open connections, for which it waits up to 2 seconds."""
        handle = self._handle
        if handle is not None and not handle.is_beyond_waiting:
            abi.sbx_forward_close(handle)
        super().close()

    def __repr__(self) -> str:
        return f"<sandbox.Forward {self.local!r}{', closed' if self.closed else ''}>"

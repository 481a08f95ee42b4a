"""The changes of sandboxes, one after another."""

import math
from ctypes import byref, c_int32
from dataclasses import dataclass
from typing import Optional

from . import _abi as abi
from ._abi import ChangeKind
from ._boundary import Closable, Handle, call, interruptible, seconds
from .info import SandboxInfo, info_of


@dataclass(frozen=True)
class Change:
    """What has become of a sandbox.

    kind: what has become of it.
    info: the sandbox as it is now, or as it was last.
    """

    kind: ChangeKind
    info: SandboxInfo


class Changes(Closable):
    """The changes of sandboxes, made by Client.watch(): an iterator that waits for each.

    First all that fit are told as added, the oldest first, then each change. After a lost connection or a restart of
    the API server it goes on, and tells what has changed meanwhile; what came and went in between is not told. It may
    be used from several threads, of which each change goes to one, and as a context manager that ends the watch.
    """

    def __init__(self, handle: Handle) -> None:
        self._handle: Optional[Handle] = handle

    def __iter__(self) -> "Changes":
        return self

    def __next__(self) -> Change:
        change = self.next()
        if change is None:
            raise StopIteration
        return change

    def next(self, timeout: float = math.inf) -> Optional[Change]:
        """Waits for the next change, at most for so many seconds: then it is None. PermissionDeniedError if the client
        may not list and watch Pods.
        """
        kind, info = c_int32(), Handle(abi.sbx_info_free)
        interruptible(call, abi.sbx_changes_next, self._open(), seconds(timeout), byref(kind), info.place)
        return Change(ChangeKind(kind.value), info_of(info)) if info else None

    def close(self) -> None:
        """Ends the watch: where other threads wait for a change, that raises ClosedError, a ValueError."""
        handle = self._handle
        if handle and not handle.is_of_parent:
            abi.sbx_changes_close(handle)
        super().close()

    def __repr__(self) -> str:
        return f"<sandbox.Changes{', closed' if self.closed else ''}>"

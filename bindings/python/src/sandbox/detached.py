"""Commands that need nobody to stay."""

import math
from ctypes import byref, c_uint64
from dataclasses import dataclass
from typing import Callable, Optional

from . import _abi as abi
from . import errors
from ._abi import Stream
from ._boundary import Closable, Conversation, Handle, call, decoded, interruptible, make, ranged, seconds
from .command import OnOutput, ended, poll, receiver, signal_name
from .errors import CommandExecutionError


@dataclass
class Position:
    """How far the output has been handed over.

    stdout: bytes of the standard output.
    stderr: bytes of the standard error.
    """

    stdout: int = 0
    stderr: int = 0


class Detached(Closable):
    """A command that runs in the sandbox whether anybody is connected or not, made by Machine.detach() or
    Machine.detached().

    Its output and its status stay in the sandbox until remove(). It may be used from several threads, and from other
    processes under its key. close() does nothing to the command. Where there is no command of this key, methods raise
    DetachedNotFoundError.
    """

    def __init__(self, handle: Handle) -> None:
        self._handle: Optional[Handle] = handle

    @property
    def key(self) -> str:
        """The key that it was started with."""
        return decoded(abi.sbx_detached_key(self._open()))

    def poll(self) -> Optional[int]:
        """The returncode if the command has ended, None if it runs. Raises as wait()."""
        return interruptible(poll, abi.sbx_detached_try_wait, self._open())

    def wait(self, timeout: Optional[float] = None) -> int:
        """Waits until the command has ended and returns the returncode, as subprocess says it. After `timeout` seconds
        it raises TimedOutError, and the command goes on. When the command's own timeout ended it, that is TimedOutError
        too.

        CommandExecutionError if it did not run; OutcomeUnknownError if the process that supervises it in the sandbox
        was killed.
        """
        limit = seconds(math.inf if timeout is None else timeout)
        return ended(self._make(abi.sbx_detached_wait, abi.sbx_exit_status_free, limit))

    def read(self, stream: Stream = Stream.STDOUT, offset: int = 0, limit: int = 1 << 20) -> bytes:
        """Reads what the command has written so far to a stream, starting at byte `offset`: at most `limit` bytes. It
        does not
        wait. No bytes means that there is no more output yet, or none at all if the command has ended.
        """
        where = (stream, ranged(offset, 1 << 64), ranged(limit, 1 << 64))
        return errors.lent(abi.sbx_bytes_data, self._make(abi.sbx_detached_read, abi.sbx_bytes_free, *where)) or b""

    def stream(self, on_output: OnOutput, position: Optional[Position] = None) -> int:
        """Hands the output to `on_output(stream, data)` as it comes, until the command has ended, and returns the
        returncode. It begins at `position` and moves it along, so that after an exception the same call goes on where
        this one stopped.

        If on_output returns False, that is OperationCancelledError; what it raises comes out of this call. The command
        runs on then.
        """
        place = position or Position()
        offsets = (c_uint64(ranged(offset, 1 << 64)) for offset in (place.stdout, place.stderr))

        def receive(stream: Stream, data: bytes) -> object:
            if on_output(stream, data) is False:
                return False
            if stream is Stream.STDOUT:
                place.stdout += len(data)
            else:
                place.stderr += len(data)
            return None

        conversation = Conversation()
        arguments = (self._open(), *map(byref, offsets), receiver(conversation, receive), None)
        work = (abi.sbx_detached_stream, abi.sbx_exit_status_free, *arguments)
        return ended(conversation.hold(lambda: make(*work, subject=CommandExecutionError)))

    def kill(self) -> None:
        """Kills the command and all its descendants, and returns when they are gone. Does nothing if the command has
        ended."""
        self._call(abi.sbx_detached_kill)

    def send_signal(self, number: int) -> None:
        """Sends the command's process group a signal, such as signal.SIGINT. Does nothing if the command has ended."""
        self._call(abi.sbx_detached_signal, signal_name(number))

    def remove(self) -> None:
        """Removes the output and the status of a command that has ended; its key is free again. ConflictError if it
        runs.
        """
        self._call(abi.sbx_detached_remove)

    def _call(self, function: "Callable[..., int]", *arguments: object) -> None:
        interruptible(call, function, self._open(), *arguments, subject=CommandExecutionError)

    def _make(self, function: "Callable[..., int]", free: "Callable[..., None]", *arguments: object) -> Handle:
        return interruptible(make, function, free, self._open(), *arguments, subject=CommandExecutionError)

    def __repr__(self) -> str:
        return "<sandbox.Detached, closed>" if self.closed else f"<sandbox.Detached {self.key!r}>"

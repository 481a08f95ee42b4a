"""Commands that run beside their caller, after subprocess.Popen."""

import contextlib
import errno
import signal
import threading
import time
from ctypes import byref, c_char, c_size_t
from typing import IO, Any, AnyStr, Callable, Generic, Optional, TypeVar, Union, cast

from . import _abi as abi
from . import errors
from ._abi import ErrorKind
from ._boundary import Closable, Handle, call, decoded, interruptible, make, ranged
from ._streams import Raw, Reader, Text, Writer
from ._threads import TICK, Task, start
from .command import BUFFER, Arguments, ended, poll, signal_name
from .errors import CommandExecutionError, SandboxError

T = TypeVar("T")


class Child(Closable, Generic[AnyStr]):
    """A command that runs, made by Machine.popen(); used like a subprocess.Popen, from several threads at once.

    As with a process of this machine, a command blocks when nobody reads its output and the buffers are full: read both
    streams, or communicate(). close() does not end the command: it runs on to its end or its timeout, with its input
    closed and its output thrown away. The end of a `with` block closes the streams and waits; if the block raised, it
    kills the command first.

    args: what was asked for.
    returncode: the exit code, or the negative number of the signal that ended the command; None until wait() or poll()
        has seen it.
    stdin: writes to the command's standard input; None if it reads something else. What is written is buffered: flush()
        sends it.
    stdout: reads the command's standard output; None if it is discarded.
    stderr: reads the command's standard error; None if it is discarded or goes to the standard output.
    """

    def __init__(
        self,
        handle: Handle,
        args: Arguments,
        has: "tuple[bool, bool, bool]",
        text: "Optional[tuple[Optional[str], Optional[str]]]",
    ) -> None:
        self._handle: Optional[Handle] = handle
        self.args = args
        self.returncode: Optional[int] = None
        self._lock = threading.Lock()
        self._waiter: Optional[Task[int]] = None
        self._exchange: Optional[tuple[Task[None], Task[Any], Task[Any]]] = None
        stdin, stdout, stderr = has
        raw = _Input(handle)
        if not stdin:
            raw.close()
        self.stdin: Optional[IO[AnyStr]] = _wrapped(Writer(raw, BUFFER), text) if stdin else None
        outputs = [
            _wrapped(Reader(_Output(handle, read, close), BUFFER), text) if is_there else None
            for is_there, read, close in (
                (stdout, abi.sbx_child_read_stdout, abi.sbx_child_close_stdout),
                (stderr, abi.sbx_child_read_stderr, abi.sbx_child_close_stderr),
            )
        ]
        self.stdout: Optional[IO[AnyStr]] = outputs[0]
        self.stderr: Optional[IO[AnyStr]] = outputs[1]

    @property
    def id(self) -> str:
        """The command's number in the sandbox, as text."""
        return decoded(abi.sbx_child_id(self._open()))

    def poll(self) -> Optional[int]:
        """The returncode if the command has ended, None if it runs. Raises as wait()."""
        self.returncode = poll(abi.sbx_child_try_wait, self._open())
        return self.returncode

    def wait(self, timeout: Optional[float] = None) -> int:
        """Ends the command's input, waits until the command has ended and returns the returncode. After `timeout`
        seconds it raises TimedOutError, and the command goes on. When the command's own timeout ended it, that is
        TimedOutError too; a lost connection is OutcomeUnknownError.
        """
        handle = self._open()
        if self.stdin is not None:
            _closed(self.stdin)

        def work() -> int:
            exit_status = make(abi.sbx_child_wait, abi.sbx_exit_status_free, handle, subject=CommandExecutionError)
            return ended(exit_status)

        with self._lock:
            # One that was interrupted or timed out goes on, and is waited for again.
            if self._waiter is None:
                self._waiter = start(Task(work))
        self.returncode = _awaited(self._waiter, _deadline(timeout), handle, self.args)
        return self.returncode

    def communicate(
        self, input: Optional[AnyStr] = None, timeout: Optional[float] = None
    ) -> "tuple[Optional[AnyStr], Optional[AnyStr]]":
        """Writes `input`, ends the command's input, reads both output streams to their ends, and waits. After `timeout`
        seconds it raises TimedOutError; called again, it goes on and nothing is lost.
        """
        handle, deadline = self._open(), _deadline(timeout)
        with self._lock:
            if self._exchange is None:
                self._exchange = (
                    start(Task(lambda: self._write(input))),
                    start(Task(lambda: self.stdout and self.stdout.read())),
                    start(Task(lambda: self.stderr and self.stderr.read())),
                )
        for part in self._exchange:
            _awaited(cast("Task[object]", part), deadline, handle, self.args)
        self.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return self._exchange[1].result(), self._exchange[2].result()

    def _write(self, input: Optional[AnyStr]) -> None:
        if self.stdin is None:
            return
        try:
            if input:
                self.stdin.write(input)
        except BrokenPipeError:
            # As in subprocess: the command did not want all of it.
            pass
        finally:
            _closed(self.stdin)

    def kill(self) -> None:
        """Kills the command and all processes that it started; wait() waits until they are gone."""
        call(abi.sbx_child_kill, self._open(), subject=CommandExecutionError)

    def terminate(self) -> None:
        """Sends the command's process group the signal TERM."""
        self.send_signal(signal.SIGTERM)

    def send_signal(self, number: int) -> None:
        """Sends the command's process group a signal, such as signal.SIGINT."""
        call(abi.sbx_child_signal, self._open(), signal_name(number), subject=CommandExecutionError)

    def resize(self, columns: int, rows: int) -> None:
        """Changes the size of the command's terminal, in characters."""
        abi.sbx_child_resize(self._open(), ranged(columns, 1 << 16), ranged(rows, 1 << 16))

    def close(self) -> None:
        """Closes the streams and lets go of the command, which runs on."""
        try:
            self._close_streams()
        finally:
            super().close()

    def _close_streams(self) -> None:
        with contextlib.ExitStack() as stack:
            # All of them, whatever one of them raises.
            for stream in (self.stderr, self.stdout, self.stdin):
                if stream is not None:
                    stack.callback(_closed, stream)

    def __exit__(self, kind: object = None, *_: object) -> None:
        handle = self._handle
        if handle is None:
            return
        if kind is not None or handle.is_of_parent:
            # What ends the block is what the caller has to see, and the parent's command is the parent's.
            with contextlib.suppress(SandboxError):
                self.kill()
            with contextlib.suppress(SandboxError):
                self.close()
            return
        try:
            self._close_streams()
            self.wait()
        finally:
            super().close()

    def __repr__(self) -> str:
        return f"<sandbox.Child args={self.args!r} returncode={self.returncode!r}>"


class _Pipe(Raw):
    """One of a command's streams."""

    def __init__(self, child: Handle) -> None:
        self._child: Optional[Handle] = child

    def _is_of_parent(self) -> bool:
        return self._child is not None and self._child.is_of_parent

    def _end(self, let_go: "Callable[[Handle], object]") -> None:
        child, self._child = self._child, None
        try:
            super().close()
        finally:
            if child is not None and not child.is_beyond_waiting:
                let_go(child)


class _Input(_Pipe):
    """A command's standard input. What the command does not take is a BrokenPipeError, as with every pipe."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        child = self._child
        if child is None:
            raise ValueError("write to closed file")
        piece = bytes(data)
        if self._is_forsaken:
            return len(piece)
        child.check()
        if child.is_beyond_waiting:
            # A buffer that nobody has flushed: a full pipe would hold up the interpreter's end.
            return len(piece)
        try:
            work = (abi.sbx_child_write_stdin, child, piece, len(piece))
            interruptible(call, *work, subject=CommandExecutionError)
        except errors.ClosedError as closed:
            raise BrokenPipeError(errno.EPIPE, str(closed)) from None
        return len(piece)

    def close(self) -> None:
        self._end(abi.sbx_child_close_stdin)


class _Output(_Pipe):
    """One of a command's output streams."""

    def __init__(self, child: Handle, read: "Callable[..., int]", let_go: "Callable[..., None]") -> None:
        super().__init__(child)
        self._read = read
        self._let_go = let_go

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        child = self._child
        if child is None:
            raise ValueError("read of closed file")
        child.check()
        view = memoryview(buffer).cast("B")
        if not view:
            return 0
        place, length = (c_char * min(len(view), BUFFER)).from_buffer(view), c_size_t()
        work = (self._read, child, place, len(place), byref(length))
        interruptible(call, *work, subject=CommandExecutionError)
        return length.value

    def readall(self) -> bytes:
        found, piece = bytearray(), bytearray(BUFFER)
        while length := self.readinto(piece):
            found += memoryview(piece)[:length]
        return bytes(found)

    def close(self) -> None:
        self._end(self._let_go)


def _wrapped(stream: Union[Reader, Writer], text: Any) -> "IO[Any]":
    if text is None:
        return stream
    encoding, errors = text
    return Text(stream, encoding or "utf-8", errors, line_buffering=True)


def _closed(stream: "IO[Any]") -> None:
    """Closes a stream whose reader may be gone."""
    with contextlib.suppress(BrokenPipeError):
        stream.close()


def _deadline(timeout: Optional[float]) -> Optional[float]:
    return None if timeout is None else time.monotonic() + timeout


def _awaited(task: "Task[T]", deadline: Optional[float], child: Handle, args: Arguments) -> T:
    while not task.has_ended:
        left = TICK if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise errors.made(ErrorKind.TIMED_OUT, f"{args!r} has not ended yet", CommandExecutionError)
        task.wait(min(left, TICK))
        # A signal handler may have forked, and nothing ends in the child.
        child.check()
    return task.result()

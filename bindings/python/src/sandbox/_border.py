"""The one border between Python and the library: handles, calls that fail, callbacks, and waits that Ctrl-C may end."""

import os
import threading
from concurrent.futures import Future
from ctypes import byref, c_void_p
from typing import Callable, Optional, TypeVar, Union

from . import errors
from ._abi import ErrorKind
from .errors import SandboxError

T = TypeVar("T")
Self = TypeVar("Self", bound="Closable")
#: Text or bytes for the library; text stands for its UTF-8, and its lone surrogates for bytes that are none.
Text = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]


class Handle:
    """Owns what the library gave out, and frees it when nobody has this object any more.

    A call keeps the handle that it uses, so closing an object while another thread is in a call of it is safe: the last
    user frees. In a forked child nothing is freed, since threads that would have to help don't exist there.
    """

    __slots__ = ("_as_parameter_", "_free", "_pid")

    def __init__(self, address: int, free: Callable[..., None]) -> None:
        # What ctypes passes for this object.
        self._as_parameter_ = address
        self._free = free
        self._pid = os.getpid()

    def __del__(self, getpid: Callable[[], int] = os.getpid) -> None:
        if self._pid == getpid():
            self._free(self._as_parameter_)

    @property
    def is_of_parent(self) -> bool:
        """Whether this is a forked child that has inherited it."""
        return self._pid != os.getpid()

    def check_process(self) -> None:
        """Refuses to be used in a forked child, where some calls would wait for threads that don't exist there."""
        if self.is_of_parent:
            message = "this object was made before fork(), so make a new Client in the child"
            raise errors.made(ErrorKind.FORKED, message)


class Closable:
    """Something with a handle. It can be used from several threads, closed in any, and closed twice."""

    _handle: Optional[Handle]

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._handle is None

    def close(self) -> None:
        """Lets go of it; afterwards it raises ClosedError, a ValueError. Calls of other threads come to their ends."""
        self._handle = None

    def _open(self) -> Handle:
        """The handle, for a call."""
        handle = self._handle
        if handle is None:
            raise errors.made(ErrorKind.CLOSED, f"this {type(self).__name__} is closed")
        handle.check_process()
        return handle

    def __enter__(self: Self) -> Self:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Callback:
    """A function of the caller that the library calls. What it raises comes out of the call; False asks to stop."""

    #: What tells the library to stop.
    stop = 1

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function
        self.raised: Optional[BaseException] = None

    def __call__(self, *arguments: object) -> int:
        """Calls it, and answers the library: 0 to go on."""
        if self.raised is not None:
            return self.stop
        try:
            return self.stop if self.function(*arguments) is False else 0
        except BaseException as raised:
            self.raised = raised
            return self.stop


def call(
    function: Callable[..., int],
    *arguments: object,
    subject: "type[SandboxError]" = SandboxError,
    callbacks: "tuple[Callback, ...]" = (),
) -> None:
    """Calls a function that can fail. `subject` is the class that stands for what is tried."""
    error = c_void_p()
    status = function(*arguments, byref(error))
    if status == ErrorKind.OK:
        return
    failure = errors.taken(error.value or 0, subject)
    for callback in callbacks:
        if callback.raised is not None:
            raise callback.raised
    raise failure


def make(
    function: Callable[..., int],
    free: Callable[..., None],
    *arguments: object,
    subject: "type[SandboxError]" = SandboxError,
    callbacks: "tuple[Callback, ...]" = (),
) -> Handle:
    """Calls a function that can fail and gives a handle out, which `free` frees."""
    place = c_void_p()
    call(function, *arguments, byref(place), subject=subject, callbacks=callbacks)
    return Handle(place.value or 0, free)


def encoded(text: Text) -> bytes:
    """What the library gets for a text that must not contain a NUL, since there it would end."""
    text = os.fspath(text)
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    if b"\0" in data:
        raise errors.made(ErrorKind.INVALID_ARGUMENT, f"{text!r} contains a NUL")
    return data


def decoded(data: Optional[bytes]) -> str:
    """The text for what the library gives; bytes that are no UTF-8 become lone surrogates, as in os.fsdecode()."""
    return (data or b"").decode("utf-8", "surrogateescape")


def seconds(duration: float) -> float:
    """The library's duration for Python's: infinite is negative there, and negative means nothing here."""
    if duration < 0 or duration != duration:
        raise errors.made(ErrorKind.INVALID_ARGUMENT, f"{duration!r} is no duration: seconds, or math.inf for no limit")
    return -1.0 if duration == float("inf") else duration


def ranged(number: int, end: int, begin: int = 0) -> int:
    """The number, if it is one from `begin` to below the end: ctypes would cut it silently."""
    if not begin <= number < end:
        raise errors.made(ErrorKind.INVALID_ARGUMENT, f"{number!r} is not from {begin} to {end - 1}")
    return number


def interruptible(work: Callable[[], T], discard: Optional[Callable[[T], object]] = None) -> T:
    """Does work that blocks in the library, so that a signal such as Ctrl-C ends the wait for it.

    Python runs signal handlers in the main thread only, and only between its own steps; so there, another thread
    blocks. If a handler raises, that one goes on; `discard` gets its result, and the interpreter does not end before.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    future = background(work, is_daemon=discard is None)
    try:
        return future.result()
    except BaseException as raised:
        if discard is not None and not (future.done() and future.exception() is raised):
            use = discard
            future.add_done_callback(lambda done: None if done.exception() else use(done.result()))
        raise
    finally:
        # The exception's traceback leads here, and from here to the exception.
        del future


def background(work: Callable[[], T], is_daemon: bool = True) -> "Future[T]":
    """Does the work in a thread of its own, which the end of the interpreter waits for unless it is a daemon."""
    future: Future[T] = Future()
    threading.Thread(target=_fulfil, args=(future, work), name="sandbox-wait", daemon=is_daemon).start()
    return future


def _fulfil(future: "Future[T]", work: Callable[[], T]) -> None:
    try:
        future.set_result(work())
    except BaseException as raised:
        future.set_exception(raised)

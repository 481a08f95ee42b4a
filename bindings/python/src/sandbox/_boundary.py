"""The one boundary between Python and the library: handles, calls that fail, callbacks, and waits that Ctrl-C ends."""

import atexit
import contextlib
import os
import sys
import threading
import time
from collections.abc import Generator
from ctypes import byref, c_void_p
from functools import partial
from itertools import chain
from typing import Any, Callable, ClassVar, Optional, TypeVar, Union

from . import _abi as abi
from . import errors
from ._abi import ErrorKind
from ._finalizer import Finalizer
from ._threads import TICK, Empty, SimpleQueue, Task, Waker, start
from .errors import SandboxError

T = TypeVar("T")
Self = TypeVar("Self", bound="Closable")
#: Text or bytes for the library; text stands for its UTF-8, and its lone surrogates for bytes that are none.
Text = Union[str, bytes, os.PathLike[str], os.PathLike[bytes]]
#: How many seconds what was interrupted is waited for, so that its end is known when the exception comes.
INTERRUPT_TIMEOUT = 10


class Handle:
    """Owns what the library gives out, and frees it when nobody has this object any more.

    It is made before the call that fills its place, so that Ctrl-C right after the call loses nothing. A call keeps the
    handle that it uses, so closing an object while another thread is in a call of it is safe: the last user frees. In a
    forked child the library leaves what only the parent's threads could end.

    The garbage collector calls all finalizers of a cycle, in any order, before it takes the objects apart, and those of
    streams use their handle still. So the handle's own finalizer does not free. It makes an object that does, and that
    only the handle has: the collector does not know it yet, and it goes away with the handle, after all finalizers.
    """

    # `__del__` is a slot, so that it can hold a C function: see Finalizer.
    __slots__ = ("__del__", "_as_parameter_", "_last", "_pid")

    def __init__(self, free: Callable[..., None]) -> None:
        # What ctypes passes for this object.
        place = self._as_parameter_ = c_void_p()
        self._pid = os.getpid()
        self._last: list[Finalizer] = []
        freed = map(Finalizer, (free,), map(c_void_p.from_buffer_copy, (place,)))
        # Whoever should have the handle still, finds nothing in it.
        emptied = map(Finalizer, (setattr,), (place,), ("value",), (None,))
        self.__del__ = partial(self._last.extend, chain(freed, emptied))

    def __bool__(self) -> bool:
        """Whether its place is filled."""
        return bool(self._as_parameter_)

    @property
    def place(self) -> Any:
        """Where a call puts what it gives out."""
        return byref(self._as_parameter_)

    @property
    def is_of_parent(self) -> bool:
        """Whether this is a forked child that has inherited it."""
        return self._pid != os.getpid()

    @property
    def is_beyond_waiting(self) -> bool:
        """Whether nobody could wait for a call: in a forked child, while the interpreter ends, after it was freed."""
        return self.is_of_parent or sys.is_finalizing() or not self

    def check(self) -> None:
        """Refuses to be used in a forked child, where some calls would wait for threads that don't exist there, and
        after it was freed, which only finalizers can come to see.
        """
        if self.is_of_parent:
            message = "this object was made before fork(), so make a new Client in the child"
            raise errors.made(ErrorKind.FORKED, message)
        if not self:
            raise errors.made(ErrorKind.CLOSED, "this object was freed")


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
        handle.check()
        return handle

    def __enter__(self: Self) -> Self:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def call(function: Callable[..., int], *arguments: object, subject: "type[SandboxError]" = SandboxError) -> None:
    """Calls a function that can fail. `subject` is the class that stands for what is tried."""
    error = Handle(abi.sbx_error_free)
    if function(*arguments, error.place) != ErrorKind.OK:
        raise errors.taken(error, subject)


def make(
    function: Callable[..., int],
    free: Callable[..., None],
    *arguments: object,
    subject: "type[SandboxError]" = SandboxError,
) -> Handle:
    """Calls a function that can fail and gives a handle out, which `free` frees."""
    handle = Handle(free)
    call(function, *arguments, handle.place, subject=subject)
    return handle


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


def _main_thread() -> int:
    """The system's number of the main thread, by which greenlets in it are in it too."""
    return threading.main_thread().native_id or 0


_main = [_main_thread()]


def can_be_interrupted() -> bool:
    """Whether this is where Python runs signal handlers."""
    return threading.get_native_id() == _main[0] and not sys.is_finalizing()


def interruptible(work: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Does work that waits in the library and calls nobody back. In the main thread, signal handlers run meanwhile, and
    what one raises, such as KeyboardInterrupt, ends the work as its timeout would, and comes out of it.
    """
    if not can_be_interrupted():
        return work(*arguments, **options)
    # A handler may do such work too, in the middle of another.
    outer, check = CancelCheck.current, CancelCheck.idle.pop() if CancelCheck.idle else CancelCheck()
    try:
        CancelCheck.current = check
        abi.sbx_thread_on_wait(check.function, None)
        return check.settled(partial(work, *arguments, **options))
    finally:
        CancelCheck.current = outer
        abi.sbx_thread_on_wait(outer and outer.function, None)
        if check.is_open:
            CancelCheck.idle.append(check)


def begun(
    function: Callable[..., int],
    free: Callable[..., None],
    *arguments: object,
    subject: "type[SandboxError]",
    discard: Callable[[Handle], object],
) -> Handle:
    """make() as interruptible work. What was made, but not returned because of a signal, is discarded."""
    handle = Handle(free)
    try:
        interruptible(call, function, *arguments, handle.place, subject=subject)
    except BaseException:
        if handle:
            discard(handle)
        raise
    return handle


class Settling:
    """Work of which something else can come out than it raises itself."""

    def __init__(self) -> None:
        #: What a function or signal handler has raised during the work.
        self.raised: Optional[BaseException] = None

    def settled(self, work: Callable[[], T]) -> T:
        """Does the work in this thread."""
        try:
            result = work()
        except SandboxError:
            if self.raised is None:
                raise
        raised, self.raised = self.raised, None
        if raised is None:
            return result
        try:
            raise raised
        finally:
            # The exception's traceback leads here, and from here to the exception.
            del raised


class CancelCheck(Settling):
    """Lets signal handlers run when the library asks whether one has raised.

    They run before the first step of whatever it calls: in a function that is before any `try`, and ctypes loses what
    they raise. A generator goes on inside of its `try`.
    """

    #: That of the call that the main thread is in.
    current: ClassVar["Optional[CancelCheck]"] = None
    #: Those that can be used again.
    idle: ClassVar["list[CancelCheck]"] = []
    _functions: ClassVar[list[object]] = []

    def __init__(self) -> None:
        super().__init__()
        #: Whether none has.
        self.is_open = True
        answers = self._answers()
        next(answers)
        self.function = abi.sbx_interrupted_fn(answers.send)
        # Never freed: a signal at the wrong moment could leave it with the library.
        self._functions.append(self.function)

    def _answers(self) -> Generator[int, Optional[int], None]:
        try:
            while True:
                yield 0
        except GeneratorExit:
            return
        except BaseException as raised:
            self.is_open, self.raised = False, raised
        # It is not asked any more, and so nothing can be raised here.
        yield 1


class Conversation(Settling):
    """A call of the library that Ctrl-C ends, and the caller's functions that it calls.

    Python runs signal handlers in the main thread only, and what they raise at the first step of a callback is lost on
    its way through the library. So there, another thread makes the call, and the main thread waits, and calls what that
    one asks for. In other threads there is no Ctrl-C. What is halted ends as its timeout would end it.
    """

    #: What the library asks in each thread.
    _checks: ClassVar[dict[int, object]] = {}

    def __init__(self, deliver: "Optional[Callable[..., object]]" = None) -> None:
        super().__init__()
        #: Lets serve() be called with its arguments by the thread that the functions belong to.
        self.deliver: Callable[..., object] = deliver or self.serve
        self._pid = os.getpid()
        self._is_halted = False
        self._requests: SimpleQueue[Optional[tuple[Callable[..., int], tuple[object, ...]]]] = SimpleQueue()
        self._waker = Waker()
        self._answers: SimpleQueue[Optional[int]] = SimpleQueue()

    def callback(self, prototype: Callable[..., T], function: Callable[..., int], stop: int = 1) -> T:
        """A function for the library. It answers what `function` does, or `stop` to end the call."""

        def called(*arguments: object) -> int:
            answer = self.ask(function, *arguments)
            return stop if answer is None else answer

        return prototype(called)

    def ask(self, function: Callable[..., int], *arguments: object) -> Optional[int]:
        """What the function answers; None if the call is to end."""
        if not self._is_halted:
            self.deliver(function, arguments)
            answer = self._answers.get()
            if answer is not None:
                return answer
            # Another thread may wait for its answer too.
            self._answers.put(None)
        return None

    def serve(self, function: Callable[..., int], arguments: "tuple[object, ...]") -> None:
        """Calls a function that was asked for."""
        try:
            self._answers.put(function(*arguments))
        except BaseException as raised:
            self.raised = raised
            self.halt()

    def halt(self) -> None:
        """From now on the call is told to end, and no function is called."""
        self._is_halted = True
        self._answers.put(None)

    def task(self, work: Callable[[], T], then: "Optional[Callable[[], object]]" = None) -> "Task[T]":
        """The work, which may call callbacks, for another thread."""
        return Task(partial(self._until_halted, work), then)

    def _until_halted(self, work: Callable[[], T]) -> T:
        """Does the work, in this thread."""
        if self._is_halted:
            raise errors.made(ErrorKind.CANCELLED, "it was cancelled before it began")
        thread = threading.get_native_id()
        outer, check = self._checks.get(thread), abi.sbx_interrupted_fn(lambda _: self._is_halted)
        try:
            _end.calls.add(self)
            self._checks[thread] = check
            abi.sbx_thread_on_wait(check, None)
            return work()
        finally:
            abi.sbx_thread_on_wait(outer, None)
            if outer is None:
                self._checks.pop(thread, None)
            else:
                self._checks[thread] = outer
            _end.calls.discard(self)
            _end.waker.wake()

    def hold(self, work: Callable[[], T]) -> T:
        """Does the work, which may call callbacks. What a function or a signal handler raises comes out of it once the
        work has ended.
        """
        if not can_be_interrupted():
            if sys.is_finalizing():
                return self.settled(work)
            is_called_back = threading.get_native_id() in self._checks
            # First known, then asked whether the end has come, so that it is not missed.
            _end.calls.add(self)
            try:
                _end.stop(self, is_called_back)
                return self.settled(partial(self._until_halted, work))
            finally:
                _end.calls.discard(self)
                _end.stop(self, is_called_back)
        self.deliver = lambda *request: self._wanted(request)
        task = self.task(work, lambda: self._wanted(None))
        try:
            start(task)
            while (request := self._request()) is not None:
                function, arguments = request
                self._answers.put(function(*arguments))
            return task.result()
        except BaseException:
            self.halt()
            # What has not begun won't. In a child that a function has forked, nobody does the work.
            if not task.cancel() and os.getpid() == self._pid:
                task.wait(INTERRUPT_TIMEOUT)
            raise
        finally:
            # As above.
            del task

    def _wanted(self, request: "Optional[tuple[Callable[..., int], tuple[object, ...]]]") -> None:
        self._requests.put(request)
        self._waker.wake()

    def _request(self) -> "Optional[tuple[Callable[..., int], tuple[object, ...]]]":
        """What the main thread is asked for next; None once the work is done."""
        while os.getpid() == self._pid:
            with contextlib.suppress(Empty):
                return self._requests.get_nowait()
            self._waker.wait(TICK)
        raise errors.made(ErrorKind.FORKED, "the call was made before fork(), and goes on in the parent only")


class _End:
    """The interpreter's end. From then on each thread that Python does not wait for is ended at its next step, but one
    that the library calls back can't be: that would take the library's call apart, which aborts the process. So calls
    that call back are ended before.
    """

    def __init__(self) -> None:
        #: Those that are under way.
        self.calls: set[Conversation] = set()
        #: Rings at the end of one.
        self.waker = Waker()
        self._has_come = False
        atexit.register(self._come)

    def _come(self) -> None:
        self._has_come = True
        deadline = time.monotonic() + INTERRUPT_TIMEOUT
        while self.calls and (left := deadline - time.monotonic()) > 0:
            for call in tuple(self.calls):
                call.halt()
            self.waker.wait(left)

    def stop(self, call: Conversation, is_called_back: bool) -> None:
        """Once it has come, a thread that Python does not wait for goes no further."""
        while self._has_come and threading.current_thread().daemon:
            self.calls.discard(call)
            self.waker.wake()
            if is_called_back:
                raise errors.made(ErrorKind.CANCELLED, "the interpreter ends")
            Waker().wait(TICK)


_end = _End()


def _forked() -> None:
    # Whoever forks is the main thread of the child, and the only one.
    _main[0] = threading.get_native_id()
    Conversation._checks.clear()
    _end.calls.clear()


os.register_at_fork(after_in_child=_forked)

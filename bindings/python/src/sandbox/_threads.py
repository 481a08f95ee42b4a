"""Work in threads of the system, and what is waited for it with.

gevent and its like put greenlets in the place of `threading`'s threads, and waits that only greenlets can end in the
place of its locks and queues. A greenlet that is in the library holds up all others, the one that waits for it too. So
what is here is the interpreter's own, whatever was put in its place.
"""

import contextlib
import os
import sys
from _thread import start_new_thread
from ctypes import CFUNCTYPE, c_ulong, c_void_p, pythonapi
from types import BuiltinFunctionType
from typing import Any, Callable, Generic, Optional, TypeVar

try:
    from _queue import Empty as Empty
    from _queue import SimpleQueue as SimpleQueue
except ImportError:  # an interpreter that has it in Python only
    from queue import Empty as Empty
    from queue import SimpleQueue as SimpleQueue

T = TypeVar("T")
#: How many seconds one wait takes at most. A signal that comes right before it does not end it, and is seen after it.
TICK = 1


class Task(Generic[T]):
    """Work of another thread, which calls `then` at its end."""

    def __init__(self, work: Callable[[], T], then: Optional[Callable[[], object]] = None) -> None:
        # Whoever pops it decides: it begins, or never will.
        self._unbegun = [work]
        self._then = then
        self._results: list[T] = []
        self._raised: Optional[BaseException] = None
        # Has something once it has ended, that who takes it puts back.
        self._end: SimpleQueue[None] = SimpleQueue()
        self.has_ended = False

    def cancel(self) -> bool:
        """Whether it had not begun. It never will then."""
        with contextlib.suppress(IndexError):
            self._unbegun.pop()
            return True
        return False

    def wait(self, timeout: float) -> bool:
        """Whether it ends within so many seconds. A signal, or another thread that waits, can make it miss the end; so
        it is to be asked again.
        """
        if not self.has_ended:
            with contextlib.suppress(Empty):
                self._end.get(timeout=timeout)
                self._end.put(None)
        return self.has_ended

    def result(self) -> T:
        """What came out of it, once it has ended."""
        while not self.wait(TICK):
            pass
        try:
            if self._raised is not None:
                raise self._raised
            (result,) = self._results
            return result
        finally:
            # The exception's traceback leads here, and from here to the exception.
            del self

    def fulfil(self) -> None:
        """Does the work, in this thread."""
        try:
            work = self._unbegun.pop()
        except IndexError:
            return
        try:
            self._results.append(work())
        except BaseException as raised:
            self._raised = raised
        # What it refers to may be something that is to be freed at its end.
        del work
        self.has_ended = True
        self._end.put(None)
        try:
            if self._then is not None:
                self._then()
        finally:
            # As above.
            del self


# What threads without work wait for: a thread of its own would take longer than many a call.
_idle: "list[SimpleQueue[Task[Any]]]" = []
os.register_at_fork(after_in_child=_idle.clear)


def start(task: "Task[T]") -> "Task[T]":
    """Has it done in another thread, which the end of the interpreter does not wait for."""
    try:
        _idle.pop().put(task)
    except IndexError:
        _start(task)
    return task


def _fulfil_all(tasks: "list[Task[Any]]") -> None:
    own: SimpleQueue[Task[Any]] = SimpleQueue()
    task = tasks.pop()
    while True:
        task.fulfil()
        # Here it would live until the next one comes.
        del task
        _idle.append(own)
        task = own.get()


def _start(task: "Task[Any]") -> None:
    # Not the task itself: what a thread begins with lives as long as it does.
    tasks = [task]
    if isinstance(start_new_thread, BuiltinFunctionType):
        start_new_thread(_fulfil_all, (tasks,))
        return
    if sys.is_finalizing():
        raise RuntimeError("can't start a thread while the interpreter ends")
    body = _thread_body(lambda _: _fulfil_all(tasks))
    # The thread is in it for ever.
    _bodies.append(body)
    if _start_native(body, None) == c_ulong(-1).value:
        raise RuntimeError("can't start a thread")


_thread_body = CFUNCTYPE(None, c_void_p)
_bodies: list[object] = []
_start_native = pythonapi.PyThread_start_new_thread
_start_native.restype = c_ulong
_start_native.argtypes = (_thread_body, c_void_p)

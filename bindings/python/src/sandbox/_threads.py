"""Work in threads of the system, and what is waited for it with.

gevent and its like put greenlets in the place of `threading`'s threads, and waits that only greenlets can end in the
place of its locks and queues. A greenlet that is in the library holds up all others, the one that waits for it too. So
what is here is the interpreter's own, whatever was put in its place.
"""

import contextlib
import os
import sys
import time
from _thread import allocate_lock, start_new_thread
from ctypes import CDLL, CFUNCTYPE, c_int, c_longlong, c_ulong, c_void_p
from types import BuiltinFunctionType
from typing import Any, Callable, Generic, Optional, TypeVar

from ._finalizer import Finalizer

try:
    # Its get() is not to be used with a timeout: if that passes while a signal handler runs, it waits for ever.
    from _queue import Empty as Empty
    from _queue import SimpleQueue as SimpleQueue
except ImportError:  # an interpreter that has it in Python only
    from queue import Empty as Empty
    from queue import SimpleQueue as SimpleQueue

T = TypeVar("T")
#: How many seconds one wait takes at most. A signal that comes right before it does not end it, and is seen after it.
TICK = 1

# The interpreter's own functions, which let go of its lock when they are called like this.
_interpreter = CDLL(None)
_new_lock = _interpreter.PyThread_allocate_lock
_new_lock.restype, _new_lock.argtypes = c_void_p, ()
_free_lock = _interpreter.PyThread_free_lock
_free_lock.restype, _free_lock.argtypes = None, (c_void_p,)
_acquire_lock = _interpreter.PyThread_acquire_lock_timed
_acquire_lock.restype, _acquire_lock.argtypes = c_int, (c_void_p, c_longlong, c_int)
_release_lock = _interpreter.PyThread_release_lock
_release_lock.restype, _release_lock.argtypes = None, (c_void_p,)
_thread_body = CFUNCTYPE(None, c_void_p)
_start_thread = _interpreter.PyThread_start_new_thread
_start_thread.restype, _start_thread.argtypes = c_ulong, (_thread_body, c_void_p)


def _is_own(function: object) -> bool:
    """Whether this function of the interpreter is the one that it was built with."""
    return isinstance(function, BuiltinFunctionType)


class _Lock:
    """What allocate_lock() gives, where that is another library's."""

    def __init__(self) -> None:
        self._lock = _new_lock()
        self._last = Finalizer(_free_lock, self._lock)

    def acquire(self, blocking: bool = True, timeout: float = 0) -> bool:
        deadline, acquired = time.monotonic() + timeout, 2
        while acquired == 2:
            # A signal has ended the wait, and its handler has run.
            left = deadline - time.monotonic() if blocking else 0
            acquired = _acquire_lock(self._lock, int(max(left, 0) * 1e6), 1)
        return acquired == 1

    def release(self) -> None:
        _release_lock(self._lock)


class Waker:
    """What one thread waits at until another one wakes it."""

    def __init__(self) -> None:
        self._lock = allocate_lock() if _is_own(allocate_lock) else _Lock()
        self._lock.acquire(False)

    def wake(self) -> None:
        """Ends a wait: one that is under way, else the next one."""
        self._lock.acquire(False)
        # Another one may have rung in between.
        with contextlib.suppress(RuntimeError):
            self._lock.release()

    def wait(self, timeout: float) -> bool:
        """Whether it is woken within so many seconds."""
        return self._lock.acquire(True, timeout)


class Task(Generic[T]):
    """Work of another thread, which calls `then` at its end."""

    def __init__(self, work: Callable[[], T], then: Optional[Callable[[], object]] = None) -> None:
        # Whoever pops it decides: it begins, or never will.
        self._unbegun = [work]
        self._then = then
        self._results: list[T] = []
        self._raised: Optional[BaseException] = None
        self._end = Waker()
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
        if not self.has_ended and self._end.wait(timeout):
            # For the next one.
            self._end.wake()
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
        self._end.wake()
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
    if _is_own(start_new_thread):
        start_new_thread(_fulfil_all, (tasks,))
        return
    if sys.is_finalizing():
        raise RuntimeError("can't start a thread while the interpreter ends")
    body = _thread_body(lambda _: _fulfil_all(tasks))
    # The thread is in it for ever.
    _bodies.append(body)
    if _start_thread(body, None) == c_ulong(-1).value:
        raise RuntimeError("can't start a thread")


_bodies: list[object] = []

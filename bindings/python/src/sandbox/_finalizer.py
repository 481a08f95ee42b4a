"""What is done when an object goes away, without a step of Python.

A `__del__` of Python's own may run signal handlers, and what one raises there, such as KeyboardInterrupt, is lost.
"""

from functools import partial


class Finalizer(partial):  # type: ignore[type-arg]
    """Calls a C function with these arguments when nobody has this object any more."""

    __slots__ = ()

    __del__ = partial.__call__

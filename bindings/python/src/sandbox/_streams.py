"""Streams over what the library has open, which end well whoever ends them and in whatever order.

The garbage collector calls the finalizers of a cycle in an order of its own: mostly a stream's before those of the
buffers over it, which still have something for it. So a stream that another one is wrapped around leaves its end to
that one. In a forked child the buffers have what the parent will write, and closing one there writes nothing.
"""

import io
from typing import Any


class Raw(io.RawIOBase):
    """What reads or writes."""

    #: Whether another stream is wrapped around it.
    _is_wrapped = False
    #: Whether what is written is thrown away.
    _is_forsaken = False

    def __del__(self) -> None:
        if not self._is_wrapped:
            super().__del__()

    def _is_of_parent(self) -> bool:
        raise NotImplementedError


class _Layer(io.IOBase):
    """What is wrapped around another stream."""

    _is_wrapped = False
    _raw: Raw

    def __del__(self) -> None:
        if not self._is_wrapped:
            super().__del__()

    def close(self) -> None:
        if self._raw._is_of_parent():
            self._raw._is_forsaken = True
        super().close()


class _Buffer(_Layer):
    def __init__(self, raw: Raw, size: int) -> None:
        super().__init__(raw, size)  # type: ignore[call-arg]
        self._raw = raw
        raw._is_wrapped = True

    def detach(self) -> Raw:
        raw = super().detach()  # type: ignore[misc]
        self._raw._is_wrapped = False
        return raw  # type: ignore[no-any-return]


class Reader(_Buffer, io.BufferedReader):
    """A buffer for reading."""


class Writer(_Buffer, io.BufferedWriter):
    """A buffer for writing."""


class Random(_Buffer, io.BufferedRandom):
    """A buffer for both."""


class Text(_Layer, io.TextIOWrapper):
    """Text over a buffer."""

    def __init__(self, buffer: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(buffer, *arguments, **options)
        self._raw = buffer._raw
        buffer._is_wrapped = True

    def detach(self) -> Any:
        buffer: Any = super().detach()
        buffer._is_wrapped = False
        return buffer

"""Types that only type checkers know, with something in their places for who asks for type hints at runtime."""

from typing import IO, TYPE_CHECKING, Any, Optional, Union

if TYPE_CHECKING:
    from _typeshed import (
        FileDescriptorLike,
        OpenBinaryMode,
        OpenBinaryModeReading,
        OpenBinaryModeUpdating,
        OpenBinaryModeWriting,
        OpenTextMode,
        ReadableBuffer,
    )
    from typing_extensions import Unpack
else:
    FileDescriptorLike = Union[int, IO[Any]]
    OpenBinaryMode = OpenBinaryModeReading = OpenBinaryModeUpdating = OpenBinaryModeWriting = OpenTextMode = str
    ReadableBuffer = Union[bytes, bytearray, memoryview]
    # One that can be written Unpack[...].
    Unpack = Optional

__all__ = [
    "FileDescriptorLike",
    "OpenBinaryMode",
    "OpenBinaryModeReading",
    "OpenBinaryModeUpdating",
    "OpenBinaryModeWriting",
    "OpenTextMode",
    "ReadableBuffer",
    "Unpack",
]

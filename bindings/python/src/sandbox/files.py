"""Files of a sandbox, after pathlib and io."""

import errno
import io
import os
import stat
from collections.abc import Iterator
from ctypes import byref, c_bool, c_char, c_int64, c_size_t, c_uint64
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Callable, Literal, Optional, Union, overload

from . import _abi as abi
from . import errors, machine
from ._abi import FileKind, Open
from ._boundary import Handle, call, decoded, encoded, interruptible, make, ranged
from ._streams import Random, Raw, Reader, Text, Writer
from ._types import (
    OpenBinaryMode,
    OpenBinaryModeReading,
    OpenBinaryModeUpdating,
    OpenBinaryModeWriting,
    OpenTextMode,
    ReadableBuffer,
)
from .errors import FileTransferError, ReadOnlyError

#: What a buffered file reads or writes at once.
BUFFER = 256 << 10
#: The most that one call reads.
MOST = 16 << 20
_TYPES = {FileKind.FILE: stat.S_IFREG, FileKind.DIRECTORY: stat.S_IFDIR, FileKind.SYMLINK: stat.S_IFLNK}


@dataclass(frozen=True)
class FileStat:
    """What is known about a file; the names are those of os.stat_result.

    kind: what it is.
    st_size: its size in bytes. Generated files, such as those in /proc, have size 0.
    st_mode: its permission bits, and its type for stat.S_ISDIR() and its like.
    st_mtime: when its contents were changed last, in seconds since 1970, if that is known.
    st_atime: when it was read last, in seconds since 1970, if that is known.
    """

    kind: FileKind
    st_size: int
    st_mode: int
    st_mtime: Optional[int]
    st_atime: Optional[int]


@dataclass(frozen=True)
class DirEntry:
    """An entry of a directory.

    path: its path.
    stat: what is known about it: of a link itself.
    """

    path: "SandboxPath"
    stat: FileStat


class SandboxFile(Raw):
    """An open file of a sandbox, without a buffer; SandboxPath.open(buffering=0) gives it, and `raw` of a buffered file
    is one.

    It keeps an SSH session for itself until it is closed, and may be used from several threads, whose calls take turns.

    name: the path of the file.
    """

    def __init__(self, handle: Handle, name: str, flags: int) -> None:
        self._file: Optional[Handle] = handle
        self.name = name
        self._flags = flags
        self._interrupt: Optional[Callable[[], BaseException]] = None

    def _open(self) -> Handle:
        file = self._file
        if file is None:
            raise ValueError("I/O operation on closed file")
        file.check()
        return file

    def _is_of_parent(self) -> bool:
        return self._file is not None and self._file.is_of_parent

    def _call(self, function: "Callable[..., int]", *arguments: object) -> None:
        try:
            interruptible(call, function, self._open(), *arguments, subject=FileTransferError)
        except errors.ClosedError:
            if self._interrupt is None:
                raise
            # The end of a `with` block, which writes what is in the buffer, must not hide what ended the file.
            raise self._interrupt() from None
        except errors.SandboxError:
            raise
        except BaseException as raised:
            self._interrupt = partial(type(raised), *raised.args)
            raise

    def readable(self) -> bool:
        """Whether it was opened for reading."""
        return bool(self._flags & Open.READ)

    def writable(self) -> bool:
        """Whether it was opened for writing or appending."""
        return bool(self._flags & (Open.WRITE | Open.APPEND))

    def seekable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads into the buffer and returns how many bytes came: 0 at the file's end."""
        self._open()
        if not self.readable():
            raise io.UnsupportedOperation("not readable")
        view = memoryview(buffer).cast("B")
        if not view:
            return 0
        place, length = (c_char * min(len(view), MOST)).from_buffer(view), c_size_t()
        self._call(abi.sbx_file_read, place, len(place), byref(length))
        return length.value

    def readall(self) -> bytes:
        """All from the position to the file's end."""
        found, piece = bytearray(), bytearray(BUFFER)
        while length := self.readinto(piece):
            found += memoryview(piece)[:length]
        return bytes(found)

    def write(self, data: Any) -> int:
        """Writes all of it at the position, or at the file's end if it is open for that, and returns how many bytes
        that are.
        """
        if self._is_forsaken:
            return len(bytes(data))
        self._open()
        if not self.writable():
            raise io.UnsupportedOperation("not writable")
        data = bytes(data)
        self._call(abi.sbx_file_write, data, len(data))
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Sets the position and returns it."""
        position = c_uint64()
        self._call(abi.sbx_file_seek, ranged(offset, 1 << 63, -1 << 63), whence, byref(position))
        return position.value

    def truncate(self, size: Optional[int] = None) -> int:
        """Truncates it to `size` bytes, by default at the position, or extends it with zeros; returns the new size."""
        size = self.tell() if size is None else ranged(size, 1 << 64)
        self._call(abi.sbx_file_set_size, size)
        return size

    def stat(self) -> FileStat:
        """What is known about it now."""
        work = (abi.sbx_file_metadata, abi.sbx_metadata_free, self._open())
        return _told(interruptible(make, *work, subject=FileTransferError))

    def chmod(self, mode: int) -> None:
        """Sets its permission bits, such as 0o755."""
        self._call(abi.sbx_file_set_permissions, ranged(mode, 1 << 32))

    def sync(self) -> None:
        """Syncs the contents to the sandbox's disk (fsync). flush() a buffered file before."""
        self._call(abi.sbx_file_sync)

    def close(self) -> None:
        """Closes it and raises write errors; some file systems report them only on close."""
        file, self._file = self._file, None
        super().close()
        if file and not file.is_of_parent:
            try:
                interruptible(call, abi.sbx_file_close, file, subject=FileTransferError)
            except errors.ClosedError:
                if self._interrupt is None:
                    raise

    def __repr__(self) -> str:
        return f"<sandbox.SandboxFile {self.name!r}{', closed' if self.closed else ''}>"


class SandboxPath:
    """A path in a sandbox, made by Machine.path() and used like a pathlib.Path. A relative one begins at the image's
    working directory. Its text stands for bytes as in os.fsdecode().

    Failures are FileTransferError, and as the case may be FileNotFoundError, FileExistsError, IsADirectoryError,
    NotADirectoryError, PermissionError, TimeoutError, or another OSError with its errno.

    pure: the path without its sandbox.
    """

    def __init__(self, machine: "machine.Machine", *parts: Union[str, PurePosixPath, "SandboxPath"]) -> None:
        self.machine = machine
        pure = (part.pure if isinstance(part, SandboxPath) else part for part in parts)
        self.pure: PurePosixPath = PurePosixPath(*pure)

    # What needs no sandbox.

    def _with(self, pure: PurePosixPath) -> "SandboxPath":
        return SandboxPath(self.machine, pure)

    def __truediv__(self, part: Union[str, PurePosixPath]) -> "SandboxPath":
        return self._with(self.pure / part)

    def joinpath(self, *parts: Union[str, PurePosixPath]) -> "SandboxPath":
        """The path with these parts behind it."""
        return self._with(self.pure.joinpath(*parts))

    @property
    def name(self) -> str:
        """Its last part."""
        return self.pure.name

    @property
    def stem(self) -> str:
        """Its last part without the suffix."""
        return self.pure.stem

    @property
    def suffix(self) -> str:
        """The suffix of its last part, such as ".txt"."""
        return self.pure.suffix

    @property
    def suffixes(self) -> list[str]:
        """All suffixes of its last part."""
        return self.pure.suffixes

    @property
    def parts(self) -> "tuple[str, ...]":
        """Its parts."""
        return self.pure.parts

    @property
    def parent(self) -> "SandboxPath":
        """The path without its last part."""
        return self._with(self.pure.parent)

    @property
    def parents(self) -> "tuple[SandboxPath, ...]":
        """The paths above it."""
        return tuple(self._with(pure) for pure in self.pure.parents)

    def with_name(self, name: str) -> "SandboxPath":
        """The path with another last part."""
        return self._with(self.pure.with_name(name))

    def with_stem(self, stem: str) -> "SandboxPath":
        """The path with another last part before the suffix."""
        return self._with(self.pure.with_stem(stem))

    def with_suffix(self, suffix: str) -> "SandboxPath":
        """The path with another suffix."""
        return self._with(self.pure.with_suffix(suffix))

    def is_absolute(self) -> bool:
        """Whether it begins at the root."""
        return self.pure.is_absolute()

    def is_relative_to(self, other: Union[str, PurePosixPath, "SandboxPath"]) -> bool:
        """Whether it is `other` or below."""
        return self.pure.is_relative_to(other.pure if isinstance(other, SandboxPath) else other)

    def match(self, pattern: str) -> bool:
        """Whether its end has this shape, such as "*.txt"."""
        return self.pure.match(pattern)

    def relative_to(self, other: Union[str, PurePosixPath, "SandboxPath"]) -> PurePosixPath:
        """The rest of the path below `other`."""
        return self.pure.relative_to(other.pure if isinstance(other, SandboxPath) else other)

    def as_posix(self) -> str:
        """Its text, as str()."""
        return str(self.pure)

    def __str__(self) -> str:
        return str(self.pure)

    def __repr__(self) -> str:
        return f"SandboxPath({self.machine!r}, {str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SandboxPath) and (self.machine.uid, self.pure) == (other.machine.uid, other.pure)

    def __lt__(self, other: "SandboxPath") -> bool:
        return self.pure < other.pure if isinstance(other, SandboxPath) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.machine.uid, self.pure))

    # What asks the sandbox.

    def _call(self, function: "Callable[..., int]", *arguments: object) -> None:
        interruptible(call, function, self.machine._open(), *arguments, subject=FileTransferError)

    def _make(self, function: "Callable[..., int]", free: "Callable[..., None]", *arguments: object) -> Handle:
        work = (function, free, self.machine._open(), encoded(str(self)), *arguments)
        return interruptible(make, *work, subject=FileTransferError)

    def read_bytes(self) -> bytes:
        """The contents of the file, of 1 GiB at most."""
        return _bytes(self._make(abi.sbx_sandbox_read_file, abi.sbx_bytes_free))

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The contents of the file as text, with "\\n" for every line end."""
        text = self.read_bytes().decode(encoding, errors)
        return text.replace("\r\n", "\n").replace("\r", "\n")

    def write_bytes(self, data: "ReadableBuffer") -> int:
        """Writes the file, and returns its size. It arrives whole or not at all: another one takes the place of the one
        that is there, with its permissions, so that other hard links keep the old contents. As pathlib does, it follows
        links, writes into devices and pipes, refuses a read-only file, and gives a new one the permissions rw-rw-rw-
        minus the sandbox's umask."""
        data = bytes(data)
        self._call(abi.sbx_sandbox_write_file, encoded(str(self)), data, len(data))
        return len(data)

    def write_text(self, text: str, encoding: str = "utf-8", errors: str = "strict") -> int:
        """Writes text to the file as write_bytes() does, and returns the number of characters."""
        self.write_bytes(text.encode(encoding, errors))
        return len(text)

    def append_bytes(self, data: "ReadableBuffer") -> int:
        """Writes at the end of the file, which is created as by write_bytes() if it is not there."""
        data = bytes(data)
        self._call(abi.sbx_sandbox_append_file, encoded(str(self)), data, len(data))
        return len(data)

    def touch(self, exist_ok: bool = True) -> None:
        """Creates an empty file if there is none."""
        self.open("ab" if exist_ok else "xb", buffering=0).close()

    @overload
    def open(
        self,
        mode: "OpenTextMode" = "r",
        buffering: int = -1,
        encoding: Optional[str] = None,
        errors: Optional[str] = None,
        newline: Optional[str] = None,
        *,
        permissions: int = 0o666,
    ) -> io.TextIOWrapper: ...
    @overload
    def open(self, mode: "OpenBinaryMode", buffering: Literal[0], *, permissions: int = 0o666) -> SandboxFile: ...
    @overload
    def open(
        self, mode: "OpenBinaryModeUpdating", buffering: Literal[-1, 1] = -1, *, permissions: int = 0o666
    ) -> io.BufferedRandom: ...
    @overload
    def open(
        self, mode: "OpenBinaryModeWriting", buffering: Literal[-1, 1] = -1, *, permissions: int = 0o666
    ) -> io.BufferedWriter: ...
    @overload
    def open(
        self, mode: "OpenBinaryModeReading", buffering: Literal[-1, 1] = -1, *, permissions: int = 0o666
    ) -> io.BufferedReader: ...

    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: Optional[str] = None,
        errors: Optional[str] = None,
        newline: Optional[str] = None,
        *,
        permissions: int = 0o666,
    ) -> Any:
        """Opens the file as Python's open() does; a new one gets `permissions`, minus the sandbox's umask. The encoding
        is UTF-8 unless another is given. buffering=0 (for bytes only) gives a SandboxFile, which has more methods.
        """
        kinds, binary = [letter for letter in mode if letter in "rwax"], "b" in mode
        if len(kinds) != 1 or set(mode) - set("rwaxbt+") or len(set(mode)) != len(mode) or (binary and "t" in mode):
            raise ValueError(f"invalid mode: {mode!r}")
        if buffering == 0 and not binary:
            raise ValueError("can't have unbuffered text I/O")
        flags = _FLAGS[kinds[0]]
        if "+" in mode:
            flags |= Open.READ if kinds[0] != "r" else Open.WRITE
        handle = self._make(abi.sbx_sandbox_open_file, abi.sbx_file_free, flags, ranged(permissions, 1 << 32))
        raw = SandboxFile(handle, str(self), flags)
        if buffering == 0:
            return raw
        size = BUFFER if buffering < 2 else buffering
        kind: Any = Random if "+" in mode else Reader if kinds[0] == "r" else Writer
        buffered = kind(raw, size)
        if binary:
            return buffered
        return Text(buffered, encoding or "utf-8", errors, newline, line_buffering=buffering == 1)

    def stat(self, *, follow_symlinks: bool = True) -> FileStat:
        """What is known about the file."""
        if not follow_symlinks:
            return self.lstat()
        return _told(self._make(abi.sbx_sandbox_file_metadata, abi.sbx_metadata_free))

    def lstat(self) -> FileStat:
        """What is known about the file, or about a link itself."""
        return _told(self._make(abi.sbx_sandbox_symlink_metadata, abi.sbx_metadata_free))

    def exists(self) -> bool:
        """Whether the file exists; links are followed, so a broken link does not exist."""
        found = c_bool()
        self._call(abi.sbx_sandbox_file_exists, encoded(str(self)), byref(found))
        return found.value

    def is_file(self) -> bool:
        """Whether it is a regular file, or a link to one."""
        return self._kind(self.stat) is FileKind.FILE

    def is_dir(self) -> bool:
        """Whether it is a directory, or a link to one."""
        return self._kind(self.stat) is FileKind.DIRECTORY

    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return self._kind(self.lstat) is FileKind.SYMLINK

    def _kind(self, ask: Callable[[], FileStat]) -> Optional[FileKind]:
        # As in pathlib: what can't be there is not there.
        try:
            return ask().kind
        except (FileNotFoundError, NotADirectoryError):
            return None
        except FileTransferError as error:
            if error.errno == errno.ELOOP:
                return None
            raise

    def scandir(self) -> list[DirEntry]:
        """The entries of the directory with what is known about them, in no order: all of them, or an exception."""
        entries = self._make(abi.sbx_sandbox_read_dir, abi.sbx_dir_entries_free)
        return [
            DirEntry(
                self / decoded(abi.sbx_dir_entries_name_at(entries, index)),
                _told(abi.sbx_dir_entries_metadata_at(entries, index)),
            )
            for index in range(abi.sbx_dir_entries_count(entries))
        ]

    def iterdir(self) -> Iterator["SandboxPath"]:
        """The paths of what is in the directory, in no order."""
        return (entry.path for entry in self.scandir())

    def glob(self, pattern: str) -> Iterator["SandboxPath"]:
        """The paths below this directory that have this shape, in no order: each part may have `*`, `?` and `[...]`,
        and the part `**` is any directories, with this one, but no links to some.
        """
        parts = PurePosixPath(pattern).parts
        if not parts or pattern.startswith("/"):
            raise ValueError(f"a pattern is relative and not empty: {pattern!r}")
        # Several `**` may lead to the same path.
        return iter(dict.fromkeys(self._glob(parts)))

    def rglob(self, pattern: str) -> Iterator["SandboxPath"]:
        """glob() in this directory and all below."""
        return self.glob(f"**/{pattern}")

    def _glob(self, parts: "tuple[str, ...]") -> Iterator["SandboxPath"]:
        if not parts:
            yield self
            return
        first, rest = parts[0], parts[1:]
        try:
            entries = self.scandir()
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            # As in pathlib: nothing that can be found.
            return
        if first == "**":
            yield from self._glob(rest)
        for path, kind in ((entry.path, entry.stat.kind) for entry in entries):
            if first == "**":
                if kind is FileKind.DIRECTORY:
                    yield from path._glob(parts)
                elif not rest:
                    yield path
            elif fnmatchcase(path.name, first) and (
                not rest or kind is FileKind.DIRECTORY or (kind is FileKind.SYMLINK and path.is_dir())
            ):
                yield from path._glob(rest)

    def mkdir(self, mode: Optional[int] = None, parents: bool = False, exist_ok: bool = False) -> None:
        """Creates the directory, with `parents` also its missing parents. A mode becomes its
        permission bits, whatever the sandbox's umask is.
        """
        try:
            self._call(abi.sbx_sandbox_create_dir, encoded(str(self)))
        except FileNotFoundError:
            if not parents:
                raise
            self._call(abi.sbx_sandbox_create_dir_all, encoded(str(self)))
        except (FileExistsError, PermissionError, ReadOnlyError):
            # Which of them is said of what is there depends on the file system.
            if not exist_ok or not self.is_dir():
                raise
            return
        if mode is not None:
            self.chmod(mode)

    def rmdir(self) -> None:
        """Removes the directory, which must be empty."""
        self._call(abi.sbx_sandbox_remove_dir, encoded(str(self)))

    def rmtree(self) -> None:
        """Removes the directory and all that is in it. Links are removed, not followed."""
        self._call(abi.sbx_sandbox_remove_dir_all, encoded(str(self)))

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the file, or a link itself."""
        try:
            self._call(abi.sbx_sandbox_remove_file, encoded(str(self)))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rename(self, target: Union[str, PurePosixPath, "SandboxPath"]) -> "SandboxPath":
        """Renames the file or directory, atomically, and returns the new path. An existing file of that name is
        replaced; a directory replaces an empty directory.
        """
        other = SandboxPath(self.machine, target)
        self._call(abi.sbx_sandbox_rename_file, encoded(str(self)), encoded(str(other)))
        return other

    replace = rename

    def chmod(self, mode: int) -> None:
        """Sets the permission bits, such as 0o755; links are followed."""
        self._call(abi.sbx_sandbox_set_file_permissions, encoded(str(self)), ranged(mode, 1 << 32))

    def symlink_to(self, target: Union[str, PurePosixPath, "SandboxPath"]) -> None:
        """Makes this path a symbolic link that points to `target`, which need not exist."""
        self._call(abi.sbx_sandbox_create_symlink, encoded(str(target)), encoded(str(self)))

    def readlink(self) -> "SandboxPath":
        """What the symbolic link points to."""
        return self._with(PurePosixPath(decoded(_bytes(self._make(abi.sbx_sandbox_read_link, abi.sbx_bytes_free)))))

    def resolve(self) -> "SandboxPath":
        """The absolute path of the file, without links, "." and ".."."""
        return self._with(PurePosixPath(decoded(_bytes(self._make(abi.sbx_sandbox_resolve_path, abi.sbx_bytes_free)))))


_FLAGS = {
    "r": Open.READ,
    "w": Open.WRITE | Open.CREATE | Open.TRUNCATE,
    "a": Open.APPEND | Open.CREATE,
    "x": Open.WRITE | Open.CREATE_NEW,
}


def _bytes(handle: Handle) -> bytes:
    return errors.lent(abi.sbx_bytes_data, handle) or b""


def _told(metadata: Union[Handle, int, None]) -> FileStat:
    """A copy of what the library's metadata says."""

    def moment(function: Callable[..., bool]) -> Optional[int]:
        place = c_int64()
        return place.value if function(metadata, byref(place)) else None

    kind = FileKind(abi.sbx_metadata_kind(metadata))
    return FileStat(
        kind=kind,
        st_size=abi.sbx_metadata_size(metadata),
        st_mode=abi.sbx_metadata_mode(metadata) | _TYPES.get(kind, 0),
        st_mtime=moment(abi.sbx_metadata_modified),
        st_atime=moment(abi.sbx_metadata_accessed),
    )

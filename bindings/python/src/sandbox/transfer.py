"""Uploads and downloads, of files and directories."""

import errno
import io
import os
from ctypes import c_void_p, memmove, string_at
from dataclasses import dataclass
from typing import Any, Callable, Optional, Protocol, Union

from . import _abi as abi
from ._boundary import Conversation, Handle, Text, call, decoded, encoded, interruptible, make, ranged
from .errors import FileTransferError

#: Is told how far a transfer has come: the file that is read, the bytes that have arrived, in all files of a tree, and
#: their total if that is known. It is called at the beginning, at the end, and up to 20 times a second in between, by
#: the thread that called. False ends the transfer with OperationCancelledError.
OnProgress = Callable[[str, int, Optional[int]], object]


class Reader(Protocol):
    """What an upload can read from, such as a file opened for reading bytes."""

    def read(self, length: int, /) -> bytes:
        """Up to `length` bytes; none at the end."""
        ...


class Writer(Protocol):
    """What a download can be written to, such as a file opened for writing bytes."""

    def write(self, data: bytes, /) -> Optional[int]:
        """Takes the data and tells how many bytes of it; None is all."""
        ...


@dataclass(frozen=True)
class Transferred:
    """What the transfer of a file did.

    bytes: bytes of the file.
    resumed: how many of the bytes had been there already, from an earlier transfer.
    sha256: the file's SHA-256 in hexadecimal digits; None if it was not compared.
    """

    bytes: int
    resumed: int
    sha256: Optional[str]


@dataclass(frozen=True)
class Note:
    """What there is to say about an entry of a directory.

    path: the entry, below the root of the tree.
    text: such as "a socket".
    """

    path: str
    text: str


@dataclass(frozen=True)
class TreeReport:
    """What the transfer of a directory did.

    files: regular files, those with several names counted once for each.
    directories: directories, with the root.
    symlinks: symbolic links.
    bytes: bytes of all files.
    skipped: how many entries were left out.
    notes: what was left out and why, and which files were changed while they were read; at most 1000.
    """

    files: int
    directories: int
    symlinks: int
    bytes: int
    skipped: int
    notes: list[Note]


class Transfer:
    """One upload or download with its options."""

    def __init__(
        self,
        sandbox: Handle,
        progress: Optional[OnProgress],
        *,
        checksum: bool,
        sync: bool,
        resume: bool = False,
        mode: Optional[int] = None,
        max_bytes: Optional[int] = None,
        max_entries: Optional[int] = None,
    ) -> None:
        self._options = make(abi.sbx_sandbox_transfer, abi.sbx_transfer_free, sandbox)
        for function, choice in (
            (abi.sbx_transfer_set_checksum, checksum),
            (abi.sbx_transfer_set_sync, sync),
            (abi.sbx_transfer_set_resume, resume),
        ):
            call(function, self._options, choice)
        if mode is not None:
            call(abi.sbx_transfer_set_mode, self._options, ranged(mode, 1 << 32))
        for limit, number in (
            (abi.sbx_transfer_set_max_bytes, max_bytes),
            (abi.sbx_transfer_set_max_entries, max_entries),
        ):
            if number is not None:
                call(limit, self._options, ranged(number, 1 << 64))

        self._progress = progress
        self._conversation = Conversation()

    def upload(self, source: Union[Text, Reader], remote: Text) -> Transferred:
        """Copies a local file, or what a reader gives."""
        if isinstance(source, (str, bytes, os.PathLike)):
            return self._file(abi.sbx_transfer_upload, encoded(source), encoded(remote))
        reader = self._conversation.callback(abi.sbx_read_fn, _reader(source), stop=-1)
        return self._file(abi.sbx_transfer_upload_from, reader, encoded(remote))

    def download(self, remote: Text, target: Union[Text, Writer]) -> Transferred:
        """Copies to a local file, or to a writer."""
        if isinstance(target, (str, bytes, os.PathLike)):
            return self._file(abi.sbx_transfer_download, encoded(remote), encoded(target))
        writer = self._conversation.callback(abi.sbx_write_fn, _writer(target))
        return self._file(abi.sbx_transfer_download_to, encoded(remote), writer)

    def upload_tree(self, local: Text, remote: Text) -> TreeReport:
        """Copies a local directory."""
        return self._tree(abi.sbx_transfer_upload_dir, encoded(local), encoded(remote))

    def download_tree(self, remote: Text, local: Text) -> TreeReport:
        """Copies a directory of the sandbox."""
        return self._tree(abi.sbx_transfer_download_dir, encoded(remote), encoded(local))

    def _make(self, function: "Callable[..., int]", free: "Callable[..., None]", source: Any, target: Any) -> Handle:
        progress, conversation = self._progress, self._conversation
        work = (function, free, self._options, source, target)
        if progress is None and isinstance(source, bytes) and isinstance(target, bytes):
            return interruptible(make, *work, None, None, subject=FileTransferError)

        def on_progress(_userdata: Optional[int], path: bytes, done: int, total: int) -> int:
            return progress is not None and progress(decoded(path), done, None if total < 0 else total) is False

        callback = progress and conversation.callback(abi.sbx_progress_fn, on_progress)
        return conversation.hold(lambda: make(*work, callback, None, subject=FileTransferError))

    def _file(self, function: "Callable[..., int]", source: Any, target: Any) -> Transferred:
        done = self._make(function, abi.sbx_transferred_free, source, target)
        digest = abi.sbx_transferred_sha256(done)
        return Transferred(
            bytes=abi.sbx_transferred_bytes(done),
            resumed=abi.sbx_transferred_resumed(done),
            sha256=None if digest is None else string_at(digest, 32).hex(),
        )

    def _tree(self, function: "Callable[..., int]", source: bytes, target: bytes) -> TreeReport:
        report = self._make(function, abi.sbx_tree_report_free, source, target)
        path, text = abi.sbx_tree_report_note_path_at, abi.sbx_tree_report_note_text_at
        return TreeReport(
            files=abi.sbx_tree_report_files(report),
            directories=abi.sbx_tree_report_directories(report),
            symlinks=abi.sbx_tree_report_symlinks(report),
            bytes=abi.sbx_tree_report_bytes(report),
            skipped=abi.sbx_tree_report_skipped(report),
            notes=[
                Note(decoded(path(report, index)), decoded(text(report, index)))
                for index in range(abi.sbx_tree_report_note_count(report))
            ],
        )


def _reader(source: Reader) -> "Callable[[Optional[int], int, int], int]":
    """Reads a piece for an upload."""

    def read(_userdata: Optional[int], buffer: int, capacity: int) -> int:
        piece = source.read(capacity)
        if not isinstance(piece, bytes) or len(piece) > capacity:
            raise TypeError(f"read() gave {type(piece).__name__} where it has to give up to {capacity} bytes")
        memmove(c_void_p(buffer), piece, len(piece))
        return len(piece)

    return read


def _writer(target: Writer) -> "Callable[[Optional[int], int, int], int]":
    """Writes all of each piece of a download, however little one write takes."""

    def write(_userdata: Optional[int], data: int, length: int) -> int:
        left = string_at(data, length)
        while left:
            written = target.write(left)
            if written is None and not isinstance(target, io.RawIOBase):
                break
            if not written:
                raise BlockingIOError(errno.EAGAIN, "the writer takes nothing: a download needs one that blocks", 0)
            left = left[written:]
        return 0

    return write

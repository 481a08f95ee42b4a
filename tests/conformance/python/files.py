"""The scenarios of files."""

import errno
import hashlib
import io
import os
import pickle
import stat
import subprocess
import time
from typing import Callable, Optional

import sandbox
from conformance import DIRECTORY, fails, until, world
from sandbox import ErrorKind


def files() -> None:
    root = world.machine.path("/tmp/files")
    root.mkdir()
    path = root / "a.txt"
    assert path.write_text("one\ntwo\n") == 8 and path.read_text() == "one\ntwo\n" and path.append_bytes(b"three") == 5
    assert path.read_bytes() == b"one\ntwo\nthree"
    with path.open() as text:
        assert [line.rstrip() for line in text] == ["one", "two", "three"]
    with path.open("r+b") as buffered:
        assert buffered.read(3) == b"one"
        assert buffered.seek(-5, os.SEEK_END) == 8 and buffered.write(b"THREE!") == 6
        buffered.seek(0)
        assert buffered.readline() == b"one\n"
    with path.open("r+b", buffering=0) as raw:
        assert raw.stat().st_size == 14 and raw.truncate(4) == 4 and raw.read() == b"one\n" and raw.tell() == 4
        assert raw.seek(2, os.SEEK_CUR) == 6 and raw.write(b"x") == 1
        raw.chmod(0o640)
        raw.sync()
    assert path.read_bytes() == b"one\n\0\0x" and stat.S_IMODE(path.stat().st_mode) == 0o640
    with path.open("ab") as appending:
        appending.write(b"y")
    with path.open("x" if not path.exists() else "w") as text:
        text.write("ü" * 300_000)
    assert path.stat().st_size == 600_000
    with fails(ErrorKind.FILE_EXISTS, FileExistsError, sandbox.FileTransferError):
        path.open("xb")
    with path.open("rb") as whole:
        assert whole.read() == ("ü" * 300_000).encode()
        try:
            whole.write(b"no")
        except io.UnsupportedOperation:
            pass
        else:
            raise AssertionError("a file that was opened for reading was written")
    known = path.stat()
    assert known.kind is sandbox.FileKind.FILE and stat.S_ISREG(known.st_mode)
    assert known.st_mtime is not None and abs(known.st_mtime - time.time()) < 120 and known.st_atime is not None
    path.chmod(0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (root / "deep" / "deeper").mkdir(parents=True)
    (root / "deep").mkdir(exist_ok=True, parents=True)
    with fails(ErrorKind.FILE_EXISTS, FileExistsError):
        (root / "deep").mkdir()
    link = root / "link"
    link.symlink_to("a.txt")
    assert link.is_symlink() and link.is_file() and str(link.readlink()) == "a.txt" and link.resolve() == path
    assert link.lstat().kind is sandbox.FileKind.SYMLINK and stat.S_ISLNK(link.lstat().st_mode)
    strange = root / "\udcff name"
    strange.touch()
    assert set(root.iterdir()) == {path, root / "deep", link, strange}
    kinds = {entry.path.name: entry.stat.kind.name for entry in root.scandir()}
    assert kinds == {"a.txt": "FILE", "deep": "DIRECTORY", "link": "SYMLINK", "\udcff name": "FILE"}, kinds
    (root / "deep" / "deeper" / "b.txt").touch()
    assert set(root.glob("*.txt")) == {path} and set(root.glob("deep/d*/?.txt")) == set(root.glob("**/b.txt"))
    assert set(root.rglob("[ab].txt")) == {path, root / "deep" / "deeper" / "b.txt"}
    assert set(root.glob("**/d*")) == {root / "deep", root / "deep" / "deeper"} and not set(root.glob("link/*"))
    (root / "deep" / "deeper" / "b.txt").unlink()
    (root / "mode").mkdir(0o711)
    assert stat.S_IMODE((root / "mode").stat().st_mode) == 0o711
    (root / "mode").mkdir(0o700, exist_ok=True)
    assert stat.S_IMODE((root / "mode").stat().st_mode) == 0o711
    (root / "mode").rmdir()
    assert not (root / "none").exists() and (root / "deep").is_dir() and not (root / "none").is_file()
    assert strange.rename(path) == path and path.stat().st_size == 0
    with fails(ErrorKind.DIRECTORY_NOT_EMPTY, sandbox.DirectoryNotEmptyError, OSError):
        root.rmdir()
    (root / "deep" / "deeper").rmdir()
    path.unlink()
    path.unlink(missing_ok=True)
    root.rmtree()
    assert not root.exists() and root.is_absolute() and path.is_relative_to(root) and not root.is_relative_to(path)
    assert (path.name, path.suffix, path.parent, path.as_posix()) == ("a.txt", ".txt", root, "/tmp/files/a.txt")
    assert path.with_stem("b") == root / "b.txt" and (root / "a.tar.gz").suffixes == [".tar", ".gz"]


def transfers() -> None:
    data = os.urandom(3 << 20)
    local, back, remote = DIRECTORY / "up", DIRECTORY / "down", world.machine.path("/tmp/transfer")
    local.write_bytes(data)
    local.chmod(0o750)
    steps: list[tuple[int, Optional[int]]] = []

    def progress(path: str, done: int, total: Optional[int]) -> None:
        assert path in (str(local), str(remote)), path
        steps.append((done, total))

    moves: list[Callable[[], sandbox.Transferred]] = [
        lambda: world.machine.upload(local, remote, checksum=True, sync=True, progress=progress),
        lambda: world.machine.download(remote, back, checksum=True, sync=True, progress=progress),
    ]
    for move in moves:
        steps.clear()
        told = move()
        assert (told.bytes, told.resumed, told.sha256) == (len(data), 0, hashlib.sha256(data).hexdigest())
        assert steps == sorted(steps, key=lambda step: step[0]) and steps[-1] == (len(data), len(data)), steps
    assert back.read_bytes() == data and stat.S_IMODE(remote.stat().st_mode) == 0o750 == stat.S_IMODE(
        back.stat().st_mode
    )
    assert world.machine.upload(io.BytesIO(data), remote).bytes == len(data)
    target = io.BytesIO()
    assert world.machine.download(remote, target).sha256 is None and target.getvalue() == data

    # What is not written is not lost without a word.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    class Full:
        def write(self, _data: bytes, /) -> int:
            return 0

    with open(reader, "rb"), open(writer, "wb", buffering=0) as pipe:
        for full in (pipe, Full()):
            try:
                world.machine.download(remote, full)
            except BlockingIOError:
                pass
            else:
                raise AssertionError("a part of the file is lost")

    # One that is interrupted half-way keeps what has arrived.
    def stop(_path: str, done: int, _total: Optional[int]) -> bool:
        return done == 0

    big = os.urandom(64 << 20)
    local.write_bytes(big)
    with fails(ErrorKind.CANCELLED, sandbox.OperationCancelledError):
        world.machine.upload(local, remote, resume=True, progress=stop)
    told = world.machine.upload(local, remote, resume=True)
    assert told.bytes == len(big) and 0 < told.resumed < len(big), told
    assert world.machine.run(["sha256sum", str(remote)]).stdout.split()[0].decode() == hashlib.sha256(big).hexdigest()
    with fails(ErrorKind.TRANSFER, sandbox.FileTransferError):
        world.machine.download(remote, DIRECTORY / "limited", max_bytes=1000)
    assert not (DIRECTORY / "limited").exists()
    with fails(ErrorKind.FILE_NOT_FOUND, FileNotFoundError, sandbox.FileTransferError) as seen:
        world.machine.download("/tmp/none", back)
    assert seen[0].errno == errno.ENOENT
    with fails(ErrorKind.FILE_NOT_FOUND, FileNotFoundError):
        world.machine.upload(DIRECTORY / "none", remote)
    remote.unlink()


def trees() -> None:
    local, back = DIRECTORY / "tree", DIRECTORY / "tree.back"
    (local / "empty").mkdir(parents=True)
    (local / "file").write_bytes(b"contents")
    (local / "link").symlink_to("file")
    (local / "program").write_text("#!/bin/sh\necho ran\n")
    (local / "program").chmod(0o755)
    os.mkfifo(local / "fifo")
    report = world.machine.upload_tree(local, "/tmp/tree", checksum=True, progress=lambda *_: None)
    assert (report.files, report.directories, report.symlinks, report.bytes, report.skipped) == (2, 2, 1, 27, 1), report
    assert report.notes[0].path == "fifo" and report.notes[0].text, report
    assert world.machine.run(["/tmp/tree/program"]).stdout == b"ran\n"
    report = world.machine.download_tree(world.machine.path("/tmp/tree"), back, sync=True)
    assert (report.files, report.directories, report.symlinks, report.skipped) == (2, 2, 1, 0), report
    (local / "fifo").unlink()
    subprocess.run(["diff", "-r", "--no-dereference", local, back], check=True)
    assert os.access(back / "program", os.X_OK) and os.readlink(back / "link") == "file"
    for entries, most in ((2, None), (None, 10)):
        with fails(ErrorKind.TRANSFER, sandbox.FileTransferError):
            world.machine.download_tree("/tmp/tree", DIRECTORY / "limited", max_entries=entries, max_bytes=most)
    world.machine.path("/tmp/tree").rmtree()


def file_errors() -> None:
    root = world.machine.path("errors")
    (root / "dir").mkdir(parents=True)
    (root / "file").write_bytes(b"x")
    world.machine.run('cp "$(command -v sleep)" errors/program', shell=True, check=True)
    running = world.machine.popen(["./errors/program", "6791"])
    until(
        lambda: world.machine.run(["pgrep", "-f", "errors/progra[m] 6791"]).returncode == 0, "the program does not run"
    )
    plain = DIRECTORY / "plain"
    plain.write_bytes(b"x")

    def append() -> None:
        with (root / "program").open("ab") as file:
            file.write(b"x")

    cases: list[tuple[ErrorKind, int, type[OSError], Callable[[], object]]] = [
        (ErrorKind.FILE_NOT_FOUND, errno.ENOENT, FileNotFoundError, (root / "none").read_bytes),
        (ErrorKind.FILE_EXISTS, errno.EEXIST, FileExistsError, world.machine.path("/tmp").mkdir),
        (ErrorKind.IS_A_DIRECTORY, errno.EISDIR, IsADirectoryError, world.machine.path("/tmp").read_bytes),
        (ErrorKind.IS_A_DIRECTORY, errno.EISDIR, IsADirectoryError, (root / "dir").unlink),
        (ErrorKind.IS_A_DIRECTORY, errno.EISDIR, IsADirectoryError, lambda: (root / "dir").write_bytes(b"")),
        (ErrorKind.NOT_A_DIRECTORY, errno.ENOTDIR, NotADirectoryError, (root / "file").scandir),
        (ErrorKind.NOT_A_DIRECTORY, errno.ENOTDIR, NotADirectoryError, (root / "file" / "x").stat),
        (
            ErrorKind.NOT_A_DIRECTORY,
            errno.ENOTDIR,
            NotADirectoryError,
            lambda: (root / "file" / "x").mkdir(parents=True),
        ),
        (ErrorKind.DIRECTORY_NOT_EMPTY, errno.ENOTEMPTY, sandbox.DirectoryNotEmptyError, root.rmdir),
        (ErrorKind.READ_ONLY, errno.EROFS, sandbox.ReadOnlyError, world.machine.path("/sys/x").mkdir),
        (ErrorKind.BUSY, errno.ETXTBSY, sandbox.BusyError, append),
        (ErrorKind.NAME_TOO_LONG, errno.ENAMETOOLONG, sandbox.NameTooLongError, (root / ("n" * 256)).mkdir),
        (ErrorKind.TRANSFER, errno.EXDEV, OSError, lambda: (root / "file").rename("/dev/shm/file")),
        (
            ErrorKind.FILE_NOT_FOUND,
            errno.ENOENT,
            FileNotFoundError,
            lambda: world.machine.upload(DIRECTORY / "none", "x"),
        ),
        (ErrorKind.IS_A_DIRECTORY, errno.EISDIR, IsADirectoryError, lambda: world.machine.upload(DIRECTORY, "x")),
        (
            ErrorKind.NOT_A_DIRECTORY,
            errno.ENOTDIR,
            NotADirectoryError,
            lambda: world.machine.download(root / "file", plain / "below"),
        ),
    ]
    for kind, number, cls, call in cases:
        with fails(kind, cls, sandbox.FileTransferError) as seen:
            call()
        assert (seen[0].errno, seen[0].strerror) == (number, os.strerror(number)), seen
        assert seen[0].sandbox == world.machine.name and not isinstance(seen[0], LookupError)
        copy = pickle.loads(pickle.dumps(seen[0]))
        assert type(copy) is type(seen[0]) and copy.errno == number and str(copy) == str(seen[0])
    loop = root / "loop"
    loop.symlink_to("loop")
    for nothing in (root / "file" / "x", loop, root / "none"):
        # As pathlib says it.
        assert not nothing.exists() and not nothing.is_dir() and not nothing.is_file(), nothing
    assert loop.is_symlink() and not list((root / "file").glob("*"))
    with fails(ErrorKind.COMMAND, sandbox.CommandExecutionError, FileNotFoundError) as seen:
        # As of subprocess.
        world.machine.run(["no-such-program"])
    assert seen[0].errno == errno.ENOENT
    running.kill()
    running.wait(60)
    root.rmtree()

"""The scenarios of scenarios.md through the installed Python package."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import errno
import hashlib
import io
import json
import math
import os
import pathlib
import pickle
import secrets
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Callable, Optional, Union

import sandbox
from sandbox import ErrorKind, Stream

RUN = secrets.token_hex(4)
OWNER = f"conformance-py-{RUN}"
UNPULLABLE = "localhost/no-such-image:1"
DIRECTORY = pathlib.Path(sys.argv[1])
CONFIG = sandbox.Config(owner=OWNER, lifetime=900)
client = sandbox.Client(CONFIG)
machine: sandbox.Machine
scenarios: dict[str, Callable[[], None]] = {}


def scenario(function: Callable[[], None]) -> Callable[[], None]:
    scenarios[function.__name__.strip("_").replace("_", "-")] = function
    return function


@contextlib.contextmanager
def fails(kind: ErrorKind, *classes: type[BaseException]) -> Iterator[list[sandbox.SandboxError]]:
    """The block fails with an exception of this kind and all of these classes."""
    seen: list[sandbox.SandboxError] = []
    try:
        yield seen
    except sandbox.SandboxError as error:
        assert error.kind is kind, f"{error.kind!r} instead of {kind!r}: {error}"
        for cls in classes:
            assert isinstance(error, cls), f"{type(error).__mro__} is no {cls}"
        seen.append(error)
    else:
        raise AssertionError(f"no {kind!r}")


def gone(pattern: str) -> None:
    """No process of this command line is left in the sandbox, or it is gone soon."""
    deadline = time.monotonic() + 60
    while machine.run(["pgrep", "-f", pattern]).returncode != 1:
        assert time.monotonic() < deadline, f"{pattern} is left"


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        machine.run(["true"])


@scenario
def life() -> None:
    global machine
    name = f"py-{RUN}"
    machine = client.create(sandbox.SandboxSpec(name=name, labels={"color": "blue"}, env={"STAGE": "test"}))
    # It takes commands before Kubernetes says so.
    until(lambda: machine.info().phase is sandbox.Phase.RUNNING, "Kubernetes does not say that it runs")
    info = machine.info()
    assert (info.name, info.owner) == (name, OWNER), info
    assert info.labels["color"] == "blue" and info.image and info.uid == machine.uid and info.verdict is None
    now = datetime.now(timezone.utc)
    assert info.created_at is not None and abs(now - info.created_at) < timedelta(minutes=2), info
    assert info.expires_at is not None and timedelta(minutes=10) < info.expires_at - now < timedelta(minutes=16), info
    assert name in [found.name for found in client.list()]
    assert machine.run(["uname", "-n"], text=True).stdout == f"{name}\n"
    assert machine.execute("echo $STAGE").stdout == b"test\n"
    with sandbox.Client(CONFIG) as second, second.attach(name) as attached:
        assert attached.run(["echo", "a"]).stdout == b"a\n" and attached.timings is None
        assert attached.host_key == machine.host_key and machine.host_key
    assert machine.info().phase is sandbox.Phase.RUNNING, "the end of a block must not delete what it attached to"
    assert machine.renew(1800) > info.expires_at + timedelta(minutes=10)
    timings = machine.timings
    assert timings is not None and 0 < timings.accepted <= timings.started <= timings.logged_in < 300, timings
    assert (client.namespace, machine.ssh_port) == (info.namespace, info.ssh_port) and info.pod_ip and info.node


@scenario
def by_name() -> None:
    original = sandbox.Sandbox(CONFIG)
    assert repr(original) == f"<sandbox.Sandbox of namespace {client.namespace!r}>"
    name = f"py-{RUN}-own"
    original.create_sandbox(name)
    completed = original.execute_command(name, "echo out; echo err >&2; exit 3")
    assert (completed.stdout, completed.stderr, completed.returncode) == (b"out\n", b"err\n", 3)
    local, back = DIRECTORY / "by-name", DIRECTORY / "by-name.back"
    local.write_bytes(b"contents")
    assert original.upload_file(name, local, "there") == 8
    assert original.download_file(name, "there", back) == 8 and back.read_bytes() == b"contents"
    assert original.get_sandbox_info(name).name == name
    assert original.ssh_port(name) == original.get_sandbox_info(name).ssh_port
    before = original.api_requests
    original.execute_command(name, "true")
    assert original.api_requests == before > 0
    original.shutdown_sandbox(name)
    with fails(ErrorKind.NOT_FOUND, sandbox.SandboxNotFoundError):
        original.delete_sandbox(f"{name}-missing")
    with fails(ErrorKind.NOT_FOUND, sandbox.SandboxNotFoundError):
        original.get_sandbox_info(name)


@scenario
def run() -> None:
    arguments: list[Union[str, bytes]] = ["a b", 'it\'s "$HOME"', "line\nline", b"\xff\xfe", "", "*", "\udcff"]
    expected = b"".join(f"{len(os.fsencode(a))}:".encode() + os.fsencode(a) for a in arguments)
    script = 'for a; do LC_ALL=C; printf "%s:%s" "${#a}" "$a"; done'
    assert machine.run(["bash", "-c", script, "bash", *arguments]).stdout == expected
    here = machine.run("echo $A; pwd; id -un", shell=True, env={"A": "x y"}, cwd="/tmp", text=True).stdout
    assert here == "x y\n/tmp\nsandbox\n", here
    assert machine.run(["echo $2 | wc -c", "a", "b c"], shell=True).stdout == b"4\n"
    with fails(ErrorKind.COMMAND, sandbox.CommandExecutionError):
        machine.run(["true"], user="root")
    assert machine.run(["id", "-un"], user="sandbox").stdout == b"sandbox\n"
    assert machine.run("id").returncode == 0
    assert machine.run(["id", "-un"], capture_output=True, text=True).stdout == "sandbox\n"
    try:
        machine.run(["id"], capture_output=True, stderr=sandbox.STDOUT)
    except ValueError:
        pass
    else:
        raise AssertionError("what subprocess refuses was taken")


@scenario
def streams() -> None:
    pipe = sandbox.PIPE
    with machine.popen(["cat"], text=True, stdin=pipe, stdout=pipe, stderr=pipe) as cat:
        assert cat.stdin and cat.stdout and cat.stderr and cat.id.isdigit()
        for line in ("one\n", "two\n", "three ü\n"):
            cat.stdin.write(line)
            cat.stdin.flush()
            assert cat.stdout.readline() == line
        assert cat.poll() is None
        cat.stdin.close()
        assert cat.stdout.read() == cat.stderr.read() == ""
        assert cat.wait() == 0 and cat.poll() == 0
    with machine.popen(["cat"], stdin=sandbox.DEVNULL) as empty:
        assert empty.stdin is None and empty.communicate() == (b"", b"")
    both = "echo 1; echo 2 >&2; echo 3"
    told = machine.execute(both)
    assert (told.stdout, told.stderr) == (b"1\n3\n", b"2\n")
    assert machine.run(both, shell=True, stderr=sandbox.STDOUT).stdout == b"1\n2\n3\n"
    told = machine.run(both, shell=True, stdout=sandbox.DEVNULL)
    assert (told.stdout, told.stderr) == (b"", b"2\n")
    assert machine.run(both, shell=True, stderr=sandbox.DEVNULL).stderr == b""

    # The command waits for a file that only a piece of its output makes.
    pieces: list[tuple[Stream, bytes]] = []

    def seen(stream: Stream, data: bytes) -> None:
        pieces.append((stream, data))
        machine.path("/tmp/seen").touch()

    script = "echo a; until [ -e /tmp/seen ]; do sleep 0.05; done; echo b >&2"
    told = machine.run(script, shell=True, on_output=seen, timeout=30, check=True)
    assert pieces == [(Stream.STDOUT, b"a\n"), (Stream.STDERR, b"b\n")] and told.stdout == b""
    machine.path("/tmp/seen").unlink()
    child = machine.popen(["tee", "/dev/stderr"])
    assert child.communicate(b"both") == (b"both", b"both") and child.returncode == 0
    child.close()


@scenario
def exit_status() -> None:
    for code in (0, 3, 255):
        assert machine.run(f"exit {code}", shell=True).returncode == code
    killed = machine.run("kill -KILL $$", shell=True)
    assert killed.returncode == -signal.SIGKILL
    with fails(ErrorKind.COMMAND_FAILED, sandbox.CommandFailedError, sandbox.CommandExecutionError) as seen:
        machine.run("echo out; echo first >&2; echo last >&2; exit 3", shell=True, check=True)
    error = seen[0]
    assert isinstance(error, sandbox.CommandFailedError) and error.returncode == 3
    assert "last" in str(error) and "3" in str(error) and (error.stdout, error.stderr) == (b"out\n", b"first\nlast\n")
    with fails(ErrorKind.COMMAND_FAILED) as seen:
        machine.run("exit 4", shell=True, on_output=print, check=True)
    for program in (["no-such-program"], ["/etc/passwd"]):
        with fails(ErrorKind.COMMAND, sandbox.CommandExecutionError):
            machine.run(program)
    with fails(ErrorKind.COMMAND):
        machine.run(["true"], cwd="/no/such/directory")
    machine.run(["true"]).check_returncode()


@scenario
def timeout() -> None:
    began = time.monotonic()
    with fails(ErrorKind.TIMED_OUT, sandbox.CommandExecutionError, TimeoutError) as seen:
        machine.run("echo before; echo err >&2; exec sleep 1234", shell=True, timeout=4)
    assert (seen[0].stdout, seen[0].stderr) == (b"before\n", b"err\n") and time.monotonic() - began < 60
    gone("sleep 1234")

    async def cut() -> None:
        await asyncio.wait_for(machine.run_async(["sleep", "2345"]), timeout=0.5)

    try:
        asyncio.run(cut())
    except asyncio.TimeoutError:
        pass
    else:
        raise AssertionError("asyncio's own timeout did not come")
    assert time.monotonic() - began < 60
    gone("sleep 2345")
    with machine.popen(["sleep", "3456"]) as child:
        with fails(ErrorKind.TIMED_OUT, TimeoutError):
            child.wait(timeout=0.2)
        with fails(ErrorKind.TIMED_OUT, TimeoutError):
            child.communicate(timeout=0.2)
        assert child.poll() is None
        child.kill()
        assert child.wait() == -signal.SIGKILL
        assert child.communicate() == (b"", b"")


@scenario
def cancel() -> None:
    for send, number in (
        (sandbox.Child[bytes].kill, signal.SIGKILL),
        (sandbox.Child[bytes].terminate, signal.SIGTERM),
        (lambda child: child.send_signal(signal.SIGINT), signal.SIGINT),
    ):
        with machine.popen("echo up; exec sleep 4567", shell=True) as child:
            assert child.stdout is not None and child.stdout.readline() == b"up\n"
            began = time.monotonic()
            thread = threading.Thread(target=send, args=(child,))
            thread.start()
            assert child.wait() == -number and time.monotonic() - began < 60
            thread.join()
    gone("sleep 4567")

    # Ctrl-C, in each kind of wait of the main thread.
    def wait_for_child() -> None:
        with machine.popen(["sleep", "5678"]) as child:
            child.wait()

    def read_from_child() -> None:
        with machine.popen(["sleep", "5678"]) as child:
            assert child.stdout is not None
            child.stdout.read()

    for wait in (lambda: machine.run(["sleep", "5678"]), wait_for_child, read_from_child):
        began = time.monotonic()
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        try:
            wait()
        except KeyboardInterrupt:
            assert time.monotonic() - began < 60
        else:
            raise AssertionError("there was no KeyboardInterrupt")
        timer.join()
        gone("sleep 5678")


@scenario
def terminal() -> None:
    script = "stty size; read line; stty size; test -t 1 && echo $TERM"
    with machine.popen(script, shell=True, terminal=sandbox.Terminal(100, 30, "vt100"), text=True) as child:
        assert child.stdin and child.stdout
        assert child.stdout.readline() == "30 100\n"
        child.resize(120, 40)
        child.stdin.write("go\n")
        child.stdin.flush()
        assert child.stdout.read().endswith("40 120\nvt100\n")
        assert child.wait() == 0


@scenario
def detached() -> None:
    script = "echo start; cat; echo run >> /tmp/runs; echo err >&2; exit 5"
    key = f"job-{RUN}"
    first = machine.detach(script, key=key, shell=True, input=b"input\n", timeout=60)
    machine.detach(script, key=key, shell=True, input=b"input\n", timeout=60)
    assert first.key == key and first.wait(30) == 5 == first.poll()
    assert machine.path("/tmp/runs").read_text() == "run\n"
    with fails(ErrorKind.CONFLICT, sandbox.ConflictError):
        machine.detach(["true"], key=key)
    with sandbox.Client(CONFIG) as other, other.attach(machine.name) as again, again.detached(key) as found:
        assert found.read() == b"start\ninput\n" and found.read(Stream.STDERR) == b"err\n"
        assert found.read(offset=6, limit=3) == b"inp"
        output = {Stream.STDOUT: b"", Stream.STDERR: b""}

        def collect(stream: Stream, data: bytes) -> None:
            output[stream] += data

        position = sandbox.Position(stdout=6)
        assert found.stream(collect, position) == 5 and found.wait() == 5
        assert output == {Stream.STDOUT: b"input\n", Stream.STDERR: b"err\n"} and position == sandbox.Position(12, 4)
    long = machine.detach(["sleep", "6789"], key=f"{key}.long", timeout=math.inf)
    assert long.poll() is None
    with fails(ErrorKind.TIMED_OUT, TimeoutError):
        long.wait(0.1)
    with fails(ErrorKind.CONFLICT):
        long.remove()
    long.kill()
    assert long.wait(60) == -signal.SIGKILL
    gone("sleep 6789")
    soft = machine.detach(["sleep", "6789"], key=f"{key}.soft")
    soft.send_signal(signal.SIGTERM)
    assert soft.wait(10) == -signal.SIGTERM
    for one in (first, long, soft):
        one.remove()
        with fails(ErrorKind.DETACHED_NOT_FOUND, sandbox.DetachedNotFoundError, LookupError):
            one.poll()
    with fails(ErrorKind.INVALID_ARGUMENT, ValueError):
        machine.detached("no key!")


#: Answers with what it got, backwards.
REVERSER = """
import socketserver as s, threading as t
class H(s.StreamRequestHandler):
    def handle(self): self.wfile.write(self.rfile.read()[::-1])
u = s.ThreadingUnixStreamServer('/tmp/reverser', H)
t.Thread(target=u.serve_forever, daemon=True).start()
s.ThreadingTCPServer(('127.0.0.1', 7300), H).serve_forever()
"""


def reversed_by(connection: socket.socket) -> None:
    with connection:
        connection.sendall(b"desserts")
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as answer:
            assert answer.read() == b"stressed"


@scenario
def ports() -> None:
    with fails(ErrorKind.TIMED_OUT, TimeoutError):
        machine.wait_for_port(7300, 0.05)
    with fails(ErrorKind.REFUSED, sandbox.RefusedError, ConnectionRefusedError) as seen:
        machine.connect(7300)
    assert seen[0].errno == errno.ECONNREFUSED and seen[0].sandbox == machine.name
    server = machine.detach(["python3", "-c", REVERSER], key=f"reverser-{RUN}")
    machine.wait_for_port(7300, 60)
    machine.wait_for_port(pathlib.PurePosixPath("/tmp/reverser"))
    reversed_by(machine.connect(7300))
    reversed_by(machine.connect("/tmp/reverser"))
    with fails(ErrorKind.FILE_NOT_FOUND, FileNotFoundError):
        machine.connect("/no/such/socket")
    with machine.forward(7300) as forward:
        address = ("127.0.0.1", forward.port)
        assert forward.local == f"127.0.0.1:{forward.port}"
        reversed_by(socket.create_connection(address))
        with socket.create_connection(address):
            reversed_by(socket.create_connection(address))
            assert forward.is_open and forward.connections >= 1 and forward.last_failure is None
        with fails(ErrorKind.BUSY, OSError):
            machine.forward(7300, local=forward.port)
        with machine.forward(7301) as to_nobody, socket.create_connection(("127.0.0.1", to_nobody.port)) as refused:
            try:
                refused.recv(1)
            except ConnectionResetError:
                pass
            else:
                raise AssertionError("a connection to nobody")
            assert isinstance(to_nobody.last_failure, ConnectionRefusedError)
        ended = threading.Thread(target=forward.wait)
        ended.start()
    ended.join()
    assert forward.closed and not forward.is_open
    try:
        socket.create_connection(address).close()
    except ConnectionRefusedError:
        pass
    else:
        raise AssertionError("a closed forward listens")
    server.kill()
    server.remove()


@scenario
def bytes_() -> None:
    every = bytes(range(256))
    assert machine.run(["cat"], input=every).stdout == every
    assert machine.run(["cat"], input=bytearray(every)).stdout == every
    assert machine.run("cat >&2", shell=True, input=every).stderr == every
    assert machine.run(["cat"], input=b"").stdout == machine.run(["cat"]).stdout == b""
    assert machine.run(["cat"], input="ü\n", text=True).stdout == "ü\n"
    assert machine.run(["cat"], input="ü", encoding="latin-1").stdout == "ü"
    (DIRECTORY / "input").write_bytes(every)
    with open(DIRECTORY / "input", "rb") as file:
        file.seek(1, os.SEEK_SET)
        os.lseek(file.fileno(), 1, os.SEEK_SET)
        assert machine.run(["cat"], stdin=file).stdout == every[1:]
    reader, writer = os.pipe()
    with machine.popen(["cat"], stdin=reader) as child:
        os.close(reader)
        os.write(writer, every)
        os.close(writer)
        assert child.stdin is None and child.stdout is not None and child.stdout.read() == every
    with fails(ErrorKind.INVALID_ARGUMENT, ValueError):
        machine.run(["echo", "a\0b"])
    with fails(ErrorKind.INVALID_ARGUMENT, ValueError):
        machine.run(["echo\0"])


@scenario
def large() -> None:
    data = os.urandom(16 << 20)
    digest = hashlib.sha256(data).hexdigest()
    assert machine.run(["sha256sum"], input=data, text=False).stdout.split()[0].decode() == digest
    machine.path("/tmp/large").write_bytes(data)
    assert machine.run(["cat", "/tmp/large"]).stdout == data
    with machine.popen(["cat", "/tmp/large"]) as child:
        assert child.stdout is not None and hashlib.sha256(child.stdout.read()).hexdigest() == digest
    with machine.popen(["cat"]) as child:
        assert child.communicate(data)[0] == data
    cut = machine.run(["cat", "/tmp/large"], output_limit=1000)
    assert cut.stdout == data[:1000] and cut.truncated == len(data) - 1000
    machine.path("/tmp/large").unlink()


@scenario
def files() -> None:
    root = machine.path("/tmp/files")
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


@scenario
def transfers() -> None:
    data = os.urandom(3 << 20)
    local, back, remote = DIRECTORY / "up", DIRECTORY / "down", machine.path("/tmp/transfer")
    local.write_bytes(data)
    local.chmod(0o750)
    steps: list[tuple[int, Optional[int]]] = []

    def progress(path: str, done: int, total: Optional[int]) -> None:
        assert path in (str(local), str(remote)), path
        steps.append((done, total))

    moves: list[Callable[[], sandbox.Transferred]] = [
        lambda: machine.upload(local, remote, checksum=True, sync=True, progress=progress),
        lambda: machine.download(remote, back, checksum=True, sync=True, progress=progress),
    ]
    for move in moves:
        steps.clear()
        told = move()
        assert (told.bytes, told.resumed, told.sha256) == (len(data), 0, hashlib.sha256(data).hexdigest())
        assert steps == sorted(steps, key=lambda step: step[0]) and steps[-1] == (len(data), len(data)), steps
    assert back.read_bytes() == data and stat.S_IMODE(remote.stat().st_mode) == 0o750 == stat.S_IMODE(
        back.stat().st_mode
    )
    assert machine.upload(io.BytesIO(data), remote).bytes == len(data)
    target = io.BytesIO()
    assert machine.download(remote, target).sha256 is None and target.getvalue() == data

    # What is not written is not lost without a word.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    class Full:
        def write(self, _data: bytes, /) -> int:
            return 0

    with open(reader, "rb"), open(writer, "wb", buffering=0) as pipe:
        for full in (pipe, Full()):
            try:
                machine.download(remote, full)
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
        machine.upload(local, remote, resume=True, progress=stop)
    told = machine.upload(local, remote, resume=True)
    assert told.bytes == len(big) and 0 < told.resumed < len(big), told
    assert machine.run(["sha256sum", str(remote)]).stdout.split()[0].decode() == hashlib.sha256(big).hexdigest()
    with fails(ErrorKind.TRANSFER, sandbox.FileTransferError):
        machine.download(remote, DIRECTORY / "limited", max_bytes=1000)
    assert not (DIRECTORY / "limited").exists()
    with fails(ErrorKind.FILE_NOT_FOUND, FileNotFoundError, sandbox.FileTransferError) as seen:
        machine.download("/tmp/none", back)
    assert seen[0].errno == errno.ENOENT
    with fails(ErrorKind.FILE_NOT_FOUND, FileNotFoundError):
        machine.upload(DIRECTORY / "none", remote)
    remote.unlink()


@scenario
def trees() -> None:
    local, back = DIRECTORY / "tree", DIRECTORY / "tree.back"
    (local / "empty").mkdir(parents=True)
    (local / "file").write_bytes(b"contents")
    (local / "link").symlink_to("file")
    (local / "program").write_text("#!/bin/sh\necho ran\n")
    (local / "program").chmod(0o755)
    os.mkfifo(local / "fifo")
    report = machine.upload_tree(local, "/tmp/tree", checksum=True, progress=lambda *_: None)
    assert (report.files, report.directories, report.symlinks, report.bytes, report.skipped) == (2, 2, 1, 27, 1), report
    assert report.notes[0].path == "fifo" and report.notes[0].text, report
    assert machine.run(["/tmp/tree/program"]).stdout == b"ran\n"
    report = machine.download_tree(machine.path("/tmp/tree"), back, sync=True)
    assert (report.files, report.directories, report.symlinks, report.skipped) == (2, 2, 1, 0), report
    (local / "fifo").unlink()
    subprocess.run(["diff", "-r", "--no-dereference", local, back], check=True)
    assert os.access(back / "program", os.X_OK) and os.readlink(back / "link") == "file"
    for entries, most in ((2, None), (None, 10)):
        with fails(ErrorKind.TRANSFER, sandbox.FileTransferError):
            machine.download_tree("/tmp/tree", DIRECTORY / "limited", max_entries=entries, max_bytes=most)
    machine.path("/tmp/tree").rmtree()


@scenario
def errors() -> None:
    with fails(ErrorKind.INVALID_ARGUMENT, ValueError, sandbox.InvalidArgumentError):
        machine.run(["sleep"], timeout=-1)
    with fails(ErrorKind.CONFIG, ValueError, sandbox.ConfigError):
        sandbox.Client(sandbox.Config(kubeconfig="/no/such/kubeconfig"))
    with fails(ErrorKind.NOT_FOUND, sandbox.SandboxNotFoundError) as seen:
        client.attach("no-such-sandbox")
    assert seen[0].sandbox == "no-such-sandbox" and seen[0].operation and seen[0].http_status == 404
    assert not isinstance(seen[0], OSError) and seen[0].errno is None
    with fails(ErrorKind.FILE_NOT_FOUND, FileNotFoundError, sandbox.FileTransferError) as seen:
        machine.path("/no/such/file").read_bytes()
    assert seen[0].sandbox == machine.name and seen[0].operation and "/no/such/file" in str(seen[0])
    assert seen[0].errno == errno.ENOENT and not isinstance(seen[0], LookupError) and not seen[0].retryable
    copy = pickle.loads(pickle.dumps(seen[0]))
    assert type(copy) is type(seen[0]) and vars(copy) == vars(seen[0]) and str(copy) == str(seen[0])
    with fails(ErrorKind.CONFLICT, sandbox.ConflictError, sandbox.SandboxCreationError):
        client.create(sandbox.SandboxSpec(name=machine.name))
    with fails(ErrorKind.PERMISSION_DENIED, PermissionError, sandbox.FileTransferError) as seen:
        machine.path("/etc/shadow").read_bytes()
    assert seen[0].errno == errno.EACCES
    with fails(ErrorKind.CREATE, sandbox.SandboxCreationError) as seen:
        client.create(sandbox.SandboxSpec(name=f"py-{RUN}-image", image=UNPULLABLE))
    verdict = seen[0].verdict
    assert verdict is not None and verdict.cause is sandbox.Cause.IMAGE_PULL and verdict.reason, verdict
    kubeconfig = DIRECTORY / "kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "users": [{"name": "u", "user": {}}],
                "current-context": "c",
            }
        )
    )
    with fails(ErrorKind.UNAVAILABLE, sandbox.UnavailableError, ConnectionError) as seen:
        sandbox.Client(sandbox.Config(kubeconfig=kubeconfig)).list()
    assert seen[0].retryable
    with fails(ErrorKind.TIMED_OUT, TimeoutError, sandbox.CommandExecutionError):
        machine.run(["sleep", "60"], timeout=0.1)


@scenario
def file_errors() -> None:
    root = machine.path("errors")
    (root / "dir").mkdir(parents=True)
    (root / "file").write_bytes(b"x")
    machine.run('cp "$(command -v sleep)" errors/program', shell=True, check=True)
    running = machine.popen(["./errors/program", "6791"])
    until(lambda: machine.run(["pgrep", "-f", "errors/progra[m] 6791"]).returncode == 0, "the program does not run")
    plain = DIRECTORY / "plain"
    plain.write_bytes(b"x")

    def append() -> None:
        with (root / "program").open("ab") as file:
            file.write(b"x")

    cases: list[tuple[ErrorKind, int, type[OSError], Callable[[], object]]] = [
        (ErrorKind.FILE_NOT_FOUND, errno.ENOENT, FileNotFoundError, (root / "none").read_bytes),
        (ErrorKind.FILE_EXISTS, errno.EEXIST, FileExistsError, machine.path("/tmp").mkdir),
        (ErrorKind.IS_A_DIRECTORY, errno.EISDIR, IsADirectoryError, machine.path("/tmp").read_bytes),
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
        (ErrorKind.READ_ONLY, errno.EROFS, sandbox.ReadOnlyError, machine.path("/sys/x").mkdir),
        (ErrorKind.BUSY, errno.ETXTBSY, sandbox.BusyError, append),
        (ErrorKind.NAME_TOO_LONG, errno.ENAMETOOLONG, sandbox.NameTooLongError, (root / ("n" * 256)).mkdir),
        (ErrorKind.TRANSFER, errno.EXDEV, OSError, lambda: (root / "file").rename("/dev/shm/file")),
        (ErrorKind.FILE_NOT_FOUND, errno.ENOENT, FileNotFoundError, lambda: machine.upload(DIRECTORY / "none", "x")),
        (ErrorKind.IS_A_DIRECTORY, errno.EISDIR, IsADirectoryError, lambda: machine.upload(DIRECTORY, "x")),
        (
            ErrorKind.NOT_A_DIRECTORY,
            errno.ENOTDIR,
            NotADirectoryError,
            lambda: machine.download(root / "file", plain / "below"),
        ),
    ]
    for kind, number, cls, call in cases:
        with fails(kind, cls, sandbox.FileTransferError) as seen:
            call()
        assert (seen[0].errno, seen[0].strerror) == (number, os.strerror(number)), seen
        assert seen[0].sandbox == machine.name and not isinstance(seen[0], LookupError)
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
        machine.run(["no-such-program"])
    assert seen[0].errno == errno.ENOENT
    running.kill()
    running.wait(60)
    root.rmtree()


@scenario
def use_after_close() -> None:
    other = sandbox.Client(CONFIG)
    attached = other.attach(machine.name)
    child = attached.popen(["cat"])
    job = attached.detached("never")
    path = attached.path("/tmp/closed")
    raw = path.open("wb", buffering=0)
    for closable in (raw, job, child, attached, other):
        closable.close()
        closable.close()
        assert closable.closed
    for use in (
        other.list,
        lambda: other.attach(machine.name),
        lambda: attached.run(["true"]),
        attached.info,
        lambda: attached.ssh_port,
        path.read_bytes,
        child.wait,
        child.kill,
        job.poll,
        attached.__enter__,
    ):
        with fails(ErrorKind.CLOSED, ValueError, sandbox.ClosedError):
            use()
    for stream in (child.stdin, child.stdout):
        try:
            assert stream is not None and stream.read()
        except (ValueError, io.UnsupportedOperation):
            pass
        else:
            raise AssertionError("a closed stream was used")
    try:
        raw.write(b"x")
    except ValueError:
        pass
    else:
        raise AssertionError("a closed file was written")
    path = machine.path("/tmp/closed")
    path.unlink()
    # Closed while another thread is in a call.
    attached = client.attach(machine.name)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = pool.submit(attached.run, "echo up; sleep 1; echo end", shell=True)
        until(lambda: machine.session_counts.busy > 0, "the command does not run")
        attached.close()
        assert running.result().stdout == b"up\nend\n"


@scenario
def threads() -> None:
    with sandbox.Client(dataclasses.replace(CONFIG, max_sessions=8)) as eight, eight.attach(machine.name) as shared:
        most = 0

        def ten(thread: int) -> None:
            nonlocal most
            for number in range(10):
                assert shared.run(["echo", f"{thread} {number}"]).stdout == f"{thread} {number}\n".encode()
                counts = shared.session_counts
                most = max(most, counts.idle + counts.busy)

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(ten, range(8)))
        assert 1 < most <= 8, most


@scenario
def fork() -> None:
    child = machine.popen(["cat"])
    raw = machine.path("/tmp/forked").open("wb", buffering=0)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            for use in (
                client.list,
                machine.info,
                lambda: machine.run(["true"]),
                lambda: machine.upload(b"a", b"b"),
                machine.path("/tmp").stat,
                child.wait,
                lambda: raw.write(b"x"),
                lambda: machine.detached("a"),
                lambda: machine.name and machine.ssh_port,
            ):
                with fails(ErrorKind.FORKED, sandbox.ForkedError):
                    use()
            with sandbox.Client(CONFIG) as own, own.attach(machine.name) as attached:
                assert attached.run(["echo", "child"]).stdout == b"child\n"
            del child, raw
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert child.communicate(b"parent")[0] == b"parent"
    child.close()
    raw.write(b"parent")
    raw.close()
    assert machine.path("/tmp/forked").read_bytes() == b"parent"
    machine.path("/tmp/forked").unlink()


@scenario
def callback() -> None:
    class Own(Exception):
        pass

    def stop(_stream: Stream, _data: bytes) -> bool:
        return False

    def throw(*_: object) -> None:
        raise mine

    mine = Own("mine")
    with fails(ErrorKind.CANCELLED, sandbox.OperationCancelledError):
        machine.run("echo a; exec sleep 7890", shell=True, on_output=stop)
    gone("sleep 7890")
    local = DIRECTORY / "callback"
    local.write_bytes(b"contents")

    class Broken:
        def read(self, _length: int, /) -> bytes:
            raise mine

        def write(self, _data: bytes, /) -> None:
            raise mine

    job = machine.detach("echo a; exec sleep 7890", key=f"callback-{RUN}", shell=True)
    for use in (
        lambda: machine.run("echo a; exec sleep 7890", shell=True, on_output=throw),
        lambda: job.stream(throw),
        lambda: machine.upload(local, "/tmp/callback", progress=throw),
        lambda: machine.upload(Broken(), "/tmp/callback"),
        lambda: machine.download("/etc/passwd", Broken()),
        lambda: machine.download_tree("/etc/apt", DIRECTORY / "apt", progress=throw),
    ):
        try:
            use()
        except Own as raised:
            assert raised is mine and raised.__cause__ is None
            mine.__traceback__ = None
        else:
            raise AssertionError("the callback's exception did not come out")
    assert job.poll() is None
    job.kill()
    job.remove()
    gone("sleep 7890")
    assert not machine.path("/tmp/callback").exists()
    assert machine.run(["echo", "works"]).stdout == b"works\n"


@scenario
def fleet() -> None:
    owner = f"{OWNER}-fleet"
    node = machine.info().node
    assert node is not None

    def shown(name: str, kind: str, **source: str) -> dict[str, object]:
        """A variable of the environment that Kubernetes takes from the Pod."""
        return {"name": name, "valueFrom": {kind: source}}

    told = {
        "CPU": {"kind": "resourceFieldRef", "resource": "limits.cpu", "divisor": "1m"},
        "CPU_REQUEST": {"kind": "resourceFieldRef", "resource": "requests.cpu", "divisor": "1m"},
        "MEMORY": {"kind": "resourceFieldRef", "resource": "limits.memory"},
        "MEMORY_REQUEST": {"kind": "resourceFieldRef", "resource": "requests.memory"},
        "DISK": {"kind": "resourceFieldRef", "resource": "limits.ephemeral-storage"},
        "NOTE": {"kind": "fieldRef", "fieldPath": "metadata.annotations['note']"},
        "NODE": {"kind": "fieldRef", "fieldPath": "spec.nodeName"},
    }
    spec = sandbox.SandboxSpec(
        cpu="300m",
        cpu_request="5m",
        memory="200Mi",
        memory_request="20Mi",
        disk="100Mi",
        node_selector={"kubernetes.io/hostname": node},
        annotations={"note": "of conformance"},
        pod_template={
            "metadata": {"labels": {"from": "template"}},
            "spec": {
                "containers": [{"name": "sandbox", "env": [shown(name, **where) for name, where in told.items()]}]
            },
        },
        labels={"fleet": "py"},
    )
    with sandbox.Client(dataclasses.replace(CONFIG, owner=owner)) as own:
        short = own.create(dataclasses.replace(spec, lifetime=300))
        others = [own.create(spec) for _ in range(2)]
        try:
            assert others[0].info().labels["from"] == "template" and others[0].info().labels["fleet"] == "py"
            mine = {info.name for info in own.list() if info.owner == owner}
            assert {other.name for other in others} <= mine, mine
            seen = others[0].run(["printenv", *told], text=True).stdout.splitlines()
            assert seen == ["300", "5", str(200 << 20), str(20 << 20), str(100 << 20), "of conformance", node], seen
            info = short.info()
            assert info.created_at is not None and info.expires_at is not None, info
            assert timedelta(seconds=290) < info.expires_at - info.created_at < timedelta(seconds=310), info
            short.renew(1)
            reaped: set[str] = set()

            def is_reaped() -> bool:
                # Somebody else may reap it too.
                reaped.update(own.reap())
                return short.name not in [info.name for info in own.list()]

            until(is_reaped, "the expired sandbox is not reaped")
            assert not reaped & {other.name for other in others}, reaped
            assert all(other.info().phase is sandbox.Phase.RUNNING for other in others)
        finally:
            for other in others:
                other.delete()
        assert owner not in [info.owner for info in own.list()]


@scenario
def pool() -> None:
    name = f"pool-{RUN}"
    filler = client.pool(name, size=2, idle_lifetime=600, creates_at_once=2, creates_per_second=20)
    assert filler.name == name and filler.status().ready == 0
    with fails(ErrorKind.POOL_EMPTY, sandbox.PoolEmptyError, LookupError):
        filler.claim(on_miss=sandbox.OnMiss.FAIL)
    with filler.claim() as instead:
        assert instead.timings and instead.timings.origin is sandbox.Origin.POOL_MISS
    assert filler.fill() == sandbox.Filled(created=2, retired=0)
    assert filler.fill() == sandbox.Filled(created=0, retired=0)

    other = sandbox.Client(dataclasses.replace(CONFIG, owner=f"{OWNER}-other"))
    claiming = other.pool(name)
    claimed = claiming.claim(
        env={"TASK": "17"},
        labels={"of": "a-pool"},
        annotations={"note": "a note"},
        lifetime=300,
        owner=f"{OWNER}-claimed",
        files={"/tmp/task": "a task", pathlib.PurePosixPath("/tmp/bytes"): b"\0\1"},
        on_miss=sandbox.OnMiss.FAIL,
    )
    assert claimed.timings and claimed.timings.origin is sandbox.Origin.POOL
    assert claimed.execute("echo $TASK; cat /tmp/task").stdout == b"17\na task"
    assert claimed.path("/tmp/bytes").read_bytes() == b"\0\1"
    info = claimed.info()
    assert info.labels["of"] == "a-pool" and info.owner == f"{OWNER}-claimed" and info.expires_at
    assert 240 < (info.expires_at - datetime.now(timezone.utc)).total_seconds() < 360
    status = filler.status()
    assert (status.ready, status.claimed, status.filling, status.foreign, status.ending) == (1, 1, 0, 0, 0)
    assert status.oldest and status.held is None

    with fails(ErrorKind.INVALID_ARGUMENT, ValueError):
        client.pool(name, sandbox.SandboxSpec(name="a"))
    with fails(ErrorKind.INVALID_ARGUMENT, ValueError):
        client.pool(name, size=1_000_000)

    assert filler.drain() == 1
    waited: list[sandbox.Machine] = []
    waiter = threading.Thread(target=lambda: waited.append(claiming.claim(on_miss=sandbox.OnMiss.WAIT)))
    waiter.start()
    until(lambda: claiming.counters.waiting == 1, "the claim does not wait")
    keeper = client.pool(name, size=1, keep_filled=True)
    waiter.join()
    assert waited[0].timings and waited[0].timings.origin is sandbox.Origin.POOL_WAIT
    waited[0].delete()
    counters = claiming.counters
    assert (counters.hits, counters.misses, counters.waiting, counters.bad) == (1, 1, 0, 0)
    assert (filler.counters.created, filler.counters.retired) == (2, 1)
    keeper.remove()
    assert claimed.run(["true"]).returncode == 0
    claimed.delete()
    with keeper:
        pass
    with fails(ErrorKind.CLOSED, sandbox.ClosedError):
        keeper.fill()


@scenario
def settings() -> None:
    whole = sandbox.Config(
        namespace=client.namespace,
        kubeconfig=os.environ["KUBECONFIG"],
        context=None,
        image="localhost/other:1",
        ssh_user="sandbox",
        ssh_port=2222,
        ssh_key=None,
        transport=sandbox.Transport.TUNNEL,
        owner=OWNER,
        lifetime=math.inf,
        create_timeout=60,
        connect_timeout=10.5,
        command_timeout=20,
        transfer_timeout=30,
        idle_timeout=40,
        max_sessions=3,
        log=sandbox.LogLevel.ERROR,
        settings={"image": "localhost/never:1"},
        from_env=False,
    )
    with sandbox.Client(whole) as configured:
        assert configured.namespace == client.namespace and configured.ssh_port("unknown") == 2222
        assert configured.max_sessions == 3
    for name, value in (
        ("context", "no-such-context"),
        ("ssh_key", "/no/such/key"),
        ("owner", "not a label"),
        ("max_sessions", 0),
        ("max_sessions", -1),
        ("ssh_port", 70_000),
    ):
        try:
            sandbox.Client(dataclasses.replace(whole, **{name: value}))  # type: ignore[arg-type]
        except (sandbox.ConfigError, sandbox.InvalidArgumentError) as error:
            assert str(value) in str(error) or name in str(error), error
        else:
            raise AssertionError(f"{name}={value} was taken")
    with fails(ErrorKind.CONFIG) as seen:
        sandbox.Client(sandbox.Config(settings={"ssh_port": "many"}))
    assert "ssh_port" in str(seen[0]) or "SSH_PORT" in str(seen[0])
    with fails(ErrorKind.CONFIG) as seen:
        sandbox.Client(sandbox.Config(settings={"colour": "blue"}))
    assert "colour" in str(seen[0])
    for spec in (
        sandbox.SandboxSpec(name="Not A Name"),
        sandbox.SandboxSpec(lifetime=-1),
        sandbox.SandboxSpec(memory="much"),
    ):
        try:
            client.create(spec).delete()
        except (sandbox.InvalidArgumentError, sandbox.SandboxCreationError):
            pass
        else:
            raise AssertionError(f"{spec} was taken")
    with client.create(
        sandbox.SandboxSpec(
            name=f"py-{RUN}-settings",
            image=machine.info().image,
            lifetime=math.inf,
            hard_limit=600,
            user_from_cluster=True,
            runtime_class=None,
            unschedulable_grace=0,
        )
    ) as made:
        assert made.info().expires_at is None
    with fails(ErrorKind.CREATE, sandbox.SandboxCreationError):
        client.create(sandbox.SandboxSpec(runtime_class="no-such-class"))
    lines: list[tuple[sandbox.LogLevel, str, str]] = []
    sandbox.set_log_handler(sandbox.LogLevel.DEBUG, lambda *line: lines.append(line))
    client.list()
    assert any(level == sandbox.LogLevel.DEBUG and target.startswith("sandbox::") for level, target, _ in lines), lines
    with fails(ErrorKind.CONFIG, sandbox.ConfigError):
        whole.init_logging()
    sandbox.set_log_handler(sandbox.LogLevel.OFF, None)
    lines.clear()
    client.list()
    assert not lines, lines
    whole.init_logging()
    with fails(ErrorKind.CONFIG, sandbox.ConfigError):
        whole.init_logging()


@scenario
def end() -> None:
    machine.delete()
    with fails(ErrorKind.NOT_FOUND, sandbox.SandboxNotFoundError):
        machine.info()
    with fails(ErrorKind.CLOSED, sandbox.ClosedError):
        machine.run(["true"])
    listed = [info.name for info in client.list() if info.owner.startswith(OWNER)]
    assert not listed, listed


def main() -> int:
    asked = sys.argv[2:] or list(scenarios)
    failed = False
    for name, play in scenarios.items():
        if name not in asked and name != "life":
            continue
        try:
            play()
        except Exception as error:
            failed = True
            where = traceback.extract_tb(error.__traceback__)
            line = next((frame.lineno for frame in reversed(where) if frame.filename == __file__), 0)
            print(f"failed {name}: line {line}: {error!r}", flush=True)
            if name == "life":
                break
        else:
            print(f"ok {name}", flush=True)
    with contextlib.suppress(sandbox.SandboxError):
        for info in client.list():
            if info.owner.startswith(OWNER):
                with contextlib.suppress(sandbox.SandboxError):
                    client.delete_sandbox(info.name)
    client.close()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

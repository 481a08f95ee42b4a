"""The scenarios of commands."""

import asyncio
import concurrent.futures
import dataclasses
import hashlib
import math
import os
import signal
import threading
import time
import traceback
from typing import Union

import sandbox
from conformance import CONFIG, DIRECTORY, RUN, client, fails, gone, world
from sandbox import ErrorKind, Stream


def run() -> None:
    arguments: list[Union[str, bytes]] = ["a b", 'it\'s "$HOME"', "line\nline", b"\xff\xfe", "", "*", "\udcff"]
    expected = b"".join(f"{len(os.fsencode(a))}:".encode() + os.fsencode(a) for a in arguments)
    script = 'for a; do LC_ALL=C; printf "%s:%s" "${#a}" "$a"; done'
    assert world.machine.run(["bash", "-c", script, "bash", *arguments]).stdout == expected
    here = world.machine.run("echo $A; pwd; id -un", shell=True, env={"A": "x y"}, cwd="/tmp", text=True).stdout
    assert here == "x y\n/tmp\nsandbox\n", here
    assert world.machine.run(["echo $2 | wc -c", "a", "b c"], shell=True).stdout == b"4\n"
    with fails(ErrorKind.COMMAND, sandbox.CommandExecutionError):
        world.machine.run(["true"], user="root")
    assert world.machine.run(["id", "-un"], user="sandbox").stdout == b"sandbox\n"
    assert world.machine.run("id").returncode == 0
    assert world.machine.run(["id", "-un"], capture_output=True, text=True).stdout == "sandbox\n"
    try:
        world.machine.run(["id"], capture_output=True, stderr=sandbox.STDOUT)
    except ValueError:
        pass
    else:
        raise AssertionError("what subprocess refuses was taken")


def streams() -> None:
    pipe = sandbox.PIPE
    with world.machine.popen(["cat"], text=True, stdin=pipe, stdout=pipe, stderr=pipe) as cat:
        assert cat.stdin and cat.stdout and cat.stderr and cat.id.isdigit()
        for line in ("one\n", "two\n", "three ü\n"):
            cat.stdin.write(line)
            cat.stdin.flush()
            assert cat.stdout.readline() == line
        assert cat.poll() is None
        cat.stdin.close()
        assert cat.stdout.read() == cat.stderr.read() == ""
        assert cat.wait() == 0 and cat.poll() == 0
    with world.machine.popen(["cat"], stdin=sandbox.DEVNULL) as empty:
        assert empty.stdin is None and empty.communicate() == (b"", b"")
    both = "echo 1; echo 2 >&2; echo 3"
    told = world.machine.execute(both)
    assert (told.stdout, told.stderr) == (b"1\n3\n", b"2\n")
    assert world.machine.run(both, shell=True, stderr=sandbox.STDOUT).stdout == b"1\n2\n3\n"
    told = world.machine.run(both, shell=True, stdout=sandbox.DEVNULL)
    assert (told.stdout, told.stderr) == (b"", b"2\n")
    assert world.machine.run(both, shell=True, stderr=sandbox.DEVNULL).stderr == b""

    # The command waits for a file that only a piece of its output makes.
    pieces: list[tuple[Stream, bytes]] = []

    def seen(stream: Stream, data: bytes) -> None:
        pieces.append((stream, data))
        world.machine.path("/tmp/seen").touch()

    script = "echo a; until [ -e /tmp/seen ]; do sleep 0.05; done; echo b >&2"
    told = world.machine.run(script, shell=True, on_output=seen, timeout=30, check=True)
    assert pieces == [(Stream.STDOUT, b"a\n"), (Stream.STDERR, b"b\n")] and told.stdout == b""
    world.machine.path("/tmp/seen").unlink()
    child = world.machine.popen(["tee", "/dev/stderr"])
    assert child.communicate(b"both") == (b"both", b"both") and child.returncode == 0
    child.close()


def exit_status() -> None:
    for code in (0, 3, 255):
        assert world.machine.run(f"exit {code}", shell=True).returncode == code
    killed = world.machine.run("kill -KILL $$", shell=True)
    assert killed.returncode == -signal.SIGKILL
    with fails(ErrorKind.COMMAND_FAILED, sandbox.CommandFailedError, sandbox.CommandExecutionError) as seen:
        world.machine.run("echo out; echo first >&2; echo last >&2; exit 3", shell=True, check=True)
    error = seen[0]
    assert isinstance(error, sandbox.CommandFailedError) and error.returncode == 3
    assert "last" in str(error) and "3" in str(error) and (error.stdout, error.stderr) == (b"out\n", b"first\nlast\n")
    with fails(ErrorKind.COMMAND_FAILED) as seen:
        world.machine.run("exit 4", shell=True, on_output=print, check=True)
    for program in (["no-such-program"], ["/etc/passwd"]):
        with fails(ErrorKind.COMMAND, sandbox.CommandExecutionError):
            world.machine.run(program)
    with fails(ErrorKind.COMMAND):
        world.machine.run(["true"], cwd="/no/such/directory")
    world.machine.run(["true"]).check_returncode()


def timeout() -> None:
    began = time.monotonic()
    with fails(ErrorKind.TIMED_OUT, sandbox.CommandExecutionError, TimeoutError) as seen:
        world.machine.run("echo before; echo err >&2; exec sleep 1234", shell=True, timeout=4)
    assert (seen[0].stdout, seen[0].stderr) == (b"before\n", b"err\n") and time.monotonic() - began < 60
    gone("sleep 1234")

    async def cut() -> None:
        await asyncio.wait_for(world.machine.run_async(["sleep", "2345"]), timeout=0.5)

    try:
        asyncio.run(cut())
    except asyncio.TimeoutError:
        pass
    else:
        raise AssertionError("asyncio's own timeout did not come")
    assert time.monotonic() - began < 60
    gone("sleep 2345")
    with world.machine.popen(["sleep", "3456"]) as child:
        with fails(ErrorKind.TIMED_OUT, TimeoutError):
            child.wait(timeout=0.2)
        with fails(ErrorKind.TIMED_OUT, TimeoutError):
            child.communicate(timeout=0.2)
        assert child.poll() is None
        child.kill()
        assert child.wait() == -signal.SIGKILL
        assert child.communicate() == (b"", b"")


def cancel() -> None:
    for send, number in (
        (sandbox.Child[bytes].kill, signal.SIGKILL),
        (sandbox.Child[bytes].terminate, signal.SIGTERM),
        (lambda child: child.send_signal(signal.SIGINT), signal.SIGINT),
    ):
        with world.machine.popen("echo up; exec sleep 4567", shell=True) as child:
            assert child.stdout is not None and child.stdout.readline() == b"up\n"
            began = time.monotonic()
            thread = threading.Thread(target=send, args=(child,))
            thread.start()
            assert child.wait() == -number and time.monotonic() - began < 60
            thread.join()
    gone("sleep 4567")

    # Ctrl-C, in each kind of wait of the main thread.
    def wait_for_child() -> None:
        with world.machine.popen(["sleep", "5678"]) as child:
            child.wait()

    def read_from_child() -> None:
        with world.machine.popen(["sleep", "5678"]) as child:
            assert child.stdout is not None
            child.stdout.read()

    for wait in (lambda: world.machine.run(["sleep", "5678"]), wait_for_child, read_from_child):
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


def terminal() -> None:
    script = "stty size; read line; stty size; test -t 1 && echo $TERM"
    with world.machine.popen(script, shell=True, terminal=sandbox.Terminal(100, 30, "vt100"), text=True) as child:
        assert child.stdin and child.stdout
        assert child.stdout.readline() == "30 100\n"
        child.resize(120, 40)
        child.stdin.write("go\n")
        child.stdin.flush()
        assert child.stdout.read().endswith("40 120\nvt100\n")
        assert child.wait() == 0


def detached() -> None:
    script = "echo start; cat; echo run >> /tmp/runs; echo err >&2; exit 5"
    key = f"job-{RUN}"
    first = world.machine.detach(script, key=key, shell=True, input=b"input\n", timeout=60)
    world.machine.detach(script, key=key, shell=True, input=b"input\n", timeout=60)
    assert first.key == key and first.wait(30) == 5 == first.poll()
    assert world.machine.path("/tmp/runs").read_text() == "run\n"
    with fails(ErrorKind.CONFLICT, sandbox.ConflictError):
        world.machine.detach(["true"], key=key)
    with sandbox.Client(CONFIG) as other, other.attach(world.machine.name) as again, again.detached(key) as found:
        assert found.read() == b"start\ninput\n" and found.read(Stream.STDERR) == b"err\n"
        assert found.read(offset=6, limit=3) == b"inp"
        output = {Stream.STDOUT: b"", Stream.STDERR: b""}

        def collect(stream: Stream, data: bytes) -> None:
            output[stream] += data

        position = sandbox.Position(stdout=6)
        assert found.stream(collect, position) == 5 and found.wait() == 5
        assert output == {Stream.STDOUT: b"input\n", Stream.STDERR: b"err\n"} and position == sandbox.Position(12, 4)
    long = world.machine.detach(["sleep", "6789"], key=f"{key}.long", timeout=math.inf)
    assert long.poll() is None
    with fails(ErrorKind.TIMED_OUT, TimeoutError):
        long.wait(0.1)
    with fails(ErrorKind.CONFLICT):
        long.remove()
    long.kill()
    assert long.wait(60) == -signal.SIGKILL
    gone("sleep 6789")
    soft = world.machine.detach(["sleep", "6789"], key=f"{key}.soft")
    soft.send_signal(signal.SIGTERM)
    assert soft.wait(10) == -signal.SIGTERM
    for one in (first, long, soft):
        one.remove()
        with fails(ErrorKind.DETACHED_NOT_FOUND, sandbox.DetachedNotFoundError, LookupError):
            one.poll()
    with fails(ErrorKind.INVALID_ARGUMENT, ValueError):
        world.machine.detached("no key!")


def bytes_() -> None:
    every = bytes(range(256))
    assert world.machine.run(["cat"], input=every).stdout == every
    assert world.machine.run(["cat"], input=bytearray(every)).stdout == every
    assert world.machine.run("cat >&2", shell=True, input=every).stderr == every
    assert world.machine.run(["cat"], input=b"").stdout == world.machine.run(["cat"]).stdout == b""
    assert world.machine.run(["cat"], input="ü\n", text=True).stdout == "ü\n"
    assert world.machine.run(["cat"], input="ü", encoding="latin-1").stdout == "ü"
    (DIRECTORY / "input").write_bytes(every)
    with open(DIRECTORY / "input", "rb") as file:
        file.seek(1, os.SEEK_SET)
        os.lseek(file.fileno(), 1, os.SEEK_SET)
        assert world.machine.run(["cat"], stdin=file).stdout == every[1:]
    reader, writer = os.pipe()
    with world.machine.popen(["cat"], stdin=reader) as child:
        os.close(reader)
        os.write(writer, every)
        os.close(writer)
        assert child.stdin is None and child.stdout is not None and child.stdout.read() == every
    with fails(ErrorKind.INVALID_ARGUMENT, ValueError):
        world.machine.run(["echo", "a\0b"])
    with fails(ErrorKind.INVALID_ARGUMENT, ValueError):
        world.machine.run(["echo\0"])


def large() -> None:
    data = os.urandom(16 << 20)
    digest = hashlib.sha256(data).hexdigest()
    assert world.machine.run(["sha256sum"], input=data, text=False).stdout.split()[0].decode() == digest
    world.machine.path("/tmp/large").write_bytes(data)
    assert world.machine.run(["cat", "/tmp/large"]).stdout == data
    with world.machine.popen(["cat", "/tmp/large"]) as child:
        assert child.stdout is not None and hashlib.sha256(child.stdout.read()).hexdigest() == digest
    with world.machine.popen(["cat"]) as child:
        assert child.communicate(data)[0] == data
    cut = world.machine.run(["cat", "/tmp/large"], output_limit=1000)
    assert cut.stdout == data[:1000] and cut.truncated == len(data) - 1000
    world.machine.path("/tmp/large").unlink()


def threads() -> None:
    with (
        sandbox.Client(dataclasses.replace(CONFIG, max_sessions=8)) as eight,
        eight.attach(world.machine.name) as shared,
    ):
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


def fork() -> None:
    child = world.machine.popen(["cat"])
    raw = world.machine.path("/tmp/forked").open("wb", buffering=0)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            for use in (
                client.list,
                world.machine.info,
                lambda: world.machine.run(["true"]),
                lambda: world.machine.upload(b"a", b"b"),
                world.machine.path("/tmp").stat,
                child.wait,
                lambda: raw.write(b"x"),
                lambda: world.machine.detached("a"),
                lambda: world.machine.name and world.machine.ssh_port,
            ):
                with fails(ErrorKind.FORKED, sandbox.ForkedError):
                    use()
            with sandbox.Client(CONFIG) as own, own.attach(world.machine.name) as attached:
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
    assert world.machine.path("/tmp/forked").read_bytes() == b"parent"
    world.machine.path("/tmp/forked").unlink()


def callback() -> None:
    class Own(Exception):
        pass

    def stop(_stream: Stream, _data: bytes) -> bool:
        return False

    def throw(*_: object) -> None:
        raise mine

    mine = Own("mine")
    with fails(ErrorKind.CANCELLED, sandbox.OperationCancelledError):
        world.machine.run("echo a; exec sleep 7890", shell=True, on_output=stop)
    gone("sleep 7890")
    local = DIRECTORY / "callback"
    local.write_bytes(b"contents")

    class Broken:
        def read(self, _length: int, /) -> bytes:
            raise mine

        def write(self, _data: bytes, /) -> None:
            raise mine

    job = world.machine.detach("echo a; exec sleep 7890", key=f"callback-{RUN}", shell=True)
    for use in (
        lambda: world.machine.run("echo a; exec sleep 7890", shell=True, on_output=throw),
        lambda: job.stream(throw),
        lambda: world.machine.upload(local, "/tmp/callback", progress=throw),
        lambda: world.machine.upload(Broken(), "/tmp/callback"),
        lambda: world.machine.download("/etc/passwd", Broken()),
        lambda: world.machine.download_tree("/etc/apt", DIRECTORY / "apt", progress=throw),
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
    assert not world.machine.path("/tmp/callback").exists()
    assert world.machine.run(["echo", "works"]).stdout == b"works\n"

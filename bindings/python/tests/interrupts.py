"""Ctrl-C wherever the main thread can be, and other ways to end what runs. It is run where the cluster is reached."""

import asyncio
import concurrent.futures
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import Callable

import sandbox
from sandbox import running
from sandbox._border import Conversation

machine: sandbox.Machine
client: sandbox.Client


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def left(pattern: str) -> bool:
    return machine.run(["pgrep", "-f", pattern]).returncode != 1


def interrupted(work: Callable[[], object], when: Callable[[], object], then: Callable[[], object] = int) -> None:
    """The work ends with KeyboardInterrupt if Ctrl-C comes once `when` is so; then something else may happen."""

    def interrupt() -> None:
        until(lambda: bool(when()), "the work does not begin")
        begun.wait()
        signal.pthread_kill(own, signal.SIGINT)
        then()

    own, begun = threading.get_ident(), threading.Event()
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        begun.set()
        work()
        # It may come just after the end of a short work.
        thread.join()
    except KeyboardInterrupt:
        thread.join()
    else:
        raise AssertionError("there was no KeyboardInterrupt")


def goes_on() -> bool:
    """Whether something runs that the interpreter's end waits for."""
    return any(thread.name == "sandbox-wait" and not thread.daemon for thread in threading.enumerate())


class Endless:
    """What an upload reads from, and a download writes to, without an end."""

    def __init__(self) -> None:
        self.calls = 0

    def read(self, length: int, /) -> bytes:
        self.calls += 1
        return bytes(length)

    def write(self, _data: bytes, /) -> None:
        self.calls += 1

    def progress(self, *_: object) -> None:
        self.calls += 1

    def on_output(self, *_: object) -> None:
        self.calls += 1


def every_callback_may_be_interrupted() -> None:
    machine.run(["truncate", "-s", "8G", "/tmp/sparse"], check=True)
    endless = Endless()
    with tempfile.TemporaryDirectory() as local:
        for work in (
            lambda: machine.upload(endless, "/tmp/endless"),
            lambda: machine.download("/tmp/sparse", endless),
            lambda: machine.download("/tmp/sparse", os.path.join(local, "sparse"), progress=endless.progress),
            lambda: machine.run(["yes"], on_output=endless.on_output),
        ):
            # Most of the time the main thread is in the library, and sometimes in a function.
            for _ in range(3):
                endless.calls = 0
                interrupted(work, lambda: endless.calls > 2)
                calls = endless.calls
                assert machine.run(["true"]).returncode == 0 and endless.calls == calls, "it was called after the end"
        assert not os.listdir(local)
    assert not machine.path("/tmp/endless").exists() and not left("^yes")
    machine.path("/tmp/sparse").unlink()


def a_silent_command_is_killed() -> None:
    endless, up = Endless(), machine.path("/tmp/up")
    script = "touch /tmp/up; echo up; exec sleep 8765"
    interrupted(lambda: machine.run(script, shell=True), up.exists)
    # Its end was waited for.
    assert not left("sleep 8765")
    interrupted(lambda: machine.run(script, shell=True, on_output=endless.on_output), lambda: endless.calls)
    assert not left("sleep 8765") and endless.calls == 1
    up.unlink()
    # A detached one goes on.
    job = machine.detach("echo up; exec sleep 9876", shell=True, key="interrupted")
    position = sandbox.Position()
    interrupted(lambda: job.stream(endless.on_output, position), lambda: position.stdout)
    assert position == sandbox.Position(3, 0) and endless.calls == 2 and job.poll() is None
    for _ in range(5):
        # This signal often comes right before the wait, which it does not end then.
        interrupted(job.wait, lambda: True)
    with machine.popen(["sleep", "9876"]) as child:
        interrupted(child.wait, lambda: True)
        child.kill()
    job.kill()
    job.remove()


def an_interrupted_start_leaves_no_command() -> None:
    config = sandbox.Config(max_sessions=1)
    with sandbox.Client(config) as single, single.attach(machine.name) as narrow:
        first = narrow.popen(["cat"])

        # It waits for a session, and begins after the interrupt.
        interrupted(lambda: narrow.popen(["sleep", "6543"]), goes_on, first.kill)
        first.close()
        until(lambda: not goes_on(), "the start does not end")
        until(lambda: not left("sleep 6543"), "the command runs")
        until(lambda: narrow.session_counts.busy == 0, "the session is busy")


def a_wait_for_kubernetes_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, tempfile.TemporaryDirectory() as directory:
        accepted: list[socket.socket] = []
        threading.Thread(target=lambda: accepted.append(server.accept()[0]), daemon=True).start()
        kubeconfig = pathlib.Path(directory) / "kubeconfig"
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        kubeconfig.write_text(
            json.dumps(
                {
                    "clusters": [{"name": "c", "cluster": {"server": address}}],
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "users": [{"name": "u", "user": {}}],
                    "current-context": "c",
                }
            )
        )
        silent = sandbox.Client(sandbox.Config(kubeconfig=kubeconfig))
        interrupted(silent.list, lambda: accepted)
        # The library itself still waits for the answer.
        with accepted[0] as connection, contextlib.suppress(BlockingIOError):
            connection.setblocking(False)
            while True:
                assert connection.recv(1 << 16), "the connection is closed"


def an_interrupted_creation_leaves_nothing() -> None:
    name = f"interrupted-{os.getpid()}"
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        client.create(sandbox.SandboxSpec(name=name, lifetime=120))
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError("there was no KeyboardInterrupt")
    until(lambda: not goes_on(), "the creation does not end")
    try:
        client.get_sandbox_info(name)
    except sandbox.SandboxNotFoundError:
        return
    raise AssertionError(f"{name} is left")


def what_is_killed_before_it_begins_never_runs() -> None:
    command = machine.path("/tmp/began")
    plan = running.Plan(machine._open(), ["touch", str(command)], None, False, None)
    unborn = running.Running(plan.command, "touch", None, Conversation())
    unborn.kill()
    try:
        unborn.result()
    except sandbox.OperationCancelledError:
        pass
    else:
        raise AssertionError("it ran")
    assert not command.exists()


def commands_of_a_loop_need_no_executor() -> None:
    async def both() -> None:
        # As many threads as commands that wait for another one.
        loop = asyncio.get_running_loop()
        loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
        waiting = machine.run_async("until [ -e /tmp/other ]; do sleep 0.05; done", shell=True, check=True)
        other = machine.run_async("sleep 0.5; touch /tmp/other", shell=True, check=True)
        await asyncio.gather(waiting, other)
        threads: set[int] = set()
        pieces: list[bytes] = []

        def on_output(_stream: sandbox.Stream, data: bytes) -> bool:
            threads.add(threading.get_ident())
            pieces.append(data)
            return b"stop" not in data

        told = await machine.run_async(["echo", "ü"], text=True, capture_output=True)
        assert (told.stdout, told.stderr) == ("ü\n", "")
        await machine.run_async(["seq", "1000"], on_output=on_output)
        assert b"".join(pieces) == b"".join(b"%d\n" % number for number in range(1, 1001))
        assert threads == {threading.get_ident()}
        try:
            await machine.run_async("echo stop; exec sleep 7654", shell=True, on_output=on_output)
        except sandbox.OperationCancelledError:
            pass
        else:
            raise AssertionError("False did not stop it")
        assert not left("sleep 7654")

    asyncio.run(both())
    machine.path("/tmp/other").unlink()


def the_interpreter_ends_while_a_command_runs() -> None:
    program = """
import sandbox, sys
machine = sandbox.Client().attach(sys.argv[1])
child = machine.popen(["sleep", "600"], timeout=30)
child.stdin.write(b"in the buffer")
file = machine.path("/tmp/unclosed").open("w")
file.write("in the buffer")
"""
    arguments = [sys.executable, "-c", program, machine.name]
    done = subprocess.run(arguments, timeout=120, capture_output=True, check=True)
    assert done.stderr == b"", done.stderr
    # As Python's own files do, those of a sandbox have what was written.
    assert machine.path("/tmp/unclosed").read_text() == "in the buffer"


def main() -> None:
    global client, machine
    with sandbox.Client() as client, client.create() as machine:
        for test in (
            every_callback_may_be_interrupted,
            a_silent_command_is_killed,
            an_interrupted_start_leaves_no_command,
            a_wait_for_kubernetes_ends,
            an_interrupted_creation_leaves_nothing,
            what_is_killed_before_it_begins_never_runs,
            commands_of_a_loop_need_no_executor,
            the_interpreter_ends_while_a_command_runs,
        ):
            began = time.monotonic()
            test()
            print(f"{test.__name__}: {time.monotonic() - began:.1f} s", flush=True)
    print("done")


if __name__ == "__main__":
    main()

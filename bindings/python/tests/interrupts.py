"""Ctrl-C wherever the main thread can be, and other ways to end what runs. It is run where the cluster is reached."""

import asyncio
import concurrent.futures
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from typing import Callable

import sandbox
from sandbox._boundary import Conversation
from sandbox._threads import start

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
    # One of them is not of the command's process group.
    script = "touch /tmp/up; echo up; setsid sleep 8765 & exec sleep 8765"
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


def whatever_waits_in_the_library_is_interrupted() -> None:
    up, big = machine.path("/tmp/up"), machine.path("/tmp/big/file")
    # One that never waits, since there is always something to read.
    for line in ("touch /tmp/up; exec yes", "touch /tmp/up; exec sleep 8765"):
        for run in (machine.execute, partial(client.execute_command, machine.name)):
            interrupted(partial(run, line), up.exists)
            up.unlink()
        assert not left("^yes") and not left("sleep 8765")
    with machine.popen("touch /tmp/up; exec sleep 8765", shell=True) as child:
        assert child.stdin and child.stdout
        stdin, stdout = child.stdin, child.stdout
        interrupted(lambda: stdout.read(1), up.exists)
        interrupted(lambda: stdin.write(bytes(16 << 20)), up.exists)
        child.kill()
    up.unlink()
    contents = bytes(1 << 30)
    big.parent.mkdir()

    def has_begun() -> bool:
        return any(big.parent.iterdir())

    interrupted(lambda: big.write_bytes(contents), has_begun)
    assert not has_begun()
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(1 << 30)
        interrupted(lambda: machine.upload(file.name, big), has_begun)
        assert not has_begun()

    def write() -> None:
        with big.open("wb") as opened:
            opened.write(b"in the buffer")
            opened.write(contents)

    interrupted(write, lambda: has_begun() and big.stat().st_size)
    big.parent.rmtree()


def what_a_handler_does_is_done_meanwhile() -> None:
    def handle(*_: object) -> None:
        machine.path("/tmp/handled").touch()

    before = signal.signal(signal.SIGUSR1, handle)
    own, up = threading.get_ident(), machine.path("/tmp/up")

    def send() -> None:
        until(up.exists, "the command does not begin")
        signal.pthread_kill(own, signal.SIGUSR1)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        machine.run("touch /tmp/up; until [ -e /tmp/handled ]; do sleep 0.05; done", shell=True, check=True, timeout=60)
    finally:
        signal.signal(signal.SIGUSR1, before)
    thread.join()
    machine.run(["rm", "/tmp/up", "/tmp/handled"], check=True)


def an_interrupted_start_leaves_no_command() -> None:
    def starts() -> bool:
        threads = pathlib.Path("/proc/self/task").glob("*/comm")
        return [thread.read_text() for thread in threads].count("sandbox-command\n") == 2

    config = sandbox.Config(max_sessions=1)
    with sandbox.Client(config) as single, single.attach(machine.name) as narrow:
        first = narrow.popen(["cat"])
        # It waits for a session, and would begin after the interrupt.
        interrupted(lambda: narrow.popen(["sleep", "6543"]), starts, first.kill)
        first.close()
        until(lambda: narrow.session_counts.busy == 0, "the session is busy")
        assert not left("sleep 6543")


def an_interrupted_creation_leaves_nothing() -> None:
    # When the request may be on its way, and when there is a Pod.
    for moment in ("early", "late"):
        name = f"interrupted-{os.getpid()}-{moment}"

        def has_come(name: str = name, is_early: bool = moment == "early") -> bool:
            return is_early or not is_gone(name)

        interrupted(partial(client.create, sandbox.SandboxSpec(name=name, lifetime=120)), has_come)
        until(partial(is_gone, name), f"{name} is left")


def is_gone(name: str) -> bool:
    try:
        client.get_sandbox_info(name)
    except sandbox.SandboxNotFoundError:
        return True
    return False


def an_interrupted_deletion_goes_on() -> None:
    gone = client.create(sandbox.SandboxSpec(lifetime=120))

    def is_asked_for() -> bool:
        try:
            return client.get_sandbox_info(gone.name).verdict is not None
        except sandbox.SandboxNotFoundError:
            return True

    interrupted(gone.delete, is_asked_for)
    until(lambda: is_gone(gone.name), f"{gone.name} is left")


def what_is_halted_before_it_begins_never_runs() -> None:
    began, conversation = machine.path("/tmp/began"), Conversation()
    conversation.halt()
    unborn = start(conversation.task(partial(machine.run, ["touch", str(began)])))
    try:
        unborn.result()
    except sandbox.OperationCancelledError:
        assert not began.exists()
    else:
        raise AssertionError("it has run")


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
        for receive in (None, on_output):
            task = asyncio.ensure_future(
                machine.run_async("setsid sleep 7654 & exec sleep 7654", shell=True, on_output=receive)
            )
            while not await loop.run_in_executor(None, left, "^sleep 7654"):
                pass
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
            else:
                raise AssertionError("it was not cancelled")
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
            whatever_waits_in_the_library_is_interrupted,
            what_a_handler_does_is_done_meanwhile,
            an_interrupted_start_leaves_no_command,
            an_interrupted_creation_leaves_nothing,
            an_interrupted_deletion_goes_on,
            what_is_halted_before_it_begins_never_runs,
            commands_of_a_loop_need_no_executor,
            the_interpreter_ends_while_a_command_runs,
        ):
            began = time.monotonic()
            test()
            print(f"{test.__name__}: {time.monotonic() - began:.1f} s", flush=True)
    print("done")


if __name__ == "__main__":
    main()

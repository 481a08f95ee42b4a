"""What the package promises about itself. It needs no cluster, and is run by every Python that is there."""

import contextlib
import dataclasses
import enum
import gc
import inspect
import json
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
import typing
from collections.abc import Iterator
from typing import Callable, Optional

import sandbox
from sandbox import _abi as abi
from sandbox import errors
from sandbox._boundary import Conversation, Handle, interruptible, make
from sandbox._threads import Task, start


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def statuses() -> Iterator[int]:
    return (abi.sbx_status_at(index) for index in range(abi.sbx_status_count()))


def every_status_has_a_kind_and_a_class() -> None:
    assert set(statuses()) == set(sandbox.ErrorKind)
    for kind in sandbox.ErrorKind:
        name = (abi.sbx_status_name(kind) or b"").decode()
        assert name == ("SBX_OK" if kind is sandbox.ErrorKind.OK else f"SBX_ERR_{kind.name}"), name
        if kind is not sandbox.ErrorKind.OK:
            error = errors.made(kind, "text")
            assert isinstance(error, sandbox.SandboxError) and error.kind is kind and str(error) == "text"
    assert abi.sbx_status_name(12345) is None


def the_versions_agree() -> None:
    numbers = [int(part) for part in sandbox.__version__.split(".")]
    assert abi.sbx_version_number() == numbers[0] << 16 | numbers[1] << 8 | numbers[2]


def handles_are_freed_by_their_last_user() -> None:
    freed: list[Optional[int]] = []

    def filled() -> Handle:
        handle = Handle(lambda place: freed.append(place.value))
        handle._as_parameter_.value = 7
        return handle

    handle = filled()
    user = handle
    del handle
    assert not freed
    del user
    assert freed == [7]

    # An exception does not keep what was in use, whatever it came out of.
    def failing(_handle: Handle) -> int:
        raise ZeroDivisionError

    def asking(handle: Handle) -> None:
        conversation = Conversation()
        conversation.hold(lambda: conversation.ask(lambda: failing(handle)))

    def failed(work: Callable[[Handle], object]) -> None:
        try:
            work(filled())
        except ZeroDivisionError:
            pass
        else:
            raise AssertionError("there was no exception")

    gc.disable()
    for work in (failing, lambda handle: interruptible(failing, handle), asking):
        for where in (failed, lambda work: start(Task(lambda: failed(work))).result()):
            freed.clear()
            where(work)
            # The thread that made the call may still be at its last step.
            until(lambda: freed == [7], f"{work} keeps a handle")
    gc.enable()


def nothing_is_lost_right_after_a_call() -> None:
    freed: list[Optional[int]] = []

    def interrupted_when_done(place: "object", _error: object) -> int:
        place._obj.value = 7  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        make(interrupted_when_done, lambda place: freed.append(place.value))
    assert freed == [7], freed


def nothing_of_a_call_runs_where_an_interrupt_is_lost() -> None:
    """What a signal handler raises in a finalizer is printed and lost, so no finalizer of a call may be Python's."""
    functions: list[str] = []

    def note(frame: types.FrameType, event: str, _: object) -> None:
        if event == "call":
            functions.append(frame.f_code.co_name)

    def run() -> None:
        make(abi.sbx_config_new, abi.sbx_config_free)
        with contextlib.suppress(sandbox.InvalidArgumentError):
            sandbox.Config(namespace="-")
        with socket.create_server(("127.0.0.1", 0)) as server:
            answering = start(Task(lambda: forbid(server)))
            with contextlib.suppress(sandbox.PermissionDeniedError):
                client_of(server).list()
            answering.result()

    gc.disable()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
        gc.enable()
    assert "list" in functions and "__del__" not in functions, functions


def signals_come_through_a_call_that_waits() -> None:
    own = threading.get_ident()
    handled: list[int] = []

    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            signal.pthread_kill(own, signal.SIGUSR1)
            forbid(server)
            until(lambda: bool(handled), "the handler does not end")
            signal.pthread_kill(own, signal.SIGINT)
            # The request is given up.
            connection.settimeout(60)
            while connection.recv(1 << 16):
                pass

    def handle(number: int, _frame: object) -> None:
        # A handler may make calls itself.
        try:
            client.list()
        except sandbox.PermissionDeniedError:
            handled.append(number)

    with socket.create_server(("127.0.0.1", 0)) as server:
        client = client_of(server)
        before = signal.signal(signal.SIGUSR1, handle)
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            client.list()
        except KeyboardInterrupt as interrupt:
            assert interrupt.__context__ is None
        else:
            raise AssertionError("there was no KeyboardInterrupt")
        finally:
            signal.signal(signal.SIGUSR1, before)
        thread.join()
    assert handled == [signal.SIGUSR1]


def forbid(server: socket.socket) -> None:
    """Answers one request."""
    connection, _ = server.accept()
    with connection:
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")


def client_of(server: socket.socket) -> sandbox.Client:
    """A client that takes this for the API server."""
    with tempfile.TemporaryDirectory() as directory:
        kubeconfig = pathlib.Path(directory) / "kubeconfig"
        parts = {
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.getsockname()[1]}"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {}}],
            "current-context": "c",
        }
        kubeconfig.write_text(json.dumps(parts))
        return sandbox.Client(sandbox.Config(kubeconfig=kubeconfig))


def classes() -> Iterator[type]:
    return (thing for name in sandbox.__all__ if inspect.isclass(thing := getattr(sandbox, name)))


def help_tells_everything() -> None:
    for cls in classes():
        text = inspect.getdoc(cls) or ""
        names = [field.name for field in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []
        if issubclass(cls, enum.Enum):
            names += list(cls.__members__)
        assert text and all(f"\n{name}: " in text for name in names), f"{cls}: {names}"
        assert "sbx_" not in text.lower() and " NULL" not in text, f"{cls} speaks C: {text}"


def type_hints_are_there_at_runtime() -> None:
    for cls in classes():
        typing.get_type_hints(cls)
        for _, function in inspect.getmembers(cls, inspect.isfunction):
            if function.__module__.startswith("sandbox"):
                typing.get_type_hints(function)
    assert typing.get_type_hints(sandbox.Machine.path)["return"] is sandbox.SandboxPath


def what_the_library_needs_is_named() -> None:
    package = pathlib.Path(sandbox.__file__).parent
    with tempfile.TemporaryDirectory() as directory:
        copy = pathlib.Path(directory) / "sandbox"
        shutil.copytree(package, copy)
        library = copy / "libsandbox.so"
        whole = library.read_bytes()
        assert b"\0libc.so.6\0" in whole
        library.write_bytes(whole.replace(b"\0libc.so.6\0", b"\0libc.so.9\0"))
        program = f"import sys; sys.path.insert(0, {directory!r}); import sandbox"
        told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60).stderr
    assert "ImportError: the library in this package can't be loaded: libc.so.9" in told, told


def main() -> None:
    every_status_has_a_kind_and_a_class()
    the_versions_agree()
    handles_are_freed_by_their_last_user()
    nothing_is_lost_right_after_a_call()
    nothing_of_a_call_runs_where_an_interrupt_is_lost()
    signals_come_through_a_call_that_waits()
    help_tells_everything()
    type_hints_are_there_at_runtime()
    what_the_library_needs_is_named()
    print("done")


if __name__ == "__main__":
    main()

"""What the package promises about its border with the library. It is run where the cluster is reached."""

import gc
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator
from ctypes import byref, c_uint64
from typing import Optional

import sandbox
from sandbox import _abi as abi
from sandbox import errors
from sandbox._border import Conversation, Handle, background, call, encoded, interruptible, make


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


def trivial_calls_are_cheap(machine: sandbox.Machine) -> None:
    """At most 20 microseconds: the best of many runs, since the machine has other work too."""

    def cost(work: object, count: int = 200) -> float:
        assert callable(work)
        best = float("inf")
        for _ in range(50):
            began = time.perf_counter()
            for _ in range(count):
                work()
            best = min(best, (time.perf_counter() - began) / count)
        return best

    config = make(abi.sbx_config_new, abi.sbx_config_free)
    costs = {
        "a property": cost(lambda: machine.ssh_port),
        "a setter that can fail": cost(lambda: call(abi.sbx_config_set_owner, config, encoded("owner"))),
        "a handle": cost(lambda: make(abi.sbx_config_new, abi.sbx_config_free)),
    }
    print("; ".join(f"{name}: {seconds * 1e6:.1f} us" for name, seconds in costs.items()))
    assert max(costs.values()) < 20e-6, costs


def what_the_package_does_in_other_ways_agrees(machine: sandbox.Machine) -> None:
    """The package needs these functions of the ABI nowhere, since others say the same."""
    handle = machine._open()
    output = make(abi.sbx_sandbox_execute, abi.sbx_output_free, handle, b"echo a; exit 3")
    assert errors.lent(abi.sbx_output_stdout, output) == b"a\n" == machine.execute("echo a; exit 3").stdout
    command = make(abi.sbx_sandbox_command, abi.sbx_command_free, handle, b"echo")
    call(abi.sbx_command_add_arg, command, "ü".encode())
    output = make(abi.sbx_command_output, abi.sbx_output_free, command)
    assert errors.lent(abi.sbx_output_stdout, output) == "ü\n".encode()
    info = make(abi.sbx_sandbox_info, abi.sbx_info_free, handle)
    for name, value in machine.info().labels.items():
        assert abi.sbx_info_label(info, name.encode()) == value.encode()
    with tempfile.TemporaryDirectory() as directory:
        local, back = pathlib.Path(directory) / "local", pathlib.Path(directory) / "back"
        local.write_bytes(b"contents")
        size = c_uint64()
        call(abi.sbx_sandbox_upload_file, handle, bytes(local), b"there", byref(size))
        call(abi.sbx_sandbox_download_file, handle, b"there", bytes(back), None)
        assert size.value == 8 and back.read_bytes() == b"contents" == machine.path("there").read_bytes()


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
        for where in (failed, lambda work: background(lambda: failed(work)).result()):
            freed.clear()
            where(work)
            # The thread that made the call may still be at its last step.
            until(lambda: freed == [7], f"{work} keeps a handle")
    gc.enable()


def main() -> None:
    every_status_has_a_kind_and_a_class()
    the_versions_agree()
    handles_are_freed_by_their_last_user()
    with sandbox.Client() as client, client.create() as machine:
        what_the_package_does_in_other_ways_agrees(machine)
        trivial_calls_are_cheap(machine)
    with sandbox.Client() as client:
        try:
            client.attach(machine.name)
        except sandbox.SandboxNotFoundError:
            print("done")


if __name__ == "__main__":
    main()

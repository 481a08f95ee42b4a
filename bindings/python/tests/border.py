"""What the package promises about its border with the library. It is run where the cluster is reached."""

import gc
import os
import pathlib
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from ctypes import byref, c_uint64

import sandbox
from sandbox import _abi as abi
from sandbox import errors
from sandbox._border import Callback, Handle, call, encoded, make


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
    freed: list[int] = []
    handle = Handle(7, freed.append)
    user = handle
    del handle
    assert not freed
    del user
    assert freed == [7]
    # An exception of a callback does not keep what was in use.
    callback = Callback(lambda: 1 // 0)
    assert callback() == 1 and isinstance(callback.raised, ZeroDivisionError)
    gc.collect()


def an_interrupted_creation_leaves_nothing(client: sandbox.Client) -> None:
    name = f"interrupted-{os.getpid()}"
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        client.create(sandbox.SandboxSpec(name=name, lifetime=120))
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError("there was no KeyboardInterrupt")
    for thread in threading.enumerate():
        if thread.name == "sandbox-wait" and not thread.daemon:
            thread.join()
    try:
        client.get_sandbox_info(name)
    except sandbox.SandboxNotFoundError:
        return
    raise AssertionError(f"{name} is left")


def main() -> None:
    every_status_has_a_kind_and_a_class()
    the_versions_agree()
    handles_are_freed_by_their_last_user()
    with sandbox.Client() as client, client.create() as machine:
        what_the_package_does_in_other_ways_agrees(machine)
        trivial_calls_are_cheap(machine)
    with sandbox.Client() as client:
        an_interrupted_creation_leaves_nothing(client)
        try:
            client.attach(machine.name)
        except sandbox.SandboxNotFoundError:
            print("done")


if __name__ == "__main__":
    main()

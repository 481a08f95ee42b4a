"""What the scenarios in Python share."""

import contextlib
import pathlib
import secrets
import sys
import time
from collections.abc import Iterator
from typing import Callable

import sandbox
from sandbox import ErrorKind

RUN = secrets.token_hex(4)
OWNER = f"conformance-py-{RUN}"
UNPULLABLE = "localhost/no-such-image:1"
DIRECTORY = pathlib.Path(sys.argv[1])
CONFIG = sandbox.Config(owner=OWNER, lifetime=900)
client = sandbox.Client(CONFIG)


class World:
    """What the scenario `life` makes."""

    machine: sandbox.Machine


world = World()


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
    while world.machine.run(["pgrep", "-f", pattern]).returncode != 1:
        assert time.monotonic() < deadline, f"{pattern} is left"


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        world.machine.run(["true"])

"""Peers in a process of their own: one JSON object per line in and out, see compare/main.rs.

Their memory can be measured, and one peer's threads are not in the way of another's.
"""

import dataclasses
import functools
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, ClassVar

from places import BENCHES, PROGRAM

from .base import STEP_SECONDS, Peer, Target


class Program(Peer):
    """A peer in another process."""

    arguments: tuple[str, ...]
    works: ClassVar[set[str]] = set()
    # Added to the request to open a connection.
    settings: ClassVar[dict[str, str]] = {}

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.unread = b""

    def command(self) -> list[str]:
        return [PROGRAM.read_text(), *self.arguments]

    def environment(self) -> dict[str, str]:
        """What it finds in its environment beside ours."""
        return {}

    def request(self, work: str, fields: dict[str, Any]) -> str:
        return json.dumps({"work": work, **fields})

    def takes(self, work: str) -> bool:
        return work in self.works

    def open(self, target: Target) -> None:
        self.do("open", **dataclasses.asdict(target), **self.settings)

    def do(self, work: str, **fields: object) -> Any:
        if self.process is None:
            pipe = subprocess.PIPE
            environment = os.environ | self.environment()
            self.process = subprocess.Popen(
                self.command(), stdin=pipe, stdout=pipe, bufsize=0, cwd=BENCHES, env=environment
            )
            self.pid = self.process.pid
        assert self.process.stdin is not None
        self.process.stdin.write(self.request(work, fields).encode() + b"\n")
        answer = json.loads(self._line(self.process, work))
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {work}: {answer['error']}")
        return answer["result"]

    def _line(self, process: subprocess.Popen[bytes], work: str) -> bytes:
        deadline = time.monotonic() + STEP_SECONDS
        assert process.stdout is not None
        output = process.stdout.fileno()
        while b"\n" not in self.unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([output], [], [], left)[0]:
                process.kill()
                message = f"{self.name} has not answered to {work} for {STEP_SECONDS} s"
                raise TimeoutError(message)
            piece = os.read(output, 1 << 16)
            if not piece:
                raise RuntimeError(f"{self.name} has ended with {process.wait()} at {work}")
            self.unread += piece
        line, self.unread = self.unread.split(b"\n", 1)
        return line

    def close(self) -> None:
        if self.process is None:
            return
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=STEP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.process = self.pid = None


COMMANDS = {"warm", "connect", "first"}
FILES = {"upload", "download"}
TREES = {"upload_tree", "download_tree"}
SMALL = {"write", "read"}
TOGETHER = {"upload_together", "download_together"}
SESSIONS = {"gather", "parallel", "hold"}


class Library(Program):
    """This library, to the Pod's address."""

    name = "ours"
    arguments = ("library",)
    works = (
        COMMANDS
        | FILES
        | TREES
        | SMALL
        | TOGETHER
        | SESSIONS
        | {"output", "api_requests", "remove_together"}
    )


class LibraryShell(Program):
    """This library, with lines for the shell instead of programs."""

    name = "ours, shell line"
    arguments = ("library",)
    works: ClassVar = {"warm"}

    def do(self, work: str, **fields: object) -> Any:
        return super().do(work, **fields, shell=True)


class LibraryChecked(Program):
    """This library, and SHA-256 compared on both sides."""

    name = "ours, checked"
    arguments = ("library",)
    works = FILES

    def do(self, work: str, **fields: object) -> Any:
        return super().do(work, **fields, checksum=True)


class LibraryByTunnel(Program):
    """This library, through the API server as kubectl goes."""

    name = "ours by tunnel"
    arguments = ("library",)
    by_address = False
    works = COMMANDS | FILES | TREES
    settings: ClassVar = {"transport": "tunnel"}


class LibraryAlone(Program):
    """This library's sessions, without the threads that use them."""

    name = "ours, sessions alone"
    arguments = ("library",)
    works: ClassVar = {"hold"}

    def do(self, work: str, **fields: object) -> Any:
        return super().do(work, **fields, alone=True)


class Plain(Program):
    """libssh2 with nothing around it: what it takes is the limit. Its cipher is ours."""

    name = "libssh2"
    arguments = ("plain",)
    works = COMMANDS | FILES | SMALL | TOGETHER | SESSIONS | {"output", "cipher"}


class Relay(Program):
    """No client: the slow link."""

    name = "relay"
    arguments = ("relay",)


class Hosted(Program):
    """A peer that is written in Python."""

    def __init__(self, kind: type[Peer]) -> None:
        super().__init__()
        self.kind = kind
        self.name = kind.name
        self.by_address = kind.by_address

    def command(self) -> list[str]:
        return [sys.executable, "-m", "peers.host", self.kind.__module__, self.kind.__name__]

    def takes(self, work: str) -> bool:
        return getattr(self.kind, work, None) is not None


def hosted(kind: type[Peer]) -> Callable[[], Peer]:
    return functools.partial(Hosted, kind)

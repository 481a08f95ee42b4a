"""Peers that are programs: one JSON object per line in and out, see benches/compare/main.rs."""

import json
import os
import select
import subprocess
import time
from pathlib import Path
from typing import Any, ClassVar

from places import PROGRAM

from .base import STEP_SECONDS, Peer, Target


class Program(Peer):
    """A peer in another language."""

    arguments: tuple[str, ...]
    # Added to the request to open a connection.
    settings: ClassVar[dict[str, str]] = {}

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.unread = b""

    def command(self) -> list[str]:
        return [PROGRAM.read_text(), *self.arguments]

    def ask(self, work: str, **fields: object) -> dict[str, Any]:
        if self.process is None:
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(self.command(), stdin=pipe, stdout=pipe, bufsize=0)
        request = json.dumps({"work": work, **fields})
        self.process.stdin.write(request.encode() + b"\n")
        answer = json.loads(self._line())
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {work}: {answer['error']}")
        return answer

    def _line(self) -> bytes:
        deadline = time.monotonic() + STEP_SECONDS
        output = self.process.stdout
        while b"\n" not in self.unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([output], [], [], left)[0]:
                self.process.kill()
                raise TimeoutError(f"{self.name} has not answered for {STEP_SECONDS} s")
            piece = os.read(output.fileno(), 1 << 16)
            if not piece:
                raise RuntimeError(f"{self.name} has ended with {self.process.wait()}")
            self.unread += piece
        line, self.unread = self.unread.split(b"\n", 1)
        return line

    def open(self, target: Target) -> None:
        self.ask(
            "open",
            name=target.name,
            address=target.address,
            port=target.port,
            user=target.user,
            key=str(target.key),
            **self.settings,
        )

    def warm(self, count: int) -> list[float]:
        return self.ask("warm", count=count)["seconds"]

    def connect(self, count: int) -> list[float]:
        return self.ask("connect", count=count)["seconds"]

    def first(self, count: int) -> list[float]:
        return self.ask("first", count=count)["seconds"]

    def upload(self, local: Path, remote: str) -> list[float]:
        return self.ask("upload", local=str(local), remote=remote)["seconds"]

    def download(self, remote: str, local: Path) -> list[float]:
        return self.ask("download", local=str(local), remote=remote)["seconds"]

    def close(self) -> None:
        if self.process is not None:
            self.process.stdin.close()
            try:
                self.process.wait(timeout=STEP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
            self.process = None


class Library(Program):
    """This library, to the Pod's address."""

    name = "ours"
    arguments = ("library",)

    def __init__(self) -> None:
        super().__init__()
        # Calls to the API server during all warm commands.
        self.api_requests = 0

    def warm(self, count: int) -> list[float]:
        answer = self.ask("warm", count=count)
        self.api_requests += answer["api_requests"]
        return answer["seconds"]


class LibraryByTunnel(Program):
    """This library, through the API server as kubectl goes."""

    name = "ours by tunnel"
    arguments = ("library",)
    settings: ClassVar = {"transport": "tunnel"}
    # Its transfers take too long for a short comparison.
    upload = download = None


class Plain(Program):
    """libssh2 with nothing around it: what it takes is the limit."""

    name = "libssh2"
    arguments = ("plain",)

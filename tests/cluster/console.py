"""What the person at the terminal is told."""

from __future__ import annotations

import sys
import time
from pathlib import Path


class Failure(Exception):
    """A step failed. The text says which one, why, and what to do about it."""


def say(text: str) -> None:
    print(f"cluster: {text}", flush=True)


def tail(log: Path, lines: int = 20) -> str:
    """The end of a log, indented, for a failure's text."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 64 * 1024))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return f"  ({error})"
    end = [f"  {line[:400]}" for line in text.splitlines()[-lines:]]
    return "\n".join([f"the end of {log}:", *(end or ["  (empty)"])])


class Progress:
    """One line for a step that takes long: rewritten on a terminal, repeated rarely in a log."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.started = time.monotonic()
        self.terminal = sys.stdout.isatty()
        self.next_line = self.started + 15

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def tick(self) -> None:
        if self.terminal:
            print(f"\rcluster: {self.what}: {self.seconds:.0f} s ", end="", flush=True)
        elif time.monotonic() >= self.next_line:
            say(f"{self.what}: {self.seconds:.0f} s so far")
            self.next_line += 15

    def done(self) -> None:
        print("\r" if self.terminal else "", end="")
        say(f"{self.what}: done in {self.seconds:.1f} s")

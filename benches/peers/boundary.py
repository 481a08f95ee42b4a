"""This library from every language, for what a call adds to the same one in Rust.

A program of boundary/ gets the sandbox's name as its argument and its settings from the
environment. A line `WORK COUNT CALLS` makes it time COUNT runs of so many calls; its answer is
that of the other programs, or its end. The works are `warm`, and calls that do next to nothing:

ssh_port   a number from the cache
host_key   a text that comes with it
detached   can fail, takes a text and makes a handle, which is freed
"""

import sys
from typing import Any

from places import BOUNDARY_C, BOUNDARY_CPP, BOUNDARY_GO, BOUNDARY_PYTHON

from .base import Target
from .program import Library, Program


class Rust(Library):
    """What the others have below them."""

    name = "Rust"


class Boundary(Program):
    """This library from another language."""

    target: Target

    def open(self, target: Target) -> None:
        self.target = target
        self.do("warm", count=1, calls=1)

    def command(self) -> list[str]:
        return [*self.arguments, self.target.name]

    def environment(self) -> dict[str, str]:
        return {"SANDBOX_SSH_KEY": self.target.key, "SANDBOX_TRANSPORT": "direct"}

    def request(self, work: str, fields: dict[str, Any]) -> str:
        return f"{work} {fields['count']} {fields['calls']}"


class C(Boundary):
    name = "C"
    arguments = (str(BOUNDARY_C),)


class Cpp(Boundary):
    name = "C++"
    arguments = (str(BOUNDARY_CPP),)


class Go(Boundary):
    name = "Go"
    arguments = (str(BOUNDARY_GO),)


class Python(Boundary):
    name = "Python"
    arguments = (sys.executable, str(BOUNDARY_PYTHON))

"""What the machine must have: root, Debian packages, Rust, Go."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from commands import PATH, environment, long_step
from console import Failure, say
from layout import CACHE, HERE, REPOSITORY

GO_NEEDED = re.compile(r"^go (\d+(?:\.\d+)+)$", re.MULTILINE)
RUST_NEEDED = re.compile(r"^rust-version = \"(\d+(?:\.\d+)+)\"", re.MULTILINE)


def require_root() -> None:
    if os.geteuid() != 0:
        raise Failure(
            "the cluster needs root (namespaces, mounts, cgroups); "
            "or set SANDBOX_CLUSTER=current to use the cluster of your own kubeconfig"
        )


def digest(files: Iterable[Path], *extra: str) -> str:
    """What a build result depends on, as a stamp to compare."""
    total = hashlib.sha256("\0".join(extra).encode())
    for file in files:
        total.update(b"\0" + file.name.encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


def stamped(stamp: Path, value: str) -> bool:
    try:
        return stamp.read_text() == value
    except OSError:
        return False


def missing_packages(purposes: Iterable[str]) -> list[str]:
    """The packages of packages.txt whose file or command is not on this machine."""
    missing = []
    for line in (HERE / "packages.txt").read_text().splitlines():
        if line.startswith("#") or not line:
            continue
        purpose, package, provides = line.split()
        # `which` alone would find only what can be executed.
        there = Path(provides).exists() if provides.startswith("/") else shutil.which(provides, path=PATH)
        if purpose in purposes and not there:
            missing.append(package)
    return missing


def install(*purposes: str) -> None:
    """Installs what is missing from Debian's packages."""
    missing = missing_packages(purposes)
    if not missing:
        return
    names = " ".join(missing)
    if os.geteuid() != 0:
        raise Failure(f"these packages are missing; install them as root: {names}")
    if shutil.which("apt-get") is None:
        raise Failure(f"this machine has no apt-get; install what these packages provide: {names}")
    log = CACHE / "apt.log"
    advice = f"Try it by hand: apt-get update && apt-get install {names}"
    changes = {"DEBIAN_FRONTEND": "noninteractive"}
    say(f"installing Debian packages: {names} (log: {log})")
    long_step(
        "reading the package lists",
        ["apt-get", "update"],
        log=log,
        limit=600,
        advice=advice,
        changes=changes,
    )
    long_step(
        "installing the packages",
        ["apt-get", "install", "--yes", "--no-install-recommends", *missing],
        log=log,
        limit=1200,
        advice=advice,
        changes=changes,
    )
    still = missing_packages(purposes)
    if still:
        raise Failure(f"installed, but their commands are not found: {' '.join(still)}. {advice}")


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


def needed(file: Path, line: re.Pattern[str]) -> str:
    """The version of a tool that a file of the project wants."""
    found = line.search(file.read_text())
    if found is None:
        raise Failure(f"{file} names no version of its tool")
    return found[1]


def require_version(tool: str, wanted: str, *command: str, directory: Path | None = None) -> None:
    """Refuses a tool that is missing or too old."""
    advice = f"install {tool} {wanted} or newer"
    try:
        # Go may download a newer one of itself here, as the module of the directory wants it.
        done = subprocess.run(command, capture_output=True, text=True, cwd=directory, env=environment(), timeout=600)
    except OSError as error:
        raise Failure(f"{command[0]} is missing: {advice}") from error
    found = re.search(r"\d+(\.\d+)+", done.stdout)
    if found is None or numbers(found[0]) < numbers(wanted):
        text = (done.stdout + done.stderr).strip() or "unknown"
        raise Failure(f"this {tool} is too old ({text}): {advice}")


def require_rust() -> None:
    for command in ("cargo", "rustc"):
        wanted = needed(REPOSITORY / "Cargo.toml", RUST_NEEDED)
        require_version("Rust (https://rustup.rs)", wanted, command, "--version")


def require_go() -> None:
    """Checks for the Go that the most demanding module of this directory wants."""
    wanted = {module: needed(module, GO_NEEDED) for module in HERE.glob("*/go.mod")}
    module = max(wanted, key=lambda module: numbers(wanted[module]))
    name = "Go (https://go.dev/doc/install)"
    require_version(name, wanted[module], "go", "env", "GOVERSION", directory=module.parent)

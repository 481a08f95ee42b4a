"""What the machine must have (root, Debian packages, Rust, Go), and Kubernetes built from Go."""

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
from layout import BINARY, CACHE, COMPONENTS, HERE, REPOSITORY

GO_NEEDED = re.compile(r"^go (\d+)\.(\d+)", re.MULTILINE)
RUST_NEEDED = re.compile(r"^rust-version = \"(\d+)\.(\d+)", re.MULTILINE)
KUBERNETES = re.compile(r"^\s*k8s\.io/kubernetes v(\d+)\.(\d+)\.(\d+)$", re.MULTILINE)


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
    # containerd and etcd come with services that nobody here asked for. The policy file is
    # Debian's way to say "do not start them"; one that is there already stays as it is.
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    try:
        if ours:
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
        long_step(
            "installing the packages",
            ["apt-get", "install", "--yes", "--no-install-recommends", *missing],
            log=log,
            limit=1200,
            advice=advice,
            changes=changes,
        )
    finally:
        if ours:
            policy.unlink(missing_ok=True)
    still = missing_packages(purposes)
    if still:
        raise Failure(f"installed, but their commands are not found: {' '.join(still)}. {advice}")


def require_version(tool: str, file: Path, needed: re.Pattern[str], *command: str) -> None:
    """Refuses a tool that is missing, or older than a file of the project wants it."""
    wanted = needed.search(file.read_text())
    if wanted is None:
        raise Failure(f"{file} names no version of {tool}")
    advice = f"install {tool} {wanted[1]}.{wanted[2]} or newer"
    try:
        text = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60).stdout
    except OSError as error:
        raise Failure(f"{command[0]} is missing: {advice}") from error
    found = re.search(r"(\d+)\.(\d+)", text)
    if found is None or (int(found[1]), int(found[2])) < (int(wanted[1]), int(wanted[2])):
        raise Failure(f"this {tool} is too old ({text.strip() or 'unknown'}): {advice}")


def require_rust() -> None:
    for command in ("cargo", "rustc"):
        name = "Rust (https://rustup.rs)"
        require_version(name, REPOSITORY / "Cargo.toml", RUST_NEEDED, command, "--version")


def require_go() -> None:
    name = "Go (https://go.dev/doc/install)"
    require_version(name, COMPONENTS / "go.mod", GO_NEEDED, "go", "env", "GOVERSION")


def build_kubernetes() -> str:
    """Builds the one binary of all components, unless it is there. Returns its stamp."""
    module = COMPONENTS / "go.mod"
    sources = [module, COMPONENTS / "go.sum", *sorted(COMPONENTS.rglob("*.go"))]
    version = KUBERNETES.search(module.read_text())
    if version is None:
        raise Failure(f"{module} names no version of k8s.io/kubernetes")
    major, minor, patch = version.groups()
    number = f"v{major}.{minor}.{patch}"
    # Go modules carry no version text of their own; clients ask the API server for it.
    variables = {"gitVersion": number, "gitMajor": major, "gitMinor": minor}
    flags = " ".join(["-s", "-w"] + [f"-X k8s.io/component-base/version.{k}={v}" for k, v in variables.items()])
    stamp = BINARY.with_suffix(".stamp")
    wanted = digest(sources, flags)
    if BINARY.exists() and stamped(stamp, wanted):
        return wanted
    require_go()
    log = CACHE / "build.log"
    new = BINARY.with_suffix(".new")
    say(f"building Kubernetes {number} (the first time 5 to 15 minutes; log: {log})")
    long_step(
        f"building Kubernetes {number}",
        ["go", "build", "-trimpath", f"-ldflags={flags}", "-o", str(new), "."],
        log=log,
        limit=5400,
        advice=f"Fix what Go complains about (a module proxy, disk space) and run up again; {log}",
        directory=COMPONENTS,
    )
    new.rename(BINARY)
    stamp.write_text(wanted)
    return wanted

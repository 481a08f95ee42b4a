"""What the machine must have (root, Debian packages, Go), and Kubernetes built from Go."""

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
from layout import BINARY, CACHE, COMPONENTS, HERE

GO_NEEDED = (1, 24)
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


def missing_packages() -> list[str]:
    """The packages of packages.txt whose file or command is not on this machine."""
    missing = []
    for line in (HERE / "packages.txt").read_text().splitlines():
        package, _, provides = line.partition(" ")
        if line.startswith("#") or not package:
            continue
        if shutil.which(provides.strip(), path=PATH) is None:
            missing.append(package)
    return missing


def install() -> None:
    """Installs what is missing from Debian's packages."""
    missing = missing_packages()
    if not missing:
        return
    names = " ".join(missing)
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
    still = missing_packages()
    if still:
        raise Failure(f"installed, but their commands are not found: {' '.join(still)}. {advice}")


def require_go() -> None:
    advice = f"install Go {GO_NEEDED[0]}.{GO_NEEDED[1]} or newer (https://go.dev/doc/install)"
    try:
        text = subprocess.run(
            ["go", "env", "GOVERSION"],
            capture_output=True,
            text=True,
            env=environment(),
            timeout=60,
        ).stdout
    except OSError as error:
        raise Failure(f"Kubernetes is built with Go, and there is none: {advice}") from error
    found = re.search(r"go(\d+)\.(\d+)", text)
    if found is None or (int(found[1]), int(found[2])) < GO_NEEDED:
        raise Failure(f"this Go is too old ({text.strip() or 'unknown'}): {advice}")


def build_kubernetes() -> str:
    """Builds the one binary of all components, unless it is there. Returns its stamp."""
    sources = [COMPONENTS / name for name in ("main.go", "go.mod", "go.sum")]
    version = KUBERNETES.search(sources[1].read_text())
    if version is None:
        raise Failure(f"{sources[1]} names no version of k8s.io/kubernetes")
    major, minor, patch = version.groups()
    number = f"v{major}.{minor}.{patch}"
    # Go modules carry no version text of their own; clients ask the API server for it.
    variables = {"gitVersion": number, "gitMajor": major, "gitMinor": minor}
    flags = " ".join(
        ["-s", "-w"] + [f"-X k8s.io/component-base/version.{k}={v}" for k, v in variables.items()]
    )
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

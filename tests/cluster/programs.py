"""The cluster's programs that are built from Go modules: Kubernetes, containerd, etcd and gVisor.

Each module is a directory here, whose go.mod pins the versions. What is built depends on its files and
on the flags below, not on the checkout's path: `target/cluster` can be copied to another checkout.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from commands import long_step, output
from console import Failure, say
from layout import BINARIES, CACHE, COMPONENTS, HERE
from machine import digest, require_go, stamped

# Without these, a third of the time goes into debugging information, which the linker drops, and into
# inlining in the API's generated types, which are most of Kubernetes.
COMPILER_FLAGS = ["-gcflags=all=-dwarf=false", "-gcflags=k8s.io/...=-dwarf=false -l"]
# Without cgo, a program needs no library of the machine.
VARIABLES = {"CGO_ENABLED": "0"}


@dataclass(frozen=True)
class Patch:
    """A line of a file of a module, and the line that replaces it."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Module:
    """A directory with a Go module, and the programs that are built from it."""

    name: str
    directory: Path
    # The module that counts: its version is shown, and its source is what a patch changes.
    source: str
    # The package of each program.
    programs: dict[str, str]
    # How long the first build takes.
    duration: str
    tags: str = ""
    # The variables that tell the program its version. Go modules carry no version text of their own.
    variables: dict[str, str] = field(default_factory=dict)
    patch: Patch | None = None

    @property
    def sources(self) -> list[Path]:
        code = [file for file in self.directory.rglob("*.go") if not file.name.endswith("_test.go")]
        return [self.directory / "go.mod", self.directory / "go.sum", *sorted(code)]

    def version(self) -> str:
        text = (self.directory / "go.mod").read_text()
        found = re.search(rf"^\s*{re.escape(self.source)} (v\S+)( // indirect)?$", text, re.MULTILINE)
        if found is None:
            raise Failure(f"{self.directory}/go.mod names no version of {self.source}")
        return found[1]


KUBERNETES = Module(
    name="Kubernetes",
    directory=COMPONENTS,
    source="k8s.io/kubernetes",
    programs={"kubernetes": "sandbox.dev/cluster"},
    duration="4 to 12 minutes",
    # Clients ask the API server for it.
    variables={
        "k8s.io/component-base/version.gitVersion": "{version}",
        "k8s.io/component-base/version.gitMajor": "{major}",
        "k8s.io/component-base/version.gitMinor": "{minor}",
    },
)
CONTAINERD = Module(
    name="containerd",
    directory=HERE / "containerd",
    source="github.com/containerd/containerd/v2",
    programs={
        name: f"github.com/containerd/containerd/v2/cmd/{name}"
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    },
    duration="1 to 3 minutes",
    tags="no_btrfs,no_devmapper,no_zfs,no_tracing",
    variables={"github.com/containerd/containerd/v2/version.Version": "{version}"},
)
ETCD = Module(
    name="etcd",
    directory=HERE / "etcd",
    source="go.etcd.io/etcd/server/v3",
    programs={"etcd": "go.etcd.io/etcd/server/v3"},
    duration="half a minute to a minute",
)
GVISOR = Module(
    name="gVisor",
    directory=HERE / "gvisor",
    source="gvisor.dev/gvisor",
    programs={"runsc": "gvisor.dev/gvisor/runsc", "containerd-shim-runsc-v1": "gvisor.dev/gvisor/shim"},
    duration="1 to 3 minutes",
    # In a container or a small VM, root may not lower the score; the shim would give up.
    patch=Patch("pkg/shim/v1/manager.go", "\toomScoreMax = -999\n", "\toomScoreMax = 0\n"),
)
# What the cluster does not start without.
ESSENTIAL = (KUBERNETES, CONTAINERD, ETCD)


def are_built(*modules: Module) -> bool:
    return all((BINARIES / program).exists() for module in modules for program in module.programs)


def build_all(*modules: Module) -> str:
    """Builds what is missing or old. Returns the stamp of all together."""
    return digest([], *[build(module) for module in modules])


def build(module: Module) -> str:
    """Builds the programs of a module, unless they are there. Returns their stamp."""
    version = module.version()
    major, minor = version[1:].split(".")[:2]
    values = [
        f"-X {variable}={value.format(version=version, major=major, minor=minor)}"
        for variable, value in module.variables.items()
    ]
    flags = ["-trimpath", *COMPILER_FLAGS, f"-ldflags={' '.join(['-s', '-w', *values])}", f"-tags={module.tags}"]
    stamp = CACHE / f"{module.name.lower()}.stamp"
    wanted = digest(module.sources, *flags, str(VARIABLES), str(module.programs), str(module.patch))
    if are_built(module) and stamped(stamp, wanted):
        return wanted
    require_go()
    log = CACHE / f"{module.name.lower()}.log"
    say(f"building {module.name} {version} (the first time {module.duration}; log: {log})")
    BINARIES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="build-", dir=CACHE) as name:
        scratch = Path(name)
        if module.patch is not None:
            flags.append(f"-modfile={patched(module, module.patch, scratch)}")
        results = scratch / "programs"
        results.mkdir()
        long_step(
            f"building {module.name}",
            ["go", "build", *flags, f"-o={results}", *module.programs.values()],
            log=log,
            limit=5400,
            advice=f"Fix what Go complains about (a module proxy, disk space) and run up again; {log}",
            changes=VARIABLES,
            directory=module.directory,
        )
        for program, package in module.programs.items():
            (results / built_name(package)).replace(BINARIES / program)
    stamp.write_text(wanted)
    return wanted


def built_name(package: str) -> str:
    """What Go calls the program of a package: its last element that is no major version."""
    return [element for element in package.split("/") if not re.fullmatch(r"v\d+", element)][-1]


def patched(module: Module, patch: Patch, scratch: Path) -> Path:
    """A go.mod that takes a patched copy of the source: Go's overlays refuse files of the module cache."""
    told = output(
        f"downloading {module.name}",
        ["go", "mod", "download", "-json", module.source],
        directory=module.directory,
        limit=600,
    )
    copy = scratch / "source"
    shutil.copytree(json.loads(told)["Dir"], copy)
    file = copy / patch.file
    text = file.read_text()
    if text.count(patch.old) != 1:
        raise Failure(
            f"{module.source} {module.version()}: {patch.file} has not exactly one line {patch.old.strip()!r}"
        )
    # The copy is as read-only as the module cache.
    file.chmod(0o644)
    file.write_text(text.replace(patch.old, patch.new))
    changed = scratch / "go.mod"
    shutil.copy(module.directory / "go.sum", scratch / "go.sum")
    changed.write_text(f"{(module.directory / 'go.mod').read_text()}\nreplace {module.source} => {copy}\n")
    return changed

"""The verbs of the command line."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import cgroups
import images
import machine
import programs
from api import Api
from commands import environment
from console import Failure, say
from layout import (
    BINARY,
    CACHE,
    IMAGE_STAMP,
    KUBECONFIG,
    KUBECONFIG_INSIDE,
    LOCK,
    NAMESPACE,
    OTHER_IMAGES_STAMP,
    PROGRAMS_STAMP,
    RUN,
    SSHD_ARCHIVE,
    SSHD_STAMP,
    STATE,
)
from other_images import OTHER_ARCHIVES, build_other_images
from processes import inside, outside, pid_of
from startup import (
    COMPONENTS,
    PORT_FILE,
    load_images,
    make_gvisor_class,
    node_ready,
    start_everything,
)


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """Lets one `up` or `down` work at a time; another one waits for it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as file:
        deadline = time.monotonic() + 3600
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise Failure(f"another up or down has held {LOCK} for an hour") from error
            if not told:
                say("waiting for another up or down of this checkout to end")
                told = True
            time.sleep(0.2)
        yield


def connect() -> Api | None:
    """A client of the running cluster."""
    try:
        return Api(int(PORT_FILE.read_text()))
    except (OSError, ValueError):
        return None


def complaints() -> list[str]:
    """What a cluster that is up would not show. Empty if it is healthy."""
    found = [f"{name} is not running" for name in COMPONENTS if pid_of(name) is None]
    if len(found) == len(COMPONENTS):
        return ["nothing is running"]
    api = connect()
    if api is None or not api.ready():
        found.append("the API server does not answer")
    elif not node_ready(api):
        found.append("the node is not ready")
    if not (KUBECONFIG.exists() and KUBECONFIG_INSIDE.exists() and IMAGE_STAMP.exists()):
        found.append("the last start did not end well")
    return found


def clear_away() -> None:
    cgroups.kill_everything()
    for directory in (STATE, RUN):
        if directory.exists():
            shutil.rmtree(directory)
    for file in (KUBECONFIG, KUBECONFIG_INSIDE):
        file.unlink(missing_ok=True)


def up(*, gvisor: bool, other_images: bool, sshd: bool) -> int:
    began = time.monotonic()
    machine.require_root()
    with lock():
        if not programs.are_built(*programs.ESSENTIAL):
            machine.require_go()  # before minutes go by
        machine.install("library", "cluster")
        built = programs.build_all(*programs.ESSENTIAL)
        if gvisor:
            programs.build(programs.GVISOR)
        if other_images:
            machine.install("images")
            other = build_other_images()
        if sshd:
            sshd_image = images.build_sshd()
        images.build_pause()
        image = images.build_images()
        api = connect()
        found = complaints()
        if not found and not machine.stamped(PROGRAMS_STAMP, built):
            found = ["it runs other builds of its programs"]
        if found or api is None:
            if cgroups.processes() or STATE.exists():
                say(f"was not in order: {'; '.join(found)}. Starting anew")
            clear_away()
            try:
                api = start_everything(built, image)
            except BaseException:
                # The logs stay for whoever reads the message; the processes do not.
                cgroups.kill_everything()
                raise
        elif not machine.stamped(IMAGE_STAMP, image):
            say("the image has changed; importing it")
            load_images(*images.SANDBOX_ARCHIVES)
            IMAGE_STAMP.write_text(image)
        if gvisor:
            make_gvisor_class(api)
        if other_images and not machine.stamped(OTHER_IMAGES_STAMP, other):
            load_images(*OTHER_ARCHIVES)
            OTHER_IMAGES_STAMP.write_text(other)
        if sshd and not machine.stamped(SSHD_STAMP, sshd_image):
            load_images(SSHD_ARCHIVE)
            SSHD_STAMP.write_text(sshd_image)
    if not found:
        say(f"is up; kubeconfig: {KUBECONFIG}")
        return 0
    say(f"up after {time.monotonic() - began:.1f} s")
    say(f"kubeconfig: {KUBECONFIG} (namespace {NAMESPACE})")
    say("next: tests/cluster/cluster.py kubectl get pods | run COMMAND... | status | down")
    return 0


def down() -> int:
    machine.require_root()
    with lock():
        clear_away()
    say("down")
    return 0


def status() -> int:
    machine.require_root()
    for name in COMPONENTS:
        pid = pid_of(name)
        print(f"{name:<24} {f'up    pid {pid}' if pid else 'down'}")
    found = complaints()
    api = connect()
    if api is not None and api.ready():
        nodes = api.get("/api/v1/nodes")["items"]
        pods = api.get("/api/v1/pods")["items"]
        running = sum(pod["status"].get("phase") == "Running" for pod in pods)
        print(f"{'nodes':<24} {len(nodes)} ({'ready' if node_ready(api) else 'not ready'})")
        print(f"{'pods':<24} {len(pods)} ({running} running)")
        print(f"{'kubeconfig':<24} {KUBECONFIG}")
    print(f"{'cluster':<24} {'healthy' if not found else 'not healthy: ' + '; '.join(found)}")
    return 1 if found else 0


def load(archive: Path) -> int:
    machine.require_root()
    load_images(archive.resolve())
    return 0


def install() -> int:
    """Everything that `make` needs and that Debian does not have is only checked."""
    machine.require_rust()
    if current_cluster():
        machine.install("library")
        return 0
    machine.require_go()
    machine.require_root()
    machine.install("library", "cluster", "guest")
    return 0


def run(command: list[str], *, position: str) -> NoReturn:
    machine.require_root()
    # No proxy is in reach from there, and none is needed.
    for name in list(os.environ):
        if name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
            del os.environ[name]
    if position == "outside":
        command, kubeconfig = outside(command), KUBECONFIG
    else:
        command, kubeconfig = inside(command, mounts=False), KUBECONFIG_INSIDE
    become(command, KUBECONFIG=str(kubeconfig), SANDBOX_TEST_POSITION=position)


def kubectl(arguments: list[str]) -> NoReturn:
    if not os.access(KUBECONFIG, os.R_OK):
        raise Failure(f"cannot read {KUBECONFIG}: is the cluster up, and are you root?")
    become([str(BINARY), "kubectl", *arguments], KUBECONFIG=str(KUBECONFIG))


def become(command: list[str], **changes: str) -> NoReturn:
    """Replaces this process, so that signals, the terminal and the exit code are the command's."""
    sys.stdout.flush()
    # A shell has what it starts in the background ignore these, and so the tests of Ctrl-C would.
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    changed = environment(**changes)
    try:
        os.execvpe(command[0], command, changed)
    except OSError as error:
        raise Failure(f"cannot run {command[0]}: {error.strerror}") from error


def current_cluster() -> bool:
    return os.environ.get("SANDBOX_CLUSTER") == "current"


def current(verb: str, command: list[str]) -> int:
    """The verbs for SANDBOX_CLUSTER=current: the user's own cluster, which is never touched."""
    if verb == "run":
        become(command)
    if verb == "kubectl" or verb == "status":
        become(["kubectl", *(command or ["cluster-info"])])
    say(f"SANDBOX_CLUSTER=current: the cluster of your kubeconfig is used; {verb} has nothing to do")
    return 0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="cluster.py", description="A one-node Kubernetes in a network namespace.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    parsers = {}
    for name, text in {
        "up": "start it, building what is missing; does nothing if it is up",
        "down": "end it, and leave nothing behind but what was built",
        "status": "say what runs; exit code 0 only if all is well",
        "install": "check Rust and Go, and install the Debian packages that the project needs",
    }.items():
        parsers[name] = verbs.add_parser(name, help=text)
    parsers["up"].add_argument("--gvisor", action="store_true", help="build gVisor too, and let Pods run under it")
    parsers["up"].add_argument("--images", action="store_true", help="build the images that only tests need too")
    parsers["up"].add_argument("--sshd", action="store_true", help="build the image that only the benchmark needs too")
    loader = verbs.add_parser("load", help="give the cluster an image: an OCI archive")
    loader.add_argument("archive", type=Path)
    runner = verbs.add_parser("run", help="run a command in the cluster's network, or --outside")
    runner.add_argument("--outside", action="store_true", help="where only the API server answers")
    runner.add_argument("command", nargs=argparse.REMAINDER)
    verbs.add_parser("kubectl", help="run kubectl, from outside of the cluster's network", add_help=False).add_argument(
        "command", nargs=argparse.REMAINDER
    )
    known = parser.parse_args(arguments)
    command: list[str] = getattr(known, "command", [])
    position = "outside" if getattr(known, "outside", False) else "inside"
    if known.verb == "run":
        command = command[1:] if command[:1] == ["--"] else command
        if not command:
            parser.error("run: which command?")
    try:
        if known.verb == "install":
            return install()
        if current_cluster():
            return current(known.verb, command)
        if known.verb == "up":
            return up(gvisor=known.gvisor, other_images=known.images, sshd=known.sshd)
        if known.verb == "down":
            return down()
        if known.verb == "status":
            return status()
        if known.verb == "load":
            return load(known.archive)
        if known.verb == "run":
            run(command, position=position)
        kubectl(command)
    except Failure as failure:
        print(f"cluster: {failure}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"cluster: {error}. Is the disk full, or a file not ours?", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("cluster: interrupted", file=sys.stderr)
        return 130

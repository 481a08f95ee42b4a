"""Images of other kinds, which only tests need: busybox with musl, one static program with nothing else, and fish."""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path

import images
from commands import long_step, output
from layout import (
    BUSYBOX_ARCHIVE,
    BUSYBOX_IMAGE,
    CACHE,
    DEBIAN_LAYER,
    FISH_ARCHIVE,
    FISH_IMAGE,
    HERE,
    SINGLE_ARCHIVE,
    SINGLE_IMAGE,
)
from machine import digest, stamped

OTHER_ARCHIVES = [BUSYBOX_ARCHIVE, SINGLE_ARCHIVE, FISH_ARCHIVE]
# What fish takes beside what the sandbox image has; the rest of its dependencies are for its manual.
FISH_PACKAGES = ["fish", "fish-common", "libpcre2-32-0", "libstdc++6"]
# Debian's source package of busybox. Its own binary packages are linked with the GNU C library.
SOURCE = "pool/main/b/busybox/busybox_1.35.0.orig.tar.bz2"
SOURCE_SHA256 = "faeeb244c35a348a334f4a59e44626ee870fb07b6884d68c10ae8bc19f83a694"
MIRROR = "http://deb.debian.org/debian/"
# Shells have their commands under these names; `sh` is the shell's.
NOT_APPLETS = re.compile("FEATURE_|ASH|SHELL_|SH_|DESKTOP|LFS|LONG_OPTS")
# As Alpine's image has it.
BUSYBOX_ENVIRONMENT = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]


def build_other_images() -> str:
    """Builds these images, unless they are there. Returns their stamp."""
    sources = [HERE / "busybox.config", HERE / "single.c", Path(__file__), Path(images.__file__)]
    wanted = digest(sources, images.ARCHITECTURE, SOURCE_SHA256)
    stamp = BUSYBOX_ARCHIVE.with_suffix(".stamp")
    if all(archive.exists() for archive in OTHER_ARCHIVES) and stamped(stamp, wanted):
        return wanted
    with tempfile.TemporaryDirectory(prefix="image-", dir=CACHE) as scratch:
        build_busybox(Path(scratch))
        build_single(Path(scratch))
        build_fish(Path(scratch))
    stamp.write_text(wanted)
    return wanted


def build_single(scratch: Path) -> None:
    program, layer = scratch / "single", scratch / "single.layer.tar"
    options = ["-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror"]
    output("compiling single.c", [images.COMPILER, *options, "-o", str(program), str(HERE / "single.c")])
    images.write_program_layer(layer, program, {"single": 0o755})
    images.write_archive(SINGLE_ARCHIVE, SINGLE_IMAGE, [layer], {"Entrypoint": ["/single"]})


def build_fish(scratch: Path) -> None:
    """The sandbox image without the guest, and fish: each package is a layer."""
    images.build_debian()
    log, packages = CACHE / "fish.log", scratch / "packages"
    packages.mkdir()
    command = ["apt-get", "-o", "APT::Sandbox::User=root", "download", *FISH_PACKAGES]
    advice = f"See {log}; does `apt-get update` work?"
    long_step("downloading fish", command, log=log, limit=300, advice=advice, directory=packages)
    layers = [DEBIAN_LAYER]
    for package in sorted(packages.glob("*.deb")):
        layers.append(package.with_suffix(".tar"))
        with layers[-1].open("wb") as file:
            subprocess.run(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=file, check=True, timeout=60)
    images.write_archive(FISH_ARCHIVE, FISH_IMAGE, layers, images.SANDBOX_CONFIG)


def build_busybox(scratch: Path) -> None:
    """Busybox from source, dynamically linked with musl, and a root file system around it as Alpine's is."""
    archive, tree = scratch / "busybox.tar.bz2", scratch / "busybox"
    log = CACHE / "busybox.log"

    def do(*command: str) -> None:
        advice = f"See {log}; the source comes from {mirror()}{SOURCE}"
        long_step("building busybox", list(command), log=log, limit=900, advice=advice, directory=tree)

    tree.mkdir()
    # apt's own way to load a file, with its proxies.
    do("/usr/lib/apt/apt-helper", "download-file", mirror() + SOURCE, str(archive), f"SHA256:{SOURCE_SHA256}")
    do("tar", "--extract", f"--file={archive}", "--strip-components=1")
    do("make", "allnoconfig")
    chosen = (HERE / "busybox.config").read_text().splitlines()
    settings = [line for line in chosen if line.startswith("CONFIG_")]
    names = {line.split("=")[0] for line in settings}
    unchosen = [line for line in (tree / ".config").read_text().splitlines() if not names & set(re.split("[ =]", line))]
    (tree / ".config").write_text("\n".join(settings + unchosen) + "\n")
    do("sh", "-c", "yes '' | make oldconfig")
    do("make", f"-j{len(os.sched_getaffinity(0))}", "CC=musl-gcc", "HOSTCC=cc", "busybox")

    interpreter = output("asking for busybox's loader", ["readelf", "--program-headers", str(tree / "busybox")])
    found = re.search(r"interpreter: (/lib/ld-musl-\S+)\]", interpreter)
    assert found, interpreter
    applets = [name.removeprefix("CONFIG_").lower() for name in sorted(names)]
    applets = ["sh"] + [name for name in applets if not NOT_APPLETS.match(name.upper())]
    layer = scratch / "busybox.layer.tar"
    with tarfile.open(layer, "w", format=tarfile.USTAR_FORMAT) as tar:
        directories = {"bin": 0o755, "etc": 0o755, "home": 0o755, "lib": 0o755, "root": 0o700, "tmp": 0o1777}
        for directory, mode in directories.items():
            member = tarfile.TarInfo(directory)
            member.type, member.mode = tarfile.DIRTYPE, mode
            tar.addfile(member)
        images.add_file(tar, "bin/busybox", (tree / "busybox").read_bytes(), 0o755)
        images.add_file(tar, found[1].lstrip("/"), Path(found[1]).read_bytes(), 0o755)
        passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"
        images.add_file(tar, "etc/passwd", passwd.encode(), 0o644)
        images.add_file(tar, "etc/group", b"root:x:0:root\nnobody:x:65534:\n", 0o644)
        for applet in applets:
            member = tarfile.TarInfo(f"bin/{applet}")
            member.type, member.linkname = tarfile.SYMTYPE, "/bin/busybox"
            tar.addfile(member)
    config = {"Env": BUSYBOX_ENVIRONMENT, "WorkingDir": "/", "Cmd": ["/bin/sh"]}
    images.write_archive(BUSYBOX_ARCHIVE, BUSYBOX_IMAGE, [layer], config)


def mirror() -> str:
    """The first of this machine's own mirrors of Debian's suite, else Debian's."""
    lines = [line for line in images.debian_sources().splitlines() if f" {images.SUITE} " in line]
    return lines[0].split()[1] if lines else MIRROR

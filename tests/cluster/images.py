"""The images of the cluster, as OCI archives for containerd: sandboxes, the guest, and pause."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from commands import long_step, output
from console import say
from layout import (
    CACHE,
    DEBIAN_LAYER,
    GUEST_ARCHIVE,
    GUEST_BUILD,
    GUEST_IMAGE,
    HERE,
    IMAGE_SOURCES,
    PAUSE_ARCHIVE,
    PAUSE_IMAGE,
    PLAIN_ARCHIVE,
    PLAIN_IMAGE,
    REPOSITORY,
    SANDBOX_ARCHIVE,
    SANDBOX_IMAGE,
    SSHD_ARCHIVE,
    SSHD_IMAGE,
    SSHD_SOURCES,
)
from machine import digest, stamped

COMPILER = "cc"
SUITE = "bookworm"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
# A program that can't be read can't be traced either. gVisor executes only what can be read.
GUEST_FILES = {"sandbox-guest": 0o111, "sandbox-guest-readable": 0o555}
# What changes with the guest.
SANDBOX_ARCHIVES = [GUEST_ARCHIVE, PLAIN_ARCHIVE, SANDBOX_ARCHIVE]
# As in image/Containerfile.
SANDBOX_CONFIG = {
    "User": "1000:1000",
    "WorkingDir": "/home/sandbox",
    "Env": [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG=C.UTF-8",
    ],
    "Cmd": ["sleep", "infinity"],
}


def write_archive(archive: Path, reference: str, layers: list[Path], config: dict[str, Any]) -> None:
    """Writes an image. The same input gives the same bytes."""

    def descriptor(kind: str, sha256: str, size: int) -> dict[str, Any]:
        media_type = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media_type, "digest": f"sha256:{sha256}", "size": size}

    def encode(value: dict[str, Any]) -> bytes:
        return json.dumps(value, sort_keys=True).encode()

    def sha256(data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()

    def layer_digest(layer: Path) -> str:
        whole = hashlib.sha256()
        with layer.open("rb") as file:
            while block := file.read(1 << 20):
                whole.update(block)
        return whole.hexdigest()

    digests = [layer_digest(layer) for layer in layers]
    sizes = [layer.stat().st_size for layer in layers]
    image = encode(
        {
            "architecture": ARCHITECTURE,
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{one}" for one in digests]},
        }
    )
    manifest = encode(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", sha256(image), len(image)),
            "layers": [descriptor("layer.v1.tar", one, size) for one, size in zip(digests, sizes)],
        }
    )
    entry = descriptor("manifest.v1+json", sha256(manifest), len(manifest))
    entry["annotations"] = {"io.containerd.image.name": reference}
    index = encode({"schemaVersion": 2, "manifests": [entry]})

    new = archive.with_suffix(".new")
    with tarfile.open(new, "w", format=tarfile.USTAR_FORMAT) as tar:

        def add(name: str, data: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))

        add("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        add("index.json", index)
        for blob in (image, manifest):
            add(f"blobs/sha256/{sha256(blob)}", blob)
        for layer, one, size in zip(layers, digests, sizes):
            member = tarfile.TarInfo(f"blobs/sha256/{one}")
            member.size = size
            with layer.open("rb") as file:
                tar.addfile(member, file)
    new.rename(archive)


def debian_sources() -> str:
    """This machine's own sources of the suite: they are the ones it can reach. Or nothing."""
    if shutil.which("apt-get") is None:
        return ""
    form = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    listed = output(
        "reading apt's sources",
        ["apt-get", "indextargets", "--format", form, "Created-By: Packages"],
    )
    suites = {SUITE, f"{SUITE}-updates", f"{SUITE}-security"}
    lines = []
    for line in listed.splitlines():
        fields = line.split()
        if len(fields) == 4 and fields[2] in suites and fields[3] == "main" and line not in lines:
            lines.append(line)
    # Without the suite itself (another Debian, or Ubuntu), mmdebstrap's default is the better one.
    return "\n".join(lines) + "\n" if any(f" {SUITE} " in line for line in lines) else ""


def add_file(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    """Adds a file of root's, without a time."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), mode
    tar.addfile(member, io.BytesIO(data))


def write_program_layer(layer: Path, program: Path, modes: dict[str, int]) -> None:
    """A layer with one program, under each name with its permissions. The same program gives the same bytes."""
    data = program.read_bytes()
    with tarfile.open(layer, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, mode in modes.items():
            add_file(tar, name, data, mode)


def build_guest() -> Path:
    """Builds the guest as one static program, unless it is there."""
    host = output("asking for rustc's host", ["rustc", "--print", "host-tuple"]).strip()
    log = CACHE / "guest.log"
    long_step(
        "building the guest",
        ["env", "-u", "MAKEFLAGS", "make", "--no-print-directory", "guest", f"HOST={host}"],
        log=log,
        limit=1800,
        advice=f"Fix what cargo complains about and run up again; {log}",
        directory=REPOSITORY,
    )
    return GUEST_BUILD / host / "guest" / "sandbox-guest"


def build_images() -> str:
    """Builds the images of sandboxes and of the guest, unless they are there. Returns their stamp."""
    guest = build_guest()
    debian = build_debian()
    wanted = digest([guest, Path(__file__)], debian)
    stamp = SANDBOX_ARCHIVE.with_suffix(".stamp")
    if all(archive.exists() for archive in SANDBOX_ARCHIVES) and stamped(stamp, wanted):
        return wanted
    with tempfile.TemporaryDirectory(prefix="image-", dir=CACHE) as scratch:
        layer = Path(scratch, "guest.layer.tar")
        write_program_layer(layer, guest, GUEST_FILES)
        write_archive(GUEST_ARCHIVE, GUEST_IMAGE, [layer], {"Entrypoint": ["/sandbox-guest"]})
        write_archive(PLAIN_ARCHIVE, PLAIN_IMAGE, [DEBIAN_LAYER], SANDBOX_CONFIG)
        write_archive(SANDBOX_ARCHIVE, SANDBOX_IMAGE, [DEBIAN_LAYER, layer], SANDBOX_CONFIG)
    stamp.write_text(wanted)
    return wanted


def build_debian() -> str:
    """Builds the root file system of sandboxes from packages, unless it is there. Returns its stamp."""
    return build_root("sandbox image", IMAGE_SOURCES, DEBIAN_LAYER, CACHE / "image.log")


def build_root(what: str, sources: Path, layer: Path, log: Path) -> str:
    """Builds a root file system from a directory's packages.txt and setup.sh, unless it is there. Returns its stamp."""
    packages, setup = sources / "packages.txt", sources / "setup.sh"
    wanted = digest([packages, setup, Path(__file__)], ARCHITECTURE)
    stamp = layer.with_suffix(".stamp")
    if layer.exists() and stamped(stamp, wanted):
        return wanted
    names = [n for n in packages.read_text().split("\n") if n and not n.startswith("#")]
    say(f"building the {what} from Debian packages (log: {log})")
    with tempfile.TemporaryDirectory(prefix="image-", dir=CACHE) as scratch:
        new, apt_sources = Path(scratch, "layer.tar"), Path(scratch, "sources.list")
        apt_sources.write_text(debian_sources())
        # The machine's name and its package mirrors are nobody's business in the image.
        forget = ': >"$1/etc/hostname"; : >"$1/etc/resolv.conf"; rm -f "$1"/etc/apt/sources.list.d/*'
        command = [
            "mmdebstrap",
            "--variant=essential",
            # usr-is-merged keeps usrmerge, and with it all of Perl, out of the image.
            "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
            f"--include={','.join(['usr-is-merged', *names])}",
            f'--customize-hook=chroot "$1" /bin/sh -s <"{setup}"',
            f"--customize-hook={forget}",
            "--skip=cleanup/run",
            "--skip=output/dev",
            SUITE,
            str(new),
        ]
        if apt_sources.stat().st_size:
            command.append(str(apt_sources))
        long_step(
            f"building the {what}",
            command,
            log=log,
            limit=1800,
            advice="mmdebstrap reads this machine's apt sources: does `apt-get update` work?",
            changes={"SOURCE_DATE_EPOCH": "0", "TMPDIR": scratch},
        )
        new.rename(layer)
        say(f"the {what} has {layer.stat().st_size / 1e6:.0f} MB")
    stamp.write_text(wanted)
    return wanted


def build_sshd() -> str:
    """Builds the image whose sshd the guest is compared with, unless it is there. Returns its stamp."""
    layer = SSHD_ARCHIVE.with_suffix(".layer.tar")
    built = build_root("sshd image", SSHD_SOURCES, layer, CACHE / "bench-sshd.log")
    stamp = SSHD_ARCHIVE.with_suffix(".stamp")
    if not (SSHD_ARCHIVE.exists() and stamped(stamp, built)):
        write_archive(SSHD_ARCHIVE, SSHD_IMAGE, [layer], {"User": "1000:1000"})
        stamp.write_text(built)
    return built


def build_pause() -> None:
    """Builds the image whose only process holds a Pod's namespaces, unless it is there."""
    source = HERE / "pause.c"
    wanted = digest([source, Path(__file__)], ARCHITECTURE)
    stamp = PAUSE_ARCHIVE.with_suffix(".stamp")
    if PAUSE_ARCHIVE.exists() and stamped(stamp, wanted):
        return
    with tempfile.TemporaryDirectory(prefix="image-", dir=CACHE) as scratch:
        program, layer = Path(scratch, "pause"), Path(scratch, "layer.tar")
        output("compiling pause.c", [COMPILER, "-static", "-Os", "-s", "-o", str(program), str(source)])
        write_program_layer(layer, program, {"pause": 0o755})
        config = {"Entrypoint": ["/pause"], "User": "65535:65535"}
        write_archive(PAUSE_ARCHIVE, PAUSE_IMAGE, [layer], config)
    stamp.write_text(wanted)

"""OpenSSH's own clients."""

import itertools
import os
import select
import subprocess
import tempfile
import time
from pathlib import Path

from .base import STEP_SECONDS, Peer, Processors, Target, timed

PIECE = 1 << 16


class WithMaster(Peer):
    """Has a connection open that `ssh` and its like can share."""

    def open(self, target: Target) -> None:
        host = target.address if target.port == 22 else f"[{target.address}]:{target.port}"
        self.own = tempfile.TemporaryDirectory(dir=target.scratch)
        self.place = Path(self.own.name)
        known_hosts = self.place / "known_hosts"
        known_hosts.write_text(f"{host} {target.host_key}\n")
        self.target = target
        self.host = f"{target.user}@{target.address}"
        self.options = ["-F", "none", "-i", target.openssh_key]
        for option in (
            f"Port={target.port}",
            f"UserKnownHostsFile={known_hosts}",
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=yes",
            "BatchMode=yes",
            "LogLevel=ERROR",
        ):
            self.options += ["-o", option]
        self.master = self._socket("master")
        self._ssh("-M", "-N", "-f", "-S", self.master)

    def close(self) -> None:
        self._ssh("-S", self.master, "-O", "exit")
        self.own.cleanup()

    def shell(self, line: str) -> str:
        """The output of a command line, for what is not measured."""
        return self._ssh("-S", self.master, command=line)

    def _socket(self, name: str) -> str:
        return str(self.place / f"{name}.socket")

    def _ssh(self, *arguments: str, command: str | None = None) -> str:
        line = ["ssh", *self.options, *arguments, self.host]
        if command is not None:
            line += ["--", command]
        # A process in the background would keep a pipe for the error output open.
        done = subprocess.run(
            line,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if command else subprocess.DEVNULL,
            stderr=None if command else subprocess.DEVNULL,
            text=True,
            check=True,
            timeout=STEP_SECONDS,
        )
        return done.stdout or ""


class Sftp:
    """An `sftp` that stays, logged in already."""

    def __init__(self, options: list[str], host: str) -> None:
        command = ["sftp", "-q", *options, "-b", "-", host]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, bufsize=0)
        self.do("pwd")

    def do(self, line: str) -> None:
        self.begin(line)
        self.finish(line)

    def begin(self, line: str) -> None:
        assert self.process.stdin is not None
        # The second command comes after the first is done, and asks nothing of the server.
        self.process.stdin.write(f"{line}\nlpwd\n".encode())

    def finish(self, line: str) -> None:
        assert self.process.stdout is not None
        deadline = time.monotonic() + STEP_SECONDS
        output = b""
        while b"Local working directory: " not in output:
            left = max(0, deadline - time.monotonic())
            if not select.select([self.process.stdout], [], [], left)[0]:
                raise TimeoutError(f"sftp does not finish: {line}")
            piece = self.process.stdout.read(1 << 16)
            if not piece:
                raise RuntimeError(f"sftp has ended: {line}")
            output += piece

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=STEP_SECONDS)


class OpenSsh(WithMaster):
    """`ssh`, a whole process for each command, and one `sftp` that stays."""

    name = "OpenSSH"

    def open(self, target: Target) -> None:
        super().open(target)
        self.one: Sftp | None = None
        self.crew: list[Sftp] = []

    def close(self) -> None:
        for sftp in [*([self.one] if self.one else []), *self.crew]:
            sftp.close()
        super().close()

    def warm(self, count: int) -> list[float]:
        return timed(count, lambda: self._ssh("-S", self.master, command="true"))

    def connect(self, count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            # With -f it returns once it is logged in.
            seconds += timed(1, lambda: self._ssh("-M", "-N", "-f", "-S", self._socket("new")))
            self._ssh("-S", self._socket("new"), "-O", "exit")
        return seconds

    def first(self, count: int) -> list[float]:
        return timed(count, lambda: self._ssh("-S", "none", command="true"))

    def output(self, bytes: int) -> list[float]:
        line = f"exec head -c {bytes} /dev/zero"
        command = ["ssh", *self.options, "-S", self.master, self.host, "--", line]

        def run() -> None:
            pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
            with subprocess.Popen(command, stdin=nothing, stdout=pipe, bufsize=0) as process:
                assert process.stdout is not None
                seen = 0
                while piece := os.read(process.stdout.fileno(), PIECE):
                    seen += len(piece)
            if seen != bytes or process.returncode != 0:
                raise RuntimeError(f"{seen} of {bytes} bytes, exit code {process.returncode}")

        return timed(1, run)

    def upload(self, local: str, remote: str) -> list[float]:
        sftp = self._sftp()
        return timed(1, lambda: sftp.do(f"put {local} {remote}"))

    def download(self, remote: str, local: str) -> list[float]:
        sftp = self._sftp()
        return timed(1, lambda: sftp.do(f"get {remote} {local}"))

    def write(self, remote: str, bytes: int, count: int) -> list[float]:
        sftp, local = self._sftp(), self.place / "written"
        local.write_bytes(b"x" * bytes)
        return timed(count, lambda: sftp.do(f"put {local} {remote}"))

    def read(self, remote: str, bytes: int, count: int) -> list[float]:
        sftp, local = self._sftp(), self.place / "read"
        seconds = timed(count, lambda: sftp.do(f"get {remote} {local}"))
        if local.stat().st_size != bytes:
            raise RuntimeError(f"{local.stat().st_size} bytes of {bytes} came")
        return seconds

    def cipher(self) -> str:
        # The first to say how much is told wins.
        command = ["ssh", "-v", *self.options, "-S", "none", self.host, "--", "true"]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=STEP_SECONDS,
        )
        return done.stderr.partition("client->server cipher: ")[2].split()[0]

    def gather(self, names: list[str], addresses: list[str], threads: int) -> None:
        # Only one sandbox's key is known to the peers.
        unknown = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        for address in itertools.islice(itertools.cycle(addresses), threads):
            options = self.options if address == self.target.address else unknown + self.options
            self.crew.append(Sftp(options, f"{self.target.user}@{address}"))

    def upload_together(self, local: str, remote: str) -> dict[str, float]:
        return self._together([f"put {local} {remote}-{index}" for index in range(len(self.crew))])

    def download_together(self, remote: str, local: str) -> dict[str, float]:
        each = range(len(self.crew))
        return self._together([f"get {remote}-{index} {local}-{index}" for index in each])

    def _together(self, lines: list[str]) -> dict[str, float]:
        processors = Processors()
        for sftp, line in zip(self.crew, lines, strict=True):
            sftp.begin(line)
        for sftp, line in zip(self.crew, lines, strict=True):
            sftp.finish(line)
        return processors.measured()

    def _sftp(self) -> Sftp:
        if self.one is None:
            self.one = Sftp(self.options, self.host)
        return self.one


class Scp(WithMaster):
    """`scp`, a whole process on the connection that is open."""

    name = "scp"

    def upload(self, local: str, remote: str) -> list[float]:
        return timed(1, lambda: self._scp(local, f"{self.host}:{remote}"))

    def download(self, remote: str, local: str) -> list[float]:
        return timed(1, lambda: self._scp(f"{self.host}:{remote}", local))

    upload_tree = upload
    download_tree = download

    def _scp(self, source: str, target: str) -> None:
        master = f"ControlPath={self.master}"
        command = ["scp", "-q", "-r", *self.options, "-o", master, source, target]
        subprocess.run(command, check=True, timeout=STEP_SECONDS)


class TarThroughSsh(WithMaster):
    """`tar` on both sides, on the connection that is open."""

    name = "tar through ssh"

    def upload_tree(self, local: str, remote: str) -> list[float]:
        pack = ["tar", "-cf", "-", "-C", local, "."]
        return timed(
            1, lambda: self._pipe(pack, self._there(f"mkdir {remote} && tar -xf - -C {remote}"))
        )

    def download_tree(self, remote: str, local: str) -> list[float]:
        def run() -> None:
            Path(local).mkdir()
            self._pipe(self._there(f"tar -cf - -C {remote} ."), ["tar", "-xf", "-", "-C", local])

        return timed(1, run)

    def _there(self, line: str) -> list[str]:
        return ["ssh", *self.options, "-S", self.master, self.host, "--", line]

    @staticmethod
    def _pipe(source: list[str], sink: list[str]) -> None:
        with subprocess.Popen(source, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as writer:
            subprocess.run(sink, stdin=writer.stdout, check=True, timeout=STEP_SECONDS)
        if writer.returncode != 0:
            raise RuntimeError(f"{source[0]} ended with {writer.returncode}")

"""OpenSSH's own clients."""

import os
import select
import subprocess
import tempfile
import time
from pathlib import Path

from .base import STEP_SECONDS, Peer, Target, timed

PIECE = 1 << 16


class OpenSsh(Peer):
    """`ssh`, a whole process for each command, and one `sftp` that stays."""

    name = "OpenSSH"

    def __init__(self) -> None:
        self.sftp: subprocess.Popen[bytes] | None = None

    def open(self, target: Target) -> None:
        host = target.address if target.port == 22 else f"[{target.address}]:{target.port}"
        self.own = tempfile.TemporaryDirectory(dir=target.scratch)
        self.place = Path(self.own.name)
        known_hosts = self.place / "known_hosts"
        known_hosts.write_text(f"{host} {target.host_key}\n")
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
        if self.sftp is not None and self.sftp.stdin is not None:
            self.sftp.stdin.close()
            self.sftp.wait(timeout=STEP_SECONDS)
        self.own.cleanup()

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
        return timed(1, lambda: self._output(bytes, self.master))

    def upload(self, local: str, remote: str) -> list[float]:
        self._sftp("pwd")
        return timed(1, lambda: self._sftp(f"put {local} {remote}"))

    def download(self, remote: str, local: str) -> list[float]:
        self._sftp("pwd")
        return timed(1, lambda: self._sftp(f"get {remote} {local}"))

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

    def _output(self, bytes: int, master: str) -> None:
        line = ["ssh", *self.options, "-S", master, self.host, "--", f"head -c {bytes} /dev/zero"]
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        with subprocess.Popen(line, stdin=nothing, stdout=pipe, bufsize=0) as process:
            assert process.stdout is not None
            seen = 0
            while piece := os.read(process.stdout.fileno(), PIECE):
                seen += len(piece)
        if seen != bytes or process.returncode != 0:
            raise RuntimeError(f"{seen} bytes of {bytes} came, exit code {process.returncode}")

    def _sftp(self, line: str) -> None:
        """Has it done by one `sftp` that stays."""
        if self.sftp is None:
            command = ["sftp", "-q", *self.options, "-b", "-", self.host]
            pipe = subprocess.PIPE
            self.sftp = subprocess.Popen(command, stdin=pipe, stdout=pipe, bufsize=0)
        assert self.sftp.stdin is not None and self.sftp.stdout is not None
        # The second command runs here, after the first is done: its output says so.
        self.sftp.stdin.write(f"{line}\n!echo finished\n".encode())
        deadline = time.monotonic() + STEP_SECONDS
        output = b""
        while b"\nfinished\n" not in b"\n" + output:
            left = max(0, deadline - time.monotonic())
            if not select.select([self.sftp.stdout], [], [], left)[0]:
                raise TimeoutError(f"sftp does not finish: {line}")
            piece = self.sftp.stdout.read(1 << 16)
            if not piece:
                raise RuntimeError(f"sftp has ended: {line}")
            output += piece


class OpenSshAlone(OpenSsh):
    """A connection for each command, as `ssh` does by itself."""

    name = "OpenSSH, no master"
    # `OpenSsh` does the same in these.
    warm = connect = first = upload = download = None  # type: ignore[assignment]

    def output(self, bytes: int) -> list[float]:
        return timed(1, lambda: self._output(bytes, "none"))

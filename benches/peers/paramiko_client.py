"""paramiko, the SSH library of most Python programs."""

import base64
import socket
from pathlib import Path

import paramiko

from .base import STEP_SECONDS, Peer, Target, timed


class Paramiko(Peer):
    """As its documentation shows it."""

    name = "paramiko"

    def open(self, target: Target) -> None:
        self.target = target
        self.key = paramiko.Ed25519Key.from_private_key_file(str(target.openssh_key))
        self.host_key = paramiko.Ed25519Key(data=base64.b64decode(target.host_key.split()[1]))
        self.client = self._connected()
        self.sftp = self.client.open_sftp()

    def close(self) -> None:
        self.client.close()

    def warm(self, count: int) -> list[float]:
        return timed(count, lambda: self._true(self.client))

    def connect(self, count: int) -> list[float]:
        clients: list[paramiko.SSHClient] = []
        seconds = timed(count, lambda: clients.append(self._connected()))
        for client in clients:
            client.close()
        return seconds

    def first(self, count: int) -> list[float]:
        clients: list[paramiko.SSHClient] = []

        def run() -> None:
            clients.append(self._connected())
            self._true(clients[-1])

        seconds = timed(count, run)
        for client in clients:
            client.close()
        return seconds

    def upload(self, local: Path, remote: str) -> list[float]:
        return timed(1, lambda: self.sftp.put(str(local), remote))

    def download(self, remote: str, local: Path) -> list[float]:
        return timed(1, lambda: self.sftp.get(remote, str(local)))

    def _connected(self) -> paramiko.SSHClient:
        target = self.target
        client = paramiko.SSHClient()
        host = target.address if target.port == 22 else f"[{target.address}]:{target.port}"
        client.get_host_keys().add(host, "ssh-ed25519", self.host_key)
        client.connect(
            target.address,
            port=target.port,
            username=target.user,
            pkey=self.key,
            timeout=STEP_SECONDS,
            allow_agent=False,
            look_for_keys=False,
            sock=self._socket(),
        )
        return client

    def _socket(self) -> socket.socket | None:
        return None

    @staticmethod
    def _true(client: paramiko.SSHClient) -> None:
        _, stdout, stderr = client.exec_command("true", timeout=STEP_SECONDS)
        stdout.read()
        stderr.read()
        if (code := stdout.channel.recv_exit_status()) != 0:
            raise RuntimeError(f"paramiko: exit code {code}")


class ParamikoWithoutDelay(Paramiko):
    """With the socket option that it leaves to its user."""

    name = "paramiko, TCP_NODELAY"
    # It makes no difference to a transfer.
    upload = download = None

    def _socket(self) -> socket.socket:
        made = socket.create_connection((self.target.address, self.target.port), STEP_SECONDS)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

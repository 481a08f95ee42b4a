"""paramiko, the SSH library of most Python programs."""

import base64
import concurrent.futures
import itertools

import paramiko

from .base import STEP_SECONDS, Peer, Processors, Target, timed

PIECE = 1 << 16


class Paramiko(Peer):
    """As its documentation shows it."""

    name = "paramiko"

    def open(self, target: Target) -> None:
        self.target = target
        self.key = paramiko.Ed25519Key.from_private_key_file(target.openssh_key)
        self.client = self._connected(target.address)
        self.crew: list[paramiko.SSHClient] = []
        self.threads: concurrent.futures.ThreadPoolExecutor | None = None
        self.idle: list[paramiko.SSHClient] = []
        self.sftps: list[paramiko.SFTPClient] = []

    def close(self) -> None:
        for client in (self.client, *self.crew, *self.idle):
            client.close()

    def warm(self, count: int) -> list[float]:
        return timed(count, lambda: self._true(self.client))

    def connect(self, count: int) -> list[float]:
        clients: list[paramiko.SSHClient] = []
        seconds = timed(count, lambda: clients.append(self._connected(self.target.address)))
        for client in clients:
            client.close()
        return seconds

    def first(self, count: int) -> list[float]:
        clients: list[paramiko.SSHClient] = []

        def run() -> None:
            clients.append(self._connected(self.target.address))
            self._true(clients[-1])

        seconds = timed(count, run)
        for client in clients:
            client.close()
        return seconds

    def output(self, bytes: int) -> list[float]:
        def run() -> None:
            line = f"head -c {bytes} /dev/zero"
            channel = self.client.exec_command(line, timeout=STEP_SECONDS)[1].channel
            seen = 0
            while piece := channel.recv(PIECE):
                seen += len(piece)
            if seen != bytes or channel.recv_exit_status() != 0:
                raise RuntimeError(f"{seen} bytes of {bytes} came")

        return timed(1, run)

    def gather(self, names: list[str], addresses: list[str], threads: int) -> None:
        for address in itertools.islice(itertools.cycle(addresses), threads):
            self.crew.append(self._connected(address))
        self.threads = concurrent.futures.ThreadPoolExecutor(threads)
        self.parallel(1)

    def parallel(self, count: int) -> dict[str, float]:
        def run(client: paramiko.SSHClient) -> None:
            for _ in range(count):
                self._true(client)

        assert self.threads is not None
        processors = Processors()
        list(self.threads.map(run, self.crew))
        return processors.measured()

    def hold(self, count: int, sftp: bool) -> None:
        while len(self.idle) < count:
            self.idle.append(self._connected(self.target.address))
            self._true(self.idle[-1])
        if sftp:
            self.sftps = [client.open_sftp() for client in self.idle]
            for opened in self.sftps:
                opened.stat("/")

    def upload(self, local: str, remote: str) -> list[float]:
        with self.client.open_sftp() as sftp:
            return timed(1, lambda: sftp.put(local, remote))

    def download(self, remote: str, local: str) -> list[float]:
        with self.client.open_sftp() as sftp:
            return timed(1, lambda: sftp.get(remote, local))

    def cipher(self) -> str:
        transport = self.client.get_transport()
        assert transport is not None
        return str(transport.local_cipher)

    def write(self, remote: str, bytes: int, count: int) -> list[float]:
        def run() -> None:
            with sftp.open(remote, "wb") as file:
                file.write(b"x" * bytes)

        with self.client.open_sftp() as sftp:
            return timed(count, run)

    def read(self, remote: str, bytes: int, count: int) -> list[float]:
        def run() -> None:
            with sftp.open(remote, "rb") as file:
                if len(file.read()) != bytes:
                    raise RuntimeError("the file has another length")

        with self.client.open_sftp() as sftp:
            return timed(count, run)

    def _connected(self, address: str) -> paramiko.SSHClient:
        target = self.target
        client = paramiko.SSHClient()
        if address == target.address:
            host = address if target.port == 22 else f"[{address}]:{target.port}"
            host_key = paramiko.Ed25519Key(data=base64.b64decode(target.host_key.split()[1]))
            client.get_host_keys().add(host, "ssh-ed25519", host_key)
        else:
            # Only one sandbox's key is known to the peers.
            client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect(
            address,
            port=target.port,
            username=target.user,
            pkey=self.key,
            timeout=STEP_SECONDS,
            allow_agent=False,
            look_for_keys=False,
        )
        return client

    @staticmethod
    def _true(client: paramiko.SSHClient) -> None:
        _, stdout, stderr = client.exec_command("true", timeout=STEP_SECONDS)
        stdout.read()
        stderr.read()
        if (code := stdout.channel.recv_exit_status()) != 0:
            raise RuntimeError(f"exit code {code}")

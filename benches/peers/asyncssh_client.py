"""asyncssh: tasks in the place of threads."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import asyncssh

from .base import STEP_SECONDS, Peer, Processors, Target, timed

PIECE = 1 << 16
# Its connections become slow to open if all are begun at once.
OPENED_AT_ONCE = 8


class AsyncSsh(Peer):
    """As its documentation shows it; between two steps nothing runs."""

    name = "asyncssh"

    def open(self, target: Target) -> None:
        self.target = target
        self.loop = asyncio.new_event_loop()
        self.key = asyncssh.read_private_key(target.openssh_key)
        self.host_key = asyncssh.import_public_key(target.host_key)
        self.connection = self._run(self._connected(target.address))
        self.crew: list[asyncssh.SSHClientConnection] = []
        self.idle: list[asyncssh.SSHClientConnection] = []
        self.sftps: list[asyncssh.SFTPClient] = []

    def close(self) -> None:
        self._run(self._closed([self.connection, *self.crew, *self.idle]))
        self.loop.close()

    def warm(self, count: int) -> list[float]:
        return self._timed(count, lambda: self._true(self.connection))

    def connect(self, count: int) -> list[float]:
        opened: list[asyncssh.SSHClientConnection] = []

        async def run() -> None:
            opened.append(await self._connected(self.target.address))

        seconds = self._timed(count, run)
        self._run(self._closed(opened))
        return seconds

    def first(self, count: int) -> list[float]:
        opened: list[asyncssh.SSHClientConnection] = []

        async def run() -> None:
            opened.append(await self._connected(self.target.address))
            await self._true(opened[-1])

        seconds = self._timed(count, run)
        self._run(self._closed(opened))
        return seconds

    def output(self, bytes: int) -> list[float]:
        async def run() -> None:
            line = f"head -c {bytes} /dev/zero"
            async with self.connection.create_process(line, encoding=None) as process:
                seen = 0
                while piece := await process.stdout.read(PIECE):
                    seen += len(piece)
                done = await process.wait()
            if seen != bytes or done.exit_status != 0:
                raise RuntimeError(f"{seen} bytes of {bytes} came")

        return self._timed(1, run)

    def gather(self, names: list[str], addresses: list[str], threads: int) -> None:
        each = itertools.islice(itertools.cycle(addresses), threads)
        self.crew = self._run(self._opened(list(each)))
        self.parallel(1)

    def parallel(self, count: int) -> dict[str, float]:
        async def run(connection: asyncssh.SSHClientConnection) -> None:
            for _ in range(count):
                await self._true(connection)

        async def all_of_them() -> None:
            await asyncio.gather(*(run(connection) for connection in self.crew))

        processors = Processors()
        self._run(all_of_them())
        return processors.measured()

    def hold(self, count: int, sftp: bool) -> None:
        async def run() -> None:
            if not self.idle:
                self.idle = await self._opened([self.target.address] * count)
                for connection in self.idle:
                    await self._true(connection)
            if sftp:
                self.sftps = [await one.start_sftp_client() for one in self.idle]
                for opened in self.sftps:
                    await opened.stat("/")

        self._run(run())

    def upload(self, local: str, remote: str) -> list[float]:
        return self._with_sftp(1, lambda sftp: sftp.put(local, remote))

    def download(self, remote: str, local: str) -> list[float]:
        return self._with_sftp(1, lambda sftp: sftp.get(remote, local))

    def upload_tree(self, local: str, remote: str) -> list[float]:
        return self._with_sftp(1, lambda sftp: sftp.put(local, remote, recurse=True))

    def download_tree(self, remote: str, local: str) -> list[float]:
        return self._with_sftp(1, lambda sftp: sftp.get(remote, local, recurse=True))

    def cipher(self) -> str:
        return str(self.connection.get_extra_info("send_cipher"))

    def write(self, remote: str, bytes: int, count: int) -> list[float]:
        async def run(sftp: asyncssh.SFTPClient) -> None:
            async with sftp.open(remote, "wb") as file:
                await file.write(b"x" * bytes)

        return self._with_sftp(count, run)

    def read(self, remote: str, bytes: int, count: int) -> list[float]:
        async def run(sftp: asyncssh.SFTPClient) -> None:
            async with sftp.open(remote, "rb") as file:
                if len(await file.read()) != bytes:
                    raise RuntimeError("the file has another length")

        return self._with_sftp(count, run)

    def _with_sftp(
        self, count: int, work: Callable[[asyncssh.SFTPClient], Coroutine[Any, Any, None]]
    ) -> list[float]:
        sftp = self._run(self.connection.start_sftp_client())
        try:
            return self._timed(count, lambda: work(sftp))
        finally:
            sftp.exit()
            self._run(sftp.wait_closed())

    def _run(self, work: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, STEP_SECONDS))

    def _timed(self, count: int, work: Callable[[], Coroutine[Any, Any, None]]) -> list[float]:
        return timed(count, lambda: self._run(work()))

    async def _opened(self, addresses: list[str]) -> list[asyncssh.SSHClientConnection]:
        opened: list[asyncssh.SSHClientConnection] = []
        for some in range(0, len(addresses), OPENED_AT_ONCE):
            part = addresses[some : some + OPENED_AT_ONCE]
            opened += await asyncio.gather(*(self._connected(address) for address in part))
        return opened

    async def _connected(self, address: str) -> asyncssh.SSHClientConnection:
        # Only one sandbox's key is known to the peers.
        is_known = address == self.target.address
        return await asyncssh.connect(
            address,
            self.target.port,
            username=self.target.user,
            client_keys=[self.key],
            known_hosts=([self.host_key], [], []) if is_known else None,
            agent_path=None,
            config=None,
        )

    @staticmethod
    async def _closed(connections: list[asyncssh.SSHClientConnection]) -> None:
        for connection in connections:
            connection.close()
            await connection.wait_closed()

    @staticmethod
    async def _true(connection: asyncssh.SSHClientConnection) -> None:
        await connection.run("true", check=True)

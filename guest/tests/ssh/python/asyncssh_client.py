"""Logs in with asyncssh and checks what the server of the transport's tests answers.

Arguments: the port, the file of the private key, the host key's line, and the name of the cipher.
"""

import asyncio
import hashlib
import sys

import asyncssh


async def main() -> None:
    port, key_file, host_key, cipher = sys.argv[1:]
    known_hosts = asyncssh.import_known_hosts(f"[127.0.0.1]:{port} {host_key}\n")
    async with asyncssh.connect(
        "127.0.0.1",
        int(port),
        username="user",
        client_keys=[key_file],
        known_hosts=known_hosts,
        config=None,
        encryption_algs=[cipher],
        rekey_bytes=1 << 20,
    ) as connection:
        done = await connection.run("ping", check=True)
        assert done.stdout == "pong\n"
        assert (await connection.run("exit 9")).exit_status == 9
        data = bytes(index * 7 & 0xFF for index in range(1 << 16)) * 80
        done = await connection.run("echo", input=data, encoding=None, check=True)
        assert isinstance(done.stdout, bytes)
        assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()
        reader, writer = await connection.open_connection("192.0.2.1", 7)
        writer.write(b"through a tunnel")
        assert await reader.readexactly(16) == b"through a tunnel"
        writer.close()


asyncio.run(main())

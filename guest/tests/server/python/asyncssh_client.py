"""Uses the guest with asyncssh: commands, a terminal, signals, files, forwarding in both directions.

Arguments: the port, the file of the private key, the host key's line, and the port of a server that gives back what it
gets.
"""

import asyncio
import sys

import asyncssh


async def main() -> None:
    port, key_file, host_key, echo = sys.argv[1:]
    known_hosts = asyncssh.import_known_hosts(f"[127.0.0.1]:{port} {host_key}\n")
    options = {"username": "sandbox", "client_keys": [key_file], "known_hosts": known_hosts, "config": None}
    async with asyncssh.connect("127.0.0.1", int(port), **options) as connection:
        done = await connection.run("cat; echo err >&2; exit 7", input="input")
        assert (done.stdout, done.stderr, done.exit_status) == ("input", "err\n", 7)
        done = await connection.run("stty size", term_type="vt100", term_size=(90, 33))
        assert done.stdout == "33 90\r\n", done.stdout
        done = await connection.run("echo $GREETING; kill -TERM $$", env={"GREETING": "hi"})
        assert done.stdout == "hi\n" and done.exit_signal is not None and done.exit_signal[0] == "TERM"
        async with connection.create_process("trap 'exit 3' INT; echo ready; while :; do sleep 0.05; done") as process:
            assert await process.stdout.readline() == "ready\n"
            process.send_signal("INT")
            assert (await process.wait()).exit_status == 3
        many = await asyncio.gather(*(connection.run(f"echo {number}", check=True) for number in range(50)))
        assert [one.stdout for one in many] == [f"{number}\n" for number in range(50)]

        contents = bytes(index * 7 >> 3 & 0xFF for index in range(3_000_000))
        async with connection.start_sftp_client() as sftp:
            await sftp.makedirs("directory/below")
            async with sftp.open("directory/file", "wb") as file:
                await file.write(contents)
            await sftp.posix_rename("directory/file", "directory/below/file")
            async with sftp.open("directory/below/file", "rb") as file:
                assert await file.read() == contents
            assert set(await sftp.listdir("directory/below")) == {".", "..", "file"}
            assert (await sftp.stat("directory/below/file")).size == len(contents)
            await sftp.rmtree("directory")
            assert not await sftp.exists("directory")

        # There, and from there back to here.
        reader, writer = await connection.open_connection("127.0.0.1", int(echo))
        writer.write(b"through a tunnel")
        writer.write_eof()
        assert await reader.read() == b"through a tunnel"
        async with connection.forward_remote_port("", 0, "127.0.0.1", int(echo)) as listener:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.get_port())
            writer.write(b"and back")
            writer.write_eof()
            assert await reader.read() == b"and back"
            writer.close()


asyncio.run(main())

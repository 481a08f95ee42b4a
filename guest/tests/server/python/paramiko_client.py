"""Uses the guest with paramiko: commands, a terminal, files, a forwarded connection.

Arguments: the port, the file of the private key, the host key's line, and the port of a server on the guest's
side that gives back what it gets.
"""

import base64
import io
import sys

import paramiko


def main() -> None:
    port, key_file, host_key, echo = sys.argv[1:]
    with paramiko.SSHClient() as client:
        kind, key = host_key.split()
        known = paramiko.PKey.from_type_string(kind, base64.b64decode(key))
        client.get_host_keys().add(f"[127.0.0.1]:{port}", kind, known)
        client.connect("127.0.0.1", int(port), "sandbox", key_filename=key_file, allow_agent=False, timeout=60)

        stdin, stdout, stderr = client.exec_command("cat; echo err >&2; exit 7", timeout=60)
        stdin.write("input")
        stdin.channel.shutdown_write()
        assert (stdout.read(), stderr.read()) == (b"input", b"err\n")
        assert stdout.channel.recv_exit_status() == 7
        _, stdout, _ = client.exec_command("stty size", get_pty=True, timeout=60)
        assert stdout.read() == b"24 80\r\n"
        shell = client.invoke_shell(width=90, height=33)
        shell.settimeout(60)
        shell.sendall(b"stty size; exit\n")
        seen = b""
        while piece := shell.recv(1000):
            seen += piece
        assert b"33 90\r\n" in seen, seen

        contents = bytes(index * 7 >> 3 & 0xFF for index in range(3_000_000))
        with client.open_sftp() as sftp:
            sftp.mkdir("directory")
            sftp.chdir("directory")
            assert sftp.putfo(io.BytesIO(contents), "file").st_size == len(contents)
            sftp.chmod("file", 0o640)
            sftp.utime("file", (1_000_000, 2_000_000))
            sftp.symlink("file", "link")
            sftp.posix_rename("file", "other")
            [entry] = [entry for entry in sftp.listdir_attr() if entry.filename == "other"]
            assert entry.st_mode is not None and entry.st_mode & 0o777 == 0o640 and entry.st_mtime == 2_000_000
            assert sftp.readlink("link") == "file"
            back = io.BytesIO()
            sftp.getfo("other", back)
            assert back.getvalue() == contents
            with sftp.open("other", "r+") as file:
                file.truncate(10)
                assert file.readv([(0, 4), (4, 6)]) is not None
            for name in ("other", "link"):
                sftp.remove(name)
            try:
                sftp.stat("other")
                raise AssertionError("it is still there")
            except FileNotFoundError:
                pass
            sftp.chdir(None)
            sftp.rmdir("directory")

        transport = client.get_transport()
        assert transport is not None
        tunnel = transport.open_channel("direct-tcpip", ("127.0.0.1", int(echo)), ("127.0.0.1", 1), timeout=60)
        tunnel.settimeout(60)
        tunnel.sendall(b"through a tunnel")
        tunnel.shutdown_write()
        seen = b""
        while piece := tunnel.recv(1000):
            seen += piece
        assert seen == b"through a tunnel"


main()

"""Logs in with paramiko and checks what the server of the transport's tests answers.

Arguments: the port, the file of the private key, the host key's line, and the name of the cipher.
"""

import hashlib
import socket
import sys
import threading

import paramiko


def main() -> None:
    port, key_file, host_key, cipher = sys.argv[1:]
    transport = paramiko.Transport(socket.create_connection(("127.0.0.1", int(port))))
    transport.get_security_options().ciphers = (cipher,)
    # Only the server exchanges keys again. When paramiko does, and the server's end of a channel is already under way,
    # paramiko's thread waits for itself.
    transport.start_client(timeout=60)
    name, key = host_key.split()
    server = transport.get_remote_server_key()
    assert (server.get_name(), server.get_base64()) == (name, key)
    transport.auth_publickey("user", paramiko.Ed25519Key.from_private_key_file(key_file))

    channel = transport.open_session()
    channel.exec_command("ping")
    assert channel.makefile().read() == b"pong\n"
    assert channel.recv_exit_status() == 0

    channel = transport.open_session()
    channel.exec_command("exit 9")
    assert channel.recv_exit_status() == 9

    data = bytes(index * 7 & 0xFF for index in range(1 << 16)) * 80
    channel = transport.open_session()
    channel.exec_command("echo")

    def write() -> None:
        channel.sendall(data)
        channel.shutdown_write()

    writer = threading.Thread(target=write)
    writer.start()
    received = channel.makefile().read()
    writer.join()
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()

    tunnel = transport.open_channel("direct-tcpip", ("192.0.2.1", 7), ("127.0.0.1", 1))
    tunnel.sendall(b"through a tunnel")
    assert tunnel.recv(100) == b"through a tunnel"
    transport.close()


main()

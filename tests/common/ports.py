"""Servers for the tests of ports, in a sandbox: each connection is served by what its port says."""

import os
import socket
import struct
import sys
import threading


def echo(connection):
    """Sends back what comes, and after its end how much that was."""
    total = 0
    while data := connection.recv(1 << 16):
        total += len(data)
        connection.sendall(data)
    connection.sendall(b"end of %d" % total)


def ends_first(connection):
    """Ends its own half, and writes down what comes after that."""
    connection.sendall(b"that is all")
    connection.shutdown(socket.SHUT_WR)
    received = b""
    while data := connection.recv(1 << 16):
        received += data
    with open("received.new", "wb") as file:
        file.write(received)
    os.rename("received.new", "received")


def breaks(connection):
    """Sends something and breaks the connection."""
    connection.sendall(b"some of it")
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def source(connection):
    """Sends as much as it is asked for, and ends."""
    left = int(connection.recv(100))
    piece = bytes(range(256)) * 4096
    while left > 0:
        left -= connection.send(piece[: min(left, len(piece))])


def sink(connection):
    """Takes what comes, and says at its end how much that was."""
    total, buffer = 0, bytearray(1 << 18)
    while length := connection.recv_into(buffer):
        total += length
    connection.sendall(b"%d" % total)


def deaf(connection):
    """Reads nothing and sends nothing for as long as the test lasts."""
    threading.Event().wait()


def serve(listener, handle):
    def run(connection):
        with connection:
            handle(connection)

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=run, args=(connection,), daemon=True).start()


def main():
    listeners = []
    for port, handle in enumerate((echo, ends_first, breaks, source, sink, deaf), 7001):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listeners.append((listener, handle))
    six = socket.socket(socket.AF_INET6)
    six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    six.bind(("::1", 7010))
    local = socket.socket(socket.AF_UNIX)
    local.bind("echo.sock")
    listeners += [(six, echo), (local, echo)]
    for listener, handle in listeners:
        # With a full queue a TCP connection is broken after some seconds; one to a Unix socket waits.
        listener.listen(4 if listener is local else 128)
        threading.Thread(target=serve, args=(listener, handle), daemon=True).start()
    sys.stdin.read()
    threading.Event().wait()


main()

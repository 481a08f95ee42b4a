"""The scenario of ports."""

import errno
import pathlib
import socket
import threading

import sandbox
from conformance import RUN, fails, world
from sandbox import ErrorKind

#: Answers with what it got, backwards.
REVERSER = """
import socketserver as s, threading as t
class H(s.StreamRequestHandler):
    def handle(self): self.wfile.write(self.rfile.read()[::-1])
u = s.ThreadingUnixStreamServer('/tmp/reverser', H)
t.Thread(target=u.serve_forever, daemon=True).start()
s.ThreadingTCPServer(('127.0.0.1', 7300), H).serve_forever()
"""


def reversed_by(connection: socket.socket) -> None:
    with connection:
        connection.sendall(b"desserts")
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as answer:
            assert answer.read() == b"stressed"


def ports() -> None:
    with fails(ErrorKind.TIMED_OUT, TimeoutError):
        world.machine.wait_for_port(7300, 0.05)
    with fails(ErrorKind.REFUSED, sandbox.RefusedError, ConnectionRefusedError) as seen:
        world.machine.connect(7300)
    assert seen[0].errno == errno.ECONNREFUSED and seen[0].sandbox == world.machine.name
    server = world.machine.detach(["python3", "-c", REVERSER], key=f"reverser-{RUN}")
    world.machine.wait_for_port(7300, 60)
    world.machine.wait_for_port(pathlib.PurePosixPath("/tmp/reverser"))
    reversed_by(world.machine.connect(7300))
    reversed_by(world.machine.connect("/tmp/reverser"))
    with fails(ErrorKind.FILE_NOT_FOUND, FileNotFoundError):
        world.machine.connect("/no/such/socket")
    with world.machine.forward(7300) as forward:
        address = ("127.0.0.1", forward.port)
        assert forward.local == f"127.0.0.1:{forward.port}"
        reversed_by(socket.create_connection(address))
        with socket.create_connection(address):
            reversed_by(socket.create_connection(address))
            assert forward.is_open and forward.connections >= 1 and forward.last_failure is None
        with fails(ErrorKind.BUSY, OSError):
            world.machine.forward(7300, local=forward.port)
        with (
            world.machine.forward(7301) as to_nobody,
            socket.create_connection(("127.0.0.1", to_nobody.port)) as refused,
        ):
            try:
                refused.recv(1)
            except ConnectionResetError:
                pass
            else:
                raise AssertionError("a connection to nobody")
            assert isinstance(to_nobody.last_failure, ConnectionRefusedError)
        ended = threading.Thread(target=forward.wait)
        ended.start()
    ended.join()
    assert forward.closed and not forward.is_open
    try:
        socket.create_connection(address).close()
    except ConnectionRefusedError:
        pass
    else:
        raise AssertionError("a closed forward listens")
    server.kill()
    server.remove()

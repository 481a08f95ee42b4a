"""A wheel that carries an OpenSSL of its own, as psycopg2-binary does, beside this library's: TLS in both.

Arguments: the name of a sandbox, a certificate with its key, and "before" to use the other one first.
"""

import contextlib
import pathlib
import socket
import ssl
import sys
import threading

if "before" in sys.argv:
    import psycopg2

import sandbox

if "before" not in sys.argv:
    import psycopg2

SSL_REQUEST = 80877103


def serve(listener: socket.socket, versions: list[str]) -> None:
    """Does as PostgreSQL does up to the end of the TLS handshake, and then hangs up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2])
    connection, _ = listener.accept()
    with connection:
        request = connection.recv(8, socket.MSG_WAITALL)
        assert int.from_bytes(request[4:], "big") == SSL_REQUEST
        connection.sendall(b"S")
        with context.wrap_socket(connection, server_side=True) as tls:
            # The client's first message: it comes only if the client trusts the certificate.
            assert b"somebody" in tls.recv(1024)
            versions.append(tls.version() or "")


def use_psycopg() -> None:
    versions: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener, versions))
        server.start()
        # By the hang-up.
        with contextlib.suppress(psycopg2.OperationalError):
            psycopg2.connect(
                host="localhost",
                hostaddr="127.0.0.1",
                port=listener.getsockname()[1],
                user="somebody",
                sslmode="verify-full",
                sslrootcert=sys.argv[2],
                gssencmode="disable",
            )
        server.join()
    assert versions == ["TLSv1.3"], versions


def use_sandbox() -> None:
    # TLS to the API server, and SSH.
    assert machine.info().name == machine.name
    assert machine.run(["echo", "hi"], check=True).stdout == b"hi\n"


if "before" in sys.argv:
    use_psycopg()
machine = sandbox.Client().attach(sys.argv[1])
for _ in range(5):
    use_sandbox()
    use_psycopg()
loaded = pathlib.Path("/proc/self/maps").read_text()
# Three of them: that of Python's ssl is the system's, this library's is inside of it, and psycopg2 has brought another.
others = {line.split()[-1] for line in loaded.splitlines() if "libcrypto" in line}
assert len(others) == 2 and any("psycopg2" in path for path in others), others
begun = threading.Semaphore(0)


def run_for_ever() -> None:
    while True:
        use_sandbox()
        begun.release()


for _ in range(2):
    threading.Thread(target=run_for_ever, daemon=True).start()
for _ in range(2):
    assert begun.acquire(timeout=60)
use_psycopg()
print("done", ssl.OPENSSL_VERSION, flush=True)
# While the threads are in calls.

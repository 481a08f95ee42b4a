"""Python's own OpenSSL beside the library's: neither is touched by the other, also not at the end, while calls run."""

import contextlib
import hashlib
import ssl
import sys
import threading


def use_openssl() -> None:
    assert hashlib.sha256(b"abc").hexdigest().startswith("ba7816bf8f01cfea")
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="example.test")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    assert outgoing.pending > 100


if "before" in sys.argv:
    use_openssl()

import sandbox  # noqa: E402

machine = sandbox.Client().attach(sys.argv[1])
machine.run(["true"], check=True)
use_openssl()
version = ssl.OPENSSL_VERSION
begun = threading.Semaphore(0)


def run_for_ever() -> None:
    while True:
        machine.run(["true"], check=True)
        begun.release()


for _ in range(4):
    threading.Thread(target=run_for_ever, daemon=True).start()
for _ in range(4):
    assert begun.acquire(timeout=60)
use_openssl()
print("done", version, flush=True)
# While the threads are in calls.

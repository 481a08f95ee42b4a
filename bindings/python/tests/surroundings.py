"""Every call in what programs make around it: descriptors of which some are closed, thousands open, no number left or
the library's own closed by somebody; and a thousand signals a second. It is run where the cluster is reached, and
prints a table.

Each row is a program of its own, which tells what came of each call.
"""

import concurrent.futures
import io
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from typing import Callable

import sandbox

ANSWERS = "import socketserver as s\nclass H(s.StreamRequestHandler):\n def handle(self): self.wfile.write(b'hi')\n"
SERVER = ANSWERS + "s.ThreadingTCPServer(('127.0.0.1', 7400), H).serve_forever()"
CONTENTS = bytes(range(256)) * 400

client: sandbox.Client
machine: sandbox.Machine
here: str


def is_right(is_so: bool) -> None:
    assert is_so, "something else came of it"


def receives(connection: socket.socket) -> None:
    with connection:
        assert connection.fileno() > 2
        is_right(connection.recv(2) == b"hi")


def opens() -> None:
    with machine.path("/tmp/moved").open("rb") as file:
        is_right(file.read() == CONTENTS)


def talks() -> None:
    with machine.popen(["cat"]) as child:
        is_right(child.communicate(CONTENTS)[0] == CONTENTS)


def detaches() -> None:
    command = machine.detach(["echo", "said"], key=f"descriptors-{time.monotonic_ns()}")
    is_right(command.wait(30) == 0)
    command.remove()


def forwards() -> None:
    with machine.forward(7400) as forward:
        receives(socket.create_connection(("127.0.0.1", forward.port)))


def downloads() -> None:
    machine.download("/tmp/moved", f"{here}/back")
    with open(f"{here}/back", "rb") as back:
        is_right(back.read() == CONTENTS)


def creates() -> None:
    with client.create() as other:
        is_right(other.run(["true"]).returncode == 0)


CALLS: "dict[str, Callable[[], object]]" = {
    "run": lambda: is_right(machine.run(["cat"], input=CONTENTS).stdout == CONTENTS),
    "popen": talks,
    "detach": detaches,
    "connect": lambda: receives(machine.connect(7400)),
    "forward": forwards,
    "wait_for_port": lambda: machine.wait_for_port(7400, 30),
    "upload": lambda: machine.upload(f"{here}/file", "/tmp/moved", checksum=True),
    "upload, resumed": lambda: machine.upload(f"{here}/file", "/tmp/moved", resume=True),
    "upload of a reader": lambda: machine.upload(io.BytesIO(CONTENTS), "/tmp/moved"),
    "download": downloads,
    "download to a writer": lambda: machine.download("/tmp/moved", io.BytesIO()),
    "upload_tree": lambda: machine.upload_tree(f"{here}/tree", "/tmp/tree"),
    "download_tree": lambda: machine.download_tree("/tmp/tree", f"{here}/{time.monotonic_ns()}"),
    "write": lambda: machine.path("/tmp/written").write_bytes(CONTENTS),
    "append": lambda: machine.path("/tmp/written").append_bytes(b"more"),
    "read": lambda: is_right(machine.path("/tmp/moved").read_bytes() == CONTENTS),
    "open": opens,
    "list": lambda: is_right(len(list(machine.path("/etc").iterdir())) > 2),
    "stat": lambda: is_right(machine.path("/tmp/moved").stat().st_size == len(CONTENTS)),
    "info": lambda: is_right(machine.info().name == machine.name),
    "renew": lambda: machine.renew(600),
    "client.list": lambda: is_right(any(one.name == machine.name for one in client.list())),
    "client.attach": lambda: is_right(client.attach(machine.name).run(["true"]).returncode == 0),
    "client.create": creates,
    "pool.status": lambda: is_right(client.pool(f"descriptors-{os.getpid()}", size=1).status().ready == 0),
    "a new client": lambda: is_right(bool(sandbox.Client().list())),
}


def take_all() -> None:
    """No number is left."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, hard))


def nothing() -> None:
    pass


def close_standard() -> None:
    for number in range(3):
        os.close(number)


def open_thousands() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for _ in range(3000):
        os.open("/dev/null", os.O_RDONLY)


def close_all() -> None:
    os.closerange(3, 4096)


def tick(_number: int, _frame: object) -> None:
    global ticks
    ticks += 1


def start_timer(timer: int, number: int) -> None:
    """A handler of Python's, and no call of the system is restarted."""
    signal.signal(number, tick)
    signal.setitimer(timer, 0.001, 0.001)


ticks = 0
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

# What may come of a call.
WORKS, FAILS, DIES = "works", "fails", "dies"

# What is done before the client is made, what is done then, and what may come of each call. Nothing hangs.
ROWS: "dict[str, tuple[Callable[[], None], Callable[[], None], tuple[str, ...]]]" = {
    "as usual": (nothing, nothing, (WORKS,)),
    "0 to 2 closed": (close_standard, nothing, (WORKS,)),
    "0 to 2 closed later": (nothing, close_standard, (WORKS,)),
    "3000 open": (open_thousands, nothing, (WORKS,)),
    "3000 opened later": (nothing, open_thousands, (WORKS,)),
    "a timer of 1 kHz": (nothing, lambda: start_timer(signal.ITIMER_REAL, signal.SIGALRM), (WORKS,)),
    "a profiler of 1 kHz": (nothing, lambda: start_timer(signal.ITIMER_PROF, signal.SIGPROF), (WORKS,)),
    "no number left": (nothing, take_all, (WORKS, FAILS)),
    # Of a library with debug assertions, Rust's own ends the process.
    "all closed by somebody": (nothing, close_all, (WORKS, FAILS, DIES)),
}

# How many signals have to come during each call.
TICKS = {"a timer of 1 kHz": 10, "a profiler of 1 kHz": 1}


def standard() -> "list[str]":
    return [os.readlink(f"/proc/self/fd/{number}") for number in range(3) if os.path.exists(f"/proc/self/fd/{number}")]


def try_all(row: str, name: str, call: str, told: str) -> None:
    """Tells what comes of this call, or of each, in lines of a file."""
    global client, machine
    before, then, _ = ROWS[row]
    before()
    client = sandbox.Client(sandbox.Config(connect_timeout=5, command_timeout=20, transfer_timeout=20))
    machine = client.attach(name)
    machine.run(["true"])
    then()
    for called in [call] if call else CALLS:
        began, enough = time.monotonic(), ticks + TICKS.get(row, 0)
        try:
            CALLS[called]()
            # Some are over before a signal comes.
            while ticks < enough:
                CALLS[called]()
            outcome = WORKS
        except (sandbox.SandboxError, OSError) as e:
            outcome = f"{FAILS}: {e}"
        ours = [what for what in standard() if what.startswith(("socket:", "anon_inode:"))] if "0 to 2" in row else []
        took = time.monotonic() - began
        with_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        line = f"{called}\t{outcome}{' ' + str(ours) if ours else ''}\t{took:.1f} s\n".encode()
        file = os.open(told, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(file, line)
        os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, with_limit)
    os._exit(0)


def outcomes(row: str, call: str = "") -> "dict[str, str]":
    told = f"{here}/told-{uuid.uuid4()}"
    program = [sys.executable, __file__, here, row, machine.name, call, told]
    try:
        done = subprocess.run(program, timeout=120, stderr=subprocess.PIPE, text=True)
    except subprocess.TimeoutExpired:
        return {call: "hangs"}
    if done.returncode:
        return {call: f"{DIES}: {done.stderr[-200:]!r}"}
    with open(told) as lines:
        return {called: outcome for called, outcome, _ in (line.rstrip("\n").split("\t") for line in lines)}


def main() -> None:
    global client, machine, here
    wrong = []
    with tempfile.TemporaryDirectory() as here, sandbox.Client() as client, client.create() as machine:
        os.mkdir(f"{here}/tree")
        for file in ("file", "tree/file"):
            with open(f"{here}/{file}", "wb") as made:
                made.write(CONTENTS)
        machine.detach(["python3", "-c", SERVER], key="server")
        machine.wait_for_port(7400, 60)
        for row, (_, _, allowed) in ROWS.items():
            if allowed == (WORKS,):
                found = outcomes(row)
            else:
                # A library that has lost its descriptors is of no use any more, so each call has its own program.
                with concurrent.futures.ThreadPoolExecutor(8) as executor:
                    found = {}
                    for each in executor.map(outcomes, [row] * len(CALLS), CALLS):
                        found.update(each)
            assert list(found) == list(CALLS), found
            for call, outcome in found.items():
                print(f"{row:24}{call:24}{outcome[:80]}", flush=True)
                if outcome != WORKS and not outcome.startswith(tuple(set(allowed) - {WORKS})):
                    wrong.append((row, call, outcome))
        assert not wrong, wrong
    print("done")


if __name__ == "__main__":
    if sys.argv[1:]:
        here = sys.argv[1]
        try_all(*sys.argv[2:])
    main()

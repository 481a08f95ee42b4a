"""This library from Python, for benches/peers/boundary.py."""

import json
import sys
import time
from collections.abc import Callable

import sandbox

machine = sandbox.Client().attach(sys.argv[1])
works: dict[str, Callable[[], object]] = {
    "ssh_port": lambda: machine.ssh_port,
    "host_key": lambda: machine.host_key,
    "detached": lambda: machine.detached("boundary").close(),
    "warm": lambda: machine.run("true", shell=True, check=True),
}
works["warm"]()
for line in sys.stdin:
    name, count, calls = line.split()
    call, runs = works[name], []
    for _ in range(int(count)):
        began = time.perf_counter()
        for _ in range(int(calls)):
            call()
        runs.append(time.perf_counter() - began)
    print(json.dumps({"result": runs}), flush=True)

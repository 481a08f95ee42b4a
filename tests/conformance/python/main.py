"""The scenarios of scenarios.md through the installed Python package."""

import contextlib
import os
import sys
import traceback
from typing import Callable

import commands
import sandbox
import sandboxes
from conformance import OWNER, client

import files
import pool
import ports

HERE = os.path.dirname(__file__)
SCENARIOS: list[Callable[[], None]] = [
    sandboxes.life,
    sandboxes.by_name,
    commands.run,
    commands.streams,
    commands.exit_status,
    commands.timeout,
    commands.cancel,
    commands.terminal,
    commands.detached,
    ports.ports,
    commands.bytes_,
    commands.large,
    files.files,
    files.transfers,
    files.trees,
    sandboxes.errors,
    files.file_errors,
    sandboxes.use_after_close,
    commands.threads,
    commands.fork,
    commands.callback,
    sandboxes.fleet,
    pool.pool,
    sandboxes.settings,
    sandboxes.doctor,
    sandboxes.end,
]


def main() -> int:
    scenarios = {play.__name__.strip("_").replace("_", "-"): play for play in SCENARIOS}
    asked = sys.argv[2:] or list(scenarios)
    failed = False
    for name, play in scenarios.items():
        if name not in asked and name != "life":
            continue
        try:
            play()
        except Exception as error:
            failed = True
            where = traceback.extract_tb(error.__traceback__)
            line = next((frame.lineno for frame in reversed(where) if frame.filename.startswith(HERE)), 0)
            print(f"failed {name}: line {line}: {error!r}", flush=True)
            if name == "life":
                break
        else:
            print(f"ok {name}", flush=True)
    with contextlib.suppress(sandbox.SandboxError):
        for info in client.list():
            if info.owner.startswith(OWNER):
                with contextlib.suppress(sandbox.SandboxError):
                    client.delete_sandbox(info.name)
    client.close()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

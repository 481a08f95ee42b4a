"""Runs a peer that is written in Python in this process, for `program.Hosted`.

python3 -m peers.host MODULE CLASS
"""

import importlib
import json
import os
import sys

from .base import Target


def main() -> None:
    module, name = sys.argv[1:]
    peer = getattr(importlib.import_module(module), name)()
    # Whatever a library prints must not come between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        request = json.loads(line)
        work = request.pop("work")
        try:
            result = peer.open(Target(**request)) if work == "open" else peer.do(work, **request)
            answer = {"result": result}
        # The driver decides what it means.
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)
    peer.close()


if __name__ == "__main__":
    main()

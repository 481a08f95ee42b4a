#!/usr/bin/env python3
"""Compares this library and its guest with other clients and OpenSSH's sshd in a Pod beside: same
key, same machine, interleaved rounds.

    python3 benches/compare.py prepare      where packages can be had
    python3 benches/compare.py run          where the Pods can be reached

`run` prints tables with the bars, and writes target/bench/results.json and results.png. Without
`--work` or `--all` it does what has a bar, and the whole takes some ten minutes.
"""

import argparse
import os
import sys

from places import BUILT, VENV, VENV_PYTHON
from prepare import prepare


def run(options: argparse.Namespace) -> None:
    """Measures, in the virtual environment."""
    if not all(path.exists() for path in BUILT):
        sys.exit("nothing is built: python3 benches/compare.py prepare")
    if sys.prefix != str(VENV):
        os.execv(VENV_PYTHON, [str(VENV_PYTHON), *sys.argv])
    # These need what is in the virtual environment.
    import measure
    import report
    from works import MORE_WORKS, WORKS

    known = {*WORKS, *MORE_WORKS}
    chosen = options.work or (known if options.all else WORKS)
    if unknown := set(chosen) - known:
        sys.exit(f"there is no work {unknown.pop()}; known are {', '.join(sorted(known))}")
    results, note = measure.measure(list(chosen), options.peer, options.scale)
    report.write(results, note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    helps = {
        "prepare": "build the programs and fetch the peers",
        "run": "measure, print, and write target/bench/results.*",
    }
    for name, text in helps.items():
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("--work", action="append", help="only this work; may be repeated")
        verb.add_argument("--all", action="store_true", help="also what has no bar in the table")
        verb.add_argument("--peer", action="append", help="only these beside ours and the limit")
        verb.add_argument("--scale", type=float, default=1.0, help="factor for the rounds")
    options = parser.parse_args()
    if options.verb == "prepare":
        prepare(languages=options.all or "boundary" in (options.work or []))
    else:
        run(options)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Compares this library with other clients: same Pod, same key, interleaved rounds.

    python3 benches/compare.py prepare      where packages can be had
    python3 benches/compare.py run          where the Pods can be reached

`run` prints a table and writes target/bench/results.json and results.png.
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

    results, note = measure.measure(options.work, options.peer, options.scale)
    report.write(results, note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("prepare", help="build the programs and fetch the peers")
    verb = verbs.add_parser("run", help="measure, print, and write target/bench/results.*")
    verb.add_argument("--work", action="append", help="only this work; may be repeated")
    verb.add_argument("--peer", action="append", help="only these peers beside ours and the limit")
    verb.add_argument("--scale", type=float, default=1.0, help="factor for the number of rounds")
    options = parser.parse_args()
    if options.verb == "prepare":
        prepare()
    else:
        run(options)


if __name__ == "__main__":
    main()

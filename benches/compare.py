#!/usr/bin/env python3
"""Compares this library with other clients: same Pod, same key, interleaved rounds.

    python3 benches/compare.py prepare      where packages can be had
    python3 benches/compare.py run          where the Pods can be reached

`run` prints a table and writes target/bench/results.json and results.png.
"""

import argparse
import json
import os
import subprocess
import sys
import venv

from places import BENCHES, OUTPUT, PROGRAM, ROOT, VENV, VENV_PYTHON


def prepare() -> None:
    """Builds the compiled side and the virtual environment; quick if both are there."""
    build = ["cargo", "build", "--release", "--bench", "compare", "--message-format=json"]
    built = subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    artifacts = (json.loads(line) for line in built.stdout.splitlines())
    programs = [a["executable"] for a in artifacts if a.get("target", {}).get("name") == "compare"]
    OUTPUT.mkdir(parents=True, exist_ok=True)
    PROGRAM.write_text(programs[-1])
    if not VENV_PYTHON.exists():
        venv.create(VENV, with_pip=True)
    pip = [str(VENV_PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--requirement", str(BENCHES / "requirements.txt")], check=True)


def run(options: argparse.Namespace) -> None:
    """Measures, in the virtual environment."""
    if not PROGRAM.exists() or not VENV_PYTHON.exists():
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

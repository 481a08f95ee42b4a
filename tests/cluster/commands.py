"""Running a command to its end, with its output in a log and its failure explained."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from console import Failure, Progress, tail

# Debian keeps iptables and conntrack where an ordinary user's PATH may not look.
PATH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "PATH": PATH, **changes}


def output(
    what: str,
    command: Sequence[str],
    *,
    stdin: str | None = None,
    directory: Path | None = None,
    limit: float = 60,
) -> str:
    """The standard output of a short command."""
    try:
        done = subprocess.run(
            command,
            input=stdin,
            cwd=directory,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=limit,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(f"{what}: {error}") from error
    if done.returncode != 0:
        raise Failure(f"{what}: {command[0]} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def long_step(
    what: str,
    command: Sequence[str],
    *,
    log: Path,
    limit: float,
    advice: str,
    changes: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> None:
    """Runs a command that takes long, telling how long it has taken."""
    log.parent.mkdir(parents=True, exist_ok=True)
    progress = Progress(what)
    with log.open("wb") as file:
        try:
            process = subprocess.Popen(
                command,
                cwd=directory,
                env=environment(**(changes or {})),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise Failure(f"{what}: {error}. {advice}") from error
        try:
            while process.poll() is None:
                if progress.seconds > limit:
                    raise Failure(f"{what}: not done after {limit:.0f} s; {tail(log)}\n{advice}")
                progress.tick()
                time.sleep(0.2)
        finally:
            if process.poll() is None:
                # Politely first: a package manager killed at once leaves a mess.
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
    if process.returncode != 0:
        raise Failure(f"{what} failed ({process.returncode}); {tail(log)}\n{advice}")
    progress.done()

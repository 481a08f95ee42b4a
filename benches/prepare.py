"""Builds what is compared."""

import json
import os
import subprocess
import venv

from places import (
    BENCHES,
    BOUNDARY_C,
    BOUNDARY_CPP,
    BOUNDARY_GO,
    OUTPUT,
    PREFIX,
    PROGRAM,
    ROOT,
    VENV,
    VENV_PYTHON,
)

# For programs that are compared with Rust's release build.
C_FLAGS = ["-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]


def prepare(languages: bool) -> None:
    """Builds the compiled sides and the virtual environment; quick if all is there. The programs of
    other languages only on request.
    """
    build = [
        "cargo",
        "build",
        "--release",
        "--lib",
        "--features",
        "fast-ciphers",
        "--bench",
        "compare",
    ]
    build.append("--message-format=json")
    built = subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    artifacts = (json.loads(line) for line in built.stdout.splitlines())
    programs = [a["executable"] for a in artifacts if a.get("target", {}).get("name") == "compare"]
    OUTPUT.mkdir(parents=True, exist_ok=True)
    PROGRAM.write_text(programs[-1])
    if not VENV_PYTHON.exists():
        venv.create(VENV, with_pip=True)
    _pip("--requirement", str(BENCHES / "requirements.txt"))
    if languages:
        _languages()


def _languages() -> None:
    """Installs this library for each language, and builds the programs of boundary/."""
    # The library was built with the bench. Alone it would be built again each time,
    # since what it depends on has other features then.
    make = ["make", "--quiet", "--old-file=library", "wheel", "install", f"PREFIX={PREFIX}"]
    subprocess.run(make, cwd=ROOT, check=True)
    wheels = [str(path) for path in (ROOT / "target" / "wheel").glob("*.whl")]
    _pip("--no-deps", "--force-reinstall", *wheels)
    environment = os.environ | {
        "PKG_CONFIG_PATH": str(PREFIX / "lib" / "pkgconfig"),
        "CGO_LDFLAGS": f"-Wl,-rpath,{PREFIX / 'lib'}",
    }

    def run(*command: str) -> str:
        place = BENCHES / "boundary"
        return subprocess.check_output(command, cwd=place, env=environment, text=True)

    library = [
        *run("pkg-config", "--cflags", "--libs", "sandbox").split(),
        environment["CGO_LDFLAGS"],
    ]
    run("cc", "-std=c99", *C_FLAGS, "boundary.c", "-o", str(BOUNDARY_C), *library)
    run("c++", "-std=c++17", *C_FLAGS, "boundary.cpp", "-o", str(BOUNDARY_CPP), *library)
    run("go", "build", "-o", str(BOUNDARY_GO), "boundary.go")


def _pip(*arguments: str) -> None:
    pip = [str(VENV_PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, *arguments], check=True)

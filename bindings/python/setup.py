"""Builds the wheel: the package with the library in it.

`make wheel` and `make dist` say which library that is; else, as from the source distribution, it is built with cargo.
"""

# mypy: ignore-errors
# setuptools brings no types.

import os
import pathlib
import re
import shutil
import subprocess

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

HERE = pathlib.Path(__file__).resolve().parent
# Beside this in the source distribution.
ROOT = HERE / "sources" if (HERE / "sources").exists() else HERE.parent.parent
BUILD = ROOT / "target" / "python"


def built() -> pathlib.Path:
    """The library, built here."""
    if shutil.which("cargo") is None:
        raise SystemExit(
            "there is no wheel for this platform; building takes Rust (cargo), a C compiler, make and perl"
        )
    options = ["--release", "--locked", "--lib", "--features", "fast-ciphers,vendored"]
    subprocess.run(["cargo", "build", *options, "--config", "profile.release.strip=true"], cwd=ROOT, check=True)
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "libsandbox.so"


class WithLibrary(build_py):
    """Puts the library beside the modules."""

    def run(self) -> None:
        """Builds the package."""
        super().run()
        library = os.environ.get("SANDBOX_LIBRARY") or built()
        shutil.copyfile(library, pathlib.Path(self.build_lib) / "sandbox" / "libsandbox.so")


class ForThisPlatform(bdist_wheel):
    """Names the wheel for this platform and every Python 3: the library uses nothing of Python's."""

    def finalize_options(self) -> None:
        """Says that there is machine code in it."""
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self) -> "tuple[str, str, str]":
        """The parts of the wheel's name."""
        return "py3", "none", super().get_tag()[2]


class WithMachineCode(Distribution):
    """Goes to the directory for machine code."""

    def has_ext_modules(self) -> bool:
        """There is some, though setuptools has not compiled it."""
        return True


version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(encoding="utf-8"), re.M)
assert version, "Cargo.toml has no version"
BUILD.mkdir(parents=True, exist_ok=True)
setup(
    version=version[1],
    distclass=WithMachineCode,
    cmdclass={"build_py": WithLibrary, "bdist_wheel": ForThisPlatform},
    # Nothing is built in the source tree.
    options={"build": {"build_base": str(BUILD)}, "egg_info": {"egg_base": str(BUILD)}},
)

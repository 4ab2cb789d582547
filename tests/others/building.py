"""Compiling the program of czmq, and installing the packages that the others use."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.support.tree import TREE

PROGRAMS: Final = TREE / "tests/others/programs"

_DEADLINE_S: Final = 1800


def build_czmq_program(directory: Path) -> Path:
    """The program that uses czmq. Needs gcc, and Debian's packages libczmq-dev and libzmq3-dev."""
    built = directory / "peer-czmq"
    _run("gcc", "-Wall", "-Wextra", "-O1", PROGRAMS / "peer.c", "-o", built, "-lczmq", "-lzmq")
    return built


def install_from_npm(directory: Path, package: str) -> Path:
    """A folder for NODE_PATH with this package. Needs Node and npm; binaries are in the package."""
    _run("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", directory / "npm", package)
    return directory / "npm/node_modules"


def install_from_pypi(directory: Path, package: str, python: str) -> Path:
    """The Python of a new virtual environment of this Python with this package."""
    environment = directory / f"venv-{package}"
    _run(python, "-m", "venv", "--without-pip", environment)
    made = environment / "bin/python"
    _run(sys.executable, "-m", "pip", "--python", made, "install", "--quiet", "--disable-pip-version-check", package)
    return made


def newest_python() -> str:
    """The newest Python that is found by its version, or this one: a package's newest version may need a newer one."""
    found = (shutil.which(f"python3.{minor}") for minor in range(19, sys.version_info.minor, -1))
    return next(filter(None, found), sys.executable)


def _run(*command: str | Path) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_DEADLINE_S, check=False
        )
    except FileNotFoundError:
        sys.exit(f"{command[0]} is not installed; docs/explanation/wire.md says what is needed")
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")

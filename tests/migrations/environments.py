"""A virtual environment for one program, with this project as a wheel, and the directory that it is in."""

import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.migrations.table import Program
from tests.support.tree import TREE

TOOLS: Final = ("pytest", "pytest-timeout", "psutil")
"""What every program's tests, and the traffic, need."""

DEADLINE_S: Final = 1800
"""How long an installation or a run of the tests may take. None takes nearly as long."""


def build_wheel(directory: Path) -> Path:
    """Build this project as a wheel there, of a copy of the tree, in which nothing is left behind."""
    copy = directory / "pollbroker"
    for name in ("pollbroker", "pyproject.toml", "setup.py", "README.md", "LICENSE"):
        source = TREE / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.so", "native.c"))
        else:
            shutil.copy2(source, copy / name)
    run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", directory, copy])
    (wheel,) = directory.glob("pollbroker-*.whl")
    return wheel


class Environment:
    """The virtual environment of one program, and the directory in which its tests and its traffic run."""

    def __init__(self, directory: Path, program: Program, wheel: Path) -> None:
        self.directory = directory / program.name
        self._binaries = self.directory / "venv/bin"
        self._program = program
        venv.create(self.directory / "venv", with_pip=True)
        pinned = f"{program.name}=={program.version}"
        self._pip("install", *TOOLS, *program.requirements, pinned, wheel)
        self.tests = self._unpack_sdist(pinned) if program.tests_in_sdist else self.directory
        self._copy_traffic()

    def _pip(self, command: str, *arguments: str | Path) -> None:
        run([self._binaries / "python", "-m", "pip", command, "--quiet", "--disable-pip-version-check", *arguments])

    def _unpack_sdist(self, pinned: str) -> Path:
        """The directory of the program's sdist. The package in it is removed: the installed one is to be tested."""
        sdists = self.directory / "sdist"
        self._pip("download", "--no-deps", "--no-binary", self._program.name, "--dest", sdists, pinned)
        (archive,) = sdists.glob("*.tar.gz")
        shutil.unpack_archive(archive, sdists, filter="data")
        (unpacked,) = (path for path in sdists.iterdir() if path.is_dir())
        shutil.rmtree(unpacked / self._program.name)
        return unpacked

    def _copy_traffic(self) -> None:
        """Copy what the traffic imports of these tests, so that it does not import this tree's `pollbroker`."""
        (self.directory / "tests").mkdir()
        shutil.copy2(TREE / "tests/__init__.py", self.directory / "tests")
        shutil.copytree(TREE / "tests/migrations", self.directory / "tests/migrations")

    def command(self, *python_arguments: str, patched: bool) -> list[str | Path]:
        """The command that runs Python in this environment, on pyzmq's devices or on pollbroker's."""
        before: list[str | Path] = [self._binaries / "pollbroker", "patched"] if patched else []
        return [*before, self._binaries / "python", *python_arguments]

    def variables(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Environment variables with which the program finds its own commands, and writes into the directory alone."""
        home = {"HOME": str(self.directory), "TMPDIR": str(self.directory)}
        return {**variables, **home, "PATH": f"{self._binaries}:{variables['PATH']}"}


def run(command: Sequence[str | Path]) -> None:
    """Run a command. Raises `SystemExit` with its output if it fails."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")

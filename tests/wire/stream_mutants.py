"""Builds the wire with a fault in its core, and tries seeds with it in another process."""

import shutil
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tests.support.tree import TREE
from tests.wire.building import WIRE, compiler
from tests.wire.mutants import Mutant

_ROOMS: Final = tuple(sorted(path.stem for path in WIRE.glob("*.c") if path.stem != "native"))

_FLAGS: Final = ("-std=gnu11", "-w", "-fPIC", "-DPy_LIMITED_API=0x030b0000")

_PROGRAM: Final = """
import importlib.util, sys
import pollbroker.wire
name, path, device, first, count = "pollbroker.wire.native", *sys.argv[1:]
spec = importlib.util.spec_from_file_location(name, path)
pollbroker.wire.native = sys.modules[name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pollbroker.wire.native)
from pollbroker.testing.fuzzing import check_seeds
for seed in range(int(first), int(first) + int(count)):
    for finding in check_seeds(seed, 1, device or None, "streams"):
        sys.exit(f"seed {finding.seed}: {finding.account}")
"""


def why_not() -> str | None:
    """Why nothing can be built here; None if it can."""
    if compiler() is None:
        return "the wire is built with gcc, which is not there"
    return "the wire is built with Cython, which is not there" if find_spec("Cython") is None else None


class NativeBuild:
    """The objects of the native module, and modules that are made of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        sources = directory / "pollbroker"
        shutil.copytree(WIRE, sources / "wire", ignore=shutil.ignore_patterns("*.so", "native.c", "__pycache__"))
        (sources / "pump").mkdir()
        shutil.copy(TREE / "pollbroker" / "pump" / "waits.pxi", sources / "pump")
        native = sources / "wire" / "native.pyx"
        _run(directory, sys.executable, "-m", "cython", "-3", str(native), "-o", str(directory / "native.c"))
        _compile(directory, "-O0", directory / "native.c")
        _compile(directory, "-O1", *(WIRE / f"{room}.c" for room in _ROOMS))

    def module(self, mutant: Mutant | None, directory: Path) -> Path:
        """The native module, with the fault in it if there is one."""
        directory.mkdir(parents=True, exist_ok=True)
        objects = {path.name: path for path in self._directory.glob("*.o")}
        if mutant is not None:
            changed = directory / mutant.file
            changed.write_text(mutant.applied_to((WIRE / mutant.file).read_text()))
            _compile(directory, "-O1", changed)
            objects[changed.with_suffix(".o").name] = changed.with_suffix(".o")
        made = directory / "native.abi3.so"
        _run(directory, "gcc", "-shared", "-o", str(made), *map(str, objects.values()))
        return made


def try_seeds(module: Path, device: str, count: int, first: int = 0) -> subprocess.CompletedProcess[str]:
    """Try seeds with this native module, until one fails."""
    arguments = [str(module), device, str(first), str(count)]
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments], capture_output=True, text=True, cwd=TREE, timeout=300
    )


def _compile(directory: Path, level: str, *sources: Path) -> None:
    include = (f"-I{WIRE}", f"-I{sysconfig.get_paths()['include']}")
    _run(directory, "gcc", *_FLAGS, level, *include, "-c", *map(str, sources))


def _run(directory: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

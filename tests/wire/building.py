"""The harness of `core/`, built with the C files of the wire, and the files of the corpus.

There are three builds. One has AddressSanitizer and UndefinedBehaviorSanitizer. It keeps no free slabs, so that the
use of a slab that was freed is found. Its slabs are smaller, so that they end more often, and it removes fewer of the
subscriptions in a turn, so that others come in between. It fuzzes. Another is the same with libFuzzer, which clang
has: it is guided by the lines that an input reaches. The third has the code as it is installed: it measures.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.support.tree import TREE
from tests.wire.mutants import Mutant

WIRE: Final = TREE / "pollbroker" / "wire"
HARNESS: Final = TREE / "tests" / "wire" / "core"
CORPUS: Final = TREE / "tests" / "wire" / "corpus"

_OTHERS: Final = ("hosts", "notices", "native", *(path.stem for path in WIRE.glob("net*.c")))

CORE: Final = tuple(sorted(path.stem for path in WIRE.glob("*.c") if path.stem not in _OTHERS))
"""The C files of the wire that do no I/O; `net` and its kin do, and `native` is made by Cython."""

_COUNTED: Final = tuple(f"-D{name}=core_{name}" for name in ("malloc", "calloc", "realloc", "free"))
"""The core allocates by functions of the harness, which count, and fail when they are told to."""

SANITIZED: Final = (
    *("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"),
    *("-DWIRE_POOL_KEEPS=0", "-DWIRE_SLAB_LARGE=16384", "-DWIRE_REMOVALS_PER_TURN=2"),
)
GUIDED: Final = (*SANITIZED, "-fsanitize=fuzzer", "-DWITH_LIBFUZZER")
_OF_GUIDED_HARNESS: Final = ("-fno-sanitize-coverage=trace-cmp",)
"""Its inputs are not to be found by what the harness compares, such as each byte of a message."""
MEASURED: Final = ("-O2",)


class BuildError(Exception):
    """There is nothing to run."""


def compiler() -> str | None:
    """Where gcc is, or None."""
    return shutil.which(_gcc()[0])


def corpus() -> list[str]:
    """The paths of its files, sorted."""
    return sorted(map(str, CORPUS.iterdir()))


class Build:
    """The objects of one build, and its program."""

    def __init__(self, directory: Path, flags: Sequence[str]) -> None:
        guided = flags == GUIDED
        compiler = ["clang"] if guided else _gcc()
        self._command = [*compiler, "-std=gnu11", "-g", "-w", *flags]
        self._directory = directory
        directory.mkdir(parents=True)
        self._compile(directory, *(WIRE / f"{name}.c" for name in CORE), flags=_COUNTED)
        self._compile(directory, *HARNESS.glob("*.c"), flags=_OF_GUIDED_HARNESS if guided else ())
        self.program = self._link(directory, sorted(directory.glob("*.o")))

    def with_mutant(self, mutant: Mutant, directory: Path) -> Path:
        """The program with some lines of a file replaced."""
        directory.mkdir(parents=True)
        changed = directory / mutant.file
        changed.write_text(mutant.applied_to((WIRE / mutant.file).read_text()))
        self._compile(directory, changed, flags=_COUNTED)
        own = changed.with_suffix(".o")
        others = [path for path in sorted(self._directory.glob("*.o")) if path.name != own.name]
        return self._link(directory, [own, *others])

    def _compile(self, directory: Path, *sources: Path, flags: Sequence[str]) -> None:
        self._run(directory, *flags, f"-I{WIRE}", f"-I{HARNESS}", "-c", *map(str, sources))

    def _link(self, directory: Path, objects: list[Path]) -> Path:
        program = directory / "fuzz"
        self._run(directory, "-o", str(program), *map(str, objects))
        return program

    def _run(self, directory: Path, *arguments: str) -> None:
        done = subprocess.run([*self._command, *arguments], cwd=directory, capture_output=True, text=True)
        if done.returncode:
            raise BuildError(done.stderr)


def _gcc() -> list[str]:
    return os.environ.get("CC", "gcc").split()

"""The libraries whose peers are tried, how the program of each is started, and where one is known to differ."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.others.building import PROGRAMS, build_czmq_program, install_from_npm, install_from_pypi, newest_python
from tests.others.driven import Driven


@dataclass(frozen=True)
class Difference:
    """Types of sockets with which a library does not do what libzmq does.

    Attributes:
        device: by its name in `tests.others.subjects`.
        kinds: the peers' types that are left out there.
        why: what the library does instead, on purpose or not, and in which version that was seen.
    """

    device: str
    kinds: tuple[int, ...]
    why: str


@dataclass(frozen=True)
class Library:
    """A library of others.

    Attributes:
        title: as in the table that is printed.
        prepare: compiles or installs it, into a directory, and returns what makes its programs.
    """

    title: str
    prepare: Callable[[Path], Callable[[], Driven]]
    differences: tuple[Difference, ...] = ()


def pyzmq() -> Driven:
    """pyzmq, of the Python that runs this."""
    return Driven([sys.executable, PROGRAMS / "peer.py", "zmq"])


def _czmq(directory: Path) -> Callable[[], Driven]:
    program = build_czmq_program(directory)
    return lambda: Driven([program])


def _npm(directory: Path) -> Callable[[], Driven]:
    folder = install_from_npm(directory, "zeromq")
    return lambda: Driven(["node", PROGRAMS / "peer.js"], {"NODE_PATH": str(folder)})


def _pyomq(directory: Path) -> Callable[[], Driven]:
    python = install_from_pypi(directory, "pyomq", newest_python())
    return lambda: Driven([python, PROGRAMS / "peer.py", "pyomq"])


LIBRARIES: Final[Mapping[str, Library]] = {
    "pyzmq": Library("pyzmq", lambda _: pyzmq),
    "czmq": Library("czmq (Debian)", _czmq),
    "zeromq": Library("zeromq (npm)", _npm),
    "pyomq": Library("pyomq (PyPI)", _pyomq),
}

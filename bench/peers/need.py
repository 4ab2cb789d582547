"""What some peers need beside pyzmq. If it is not installed, the peer is left out of its questions, which say so."""

from __future__ import annotations

import ctypes.util
import functools
import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

GUIDE_VARIABLE = "POLLBROKER_GUIDE"
"""The environment variable that has the path of a checkout of the ZeroMQ guide, github.com/booksbyus/zguide."""
COMPILE_DEADLINE_S = 60


@dataclass(frozen=True)
class Need:
    """A Python package or a shared library: the name by which it is found, and the command that installs it."""

    name: str
    install: str
    library: bool = False

    @functools.cached_property
    def met(self) -> bool:
        """Return True if it is installed. That is looked up only once."""
        if self.library:
            return ctypes.util.find_library(self.name) is not None
        return importlib.util.find_spec(self.name) is not None


@dataclass(frozen=True)
class GuideNeed(Need):
    """The example `name` of the ZeroMQ guide, and with a `header` also the library in C that it is compiled with."""

    header: str = ""

    @functools.cached_property
    def met(self) -> bool:
        """Return True if the example is there, and can be compiled if it has to be. That is looked up only once."""
        if not os.environ.get(GUIDE_VARIABLE) or not (guide_directory() / "examples" / self.name).is_file():
            return False
        return not self.header or _has_header(self.header)


def guide_directory() -> Path:
    """The checkout of the ZeroMQ guide. Raises `KeyError` if the environment names none."""
    return Path(os.environ[GUIDE_VARIABLE])


def _has_header(header: str) -> bool:
    """Return True if the compiler finds a header."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return False
    preprocess = [compiler, "-E", "-xc", "-"]
    program = f"#include <{header}>\n"
    result = subprocess.run(
        preprocess, input=program, text=True, capture_output=True, timeout=COMPILE_DEADLINE_S, check=False
    )
    return result.returncode == 0


GEVENT = Need("gevent", "pip install gevent")
TRIO = Need("trio", "pip install trio")
UVLOOP = Need("uvloop", "pip install uvloop")
CZMQ = Need("czmq", "apt-get install libczmq4", library=True)
PYOMQ = Need("pyomq", "pip install pyomq")
NNG = Need("nng", "apt-get install libnng1", library=True)
GUIDE_PYTHON = GuideNeed("Python/mdbroker.py", f"{GUIDE_VARIABLE}=PATH of a checkout of github.com/booksbyus/zguide")
GUIDE_C = GuideNeed("C/mdbroker.c", f"{GUIDE_PYTHON.install}, and apt-get install libczmq-dev", header="czmq.h")

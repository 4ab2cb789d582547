"""What some peers need beside pyzmq. If it is not installed, the peer is left out of its questions, which say so."""

from __future__ import annotations

import ctypes.util
import functools
import importlib.util
from dataclasses import dataclass


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


GEVENT = Need("gevent", "pip install gevent")
TRIO = Need("trio", "pip install trio")
UVLOOP = Need("uvloop", "pip install uvloop")
CZMQ = Need("czmq", "apt-get install libczmq4", library=True)
NNG = Need("nng", "apt-get install libnng1", library=True)

"""What some peers need beside pyzmq. A peer whose need is not met is left out of its questions, and they say so."""

from __future__ import annotations

import ctypes.util
import functools
import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True)
class Need:
    """A Python package or a shared library, by the name it is found under, and how to come by it."""

    name: str
    install: str
    library: bool = False

    @functools.cached_property
    def met(self) -> bool:
        """Whether it is installed; looked up once."""
        if self.library:
            return ctypes.util.find_library(self.name) is not None
        return importlib.util.find_spec(self.name) is not None


GEVENT = Need("gevent", "pip install gevent")
CZMQ = Need("czmq", "apt-get install libczmq4", library=True)
NNG = Need("nng", "apt-get install libnng1", library=True)

"""Builds the C files of this directory once, into one library, and loads it with ctypes.

The library is kept in the user's cache under a hash of the sources, the compiler and the libzmq that it will call. So
it is built again only after an edit, or in another environment. It is not linked with libzmq: `load_bind` gives it the
functions of pyzmq's libzmq.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from importlib import import_module
from pathlib import Path

FILES = ("load.c", "requests.c", "workers.c", "publish.c", "bare.c", "wire.c", "nng.c")
SOURCES = tuple(Path(__file__).with_name(name) for name in FILES)
HEADER = Path(__file__).with_name("load.h")
FLAGS = ("-O2", "-std=gnu11", "-shared", "-fPIC")
COMPILE_DEADLINE_S = 60

# The order of `libzmq_t` in load.h.
FUNCTIONS = (
    "zmq_msg_init",
    "zmq_msg_recv",
    "zmq_msg_send",
    "zmq_msg_more",
    "zmq_msg_size",
    "zmq_msg_data",
    "zmq_msg_close",
    "zmq_send",
    "zmq_poll",
    "zmq_getsockopt",
    "zmq_errno",
)


class LoadError(Exception):
    """The load could not be built."""


def libzmq_path() -> str:
    """The library that holds pyzmq's copy of libzmq: its compiled backend."""
    path = import_module("zmq.backend.cython._zmq").__file__
    if path is None:
        raise LoadError("pyzmq's compiled backend has no file; the load cannot reach its libzmq")
    return path


def library_path() -> Path:
    """Return the path of the compiled load, which is built now if the cache does not have it."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise LoadError("no C compiler (cc, gcc, clang or $CC) to build bench/load with")
    made_of = [*(path.read_bytes() for path in (HEADER, *SOURCES)), compiler.encode(), libzmq_path().encode()]
    key = hashlib.sha256(b"\0".join(made_of)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pollbroker-bench"
    library = cache / f"load-{key}.so"
    if library.exists():
        return library
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as directory:
        built = Path(directory) / library.name
        result = subprocess.run(
            [compiler, *FLAGS, *map(str, SOURCES), "-o", str(built)],
            capture_output=True,
            text=True,
            timeout=COMPILE_DEADLINE_S,
            check=False,
        )
        if result.returncode:
            raise LoadError(f"{compiler} could not build the load:\n{result.stderr}")
        built.replace(library)  # in one step, so that another bench never loads half a library
    return library


def load_library() -> ctypes.CDLL:
    """Return the compiled load, bound to pyzmq's libzmq. Calls of its functions release the GIL."""
    libzmq = ctypes.CDLL(libzmq_path())
    addresses = [ctypes.cast(getattr(libzmq, name), ctypes.c_void_p) for name in FUNCTIONS]
    library = ctypes.CDLL(str(library_path()))
    library.load_bind.restype = None
    library.load_bind((ctypes.c_void_p * len(addresses))(*addresses))
    return library

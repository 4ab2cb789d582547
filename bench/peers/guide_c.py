"""The brokers of the ZeroMQ guide in C with czmq, `lbbroker2.c` and `mdbroker.c`, from a checkout of the guide, each in
a thread.

They are compiled into a library, with `main` by another name and with `guide.h` before them, which makes them bind the
endpoints of the deployment. In `lbbroker2.c` two lines are replaced while it is compiled (`REPLACED`): it starts no
clients and workers itself, and its count of replies, after which it ends, is then never 0. `lbbroker.c`, which does
without czmq, cannot be compared: it has room for ten workers, and takes the routing ids of peers for texts.

They run on the system's libzmq, and not on pyzmq's.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import zmq

from bench.peers.need import guide_directory
from bench.work import Deployment

BIND_DEADLINE_S = 30.0
BIND_PAUSE_S = 0.01
COMPILE_DEADLINE_S = 60
SHIM = Path(__file__).with_name("guide.h")
PROGRAMS = {"balancer": "lbbroker2.c", "majordomo": "mdbroker.c"}
REPLACED = {
    "lbbroker2.c": {
        "#define NBR_CLIENTS 10\n": "#define NBR_CLIENTS 0\n",
        "#define NBR_WORKERS 3\n": "#define NBR_WORKERS 0\n",
    },
    "mdbroker.c": {},
}
FLAGS = ("-O2", "-w", "-shared", "-fPIC", "-Dmain=guide_main")
LIBRARIES = ("-lczmq", "-lzmq")
ENDPOINTS, ENDPOINT_SIZE = 2, 256


def start(_context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Start the broker of the one pair. It has a context of its own. Raises `ValueError` if it is not one pair, or if
    the guide has no such broker."""
    if len(deployment.frontends) != 1 or deployment.device not in PROGRAMS:
        raise ValueError(f"{len(deployment.frontends)} of {deployment.device}: expected one balancer, or one majordomo")
    endpoints = [*deployment.frontends, *deployment.backends]
    if deployment.device == "majordomo":
        endpoints = endpoints[:1]
    czmq = ctypes.CDLL(ctypes.util.find_library("czmq"))
    czmq.zsys_handler_set(None)  # signals stay Python's
    czmq.zsys_set_sndhwm(ctypes.c_size_t(deployment.high_water_mark))
    czmq.zsys_set_rcvhwm(ctypes.c_size_t(deployment.high_water_mark))
    library = ctypes.CDLL(str(_library_path(PROGRAMS[deployment.device])))
    wanted = (ctypes.c_char_p * ENDPOINTS).in_dll(library, "guide_wanted")
    for index, endpoint in enumerate(endpoints):
        wanted[index] = endpoint.encode()
    threading.Thread(target=library.guide_main, args=(0, None), daemon=True).start()
    bound = ctypes.c_int.in_dll(library, "guide_bound")
    deadline_s = time.monotonic() + BIND_DEADLINE_S
    while bound.value != len(endpoints):
        if bound.value < 0 or time.monotonic() > deadline_s:
            raise OSError(f"{PROGRAMS[deployment.device]}: {endpoints} could not be bound")
        time.sleep(BIND_PAUSE_S)
    real = ((ctypes.c_char * ENDPOINT_SIZE) * ENDPOINTS).in_dll(library, "guide_real")
    addresses = [real[index].value.decode() for index in range(len(endpoints))]
    return (addresses[0],), (addresses[-1],)


def _library_path(program: str) -> Path:
    """Return the path of a compiled broker, which is compiled now if the cache does not have it."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or "clang"
    directory = guide_directory() / "examples" / "C"
    source = replaced(program, (directory / program).read_text())
    made_of = (source.encode(), SHIM.read_bytes(), compiler.encode(), *(flag.encode() for flag in FLAGS))
    key = hashlib.sha256(b"\0".join(made_of)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pollbroker-bench"
    library = cache / f"{Path(program).stem}-{key}.so"
    if library.exists():
        return library
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as built_in:
        built = Path(built_in) / library.name
        subprocess.run(
            [compiler, *FLAGS, "-include", str(SHIM), f"-I{directory}", "-xc", "-", "-o", str(built), *LIBRARIES],
            input=source,
            text=True,
            timeout=COMPILE_DEADLINE_S,
            check=True,  # what the compiler says is in the standard error of this process, which is shown
        )
        built.replace(library)
    return library


def replaced(program: str, source: str) -> str:
    """Return the source with the lines of `REPLACED` replaced. Raises `ValueError` unless each is there once."""
    for line, instead in REPLACED[program].items():
        if source.count(line) != 1:
            raise ValueError(f"{program}: {line!r} is there {source.count(line)} times; expected once")
        source = source.replace(line, instead)
    return source

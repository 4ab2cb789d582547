"""Compiling the guide's programs in C, and installing the programs of PyPI."""

import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

C_PROGRAMS: Final = (
    *("lbbroker", "lpclient", "mdbroker", "mdclient", "mdclient2", "mdworker", "mmiecho", "ppqueue", "ppworker"),
    *("ticlient", "titanic"),
)
_NOT_IN_THE_LIBRARY: Final = ("czmq_selftest", "makecert", "test_zgossip")

_PLATFORM: Final = """
#define HAVE_LINUX_WIRELESS_H 1
#define HAVE_NET_IF_H 1
#define HAVE_GETIFADDRS 1
#define HAVE_FREEIFADDRS 1
"""
"""What czmq's ./configure finds out, on Linux."""

_DEADLINE_S: Final = 600


def build_c_programs(guide: Path, czmq: Path, directory: Path) -> Path:
    """The directory with the guide's programs in C, linked with czmq. Needs gcc, ar, and the headers of libzmq."""
    objects = directory / "czmq"
    objects.mkdir()
    (objects / "platform.h").write_text(_PLATFORM)
    include = [f"-I{objects}", f"-I{czmq / 'include'}", f"-I{czmq / 'src'}"]
    made = []
    for source in sorted((czmq / "src").glob("*.c")):
        if source.stem not in _NOT_IN_THE_LIBRARY:
            made.append(objects / f"{source.stem}.o")
            _run(["gcc", "-w", "-O1", *include, "-c", source, "-o", made[-1]])
    library = objects / "libczmq.a"
    _run(["ar", "rcs", library, *made])
    built = directory / "c"
    built.mkdir()
    for name in C_PROGRAMS:
        source = guide / "examples/C" / f"{name}.c"
        _run(["gcc", "-w", "-O1", *include, source, "-o", built / name, library, "-lzmq", "-lpthread", "-luuid", "-lm"])
    return built


def make_environment(directory: Path, requirements: Sequence[str]) -> Path:
    """The Python of a new virtual environment with these packages."""
    venv.create(directory / "venv", with_pip=True)
    python = directory / "venv/bin/python"
    _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements])
    return python


def _run(command: Sequence[str | Path]) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_DEADLINE_S, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")

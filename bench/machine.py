"""On what the numbers were taken: a number without its machine says nothing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import zmq

from bench.child import CHECKOUT

# What a peer may stand on, beside pyzmq: told where it is installed.
PEER_PACKAGES = ("gevent", "pynng")
NOT_INSTALLED = "not installed"
GIT_DEADLINE_S = 10


def describe_machine() -> dict[str, str | int | float]:
    """Processor, cores, memory, kernel, and the load of the last minute: a busy machine measures its other guests."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_average_1min": round(os.getloadavg()[0], 2),
    }


def describe_versions() -> dict[str, str]:
    """Python, libzmq and the packages that are measured."""
    peers = {package: told for package in PEER_PACKAGES if (told := _version(package)) != NOT_INSTALLED}
    return {
        "python": f"{platform.python_implementation()} {sys.version.split()[0]}",
        "libzmq": zmq.zmq_version(),
        "pyzmq": zmq.pyzmq_version(),
        "pollbroker": f"{_version('pollbroker')}{_commit()}",
        **peers,
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return NOT_INSTALLED


def _commit() -> str:
    """The commit of the checkout, in brackets, and whether it has been edited since; nothing where there is no git."""
    git = shutil.which("git")
    if git is None:
        return ""
    command = [git, "--no-optional-locks", "-C", str(CHECKOUT), "describe", "--always", "--dirty=, edited"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=GIT_DEADLINE_S, check=False)
    return f" ({answer.stdout.strip()})" if answer.returncode == 0 else ""


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()

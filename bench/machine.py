"""On what the numbers were taken: a number without its machine says nothing."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import zmq


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
    return {
        "python": f"{platform.python_implementation()} {sys.version.split()[0]}",
        "libzmq": zmq.zmq_version(),
        "pyzmq": zmq.pyzmq_version(),
        "pollbroker": _version("pollbroker"),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()

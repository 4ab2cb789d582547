"""On what the numbers were taken: a number without its machine says nothing."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import zmq

from bench.child import CHECKOUT
from bench.results import LOAD, Origin

# What a peer may stand on, beside pyzmq: told where it is installed.
PEER_PACKAGES = ("gevent", "pynng")
NOT_INSTALLED = "not installed"
GIT_DEADLINE_S = 10
# What a figure depends on, as git names it.
MEASURED = ("pollbroker", "bench", "setup.py", ":!bench/results", ":!bench/pages", ":!bench/*.md")


def origin_now() -> Origin:
    """What a question that is asked now, here, comes from."""
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Origin(started, describe_machine(), describe_versions())


def describe_machine() -> dict[str, str | int | float]:
    """Processor, cores, memory, kernel, and the load of the last minute: a busy machine measures its other guests."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        LOAD: round(os.getloadavg()[0], 2),
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
    """The commit of the checkout, in brackets, and whether what is measured has been edited since.

    Results that were just written, and pages made from them, are no edit. Nothing where there is no git.
    """
    commit = _git("rev-parse", "--short", "HEAD")
    if commit is None:
        return ""
    edited = _git("status", "--porcelain", "--untracked-files=no", "--", *MEASURED)
    return f" ({commit}{', edited' if edited else ''})"


def _git(*arguments: str) -> str | None:
    """What git says of the checkout; None if there is no git, or no checkout."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "--no-optional-locks", "-C", str(CHECKOUT), *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=GIT_DEADLINE_S, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else None


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()

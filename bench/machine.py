"""The machine and the versions with which the figures were measured, without which the figures mean nothing."""

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

# Packages of peers, beside pyzmq. Their versions are recorded if they are installed.
PEER_PACKAGES = ("gevent", "pynng")
NOT_INSTALLED = "not installed"
GIT_DEADLINE_S = 10
# The files that a figure depends on, as paths for git.
MEASURED = ("pollbroker", "bench", "setup.py", ":!bench/results", ":!bench/pages", ":!bench/*.md")


def origin_now() -> Origin:
    """Return the origin of a question that is asked now, on this machine."""
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Origin(started, describe_machine(), describe_versions())


def describe_machine() -> dict[str, str | int | float]:
    """Return the processor, cores, memory, kernel, and the load of the last minute, which shows if the machine was
    busy."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        LOAD: round(os.getloadavg()[0], 2),
    }


def describe_versions() -> dict[str, str]:
    """Return the versions of Python, libzmq and the packages that are measured."""
    peers = {package: found for package in PEER_PACKAGES if (found := _version(package)) != NOT_INSTALLED}
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
    """Return the commit of the checkout in brackets, with "edited" if files that are measured have changed since.

    Results and pages that were made from them do not count as edited. Without git the text is empty.
    """
    commit = _git("rev-parse", "--short", "HEAD")
    if commit is None:
        return ""
    edited = _git("status", "--porcelain", "--untracked-files=no", "--", *MEASURED)
    return f" ({commit}{', edited' if edited else ''})"


def _git(*arguments: str) -> str | None:
    """Run git in the checkout and return its output; None if there is no git, or no checkout."""
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

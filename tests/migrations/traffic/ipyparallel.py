"""ipyparallel: a controller, whose schedulers are monitored queues in processes (the default) or in threads, and an
engine, whose heart is a device in a thread."""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ipyparallel
import psutil

from tests.migrations.traffic.measuring import DEADLINE_MS, count_threads, cpu_percent, cpu_s, family_of, running, tell

TASKS = 2000
WAYS = {"schedulers in processes": (), "schedulers in threads": ("--IPController.use_threads=True",)}


@contextmanager
def cluster(*options: str) -> Iterator[tuple[psutil.Popen, psutil.Popen, str]]:
    """As a context: a controller, an engine, and the file by which clients connect."""
    with tempfile.TemporaryDirectory() as directory:
        common = (f"--profile-dir={directory}", "--log-level=ERROR")
        file = Path(directory) / "security/ipcontroller-client.json"
        with running(
            sys.executable, "-m", "ipyparallel.controller", "--ip=127.0.0.1", "--nodb", *common, *options
        ) as controller:
            wait_until_exists(file)
            with running(sys.executable, "-m", "ipyparallel.engine", *common) as engine:
                yield controller, engine, str(file)


def wait_until_exists(file: Path) -> None:
    """Wait for a file."""
    deadline_s = time.monotonic() + DEADLINE_MS / 1000
    while not file.exists():
        assert time.monotonic() < deadline_s, f"{file} was not written"
        time.sleep(0.05)


def serve_after_departure(view: Any, file: str) -> str:
    """What becomes of a task when a client has left before the result of another."""
    leaving = ipyparallel.Client(file)
    leaving[0].apply_async(time.sleep, 0.5)
    leaving.close()
    return "is served" if view.apply_async(os.getpid).get(DEADLINE_MS / 1000) else "is not served"


def measure(way: str, *options: str) -> dict[str, float | str]:
    """Measure a cluster."""
    with cluster(*options) as (controller, engine, file), ipyparallel.Client(file) as client:
        client.wait_for_engines(1, timeout=DEADLINE_MS / 1000)
        view = client[0]
        view.apply_async(os.getpid).get(DEADLINE_MS / 1000)
        figures: dict[str, float | str] = {
            "processes of the controller": len(family_of(controller)),
            "threads of the controller": count_threads(controller),
            "threads of the engine": count_threads(engine),
            "CPU of the controller while idle (%)": cpu_percent(controller),
        }
        before_s, begun_s = cpu_s(controller), time.monotonic()
        client.wait([view.apply_async(os.getpid) for _ in range(TASKS)], timeout=10 * DEADLINE_MS / 1000)
        figures["tasks/s"] = TASKS / (time.monotonic() - begun_s)
        figures["CPU of the controller (µs a task)"] = 1e6 * (cpu_s(controller) - before_s) / TASKS
        figures["a client after one that left"] = serve_after_departure(view, file)
    return {f"{way}: {name}": figure for name, figure in figures.items()}


def main() -> None:
    """Measure both ways."""
    figures: dict[str, float | str] = {}
    for way, options in WAYS.items():
        figures |= measure(way, *options)
    tell(figures)


if __name__ == "__main__":
    main()

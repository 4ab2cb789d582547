"""Fuzzing: seeds by the thousand, in several processes; for one that fails the shortest schedule that still does.

A seed decides everything in its simulation, so a failure is told by its number alone.

A process that tries seeds never outlives the one that started it, however that ends: each holds the reading end of a
pipe whose writing end the starter alone has, and ends when that is closed.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from multiprocessing.connection import Connection
from typing import Final

from pollbroker.device import Device
from pollbroker.standard_devices import DEVICES
from pollbroker.testing.checking import check_scenario, check_seed
from pollbroker.testing.drawing import scenario_of_seed
from pollbroker.testing.environments import SimulatedEnvironment
from pollbroker.testing.scenario import Scenario, Step

_BATCH: Final = 50
"""Seeds that a process is given at a time: half a second of work."""

_LAST_SEED: Final = 1 << 62
"""More than there will ever be time for."""


@dataclass(frozen=True)
class Finding:
    """A seed that broke a promise, or something else."""

    seed: int
    account: str


@dataclass(frozen=True)
class Progress:
    """What has been done so far."""

    seeds: int
    """How many have been tried."""
    findings: tuple[Finding, ...]
    """Those that failed since the last of these."""


def check_seeds(first: int, count: int, device: str | None = None) -> list[Finding]:
    """Try so many seeds from the first on; those that fail."""
    findings = []
    for seed in range(first, first + count):
        account = failure_of(partial(check_seed, seed, _device(device)))
        if account is not None:
            findings.append(Finding(seed, account))
    return findings


def failure_of(check: Callable[[], object]) -> str | None:
    """What a check raises, in a line, or None if it raises nothing."""
    try:
        check()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
        return f"{type(error).__name__}: {error}"
    return None


def _device(name: str | None) -> Device | None:
    return None if name is None else DEVICES[name]


def fuzz(
    *, first: int = 0, seeds: int | None = None, minutes: float | None = None, jobs: int = 1, device: str | None = None
) -> Generator[Progress, None, None]:
    """Try seeds from the first on, and say after every batch how far it is. Closing the iterator ends its processes.

    Arguments:
        seeds: how many; None: as many as there is time for.
        minutes: for how long at most; None: until the seeds are through.
        jobs: how many processes.
        device: the name of one in `DEVICES`; None: whichever.
    """
    end_s = None if minutes is None else time.monotonic() + minutes * 60
    last = _LAST_SEED if seeds is None else first + seeds
    batches = iter(range(first, last, _BATCH))
    done = 0
    with _worker_processes(jobs) as pool:
        running: dict[Future[list[Finding]], int] = {}
        while True:
            if end_s is None or time.monotonic() < end_s:
                for start in islice(batches, 2 * jobs - len(running)):
                    count = min(_BATCH, last - start)
                    with _inherited_deafness():  # the first starts the processes
                        running[pool.submit(check_seeds, start, count, device)] = count
            if not running:
                return
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            findings: list[Finding] = []
            for future in finished:
                done += running.pop(future)
                findings += future.result()
            yield Progress(done, tuple(sorted(findings, key=lambda finding: finding.seed)))


@contextmanager
def _worker_processes(number: int) -> Iterator[ProcessPoolExecutor]:
    """As a context: so many processes, none of which is left at its end, whatever they are at."""
    # Fresh processes: a fork would take the threads' locks along, and descriptors of sockets.
    fresh = multiprocessing.get_context("spawn")
    reader, writer = fresh.Pipe(duplex=False)
    with _inherited_deafness():  # of multiprocessing's resource tracker, which complains if it has to be started again
        pool = ProcessPoolExecutor(number, mp_context=fresh, initializer=_end_with_starter, initargs=(reader,))
    try:
        yield pool
    finally:
        writer.close()
        pool.shutdown(cancel_futures=True)
        reader.close()


def _end_with_starter(reader: Connection) -> None:
    """In a process that tries seeds: end at once when the pipe is closed."""

    def wait_for_the_end() -> None:
        reader.poll(None)  # nothing is ever written to it
        os._exit(0)

    threading.Thread(target=wait_for_the_end, name="end-with-starter", daemon=True).start()


@contextmanager
def _inherited_deafness() -> Iterator[None]:
    """Processes that are started here do not hear what ends their starter: they end with it (`_end_with_starter`).

    A blocked signal stays blocked in a process that is started meanwhile; here it comes when it is unblocked again, and
    not while a process is being told what to do, which would end that one with a traceback.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def shortest_failing(seed: int, device: str | None = None) -> Scenario:
    """The scenario of a seed that fails, less all the steps that it fails without."""
    make_environment = partial(SimulatedEnvironment, seed=seed)

    def fails(scenario: Scenario) -> bool:
        return failure_of(partial(check_scenario, scenario, make_environment)) is not None

    scenario = scenario_of_seed(seed, _device(device))
    steps = _without(scenario.steps, lambda fewer: fails(replace(scenario, steps=fewer)))
    for place, step in enumerate(steps):
        for fewer in (replace(step, meanwhile=()), *(replace(step, meanwhile=(one,)) for one in step.meanwhile)):
            tried = (*steps[:place], fewer, *steps[place + 1 :])
            if fewer != step and fails(replace(scenario, steps=tried)):
                steps = tried
                break
    return replace(scenario, steps=steps)


def _without(steps: tuple[Step, ...], fails: Callable[[tuple[Step, ...]], bool]) -> tuple[Step, ...]:
    """Leave out steps, many at a time and then fewer, as long as what remains fails."""
    size = len(steps)
    while size:
        start = 0
        while start < len(steps):
            fewer = steps[:start] + steps[start + size :]
            if fails(fewer):
                steps = fewer
            else:
                start += size
        size //= 2
    return steps

"""Fuzzing: thousands of seeds in several processes. For a seed that fails, the shortest schedule that still fails.

A seed decides everything in its simulation, so its number is enough to repeat a failure.

A process that tries seeds never outlives the process that started it, however that one ends. Each holds the reading end
of a pipe, of which only the starter has the writing end, and exits when that end is closed.
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
from typing import Final, TypeVar

from pollbroker.device import Device
from pollbroker.standard_devices import DEVICES
from pollbroker.testing.behaviours import BehaviourScenario, BehaviourStep, check_behaviour, check_behaviour_seed
from pollbroker.testing.behaviours.checking import behaviour_scenario_of_seed
from pollbroker.testing.checking import (
    check_scenario,
    check_seed,
    check_streams_can_be_simulated,
    seeded_scenario,
)
from pollbroker.testing.environments import MakeEnvironment, check_wire_is_built, seeded
from pollbroker.testing.scenario import Scenario

_Step = TypeVar("_Step")

_BATCH: Final = 50
"""How many seeds a process is given at a time: half a second of work."""

_LAST_SEED: Final = 1 << 62
"""The end of the seeds when no number is given: there is never enough time to reach it."""


@dataclass(frozen=True)
class Finding:
    """A seed that failed: it broke a promise, or raised another exception."""

    seed: int
    account: str
    """What went wrong, in a line."""


@dataclass(frozen=True)
class Progress:
    """How far a fuzzing run has come."""

    seeds: int
    """How many seeds have been tried."""
    findings: tuple[Finding, ...]
    """The seeds that failed since the last `Progress`."""


def check_can_be_tried(device: str | None, column: str) -> None:
    """Raise `DeviceError` if the device has a behaviour and streams are to be simulated, and `ConfigError` if the wire
    was not built that these are for."""
    if device is not None:
        check_streams_can_be_simulated(DEVICES[device], [column])
    if column == "streams":
        check_wire_is_built()


def check_seeds(first: int, count: int, device: str | None = None, column: str = "simulation") -> list[Finding]:
    """Try `count` seeds, beginning with `first`. Return those that fail."""
    findings = []
    for seed in range(first, first + count):
        account = failure_of(partial(_check, seed, _device(device, seed, column), column))
        if account is not None:
            findings.append(Finding(seed, account))
    return findings


def failure_of(check: Callable[[], object]) -> str | None:
    """Run a check. Return what it raises, in a line, or None if it raises nothing."""
    try:
        check()
    except Exception as error:  # noqa: BLE001 - every exception is a finding
        return f"{type(error).__name__}: {error}"
    return None


def _check(seed: int, device: Device | None, column: str) -> object:
    if device is not None and device.behaviour is not None:
        return check_behaviour_seed(seed, device)
    return check_seed(seed, device, column=column)


def _device(name: str | None, seed: int, column: str = "simulation") -> Device | None:
    """The device that a seed is tried with; None if the scenario chooses devices without a behaviour.

    If no name is given, every fourth seed is for a device of `DEVICES` that has a behaviour, unless streams are
    simulated: no behaviour is tried with them.
    """
    if name is not None:
        return DEVICES[name]
    if column == "streams":
        return None
    behaving = [device for device in DEVICES.values() if device.behaviour is not None]
    round_, turn = divmod(seed, 4)
    return behaving[round_ % len(behaving)] if behaving and turn == 3 else None


def fuzz(
    *,
    first: int = 0,
    seeds: int | None = None,
    minutes: float | None = None,
    jobs: int = 1,
    device: str | None = None,
    column: str = "simulation",
) -> Generator[Progress, None, None]:
    """Try seeds, and yield the progress after every batch. Closing the iterator ends its processes.

    Arguments:
        first: the first seed.
        seeds: how many seeds to try; with None as many as there is time for.
        minutes: the longest time; with None until all seeds have been tried.
        jobs: how many processes to use.
        device: the name of a device in `DEVICES`; with None the seeds choose the devices.
        column: what is simulated: "simulation", the sockets of libzmq, or "streams", those of ports of the wire.
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
                    with _signals_blocked():  # the first submit starts the processes
                        running[pool.submit(check_seeds, start, count, device, column)] = count
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
    """As a context: a pool of processes. At the end of the context all of them have ended, even in the middle of a
    seed."""
    # Processes are spawned, because a fork would copy locks that threads hold, and descriptors of sockets.
    spawn = multiprocessing.get_context("spawn")
    reader, writer = spawn.Pipe(duplex=False)
    # multiprocessing's resource tracker starts here too. If a signal ended it, it would complain when it starts again.
    with _signals_blocked():
        pool = ProcessPoolExecutor(number, mp_context=spawn, initializer=_end_with_starter, initargs=(reader,))
    try:
        yield pool
    finally:
        writer.close()
        pool.shutdown(cancel_futures=True)
        reader.close()


def _end_with_starter(reader: Connection) -> None:
    """Runs first in each process that tries seeds: the process will exit at once when the pipe is closed."""

    def wait_for_the_end() -> None:
        reader.poll(None)  # nothing is ever written to it
        os._exit(0)

    threading.Thread(target=wait_for_the_end, name="end-with-starter", daemon=True).start()


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """As a context: block the signals that end this process, here and in the processes that are started meanwhile.

    In those processes the signals stay blocked: they end with their starter (`_end_with_starter`). In this process a
    signal is delivered at the end of the context. So none comes while a process is being started, which would then end
    with a traceback.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def shortest_failing(seed: int, device: str | None = None, column: str = "simulation") -> Scenario | BehaviourScenario:
    """Return the scenario of a seed that fails, without the steps that are not needed for the failure."""
    found = _device(device, seed, column)
    make_environment = seeded(column, seed)
    if found is not None and found.behaviour is not None:
        return _shortest_of_behaviour(behaviour_scenario_of_seed(seed, found), make_environment)
    return _shortest(seeded_scenario(seed, found, column), make_environment)


def _shortest_of_behaviour(scenario: BehaviourScenario, make_environment: MakeEnvironment) -> BehaviourScenario:
    def fails(steps: tuple[BehaviourStep, ...]) -> bool:
        return failure_of(partial(check_behaviour, replace(scenario, steps=steps), make_environment)) is not None

    return replace(scenario, steps=_shortened(scenario.steps, fails))


def _shortest(scenario: Scenario, make_environment: MakeEnvironment) -> Scenario:
    def fails(scenario: Scenario) -> bool:
        return failure_of(partial(check_scenario, scenario, make_environment)) is not None

    steps = _shortened(scenario.steps, lambda fewer: fails(replace(scenario, steps=fewer)))
    for place, step in enumerate(steps):
        for fewer in (replace(step, meanwhile=()), *(replace(step, meanwhile=(one,)) for one in step.meanwhile)):
            tried = (*steps[:place], fewer, *steps[place + 1 :])
            if fewer != step and fails(replace(scenario, steps=tried)):
                steps = tried
                break
    return replace(scenario, steps=steps)


def _shortened(steps: tuple[_Step, ...], fails: Callable[[tuple[_Step, ...]], bool]) -> tuple[_Step, ...]:
    """Leave out steps, first many at a time and then fewer, as long as the remaining steps fail."""
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

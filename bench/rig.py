"""The processes of one sample: a new broker process and new load processes, on their own endpoints.

For inproc there is one process, because only sockets of one process can share an inproc endpoint. Its CPU time then
includes that of the load.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.child import Child, ChildError
from bench.peers.table import Peer
from bench.work import TRAFFIC, Assignment, LoadSample, ProcessSample, Started, Work

CONDITION_DEADLINE_S = 30.0
CONDITION_PAUSE_S = 0.01  # between two looks at a counter, so that waiting takes little CPU time


@dataclass(frozen=True)
class Window:
    """What was measured between two moments: of the broker's process (0 without a broker), and where messages are
    counted."""

    rate_per_s: float
    cpu_share: float
    broker: ProcessSample | None
    counted: LoadSample
    control: LoadSample | None = None
    answered: int = 0
    captured_per_s: float = 0.0
    missed_per_s: float = 0.0


class Rig:
    """A peer with its load. As a context manager it ends every process.

    `start` starts all processes. A question that starts one after the other calls `start_broker` and `start_load`.
    """

    def __init__(self, peer: Peer, work: Work) -> None:
        self._peer = peer
        self._work = work
        self._stack = ExitStack()
        self._broker: Child | None = None
        self._control = ""
        self._loads: dict[str, tuple[Child, int]] = {}  # by side: the process, and which of its loads
        self._beside: list[tuple[Child, bool]] = []  # the load of other traffic: a process, and whether it counts
        self._endpoints: dict[str, tuple[str, ...]] = {}
        self._idle: dict[str, tuple[str, ...]] = {}

    def __enter__(self) -> Self:
        self._directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def start(self) -> None:
        """Start the broker and both loads, and wait until messages arrive."""
        if self._work.together:
            self._start_together()
        else:
            self.start_broker()
            self.start_load("backend")
            self.start_load("frontend")
        self.wait_for_messages(TRAFFIC[self._work.traffic].counter, 1)

    def start_broker(self, growth: int = 0) -> Started:
        """Start the broker process, if the peer has one, wait until its ports are bound, and return what it reported.

        After that `growth` more brokers are added and removed, and each of these is timed.
        """
        if self._peer.module is None:
            return Started()
        work = self._work
        brokers = work.deployment(self._peer.module, self._directory, self._start_witness() if work.captured else ())
        self._broker = self._child(self._peer.name, Assignment(brokers, growth=growth))
        started = self._broker.started()
        self._endpoints = {"frontend": started.frontends[: work.pairs], "backend": started.backends[: work.pairs]}
        self._idle = {"frontend": started.frontends[work.pairs :], "backend": started.backends[work.pairs :]}
        self._control = brokers.control
        return started

    def start_load(self, side: str) -> None:
        """Start the load at one port. Without a broker the backend's load binds, and must be started first."""
        bind = self._peer.module is None and side == "backend"
        if bind:
            self._endpoints["backend"] = self._work.endpoints("backend", self._work.pairs, self._directory)
        load = self._work.load(side, self._endpoints[side], self._directory, bind=bind)
        load = replace(load, module=self._peer.load_module)
        child = self._child(f"{self._peer.name}: {load.role}", Assignment(None, (load,)))
        self._loads[side] = child, 0
        started = child.started()
        if bind:
            self._endpoints["frontend"] = started.loads[0]

    def start_beside(self, other: Work) -> None:
        """Start the load of other traffic: at the first pair that this work leaves idle, or, if it leaves none, that of
        the clients at its own first pair, whose worker answers them, too. It is not measured, but has to flow."""
        if self._idle["frontend"]:
            self._start_other(other, "backend", self._idle["backend"][:1])
            self._start_other(other, "frontend", self._idle["frontend"][:1])
        else:
            self._start_other(other, "frontend", self._endpoints["frontend"][:1])

    def _start_other(self, other: Work, side: str, endpoints: tuple[str, ...]) -> None:
        load = replace(other.load(side, endpoints, self._directory), module=self._peer.load_module)
        child = self._child(f"{self._peer.name}: another {load.role}", Assignment(None, (load,)))
        child.started()
        self._beside.append((child, side == TRAFFIC[other.traffic].counter))

    def start_commander(self) -> None:
        """Start the load that sends STATISTICS to the control socket of the broker, which must have one."""
        child = self._child(f"{self._peer.name}: control", Assignment(None, (self._work.commander(self._control),)))
        self._loads["control"] = child, 0
        child.started()

    def wait_for_messages(self, side: str, count: int, within_s: float = CONDITION_DEADLINE_S) -> None:
        """Wait until the load at `side` has counted `count` messages. Raises `ChildError` if that takes longer."""
        child, index = self._loads[side]
        deadline_s = time.monotonic() + within_s
        while True:
            child.ask()
            messages = child.sample().loads[index].messages
            if messages >= count:
                return
            if time.monotonic() > deadline_s:
                arrived = f"{messages} of {count} messages at the {side}"
                raise ChildError(f"{self._peer.name}: {arrived} after {within_s:.0f} s")
            time.sleep(CONDITION_PAUSE_S)

    def window(self, warm_up_s: float, window_s: float) -> Window:
        """Wait for `warm_up_s`, then measure for `window_s`. Messages are counted at the traffic's counter, if it
        runs. Raises `ChildError` if a load fails, or if other traffic beside it stands still."""
        time.sleep(warm_up_s)
        before = self._sample()
        time.sleep(window_s)
        after = self._sample()
        for child, counts in self._beside:
            if counts and after[child].loads[0].messages == before[child].loads[0].messages:
                raise ChildError(f"{self._peer.name}: the traffic beside the one that is measured stands still")
        rate_per_s, missed_per_s, counted = 0.0, 0.0, LoadSample(0, 0, 0)
        if (place := self._loads.get(TRAFFIC[self._work.traffic].counter)) is not None:
            child, index = place
            counted, first_counted = after[child].loads[index], before[child].loads[index]
            counted_s = after[child].time_s - before[child].time_s
            rate_per_s = (counted.messages - first_counted.messages) / counted_s
            missed_per_s = (counted.missed - first_counted.missed) / counted_s
        cpu_share, broker = 0.0, None
        if self._broker is not None:
            broker, first = after[self._broker], before[self._broker]
            cpu_share = (broker.cpu_s - first.cpu_s) / (broker.time_s - first.time_s)
        control, answered = None, 0
        if (place := self._loads.get("control")) is not None:
            child, index = place
            control = after[child].loads[index]
            answered = control.messages - before[child].loads[index].messages
        captured_per_s = 0.0
        if (place := self._loads.get("capture")) is not None:
            child, index = place
            copies = after[child].loads[index].messages - before[child].loads[index].messages
            captured_per_s = copies / (after[child].time_s - before[child].time_s)
        return Window(
            rate_per_s, cpu_share, broker, counted, control, answered, captured_per_s, missed_per_s=missed_per_s
        )

    def sample_broker(self) -> ProcessSample:
        """Take a sample of the broker's process alone, which must run."""
        assert self._broker is not None
        self._broker.ask()
        return self._broker.sample()

    def broker_pid(self) -> int:
        """The id of the broker's process, which must run."""
        assert self._broker is not None
        return self._broker.pid

    def _start_witness(self) -> tuple[str, ...]:
        """Start the load that receives the copies of a capture. Return its addresses."""
        child = self._child(f"{self._peer.name}: capture", Assignment(None, (self._work.witness(self._directory),)))
        self._loads["capture"] = child, 0
        return child.started().loads[0]

    def _start_together(self) -> None:
        work = self._work
        assert not work.captured, "a witness is a process of its own, which inproc does not reach"
        frontends = work.endpoints("frontend", work.pairs, self._directory)
        backends = work.endpoints("backend", work.pairs, self._directory)
        if self._peer.module is None:
            brokers, frontends = None, backends
        else:
            brokers = work.deployment(self._peer.module, self._directory)
        loads = (
            work.load("backend", backends, self._directory, bind=brokers is None),
            work.load("frontend", frontends, self._directory),
        )
        child = self._child(self._peer.name, Assignment(brokers, loads))
        child.started()
        self._broker = child if brokers else None
        self._loads = {"backend": (child, 0), "frontend": (child, 1)}

    def _sample(self) -> dict[Child, ProcessSample]:
        """Take samples of all processes at one moment: all are asked before the first answer is read."""
        children = {child for child, _ in self._loads.values()} | {child for child, _ in self._beside}
        children |= {self._broker} if self._broker else set()
        for child in children:
            child.ask()
        return {child: child.sample() for child in children}

    def _child(self, role: str, assignment: Assignment) -> Child:
        environment = self._peer.environment if assignment.brokers else {}
        return self._stack.enter_context(Child(role, assignment, environment))

"""What the demo does to its brokers while messages pass: it pauses one, and adds another."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import zmq

from pollbroker.cli.demo.checks import Check
from pollbroker.cli.demo.side import bodies_of
from pollbroker.cli.demo.workload import SOCKET_OPTIONS
from pollbroker.engine import Engine
from pollbroker.standard_devices import STREAMER
from pollbroker.statistics import BrokerStatistics

PAUSED: Final = "streamer"
"""The broker that is paused."""
_ADDED: Final = "added"
_NUMBER: Final = 1000
"""How many messages pass the broker that is added."""
_LOOK_S: Final = 0.02
_OTHERS_S: Final = 30.0
"""How long the other brokers may need to take a message. On a busy machine that is far more than it should be."""
_DEADLINE_MS: Final = 30_000
"""How long a message may take to come through the broker that was added."""


@dataclass(frozen=True)
class Paused:
    """What happened while a broker was paused."""

    took: int
    """Messages that the paused broker took, after `pause` had returned. What it had taken before may still be
    written."""
    others: int
    """Messages that the other brokers took in this time."""

    def check(self, lost: int) -> Check:
        """Whether pausing kept its promise. `lost` is how many messages of the paused broker never arrived."""
        wrong = []
        if self.took:
            wrong.append(f"it took {self.took} messages while it was paused")
        if lost:
            wrong.append(f"{lost} messages of the {PAUSED} were lost")
        claim = f"pause: the paused {PAUSED} took nothing more and lost nothing, and the other brokers went on"
        return Check(claim, self.others, tuple(wrong))


@dataclass(frozen=True)
class Added:
    """What happened while a broker was added and removed."""

    arrived: int
    """Messages that came through the broker, the same ones in the same order."""
    final: BrokerStatistics
    """The broker's last statistics."""
    others: int
    """Messages that the other brokers took in this time."""

    def check(self) -> Check:
        """Whether adding kept its promise."""
        flow = self.final.flows["frontend"]
        wrong = []
        if self.arrived != _NUMBER:
            wrong.append(f"{_NUMBER} messages were sent, {self.arrived} arrived in order")
        if (flow.received, flow.sent) != (_NUMBER, _NUMBER):
            wrong.append(f"it counted {flow.received} received and {flow.sent} sent")
        claim = "added: a fourth broker was added, served and was removed, and the other brokers went on"
        return Check(claim, min(self.arrived, self.others), tuple(wrong))


def _taken(engine: Engine, *, but: str | None = None, only: str | None = None) -> int:
    """How many messages the brokers have taken: all `but` one, or `only` one."""
    brokers = engine.statistics().brokers.items()
    chosen = [one for name, one in brokers if name not in (but, _ADDED) and only in (None, name)]
    return sum(flow.received for one in chosen for flow in one.flows.values())


def _wait_for_others(engine: Engine, taken: int, but: str | None = None) -> None:
    """Wait until other brokers have taken more than they had: on a busy machine that can take a while."""
    give_up_s = time.monotonic() + _OTHERS_S
    while _taken(engine, but=but) == taken and time.monotonic() < give_up_s:
        time.sleep(_LOOK_S)


def pause_one(engine: Engine, wait: Callable[[], object]) -> Paused:
    """Pause a broker under traffic for as long as `wait` takes, and resume it."""
    engine.pause(PAUSED)
    try:
        before, others = _taken(engine, only=PAUSED), _taken(engine, but=PAUSED)
        wait()
        _wait_for_others(engine, others, PAUSED)
        return Paused(_taken(engine, only=PAUSED) - before, _taken(engine, but=PAUSED) - others)
    finally:
        engine.resume(PAUSED)


def add_one(engine: Engine) -> Added:
    """Add a broker while the others work, send messages through it, and remove it."""
    others = _taken(engine)
    any_port = "tcp://127.0.0.1:*"
    broker = engine.add(
        _ADDED,
        STREAMER,
        frontend=any_port,
        backend=any_port,
        frontend_options=SOCKET_OPTIONS,
        backend_options=SOCKET_OPTIONS,
    )
    try:
        assert broker.backend is not None
        arrived = _pass_through(broker.frontend.endpoints[0], broker.backend.endpoints[0])
        _wait_for_others(engine, others)
        others_took = _taken(engine) - others
    finally:
        final = engine.remove(_ADDED)
    return Added(arrived, final, others_took)


def _pass_through(frontend: str, backend: str) -> int:
    """Send messages to the one address. Return how many come from the other, the same ones in the same order."""
    bodies = bodies_of("n0", 1, _NUMBER)
    arrived = 0
    context: zmq.Context[Any]
    with zmq.Context() as context, context.socket(zmq.PUSH) as pusher, context.socket(zmq.PULL) as puller:
        for socket, address in ((pusher, frontend), (puller, backend)):
            socket.linger = 0
            socket.sndtimeo = socket.rcvtimeo = _DEADLINE_MS
            socket.connect(address)
        for body in bodies:
            pusher.send(body)
            if puller.poll(0):
                arrived += puller.recv() == bodies[arrived]
        while arrived < _NUMBER and puller.poll(_DEADLINE_MS):
            if puller.recv() != bodies[arrived]:
                break
            arrived += 1
    return arrived

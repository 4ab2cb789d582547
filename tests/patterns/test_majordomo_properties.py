"""Majordomo against a model of lists: whatever peers do, each request has one end, which is counted.

The model says exactly what is sent. It searches its lists from end to end, and knows nothing of ticks but how many of
them have passed.
"""

from collections import Counter
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pollbroker.patterns.majordomo import Majordomo, mdp
from pollbroker.patterns.majordomo.mdp import FINAL, PARTIAL, Version
from pollbroker.testing import Send, drive
from tests.support.accounts import balanced
from tests.support.mdp_peers import Peers

TICK_S = 0.125
BEAT, SILENT, EXPIRY = 10, 20, 15
"""In ticks."""
MAX_REQUESTS, MAX_WORKERS, MAX_SERVICES = 5, 3, 2

workers = st.sampled_from([b"w1", b"w2", b"w3", b"w4"])
clients = st.sampled_from([b"c1", b"c2"])
services = st.sampled_from([b"a", b"b", b"c"])
versions: st.SearchStrategy[Version] = st.sampled_from((1, 2))


@dataclass(eq=False)
class ModelRequest:
    number: bytes
    client: bytes
    version: Version
    service: bytes
    since: int = 0
    given: int = 0


@dataclass(eq=False)
class ModelWorker:
    name: bytes
    version: Version
    service: bytes
    heard: int
    told: int
    request: ModelRequest | None = None
    gone: bool = False


class MajordomoMachine(RuleBasedStateMachine):
    """A broker with clients at one port and workers at another."""

    def __init__(self) -> None:
        super().__init__()
        self.behaviour = Majordomo(
            heartbeat_s=TICK_S * BEAT,
            liveness=SILENT // BEAT,
            request_expiry_s=TICK_S * EXPIRY,
            max_requests=MAX_REQUESTS,
            max_workers=MAX_WORKERS,
            max_services=MAX_SERVICES,
        )
        self.behaviour._tick_s = TICK_S  # the ticks of the shortest time would be finer
        self.behaviour._beat_ticks, self.behaviour._silent_ticks, self.behaviour._request_ticks = BEAT, SILENT, EXPIRY
        self.peers = Peers(drive(self.behaviour), workers_at="backend")
        self.tick = 0
        self.asked = 0
        self.refused = 0
        self.expired = 0
        self.abandoned = 0
        self.answers: Counter[bytes] = Counter()
        self.waiting: list[ModelRequest] = []
        self.free: list[ModelWorker] = []
        self.known: dict[bytes, ModelWorker] = {}
        self.ticking = False

    # -- the model ----------------------------------------------------------------------------------------------------

    def dispatch(self) -> list[Send]:
        """Give the first requests that wait to the workers that have been free for longest."""
        sends = []
        for request in list(self.waiting):
            for worker in [worker for worker in self.free if worker.service == request.service]:
                self.free.remove(worker)
                if worker.gone:
                    del self.known[worker.name]
                    request.since = self.tick
                    continue
                self.waiting.remove(request)
                worker.request, worker.told = request, self.tick
                request.given += 1
                sends.append(self.peers.given(worker.name, request.client, request.number, version=worker.version))
                break
        return sends

    def lose(self, worker: ModelWorker) -> list[Send]:
        del self.known[worker.name]
        if worker in self.free:
            self.free.remove(worker)
        if worker.request is None:
            return []
        if worker.request.given == 2:
            self.abandoned += 1
            return []
        worker.request.since = self.tick
        self.waiting.insert(0, worker.request)
        return self.dispatch()

    def speaker(self, name: bytes) -> ModelWorker | None:
        """A worker that says something now, and so is there; None if it is not known."""
        self.peers.driver.come_back("backend", name)
        worker = self.known.get(name)
        if worker is not None:
            worker.gone = False
        return worker

    def served(self, service: bytes) -> bool:
        return any(worker.service == service for worker in self.known.values())

    @property
    def held(self) -> int:
        return len(self.waiting) + sum(worker.request is not None for worker in self.known.values())

    # -- what peers do ------------------------------------------------------------------------------------------------

    @rule(client=clients, service=services, version=versions)
    def client_asks(self, client: bytes, service: bytes, version: Version) -> None:
        if not self.peers.driver.is_open("frontend"):
            assert self.held == MAX_REQUESTS
            return
        self.asked += 1
        request = ModelRequest(b"%d" % self.asked, client, version, service, self.tick)
        unserved = {waiting.service for waiting in self.waiting if not self.served(waiting.service)}
        new = service not in unserved and not self.served(service)
        if self.held == MAX_REQUESTS or (new and len(unserved) >= MAX_SERVICES):
            self.refused += 1
            expected = []
        else:
            self.waiting.append(request)
            expected = self.dispatch()
        assert self.peers.ask(client, service, request.number, version=version) == expected

    @rule(name=workers, service=services, version=versions)
    def worker_is_ready(self, name: bytes, service: bytes, version: Version) -> None:
        known = self.speaker(name)
        if known is not None:
            expected = [self.peers.broken_off(name, version), *self.lose(known)]
        elif len(self.known) == MAX_WORKERS:
            expected = [self.peers.broken_off(name, version)]
        else:
            worker = self.known[name] = ModelWorker(name, version, service, self.tick, self.tick)
            self.free.append(worker)
            expected = self.dispatch()
        assert self.peers.ready(name, service, version) == expected

    @precondition(lambda self: any(worker.request for worker in self.known.values()))
    @rule(data=st.data(), final=st.booleans())
    def worker_answers(self, data: st.DataObject, final: bool) -> None:
        busy = [worker for worker in self.known.values() if worker.request and not worker.gone]
        if not busy:
            return
        worker = data.draw(st.sampled_from(busy))
        request = worker.request
        assert request is not None
        command = FINAL if final or worker.version == 1 else PARTIAL
        worker.heard = self.tick
        expected = []
        if command is FINAL or request.version == 2:
            expected = [
                self.peers.answered(
                    request.client, request.service, request.number, version=request.version, command=command
                )
            ]
        if command is FINAL:
            self.answers[request.number] += 1
            worker.request = None
            self.free.append(worker)
            expected += self.dispatch()
        came = self.peers.answer(worker.name, request.client, request.number, version=worker.version, command=command)
        assert came == expected

    @rule(name=workers, client=clients, version=versions)
    def somebody_answers_what_was_not_asked(self, name: bytes, client: bytes, version: Version) -> None:
        worker = self.speaker(name)
        frames = mdp.worker_reply(client + b"x", [b"answer"], version)
        expected = [self.peers.broken_off(name, version), *([] if worker is None else self.lose(worker))]
        assert self.peers.say(name, frames) == expected

    @rule(name=workers, version=versions)
    def worker_sends_a_heartbeat(self, name: bytes, version: Version) -> None:
        worker = self.speaker(name)
        if worker is not None and worker.version == version:
            worker.heard = self.tick
            expected = []
        else:
            expected = [self.peers.broken_off(name, version), *([] if worker is None else self.lose(worker))]
        assert self.peers.beat(name, version) == expected

    @rule(name=workers)
    def worker_leaves(self, name: bytes) -> None:
        worker = self.speaker(name)
        assert self.peers.leave(name) == ([] if worker is None else self.lose(worker))

    @rule(ticks=st.integers(1, 12))
    def time_passes(self, ticks: int) -> None:
        for _ in range(ticks):
            if not self.known and not self.waiting:
                break
            self.tick += 1
            expected = []
            silent = [worker for worker in self.known.values() if self.tick - worker.heard > SILENT]
            self.free = [worker for worker in self.free if worker not in silent]
            for worker in sorted(silent, key=lambda worker: worker.heard):
                expected += self.lose(worker)
            for request in [one for one in self.waiting if self.tick - one.since > EXPIRY]:
                self.waiting.remove(request)
                self.expired += 1
            for worker in list(self.known.values()):
                if self.tick - worker.told >= BEAT:
                    worker.told = self.tick
                    if not worker.gone:
                        expected.append(self.peers.heartbeat(worker.name, worker.version))
            for worker in list(self.known.values()):
                if worker.gone and worker.told == self.tick:
                    expected += self.lose(worker)
            came = self.peers.driver.advance(TICK_S)
            assert sorted(came) == sorted(expected)
        if not self.known and not self.waiting:
            assert self.peers.driver.advance(TICK_S) == []

    @precondition(lambda self: not any(worker.gone for worker in self.known.values()))
    @rule(name=workers)
    def worker_vanishes(self, name: bytes) -> None:
        if name in self.known:
            self.known[name].gone = True
            self.peers.driver.leave("backend", name)

    # -- what is promised ---------------------------------------------------------------------------------------------

    @invariant()
    def no_request_is_answered_twice(self) -> None:
        assert all(number == 1 for number in self.answers.values())

    @invariant()
    def every_request_has_an_end_that_is_counted(self) -> None:
        counted = self.peers.driver.counters
        assert counted.get("expired", 0) == self.expired
        assert counted.get("abandoned", 0) == self.abandoned
        assert self.asked == len(self.answers) + self.held + self.refused + self.expired + self.abandoned

    @invariant()
    def what_is_held_is_exact_and_bounded(self) -> None:
        account = self.peers.driver.account
        assert account.held == self.held <= MAX_REQUESTS
        assert balanced(account)
        assert account.failed == 0
        assert len(self.behaviour._in_hand) == sum(worker.request is not None for worker in self.known.values())

    @invariant()
    def names_are_those_that_somebody_needs(self) -> None:
        served = {worker.service for worker in self.known.values()}
        waiting = {request.service for request in self.waiting}
        assert len(self.behaviour._services) == len(served | waiting)
        assert self.behaviour._services.unserved == len(waiting - served)


TestMajordomoMachine = MajordomoMachine.TestCase
TestMajordomoMachine.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)

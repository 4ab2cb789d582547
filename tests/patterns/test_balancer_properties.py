"""Whatever clients, workers and time do: a balancer does what its model says, and answers no request twice.

The model is `balancer_model.py`. Beside it, promises are checked by what comes out: each request is answered once at
most, and those that are not are where the counters say.
"""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pollbroker import Balancer
from pollbroker.testing import Driver, Send, drive
from tests.patterns.balancer_model import Model
from tests.support.accounts import balanced

CLIENTS = (b"c1", b"c2", b"READY")
WORKERS = (b"w1", b"w2", b"w3", b"w4")

given_settings = st.fixed_dictionaries(
    {
        "policy": st.sampled_from(["least_recently_used", "least_loaded", "weighted"]),
        "max_waiting": st.integers(1, 3),
        "max_wait_s": st.sampled_from([None, 2]),
        "time_limit_s": st.sampled_from([None, 3]),
        "give_again": st.booleans(),
        "max_workers": st.integers(1, 4),
    }
)


class BalancerMachine(RuleBasedStateMachine):
    """A balancer between clients and workers, some of which leave."""

    model: Model
    driver: Driver

    @initialize(chosen=given_settings, prioritized=st.booleans())
    def begin(self, chosen: dict[str, object], prioritized: bool) -> None:
        self.behaviour = Balancer(**chosen, priority_frame=2 if prioritized else None)  # type: ignore[arg-type]
        self.driver = drive(self.behaviour)
        self.model = Model(**chosen, prioritized=prioritized)  # type: ignore[arg-type]
        self.inboxes: dict[bytes, list[list[bytes]]] = {}
        """What each worker has been given and has not answered."""
        self.lives: Counter[bytes] = Counter()
        self.number = 0
        self.answers: Counter[bytes] = Counter()

    def _check(self, sends: list[Send]) -> None:
        sends += self.driver.advance(0)
        self.model.settle()
        assert sends == self.model.sent
        self.model.sent.clear()
        for port, frames in sends:
            if port == "backend":
                self.inboxes[frames[0]].append(frames)
            else:
                self.answers[frames[-1]] += 1

    def _alive(self, worker: bytes) -> bytes:
        return b"%s-%d" % (worker, self.lives[worker])  # one that has left comes back with another routing id

    @precondition(lambda self: self.driver.is_open("frontend"))
    @rule(client=st.sampled_from(CLIENTS), priority=st.one_of(st.none(), st.integers(0, 2)))
    def request(self, client: bytes, priority: int | None) -> None:
        self.number += 1
        rest = [b"", b"urgent" if priority is None else b"%d" % priority, b"question %d" % self.number]
        sends = self.driver.message("frontend", client, *rest)
        self.model.request(client, *rest, priority=priority)
        self._check(sends)

    @rule(worker=st.sampled_from(WORKERS), capacity=st.one_of(st.none(), st.integers(1, 3)))
    def ready(self, worker: bytes, capacity: int | None) -> None:
        worker = self._alive(worker)
        self.inboxes[worker] = []
        sends = self.driver.message("backend", worker, b"", b"READY", *([] if capacity is None else [b"%d" % capacity]))
        self.model.ready(worker, capacity)
        self._check(sends)

    @rule(worker=st.sampled_from(WORKERS), which=st.integers(0, 2))
    def answer(self, worker: bytes, which: int) -> None:
        worker = self._alive(worker)
        inbox = self.inboxes.get(worker)
        if inbox:
            _, _, key, *rest = inbox.pop(which % len(inbox))
            sends = self.driver.message("backend", worker, b"", key, *rest)
            self.model.reply(worker, key, *rest)
            self._check(sends)

    @rule(worker=st.sampled_from(WORKERS), client=st.sampled_from(CLIENTS[:2]))
    def answer_what_was_not_asked(self, worker: bytes, client: bytes) -> None:
        worker = self._alive(worker)
        if all(client != frames[2] for frames in self.inboxes.get(worker, [])):
            sends = self.driver.message("backend", worker, b"", client, b"", b"unasked")
            self.model.reply(worker, client, b"", b"unasked")
            self._check(sends)

    @rule(worker=st.sampled_from(WORKERS))
    def leave(self, worker: bytes) -> None:
        self.driver.leave("backend", self._alive(worker))
        self.model.dead.add(self._alive(worker))
        self.lives[worker] += 1

    @precondition(lambda self: self.inboxes)
    @rule()
    def pass_a_second(self) -> None:
        sends = self.driver.advance(1)
        self.model.pass_a_second()
        self._check(sends)

    @invariant()
    def requests_are_read_while_they_can_be_taken(self) -> None:
        assert self.driver.is_open("frontend") == self.model.is_open
        assert self.driver.is_open("backend")

    @invariant()
    def what_it_says_is_true(self) -> None:
        assert self.behaviour.held == self.model.held <= self.behaviour.max_held
        assert self.driver.counters == {name: count for name, count in self.model.counters.items() if count}
        assert balanced(self.driver.account)

    @invariant()
    def no_request_is_answered_twice_or_lost_in_silence(self) -> None:
        assert b"unasked" not in self.answers
        assert all(count == 1 for count in self.answers.values())
        counters = self.driver.counters
        dropped = counters.get("lost", 0) + counters.get("expired", 0)
        with_workers = len(self.model.in_hand)
        assert self.number == len(self.answers) + dropped + with_workers + len(self.model.waiting)


TestBalancerMachine = BalancerMachine.TestCase
TestBalancerMachine.settings = settings(max_examples=35, stateful_step_count=25, deadline=None)

"""Whatever a behaviour does, and whatever is full: every message is accounted for, and each port gets its own in order.

Hypothesis chooses what the behaviour does with each message. The model is a list, for each port, of what was to be sent
there, without what was refused, and a list of what was to be dropped because its peer is gone.
"""

from collections import deque
from collections.abc import Hashable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pollbroker import Behaviour
from pollbroker.testing import Send, drive
from tests.support.accounts import balanced

PORTS = ("a", "b", "c")
GONE = b"gone"
"""The routing id of a peer that has left every port."""

Act = tuple[str, str]
"""What is done with one message: the kind, and a port."""

KINDS = ("hold", "tell", "gone", "keep", "release", "close", "open")
acts = st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(PORTS)))


class Planned(Behaviour):
    """Does what it is told, and then raises if it is told so."""

    max_held = 1000

    def __init__(self) -> None:
        self.plan: list[Act] = []
        self.raises = False
        self.kept: deque[list[bytes]] = deque()
        self.asked: list[Send] = []
        self.asked_of_gone: list[Send] = []
        self.refused: list[Send] = []
        self.dropped: list[Send] = []
        self.number = 0

    @property
    def held(self) -> int:
        return len(self.kept)

    def on_message(self, port: str, frames: list[bytes]) -> None:
        self.asked.clear()
        self.asked_of_gone.clear()
        for kind, where in self.plan:
            if kind in ("hold", "tell"):
                self._ask(kind, where, [b"%d" % self.number])
            elif kind == "gone":
                self.send(where, [GONE, b"%d" % self.number])
                self.asked_of_gone.append(Send(where, [GONE, b"%d" % self.number]))
            elif kind == "keep":
                self.kept.append(frames)
            elif kind == "release" and self.kept:
                self._ask("hold", where, self.kept.popleft())
            elif kind == "close":
                self.close(where)
            else:
                self.open(where)
            self.number += 1
        if self.raises:
            raise ValueError("planned")

    def _ask(self, kind: str, port: str, frames: list[bytes]) -> None:
        self.send(port, frames, if_full="tell" if kind == "tell" else "hold")
        self.asked.append(Send(port, frames))

    def on_refused(self, port: str, frames: list[bytes]) -> None:
        self.refused.append(Send(port, frames))

    def on_dropped(self, port: str, frames: list[bytes]) -> None:
        self.dropped.append(Send(port, frames))

    def on_timer(self, key: Hashable) -> None:
        raise AssertionError("no timer was set")


class BehaviourMachine(RuleBasedStateMachine):
    """A behaviour with three ports, each of which can be read and sent to."""

    def __init__(self) -> None:
        super().__init__()
        self.behaviour = Planned()
        self.driver = drive(self.behaviour, PORTS)
        for port in PORTS:
            self.driver.leave(port, GONE)
        self.expected_drops: list[Send] = []
        self.full: set[str] = set()
        self.expected: dict[str, list[list[bytes]]] = {port: [] for port in PORTS}
        self.sent: dict[str, list[list[bytes]]] = {port: [] for port in PORTS}

    def _note(self, sends: list[Send]) -> None:
        for send in sends:
            assert send.port not in self.full
            self.sent[send.port].append(send.frames)

    @rule(port=st.sampled_from(PORTS), plan=acts, raises=st.booleans())
    def message_comes(self, port: str, plan: list[Act], raises: bool) -> None:
        if not self.driver.is_open(port):
            return
        self.behaviour.plan, self.behaviour.raises = plan, raises
        self.behaviour.refused.clear()
        if raises:
            with pytest.raises(ValueError, match="planned"):
                self.driver.message(port, b"given")
            assert self.behaviour.refused == []
            return
        sends = self.driver.message(port, b"given")
        self.expected_drops += self.behaviour.asked_of_gone
        refused = self.behaviour.refused.copy()
        for send in self.behaviour.asked:
            if send in refused:
                refused.remove(send)
            else:
                self.expected[send.port].append(send.frames)
        assert not refused
        self._note(sends)

    @rule(port=st.sampled_from(PORTS))
    def port_is_full(self, port: str) -> None:
        self.driver.fill(port)
        self.full.add(port)

    @rule(port=st.sampled_from(PORTS))
    def port_has_room(self, port: str) -> None:
        self.full.discard(port)
        self._note(self.driver.empty(port))

    @invariant()
    def each_port_has_its_messages_in_order(self) -> None:
        for port in PORTS:
            assert self.sent[port] == self.expected[port][: len(self.sent[port])]
            if port not in self.full:
                assert len(self.sent[port]) == len(self.expected[port])

    @invariant()
    def behaviour_is_told_of_every_message_that_was_dropped(self) -> None:
        dropped = [send for send in self.expected_drops if send in self.behaviour.dropped]
        assert len(dropped) == len(self.behaviour.dropped) == self.driver.account.unroutable
        waiting_at = {port for port in PORTS if len(self.sent[port]) < len(self.expected[port])} | self.full
        assert all(send in dropped or send.port in waiting_at for send in self.expected_drops)

    @invariant()
    def every_message_is_accounted_for(self) -> None:
        account = self.driver.account
        assert balanced(account)
        waiting = sum(len(self.expected[port]) - len(self.sent[port]) for port in PORTS)
        not_yet_dropped = len(self.expected_drops) - account.unroutable
        assert account.held == waiting + not_yet_dropped + len(self.behaviour.kept)

    @invariant()
    def no_other_port_is_read_while_a_message_waits(self) -> None:
        waiting = {port for port in PORTS if len(self.sent[port]) < len(self.expected[port])}
        waiting |= {send.port for send in self.expected_drops if send not in self.behaviour.dropped}
        for port in PORTS:
            if waiting - {port}:
                assert not self.driver.is_open(port)


TestBehaviourMachine = BehaviourMachine.TestCase
TestBehaviourMachine.settings = settings(max_examples=50, stateful_step_count=20, deadline=None)

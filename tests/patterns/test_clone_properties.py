"""A client of RFC 12/CHP ends with the server's map, whenever it joins, and whatever happens meanwhile."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pollbroker import Clone
from pollbroker.patterns.clone import snapshots
from pollbroker.patterns.clone.chp import ICANHAZ
from pollbroker.testing import Send, drive
from tests.patterns.chp_client import ChpClient
from tests.patterns.turns import turn
from tests.support.accounts import balanced

PORTS = ("snapshot", "publisher", "collector")
MAX_KEYS = 4

KEYS = (b"/a/1", b"/a/2", b"/a/3", b"/b/1", b"/b/2")
keys = st.sampled_from(KEYS)
Update = tuple[bytes, bytes, int | None]
"""A key, its value, and its time to live."""

some_updates = st.lists(st.tuples(keys, st.sampled_from([b"1", b"2", b""]), st.none() | st.integers(1, 3)), max_size=4)
clients = st.sampled_from([b"x", b"y"])


@dataclass
class Model:
    """The server's map: values, and when they end."""

    values: dict[bytes, bytes] = field(default_factory=dict)
    ends_s: dict[bytes, float] = field(default_factory=dict)

    def set(self, key: bytes, value: bytes, end_s: float | None) -> None:
        if not value:
            self.delete(key)
        elif key in self.values or len(self.values) < MAX_KEYS:
            self.values[key] = value
            self.ends_s.pop(key, None)
            if end_s is not None:
                self.ends_s[key] = end_s

    def delete(self, key: bytes) -> None:
        self.values.pop(key, None)
        self.ends_s.pop(key, None)

    def pass_to(self, now_s: float) -> None:
        for key, end_s in list(self.ends_s.items()):
            if end_s <= now_s:
                self.delete(key)


class CloneMachine(RuleBasedStateMachine):
    """Clients join, are slow and catch up; updates, deletions and expiries go on in between."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(snapshots, "PORTION", 3)
        self.server = drive(Clone(max_keys=MAX_KEYS, max_snapshots=2, hugz_s=0.7), PORTS)
        self.model = Model()
        self.clients: dict[bytes, ChpClient] = {}
        self.slow: set[bytes] = set()
        self.given_up = 0
        self.fill()

    def teardown(self) -> None:
        self.come_to_rest(3.1)
        self.patch.undo()

    def fill(self) -> None:
        """Let the map have as many keys as it may have, so that a snapshot takes some turns."""
        self.update([(key, b"0", None) for key in KEYS])

    def deliver(self, sends: list[Send]) -> None:
        for port, frames in sends:
            if port == "publisher":
                for client in self.clients.values():
                    client.on_published(frames)
            else:
                assert frames[0] not in self.slow
                self.clients[frames[0]].on_snapshot(frames[1:])

    @rule(updates=some_updates)
    def update(self, updates: list[Update]) -> None:
        for key, value, ttl in updates:
            properties = b"" if ttl is None else b"ttl=%d\n" % ttl
            self.model.set(key, value, None if ttl is None else self.server.now_s() + ttl)
            self.deliver(self.server.message("collector", key, bytes(8), b"", properties, value))

    @rule(
        client=clients,
        subtree=st.sampled_from([b"", b"/a/", b"/b/", b""]),
        turns=st.integers(0, 3),
        is_slow=st.booleans(),
        updates=some_updates,
    )
    def join(self, client: bytes, subtree: bytes, turns: int, is_slow: bool, updates: list[Update]) -> None:
        if client in self.clients or not self.server.is_open("snapshot"):
            return
        self.clients[client] = ChpClient(subtree)
        self.deliver(self.server.message("snapshot", client, ICANHAZ, subtree))
        self.turn(turns)
        if is_slow:
            self.server.leave("snapshot", client)
            self.slow.add(client)
        self.update(updates)
        self.turn(2)

    @rule(
        port=st.sampled_from(["snapshot", "collector"]), frames=st.lists(st.binary(max_size=9), min_size=1, max_size=6)
    )
    def garbage(self, port: str, frames: list[bytes]) -> None:
        if self.server.is_open(port) and frames[0] not in (b"x", b"y"):
            self.deliver(self.server.message(port, *frames))

    @rule(turns=st.integers(1, 4))
    def turn(self, turns: int) -> None:
        for _ in range(turns):
            self.deliver(turn(self.server))

    @rule(seconds=st.sampled_from([0.01, 0.06, 0.4, 1.0]))
    def time_passes(self, seconds: float) -> None:
        self.deliver(self.server.advance(seconds))
        self.model.pass_to(self.server.now_s())

    @rule(client=clients)
    def client_takes_messages_again(self, client: bytes) -> None:
        self.server.come_back("snapshot", client)
        self.slow.discard(client)

    @rule(seconds=st.sampled_from([0.1, 3.1]))
    def come_to_rest(self, seconds: float) -> None:
        for name in list(self.slow):
            self.client_takes_messages_again(name)
        self.time_passes(seconds)
        self.time_passes(0.01)
        assert self.server.account.held == 0
        for one in self.clients.values():
            if one.number is not None:
                assert one.map == {
                    key: value for key, value in self.model.values.items() if key.startswith(one.subtree)
                }
        given_up = [client for client in self.clients.values() if client.number is None]
        self.given_up += len(given_up)
        assert self.given_up == self.server.counters.get("abandoned", 0)
        self.clients.clear()  # so that others can join
        self.fill()

    @invariant()
    def every_message_is_accounted_for(self) -> None:
        assert balanced(self.server.account)


TestCloneMachine = CloneMachine.TestCase
TestCloneMachine.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)

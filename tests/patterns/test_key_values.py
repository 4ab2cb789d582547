"""A map of bounded size whose entries may end."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pollbroker.patterns.clone import key_values
from pollbroker.patterns.clone.key_values import ENTRY_BYTES, KeyValues


def everything(found: KeyValues) -> dict[bytes, bytes]:
    return dict(found.with_prefix(b"", b"", 10**9))


def test_there_is_no_room_for_more_keys_than_it_may_have() -> None:
    found = KeyValues(max_keys=2, max_bytes=10**6)
    assert found.set(b"a", b"1")
    assert found.set(b"b", b"1")
    assert not found.set(b"c", b"1")
    assert found.set(b"b", b"2")
    assert everything(found) == {b"a": b"1", b"b": b"2"}
    found.delete(b"a")
    found.delete(b"a")
    assert found.set(b"c", b"1")


def test_what_has_no_room_changes_nothing() -> None:
    found = KeyValues(max_keys=10, max_bytes=2 * ENTRY_BYTES + 6)
    assert found.set(b"a", b"12", end_s=1.0)
    assert found.set(b"b", b"12")
    assert not found.set(b"a", b"123", end_s=2.0)
    assert (everything(found), found.next_end_s()) == ({b"a": b"12", b"b": b"12"}, 1.0)
    assert found.set(b"b", b"1")
    assert found.set(b"a", b"123")
    assert found.next_end_s() is None


def test_entries_end_in_the_order_of_their_times_and_no_more_than_asked_for() -> None:
    found = KeyValues(10, 10**6)
    for key, end_s in ((b"a", 3.0), (b"b", 1.0), (b"c", 2.0), (b"d", None)):
        found.set(key, b"x", end_s)
    assert found.next_end_s() == 1.0
    assert found.delete_ended(0.9, 10) == []
    assert found.delete_ended(3.0, 2) == [b"b", b"c"]
    assert found.delete_ended(3.0, 2) == [b"a"]
    assert everything(found) == {b"d": b"x"}


def test_times_that_are_put_off_again_and_again_take_no_more_room() -> None:
    found = KeyValues(10, 10**6)
    for number in range(10_000):
        found.set(b"a", b"x", 1000.0 + number)
    assert len(found._heap) < 200
    assert found.next_end_s() == 10_999.0
    assert found.delete_ended(10_998.0, 10) == []


keys = st.sampled_from([b"", b"a", b"ab", b"b"])


class KeyValuesMachine(RuleBasedStateMachine):
    """The model is a dictionary of values and one of times."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(key_values, "_FEW", 1)
        self.found = KeyValues(max_keys=3, max_bytes=3 * ENTRY_BYTES + 6)
        self.model: dict[bytes, tuple[bytes, float | None]] = {}

    def teardown(self) -> None:
        self.patch.undo()

    @rule(key=keys, value=st.sampled_from([b"1", b"22", b"333"]), end_s=st.none() | st.integers(1, 4).map(float))
    def set(self, key: bytes, value: bytes, end_s: float | None) -> None:
        then = self.model | {key: (value, end_s)}
        size = sum(ENTRY_BYTES + len(key) + len(value) for key, (value, _) in then.items())
        fits = len(then) <= 3 and size <= 3 * ENTRY_BYTES + 6
        assert self.found.set(key, value, end_s) == fits
        if fits:
            self.model = then

    @rule(key=keys)
    def delete(self, key: bytes) -> None:
        self.found.delete(key)
        self.model.pop(key, None)

    @rule(now_s=st.integers(0, 4), most=st.integers(1, 3))
    def end(self, now_s: int, most: int) -> None:
        ended = sorted((end_s, key) for key, (_, end_s) in self.model.items() if end_s is not None and end_s <= now_s)
        assert self.found.delete_ended(now_s, most) == [key for _, key in ended[:most]]
        for _, key in ended[:most]:
            del self.model[key]

    @invariant()
    def they_are_the_same(self) -> None:
        assert everything(self.found) == {key: value for key, (value, _) in self.model.items()}
        assert len(self.found) == len(self.model)
        assert self.found.next_end_s() == min(
            (end_s for _, end_s in self.model.values() if end_s is not None), default=None
        )


TestKeyValuesMachine = KeyValuesMachine.TestCase
TestKeyValuesMachine.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)

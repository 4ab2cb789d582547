"""A last value cache without sockets: what is kept, and what a subscriber is sent."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pollbroker import LastValue
from pollbroker.patterns.last_value import last_value
from pollbroker.patterns.last_value.last_value import FRAME_BYTES, PORTION, VALUE_BYTES
from pollbroker.testing import Driver, Send, drive
from tests.patterns.turns import turn
from tests.support.accounts import balanced

GATHER_S = 0.01


def cache_with(*messages: tuple[bytes, ...], behaviour: LastValue | None = None) -> Driver:
    """A cache that these messages have gone through."""
    cache = drive(behaviour or LastValue())
    for frames in messages:
        assert cache.message("frontend", *frames) == [Send("backend", list(frames))]
    return cache


def subscribe(cache: Driver, *prefixes: bytes) -> list[list[bytes]]:
    """What is sent after subscriptions to these have come."""
    for prefix in prefixes:
        assert cache.message("backend", b"\1" + prefix) == []
    sends = cache.advance(GATHER_S)
    assert {port for port, _ in sends} <= {"backend"}
    assert balanced(cache.account)
    return [frames for _, frames in sends]


def make_room(cache: Driver) -> list[Send]:
    """Let the backend have room: for what waits, and then for what was refused meanwhile."""
    return cache.empty("backend") + cache.empty("backend")


# -- what a subscriber is sent -----------------------------------------------------------------------------------------


def test_subscriber_is_sent_the_last_value_of_each_topic_that_matches() -> None:
    cache = cache_with((b"a1", b"old"), (b"b", b"other"), (b"a2", b"x", b"", b"y"), (b"a1", b"new"), (b"", b"none"))
    assert subscribe(cache, b"a") == [[b"a1", b"new"], [b"a2", b"x", b"", b"y"]]
    assert subscribe(cache, b"a1") == [[b"a1", b"new"]]
    assert subscribe(cache, b"c") == []
    assert len(subscribe(cache, b"")) == 4
    assert cache.counters == {"subscriptions": 4, "resent": 7}
    account = cache.account
    assert (account.sent, account.added, account.filtered, account.held) == (5 + 7, 7, 4, 0)


def test_subscriptions_that_come_together_are_served_together() -> None:
    cache = cache_with((b"a", b"1"), (b"ab", b"2"), (b"b", b"3"))
    cache.message("backend", b"\1a")
    cache.advance(GATHER_S / 2)
    for prefix in (b"ab", b"a", b"b"):
        cache.message("backend", b"\1" + prefix)
    assert [frames[0] for _, frames in cache.advance(GATHER_S / 2)] == [b"a", b"ab", b"b"]


# The subscriber was sent it when it was published.
def test_value_that_is_newer_than_the_subscription_is_not_sent_again() -> None:
    cache = cache_with((b"a", b"1"), (b"b", b"1"))
    cache.message("backend", b"\1")
    cache.message("frontend", b"b", b"2")
    assert subscribe(cache) == [[b"a", b"1"]]
    assert subscribe(cache, b"") == [[b"a", b"1"], [b"b", b"2"]]


def test_value_is_sent_again_for_the_last_of_those_who_subscribe_to_the_same() -> None:
    cache = cache_with((b"a", b"1"), (b"b", b"1"))
    for number in (b"2", b"3"):
        cache.message("backend", b"\1")
        cache.message("frontend", b"b", number)
    cache.message("frontend", b"a", b"3")
    assert subscribe(cache) == []  # the second subscriber lacks b 2, and was sent b 3 instead
    for topic in (b"a", b"b"):
        cache.message("backend", b"\1")
        cache.message("frontend", topic, b"4")
    assert subscribe(cache) == [[b"a", b"4"]]


def test_newer_values_are_not_sent_again_for_a_subscription_because_others_came_later() -> None:
    cache = cache_with((b"a", b"1"), (b"b", b"1"), (b"c", b"1"))
    for prefix, topic in ((b"a", b"a"), (b"b", b"a"), (b"c", b"b")):
        cache.message("backend", b"\1" + prefix)
        cache.message("frontend", topic, b"2")
    assert subscribe(cache) == [[b"c", b"1"]]


# They are served as one, in one look at the topics.
def test_subscription_that_begins_with_another_is_sent_what_it_lacks_whichever_came_first() -> None:
    for first, second in ((b"a", b"ab"), (b"ab", b"a")):
        cache = cache_with((b"abc", b"1"), (b"abd", b"1"))
        cache.message("backend", b"\1" + first)
        cache.message("frontend", b"abc", b"2")
        cache.message("backend", b"\1" + second)
        cache.message("frontend", b"abd", b"2")
        assert subscribe(cache) == [[b"abc", b"2"]]


def test_subscriber_that_leaves_and_comes_back_is_sent_what_was_published_meanwhile() -> None:
    cache = cache_with((b"a", b"1"), (b"b", b"1"))
    cache.message("backend", b"\1")
    cache.message("backend", b"\0")
    cache.message("frontend", b"a", b"2")
    cache.message("backend", b"\1")
    cache.message("frontend", b"b", b"2")
    assert subscribe(cache) == [[b"a", b"2"]]


def test_subscription_that_comes_while_others_are_served_is_sent_what_it_lacks() -> None:
    topics = [b"%04d" % number for number in range(PORTION + 1)]
    cache = cache_with(*((topic, b"1") for topic in topics), behaviour=LastValue(gather_s=0))
    cache.message("backend", b"\1")
    assert one_turn(cache) == topics[:PORTION]
    cache.message("frontend", topics[0], b"2")
    cache.message("frontend", topics[1], b"2")
    cache.message("backend", b"\1" + topics[0])
    cache.message("backend", b"\1" + topics[2])
    cache.message("frontend", topics[2], b"2")
    assert one_turn(cache) == topics[PORTION:]
    assert one_turn(cache) == topics[:1]


def test_subscription_that_is_taken_back_in_time_is_not_served() -> None:
    cache = cache_with((b"a", b"1"), (b"b", b"1"))
    cache.message("backend", b"\1a")
    cache.message("backend", b"\1b")
    cache.message("backend", b"\0a")
    cache.message("backend", b"\0never seen")
    assert subscribe(cache) == [[b"b", b"1"]]


@pytest.mark.parametrize("frames", [[b""], [b"\2a"], [b"\1a", b"more"], [b"a"], [b"\0", b""], [b"", b"\1a"]])
def test_what_is_not_a_subscription_is_malformed(frames: list[bytes]) -> None:
    cache = cache_with((b"a", b"1"))
    assert cache.message("backend", *frames) == []
    assert subscribe(cache) == []
    assert cache.counters == {"malformed": 1}
    assert cache.account.filtered == 1


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_topic_whose_value_is_the_oldest_is_forgotten() -> None:
    cache = cache_with(behaviour=LastValue(max_topics=2))
    for topic in (b"a", b"b", b"a", b"c"):
        cache.message("frontend", topic, b"1")
    assert subscribe(cache, b"") == [[b"a", b"1"], [b"c", b"1"]]
    assert cache.counters["forgotten"] == 1


def test_bytes_of_all_values_are_bounded() -> None:
    size = VALUE_BYTES + 2 * FRAME_BYTES + 101
    cache = cache_with(behaviour=LastValue(max_bytes=2 * size))
    for topic in (b"a", b"b", b"c"):
        cache.message("frontend", topic, bytes(100))
    assert [topic for topic, _ in subscribe(cache, b"")] == [b"b", b"c"]
    cache.message("frontend", b"b", bytes(101))
    assert [topic for topic, _ in subscribe(cache, b"")] == [b"b"]
    assert cache.counters["forgotten"] == 2


# What is kept would not be the last value any more.
def test_value_that_is_too_large_takes_the_one_before_it_away() -> None:
    cache = cache_with((b"a", b"1"), behaviour=LastValue(max_bytes=1000))
    assert cache.message("frontend", b"a", bytes(1000)) == [Send("backend", [b"a", bytes(1000)])]
    assert subscribe(cache, b"") == []
    assert cache.counters["too_large"] == 1


def test_many_empty_frames_are_not_free() -> None:
    cache = cache_with((b"a", *[b""] * 1000), behaviour=LastValue(max_bytes=10_000))
    assert cache.counters == {"too_large": 1}


@pytest.mark.parametrize(
    ("delimiter", "frames", "deletes"),
    [
        (None, [b"a", b""], True),
        (None, [b"a", b"", b""], True),
        (None, [b"a", b"", b"x"], False),
        (None, [b"a"], False),  # the topic is all that there is
        (b" ", [b"a "], True),
        (b" ", [b"a ", b""], True),
        (b" ", [b"a", b""], True),
        (b" ", [b"a"], False),
        (b" ", [b"a x", b""], False),
    ],
)
def test_empty_value_deletes_its_topic_if_that_is_asked_for(
    delimiter: bytes | None, frames: list[bytes], deletes: bool
) -> None:
    cache = drive(LastValue(delimiter=delimiter, empty_deletes=True))
    topic = b"a " if frames[0].startswith(b"a ") else b"a"
    kept = [topic + b"before", b"x"] if topic == b"a " else [b"a", b"before"]
    cache.message("frontend", *kept)
    assert cache.message("frontend", *frames) == [Send("backend", frames)]
    assert subscribe(cache, b"") == ([] if deletes else [frames])
    assert cache.counters.get("deleted", 0) == deletes
    plain = drive(LastValue(delimiter=delimiter))
    plain.message("frontend", *frames)
    assert subscribe(plain, b"") == [frames]


def test_topic_ends_at_the_delimiter() -> None:
    cache = cache_with(
        (b"berlin 21",), (b"berlin 22",), (b"bern 20", b"more"), (b"b",), behaviour=LastValue(delimiter=b" ")
    )
    assert subscribe(cache, b"ber") == [[b"berlin 22"], [b"bern 20", b"more"]]
    assert subscribe(cache, b"berlin ") == [[b"berlin 22"]]
    assert subscribe(cache, b"berlin 2") == [[b"berlin 22"]]
    assert subscribe(cache, b"berlin 21") == []
    assert subscribe(cache, b"berlin 2", b"berlin 22", b"bern ") == [[b"berlin 22"], [b"bern 20", b"more"]]
    assert subscribe(cache, b"") == [[b"b"], [b"berlin 22"], [b"bern 20", b"more"]]


# -- many topics, many subscriptions, and a backend that is full -------------------------------------------------------


def one_turn(cache: Driver) -> list[bytes]:
    """The topics that are sent in one turn of the loop."""
    return [frames[0] for _, frames in turn(cache)]


def test_values_are_sent_in_portions_and_everything_else_goes_on_between_them() -> None:
    topics = [b"%04d" % number for number in range(2 * PORTION + 10)]
    cache = cache_with(*((topic, b"1") for topic in topics), behaviour=LastValue(gather_s=0))
    cache.message("backend", b"\1")
    assert one_turn(cache) == topics[:PORTION]
    cache.message("frontend", topics[0], b"2")
    cache.message("frontend", topics[-1], b"2")  # it is not sent again: the subscriber has it
    cache.message("backend", b"\1" + topics[1])  # it is served when the others are done
    assert one_turn(cache) == topics[PORTION : 2 * PORTION]
    assert one_turn(cache) == topics[2 * PORTION : -1]
    assert one_turn(cache) == [topics[1]]
    assert one_turn(cache) == []
    assert balanced(cache.account)


def test_portion_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_value, "PORTION_BYTES", 2 * (VALUE_BYTES + 2 * FRAME_BYTES))
    cache = cache_with(*((b"%d" % number, b"x") for number in range(4)), behaviour=LastValue(gather_s=0))
    cache.message("backend", b"\1")
    assert [one_turn(cache) for _ in range(3)] == [[b"0", b"1"], [b"2", b"3"], []]


def test_topic_that_is_deleted_meanwhile_is_passed_over() -> None:
    topics = [b"%04d" % number for number in range(PORTION + 2)]
    cache = cache_with(*((topic, b"1") for topic in topics), behaviour=LastValue(gather_s=0, empty_deletes=True))
    cache.message("backend", b"\1")
    one_turn(cache)
    cache.message("frontend", topics[PORTION - 1], b"")
    cache.message("frontend", topics[PORTION], b"")
    assert one_turn(cache) == [topics[PORTION + 1]]


def test_subscriptions_that_match_nothing_take_turns_too() -> None:
    cache = cache_with((b"z", b"1"), behaviour=LastValue(gather_s=0))
    for number in range(PORTION + 1):
        cache.message("backend", b"\1%04d" % number)
    cache.message("backend", b"\1z")
    assert [one_turn(cache) for _ in range(2)] == [[], [b"z"]]


def test_topics_between_two_subscriptions_are_passed_over() -> None:
    between = [(b"b%04d" % number, b"1") for number in range(PORTION + 1)]
    cache = cache_with((b"a", b"1"), *between, (b"c", b"1"))
    assert subscribe(cache, b"a", b"c") == [[b"a", b"1"], [b"c", b"1"]]


def test_no_more_subscriptions_are_read_than_may_wait() -> None:
    cache = cache_with((b"a", b"1"), (b"b", b"1"), behaviour=LastValue(max_subscriptions=2))
    cache.message("backend", b"\1a")
    cache.message("backend", b"\1a")
    assert cache.is_open("backend")
    cache.message("backend", b"\1b")
    assert not cache.is_open("backend")
    assert len(subscribe(cache)) == 2
    assert cache.is_open("backend")


def test_flood_of_subscriptions_stays_within_the_bounds() -> None:
    cache = cache_with((b"a", b"1"), behaviour=LastValue(gather_s=0, max_subscriptions=50))
    for number in range(1000):
        if not cache.is_open("backend"):
            one_turn(cache)
        cache.message("backend", b"\1%d" % number)
    behaviour = cache.behaviour
    assert isinstance(behaviour, LastValue)
    assert len(behaviour._waiting) + len(behaviour._serving) <= 100
    assert balanced(cache.account)


def test_value_that_a_full_backend_refuses_is_offered_again() -> None:
    topics = [b"%04d" % number for number in range(PORTION + 2)]
    cache = cache_with(*((topic, b"1") for topic in topics))
    cache.fill("backend")
    assert subscribe(cache, b"") == []
    assert cache.advance(1) == []
    assert cache.account.held == PORTION
    assert cache.counters["resent"] == 0
    assert [frames[0] for _, frames in make_room(cache) + cache.advance(0)] == topics
    account = cache.account
    assert (account.held, account.added, account.filtered) == (0, PORTION + 2, 1)
    assert cache.counters["resent"] == PORTION + 2
    assert balanced(account)


def test_refused_value_that_is_old_by_now_is_not_offered_again() -> None:
    cache = cache_with((b"a", b"1"), (b"b", b"1"))
    cache.fill("backend")
    subscribe(cache, b"")
    cache.message("frontend", b"a", b"2")  # it waits for room
    assert [frames for _, frames in make_room(cache)] == [[b"a", b"2"], [b"b", b"1"]]
    assert cache.account.held == 0
    assert balanced(cache.account)


# -- a model -----------------------------------------------------------------------------------------------------------

topics = st.text("ab ", max_size=3).map(str.encode)


class LastValueMachine(RuleBasedStateMachine):
    """The model is a dictionary of last values, and what a new subscriber lacks.

    From its subscription on, a subscriber is sent what it lacks, and nothing that is older than what it had before.
    """

    @initialize(most=st.integers(1, 6), delimiter=st.sampled_from([None, b" "]), portion=st.integers(1, 3))
    def begin(self, most: int, delimiter: bytes | None, portion: int) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(last_value, "PORTION", portion)
        self.most, self.delimiter = most, delimiter
        self.cache = drive(LastValue(max_topics=most, delimiter=delimiter, gather_s=0.0, max_subscriptions=3))
        self.values: dict[bytes, list[bytes]] = {}
        self.lacking: dict[bytes, set[bytes]] = {}
        """For each subscription that is not served yet, the topics whose values it lacks."""
        self.newest: dict[bytes, int] = {}
        self.number = 0
        self.full = False

    def teardown(self) -> None:
        if hasattr(self, "patch"):
            self.patch.undo()

    def topic_of(self, frame: bytes) -> bytes:
        head, separator, _ = frame.partition(self.delimiter) if self.delimiter else (frame, b"", b"")
        return head + separator

    def sent(self, sends: list[Send]) -> None:
        for _, frames in sends:
            topic, number = self.topic_of(frames[0]), int(frames[1])
            assert number >= self.newest.get(topic, 0)  # a topic never goes back
            self.newest[topic] = number
            for prefix, lacking in list(self.lacking.items()):
                if frames[0].startswith(prefix):
                    lacking.discard(topic)

    @rule(topic=topics)
    def publish(self, topic: bytes) -> None:
        if not self.cache.is_open("frontend"):
            return
        self.number += 1
        frames = [topic, b"%d" % self.number]
        key = self.topic_of(topic)
        self.values.pop(key, None)
        self.values[key] = frames
        if len(self.values) > self.most:
            forgotten = next(iter(self.values))
            del self.values[forgotten]
            for lacking in self.lacking.values():
                lacking.discard(forgotten)
        for prefix, lacking in self.lacking.items():
            if key in lacking and not topic.startswith(prefix):
                lacking.discard(key)  # its last value does not match any more
        self.sent(self.cache.message("frontend", *frames))

    @rule(prefix=topics)
    def subscribe(self, prefix: bytes) -> None:
        if not self.cache.is_open("backend"):
            return
        assert self.cache.message("backend", b"\1" + prefix) == []
        lacking = {topic for topic, frames in self.values.items() if frames[0].startswith(prefix)}
        self.lacking.setdefault(prefix, set()).update(lacking)

    @rule()
    def turn(self) -> None:
        self.sent(turn(self.cache))

    @precondition(lambda self: not self.full)
    @rule()
    def come_to_rest(self) -> None:
        self.sent(self.cache.advance(1))
        assert not any(self.lacking.values())
        self.lacking.clear()
        assert self.cache.account.held == 0

    @precondition(lambda self: not self.full)
    @rule(prefix=topics)
    def values_after_a_subscription_are_those_that_match(self, prefix: bytes) -> None:
        self.come_to_rest()
        self.cache.message("backend", b"\1" + prefix)
        came = [frames for _, frames in self.cache.advance(1)]
        assert came == sorted(frames for frames in self.values.values() if frames[0].startswith(prefix))

    @rule()
    def fill(self) -> None:
        self.full = True
        self.cache.fill("backend")

    @rule()
    def empty(self) -> None:
        self.full = False
        self.sent(make_room(self.cache))

    @invariant()
    def every_message_is_accounted_for(self) -> None:
        if hasattr(self, "cache"):
            assert balanced(self.cache.account)


TestLastValueMachine = LastValueMachine.TestCase
TestLastValueMachine.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)

"""A last value cache: a forwarder that also gives each new subscriber the last value of each topic that it asks for.

It is the cache of chapter 5 of the ZeroMQ guide. A message that comes from a publisher is sent on at once, and kept in
place of the one before it of the same topic. Rules:

- A subscription is a prefix. It is served with the last value of each topic that is kept and that it matches, in the
  order of the topics.
- An XPUB cannot send to one subscriber alone: a value that is sent again goes to all who subscribe to it. So
  subscriptions that come at about the same time are served together, each value once. If a thousand subscribers come
  back after a failure of the network, each value is sent about once, and not a thousand times.
- A value that was published after a subscription had been read is not sent again for it: the subscriber has it already.
  Subscriptions that are the same, or of which one begins with another, are served as one, which counts as having come
  with the last of them: so however many they are, each value is sent once.
- Values are sent again in portions, between which everything else goes on. What is sent is the last value at that
  moment. So a subscriber may be given a value twice, but never an older one after a newer one.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

import zmq

from pollbroker.behaviour import Behaviour
from pollbroker.checks import SettingChecks
from pollbroker.device import Device
from pollbroker.errors import BehaviourError
from pollbroker.patterns.sorted_keys import SortedKeys, after

PORTION: Final = 100
"""The most values that are sent again in one turn of the loop, since all brokers wait meanwhile."""

PORTION_BYTES: Final = 1_000_000
"""When so many bytes were sent again in a turn, the rest is left for later turns."""

FRAME_BYTES: Final = 64
"""What a frame takes beside its bytes, in Python's memory. So a message of many empty frames is not free."""

VALUE_BYTES: Final = 400
"""What a value takes beside its frames, with its place in the order of the topics."""

_SUBSCRIPTION_MAX_BYTES: Final = 4096
"""libzmq keeps a node for each byte of each subscription (generic_mtrie.hpp): a subscription of 200,000 bytes took 10
megabytes in a measured case."""

_SNDHWM: Final = 20_000
"""A subscriber is sent up to `max_topics` values at once. What exceeds the high-water mark is dropped by libzmq."""

_RESEND: Final = "resend"
"""The key of the one timer."""


@dataclass(slots=True)
class _Value:
    """The last message of a topic."""

    frames: list[bytes]
    size_bytes: int
    number: int
    """How many messages had been kept by then."""


class LastValue(Behaviour):
    """Sends messages on, and sends the last value of each topic again for new subscribers (the guide, chapter 5).

    The topic of a message is its first frame. With a `delimiter` it is the part of the first frame up to the delimiter,
    for publishers whose topic and value are in one frame, such as `b"weather.berlin 21"`.

    Counters: `subscriptions`, `resent` (values that were sent again), `forgotten` (topics that had to make room for
    others), `deleted` (topics whose publisher deleted them, see `empty_deletes`), `too_large` (values that were sent on
    and not kept, since they alone are larger than `max_bytes`), `malformed` (what a subscriber sent and is not a
    subscription).

    A subscription counts as filtered, and a value that is sent again as added. What is in the cache is not held, since
    it was sent on. Held is a value that was to be sent again and that the backend has refused, until it is offered
    again.

    Arguments:
        max_topics: how many topics are kept. The one whose value is the oldest is forgotten first.
        max_bytes: how many bytes all values may take. For each value, 400 bytes are added to its own, and 64 for each
            of its frames, since Python's memory takes as much beside them.
        delimiter: ends the topic in the first frame. None if the topic is the whole first frame.
        empty_deletes: a message that has nothing but empty frames after its topic is sent on, and the topic is
            deleted. Otherwise it is a value like others.
        gather_s: how long a subscription waits for others that come at about the same time, in seconds.
        max_subscriptions: how many different subscriptions may wait to be served. While there are so many, no more are
            read.
    """

    max_held = PORTION

    def __init__(
        self,
        *,
        max_topics: int = 10_000,
        max_bytes: int = 100_000_000,
        delimiter: bytes | None = None,
        empty_deletes: bool = False,
        gather_s: float = 0.01,
        max_subscriptions: int = 1000,
    ) -> None:
        checks = SettingChecks("LastValue", BehaviourError)
        checks.whole(max_topics=max_topics, max_bytes=max_bytes, max_subscriptions=max_subscriptions)
        checks.seconds(zero=True, gather_s=gather_s)
        checks.some_bytes(delimiter=delimiter)
        checks.true_or_false(empty_deletes=empty_deletes)
        self._max_topics = max_topics
        self._max_bytes = max_bytes
        self._delimiter = delimiter
        self._empty_deletes = empty_deletes
        self._gather_s = gather_s
        self._max_subscriptions = max_subscriptions
        self._values: OrderedDict[bytes, _Value] = OrderedDict()
        """The last value of each topic; the oldest comes first."""
        self._topics = SortedKeys()
        self._bytes = 0
        self._number = 0
        """How many messages have come from publishers."""
        self._waiting: dict[bytes, int] = {}
        """Subscriptions that are still to be served, and what `_number` was when each came last. Newer values have
        reached its subscribers."""
        self._serving: deque[tuple[bytes, int]] = deque()
        """Subscriptions that are being served, in order, with these numbers; none is the beginning of another."""
        self._start = b""
        """The topic at which the first of these goes on."""
        self._refused: deque[tuple[bytes, int]] = deque()
        """Topics whose values the backend has refused, with the numbers of these."""
        self._timer_is_set = False

    @property
    def held(self) -> int:
        return len(self._refused)

    def on_message(self, port: str, frames: list[bytes]) -> None:
        if port == "backend":
            self._on_subscription(frames)
        else:
            self.send("backend", frames)
            self._keep(frames)

    # -- values --------------------------------------------------------------------------------------------------------

    def _keep(self, frames: list[bytes]) -> None:
        topic = frames[0] if self._delimiter is None else self._topic_of(frames[0])
        size_bytes = VALUE_BYTES + FRAME_BYTES * len(frames) + sum(map(len, frames))
        self._number += 1
        if self._empty_deletes and self._is_empty(topic, frames):
            if self._forget(topic):
                self.count("deleted")
            return
        if size_bytes > self._max_bytes:
            self.count("too_large")
            self._forget(topic)  # the value that is kept is not the last one any more
            return
        value = self._values.get(topic)
        if value is None:
            self._values[topic] = _Value(frames, size_bytes, self._number)
            self._topics.add(topic)
            self._bytes += size_bytes
        else:
            self._bytes += size_bytes - value.size_bytes
            value.frames, value.size_bytes, value.number = frames, size_bytes, self._number
            self._values.move_to_end(topic)
        while self._bytes > self._max_bytes or len(self._values) > self._max_topics:
            self._forget(next(iter(self._values)))
            self.count("forgotten")

    def _topic_of(self, frame: bytes) -> bytes:
        """The topic of a message with this first frame. A delimiter is a part of the topic: so a subscription that ends
        within it matches the topic if it matches the frame."""
        if self._delimiter is None:
            return frame
        end = frame.find(self._delimiter)
        return frame if end < 0 else frame[: end + len(self._delimiter)]

    def _is_empty(self, topic: bytes, frames: list[bytes]) -> bool:
        has_value = len(frames) > 1 or (self._delimiter is not None and topic.endswith(self._delimiter))
        return has_value and len(frames[0]) == len(topic) and not any(frames[1:])

    def _forget(self, topic: bytes) -> bool:
        value = self._values.pop(topic, None)
        if value is None:
            return False
        self._topics.remove(topic)
        self._bytes -= value.size_bytes
        return True

    # -- subscriptions -------------------------------------------------------------------------------------------------

    def _on_subscription(self, frames: list[bytes]) -> None:
        """An XPUB gives each subscription as one frame: 1 and the prefix. At the end of the last one of a prefix it is
        0 and the prefix. Whatever else an XSUB sends is passed on to the reader as it is."""
        kind, prefix = frames[0][:1], frames[0][1:]
        if len(frames) > 1 or kind not in (b"\0", b"\1"):
            self.count("malformed")
        elif kind == b"\0":
            self._waiting.pop(prefix, None)  # nobody is left who wants to be served with it
        else:
            self.count("subscriptions")
            self._waiting[prefix] = self._number
            if len(self._waiting) >= self._max_subscriptions:
                self.close("backend")
            self._resend_after(self._gather_s)

    def _resend_after(self, delay_s: float) -> None:
        if not self._timer_is_set:
            self._timer_is_set = True
            self.set_timer(_RESEND, delay_s)

    def on_timer(self, key: Hashable) -> None:  # noqa: ARG002 - there is one timer
        self._timer_is_set = False
        if self._refused:
            return  # until there is room
        if not self._serving:
            self._begin()
        self._send_portion()
        if self._serving:
            self._resend_after(0.0)
        elif self._waiting:
            self._resend_after(self._gather_s)

    def _begin(self) -> None:
        """Serve all subscriptions that wait. One that begins with another is served with that."""
        for prefix, since in sorted(self._waiting.items()):
            if self._serving and prefix.startswith(self._serving[-1][0]):
                shorter, of_shorter = self._serving.pop()
                self._serving.append((shorter, max(of_shorter, since)))
            else:
                self._serving.append((prefix, since))
        self._waiting.clear()
        self._begin_next()
        self.open("backend")

    def _begin_next(self) -> None:
        """Begin with the first subscription that is being served, if there is one."""
        self._start = self._serving[0][0] if self._serving else b""

    def _send_portion(self) -> None:
        left, left_bytes, resent = PORTION, PORTION_BYTES, 0
        while self._serving and left > 0 and left_bytes > 0:
            prefix, since = self._serving[0]
            topics, complete = self._matching(prefix, left)
            left -= max(len(topics), 1)  # to find nothing takes time, too
            for topic in topics:
                sent_bytes = self._resend(topic, since)
                resent += sent_bytes > 0
                left_bytes -= sent_bytes
                self._start = after(topic)
                if left_bytes <= 0:
                    complete = complete and topic == topics[-1]
                    break
            if complete:
                self._serving.popleft()
                self._begin_next()
        if resent:
            self.count("resent", resent)

    def _matching(self, prefix: bytes, most: int) -> tuple[list[bytes], bool]:
        """The next topics, up to `most`, whose values match a subscription, and whether these are the last ones."""
        topic = self._topic_of(prefix)
        if self._delimiter is not None and topic.endswith(self._delimiter):
            value = self._values.get(topic)  # no other topic can match
            return ([topic] if value is not None and value.frames[0].startswith(prefix) else []), True
        topics = self._topics.with_prefix(prefix, self._start, most)
        return topics, len(topics) < most

    def _resend(self, topic: bytes, since: int) -> int:
        """Send the last value of a topic again, unless its number is greater than `since`. Return its size in bytes, or
        0 if there is none to be sent."""
        value = self._values.get(topic)
        if value is None or value.number > since:
            return 0
        self.send("backend", value.frames, if_full="tell")
        return value.size_bytes

    def on_refused(self, port: str, frames: list[bytes]) -> None:  # noqa: ARG002 - it is the backend
        """The backend is full, which an XPUB is with `xpub_nodrop` alone."""
        topic = self._topic_of(frames[0])
        if topic in self._values:
            self._refused.append((topic, self._values[topic].number))
        self.count("resent", -1)

    def on_room(self, port: str) -> None:  # noqa: ARG002 - it is the backend
        refused = list(self._refused)
        self._refused.clear()
        resent = sum(self._resend(topic, number) > 0 for topic, number in refused)
        if resent:
            self.count("resent", resent)
        self._resend_after(0.0)


LAST_VALUE: Final = Device(
    "last_value",
    zmq.SUB,
    zmq.XPUB,
    behaviour=LastValue,
    frontend_options={"subscribe": b""},
    backend_options={
        # Without this option an XPUB tells of the first subscriber to a prefix, and not of the others.
        "xpub_verbose": 1,
        "maxmsgsize": _SUBSCRIPTION_MAX_BYTES,
        "sndhwm": _SNDHWM,
    },
)
"""Publishers to subscribers (SUB, XPUB), and the last value of each topic for each new subscriber: see `LastValue`."""

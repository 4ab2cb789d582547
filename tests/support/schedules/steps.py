"""What peers do, drawn by hypothesis."""

from dataclasses import dataclass
from typing import Final, TypeAlias

from hypothesis import strategies as st

SIZES: Final = (0, 1, 2, 255, 256, 3000, 4095, 4096, 20_000, 70_000)

Body: TypeAlias = tuple[int, ...]
"""The sizes of the frames of a message, behind the frame that says whose it is."""


@dataclass(frozen=True)
class Join:
    """A peer comes to the frontend (a sender) or to the backend (a receiver). Its type is the number modulo those that
    are possible there."""

    receives: bool
    kind: int


@dataclass(frozen=True)
class Leave:
    """A peer closes its socket. Which one is the number modulo those that are there."""

    receives: bool
    who: int


@dataclass(frozen=True)
class Say:
    """A sender sends messages, one behind the other."""

    who: int
    bodies: tuple[Body, ...]


@dataclass(frozen=True)
class Take:
    """A receiver takes what is there, up to so many messages."""

    who: int
    most: int


Step: TypeAlias = Join | Leave | Say | Take


@dataclass(frozen=True)
class Schedule:
    """What happens, and between what kind of ports.

    Attributes:
        place: `"tcp"` or `"ipc"`.
        hwm: the high water mark of the ports.
        burst: how many messages the engine moves at a time.
    """

    steps: tuple[Step, ...]
    place: str
    hwm: int
    burst: int


_numbers = st.integers(0, 7)
_bodies = st.lists(st.sampled_from(SIZES), max_size=5).map(tuple)
_steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(Join, st.booleans(), _numbers),
    st.builds(Say, _numbers, st.lists(_bodies, min_size=1, max_size=20).map(tuple)),
    st.builds(Take, _numbers, st.integers(1, 30)),
    st.builds(Leave, st.booleans(), _numbers),
)
places: Final = st.sampled_from(["tcp", "ipc"])

schedules: Final = st.builds(
    Schedule,
    st.lists(_steps, min_size=3, max_size=25).map(tuple),
    places,
    st.sampled_from([0, 1, 3, 1000]),
    st.sampled_from([2, 1000]),
)


# -- subscriptions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subscribe:
    """A subscriber subscribes, or cancels."""

    who: int
    topic: bytes
    cancels: bool


@dataclass(frozen=True)
class Publish:
    """A publisher publishes a message under each of these topics."""

    who: int
    topics: tuple[bytes, ...]


@dataclass(frozen=True)
class Replace:
    """A subscriber leaves, and another comes. Its type is the number modulo those that are possible."""

    who: int
    kind: int


News: TypeAlias = Subscribe | Publish | Replace

_topics = st.text("ab", max_size=3).map(str.encode)
_news: st.SearchStrategy[News] = st.one_of(
    st.builds(Subscribe, _numbers, _topics, st.booleans()),
    st.builds(Publish, _numbers, st.lists(_topics, min_size=1, max_size=10).map(tuple)),
    st.builds(Replace, _numbers, _numbers),
)


@dataclass(frozen=True)
class NewsSchedule:
    """What publishers and subscribers do, and where."""

    steps: tuple[News, ...]
    place: str


news_schedules: Final = st.builds(NewsSchedule, st.lists(_news, min_size=5, max_size=20).map(tuple), places)

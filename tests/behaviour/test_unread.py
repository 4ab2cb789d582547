"""What a behaviour is asked about messages that nobody reads any more, with a receiver that is a fake."""

from typing import Any

import pytest

from pollbroker.pump.behaviour_pumps import SourcePump
from pollbroker.statistics import Counters


class FakeReceiver:
    """Has a number of equal messages."""

    received = dropped = 0

    def __init__(self, messages: int, frames: list[bytes]) -> None:
        self.left, self.frames = messages, frames
        self.received_bytes = self.burst_frames = 0

    def __call__(self) -> list[bytes] | None:
        if not self.left:
            return None
        self.left -= 1
        self.received_bytes += sum(map(len, self.frames))
        self.burst_frames += len(self.frames)
        return self.frames

    def count_unread(self, limit_messages: int) -> int:
        counted = min(limit_messages, self.left)
        self.left -= counted
        return counted

    def discard_rest(self) -> None:
        pass

    def counters(self) -> Counters:
        return Counters(received_bytes=self.received_bytes)


class Asked:
    """Has nothing to lose, and counts how often it is asked."""

    def __init__(self) -> None:
        self.number = 0

    def is_lost(self, port: str, frames: list[bytes]) -> bool:
        self.number += 1
        return False


@pytest.mark.parametrize(
    ("frames", "asked"), [([b"beat"], 9000), ([bytes(1 << 20)], 4), ([b""] * 1000, 100)], ids=["small", "large", "many"]
)
def test_behaviour_is_asked_about_as_much_as_takes_no_time_and_the_rest_is_counted(
    frames: list[bytes], asked: int
) -> None:
    run: Any = Asked()
    receiver: Any = FakeReceiver(9000, frames)
    pump = SourcePump(run, "frontend", receiver, sinks=1)
    assert pump.count_unread(10_000) == 9000 - asked
    assert run.number == asked
    assert pump.counters() == Counters()


def test_no_more_is_counted_than_was_asked_for() -> None:
    run: Any = Asked()
    receiver: Any = FakeReceiver(9000, [bytes(1 << 20)])
    assert SourcePump(run, "frontend", receiver, sinks=1).count_unread(100) == 96

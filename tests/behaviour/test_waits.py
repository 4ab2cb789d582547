"""How long messages wait in a broker with a behaviour: those that it keeps, and those that wait for room."""

from collections.abc import Callable
from typing import Any

from pollbroker import Behaviour
from pollbroker.pump.behaviours import BehaviourRun
from pollbroker.pump.outcomes import DROPPED, FULL, SENT
from pollbroker.waits import NO_WAITS, Waits
from tests.support.clocks import Clock


class Outlet:
    """A port that is full, or drops, when the test says so."""

    def __init__(self) -> None:
        self.outcome = SENT
        self.finished = 0

    def send(self, message: list[bytes], /) -> int:
        self.finished += self.outcome != FULL
        return self.outcome


class Keeper(Behaviour):
    """Keeps `keep`, sends on what it keeps for `send <number>`, forgets it for `forget`, and sends on anything else."""

    max_held = 9

    def __init__(self, if_full: Any) -> None:
        self.kept: list[list[bytes]] = []
        self.if_full = if_full
        self.keeps_refused = False

    @property
    def held(self) -> int:
        return len(self.kept)

    def on_message(self, port: str, frames: list[bytes]) -> None:
        if frames[0] == b"keep":
            self.kept.append(frames)
        elif frames[0] == b"send":
            for _ in range(int(frames[1])):
                self.send("out", self.kept.pop(0), if_full=self.if_full)
        elif frames[0] == b"forget":
            self.kept.clear()
        else:
            self.send("out", frames, if_full=self.if_full)

    def on_refused(self, port: str, frames: list[bytes]) -> None:
        if self.keeps_refused:
            self.kept.append(frames)


class Work:
    """A behaviour at work, on a clock that stands still."""

    def __init__(self, if_full: str = "hold") -> None:
        self.clock = Clock()
        self.out = Outlet()
        self.behaviour = Keeper(if_full)
        self.run = BehaviourRun(
            self.behaviour,
            sources=("in",),
            outlets={"out": self.out},
            call_later=_no_timer,
            clock=self.clock,
        )
        self.run.start()

    def at(self, seconds: float, *frames: bytes) -> None:
        """Give a message, so many seconds after the start."""
        self.clock.now_s = 100.0 + seconds
        self.run.message("in", list(frames))

    def flush(self, seconds: float, outcome: int = SENT) -> None:
        self.clock.now_s = 100.0 + seconds
        self.out.outcome = outcome
        self.run.flush()


def _no_timer(delay_s: float, call: Callable[[], None]) -> Any:
    raise AssertionError("no timer is set here")


def counts(*waits_s: float) -> tuple[tuple[int, ...], float]:
    counted = Waits()
    for wait_s in waits_s:
        counted.add(wait_s)
    return counted.counts, counted.total_s


def waits(work: Work) -> tuple[tuple[int, ...], float]:
    return work.run.waits.counts, work.run.waits.total_s


def test_a_message_that_is_sent_on_at_once_does_not_wait() -> None:
    work = Work()
    work.at(0.0, b"on")
    work.at(5.0, b"on")
    assert waits(work) == (NO_WAITS, 0.0)


def test_kept_messages_wait_until_they_are_sent_the_first_first() -> None:
    work = Work()
    work.at(0.0, b"keep")
    work.at(4.0, b"keep")
    work.at(5.0, b"keep")
    work.at(6.0, b"send", b"1")
    assert waits(work) == counts(6.0)
    work.at(25.0, b"send", b"2")
    assert waits(work) == counts(6.0, 21.0, 20.0)


def test_a_kept_message_that_is_forgotten_has_waited_too() -> None:
    work = Work()
    work.at(0.0, b"keep")
    work.at(2.0, b"forget")
    assert waits(work) == counts(2.0)


def test_a_message_waits_for_room_until_it_is_taken_or_dropped() -> None:
    for outcome in (SENT, DROPPED):
        work = Work()
        work.out.outcome = FULL
        work.at(0.0, b"on")
        work.at(1.0, b"on")
        work.flush(2.0, FULL)
        assert waits(work) == (NO_WAITS, 0.0)
        work.flush(4.0, outcome)
        assert waits(work) == counts(4.0, 3.0)


def test_a_message_that_was_kept_and_then_waits_for_room_has_one_wait() -> None:
    work = Work()
    work.at(0.0, b"keep")
    work.at(1.0, b"keep")
    work.out.outcome = FULL
    work.at(5.0, b"send", b"2")
    assert waits(work) == (NO_WAITS, 0.0)
    work.flush(50.0)
    assert waits(work) == counts(50.0, 49.0)


def test_a_message_that_is_given_back_and_kept_has_one_wait() -> None:
    work = Work(if_full="tell")
    work.behaviour.keeps_refused = True
    work.at(0.0, b"keep")
    work.out.outcome = FULL
    work.at(5.0, b"send", b"1")
    assert (work.behaviour.held, waits(work)) == (1, (NO_WAITS, 0.0))
    work.out.outcome = SENT
    work.at(20.0, b"send", b"1")
    assert waits(work) == counts(20.0)


def test_a_message_that_is_given_back_and_dropped_has_waited() -> None:
    work = Work(if_full="tell")
    work.at(0.0, b"keep")
    work.out.outcome = FULL
    work.at(2.0, b"send", b"1")
    assert (work.run.account.filtered, waits(work)) == (1 + 1, counts(2.0))

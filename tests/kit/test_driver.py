"""What a behaviour raises comes out of the call of the driver that was the reason, and all else is as in an engine."""

from collections.abc import Callable, Hashable
from typing import Any

import pytest

from pollbroker import Behaviour, BehaviourError
from pollbroker.testing import Driver, Send, drive
from tests.support.accounts import balanced


class Raises(Behaviour):
    """Does with a message what it says, and raises in the calls that the test names."""

    def __init__(self, *methods: str) -> None:
        self.methods = methods
        self.timers: list[Hashable] = []

    def on_start(self) -> None:
        self.set_timer("first", 1.0)
        self.set_timer("second", 2.0)

    def on_message(self, port: str, frames: list[bytes]) -> None:
        self.send("backend", frames, if_full="tell")
        self.may_raise("on_message")

    def on_timer(self, key: Hashable) -> None:
        self.timers.append(key)
        self.send("backend", [b"timer"])
        self.may_raise(f"on_timer {key}")

    def on_refused(self, port: str, frames: list[bytes]) -> None:
        self.may_raise("on_refused")

    def on_room(self, port: str) -> None:
        self.may_raise("on_room")

    def on_dropped(self, port: str, frames: list[bytes]) -> None:
        self.may_raise("on_dropped")

    def on_stop(self) -> None:
        self.may_raise("on_stop")

    def on_end(self) -> None:
        self.may_raise("on_end")

    def may_raise(self, method: str) -> None:
        if method in self.methods:
            raise ValueError(method)


def fill_and_send(driver: Driver) -> None:
    driver.fill("backend")
    driver.message("frontend", b"x")


def leave_and_send(driver: Driver) -> None:
    driver.leave("backend", b"x")
    driver.message("frontend", b"x")


def make_room(driver: Driver) -> None:
    driver.fill("backend")
    driver.message("frontend", b"x")
    driver.empty("backend")


@pytest.mark.parametrize(
    ("method", "happen", "failed"),
    [
        ("on_message", lambda driver: driver.message("frontend", b"x"), 1),
        ("on_timer first", lambda driver: driver.advance(1.0), 0),
        ("on_refused", fill_and_send, 1),
        ("on_room", make_room, 0),
        ("on_dropped", leave_and_send, 0),
        ("on_stop", lambda driver: driver.stop(), 0),
        ("on_end", lambda driver: driver.end(), 0),
    ],
)
def test_exception_of_a_behaviour_is_raised_and_accounted_for(
    method: str, happen: Callable[[Driver], Any], failed: int
) -> None:
    driver = drive(Raises(method))
    with pytest.raises(ValueError, match=f"^{method}$"):
        happen(driver)
    assert driver.account.failed == failed
    assert balanced(driver.account)


def test_behaviour_goes_on_after_an_exception() -> None:
    driver = drive(behaviour := Raises("on_message"))
    with pytest.raises(ValueError, match="on_message"):
        driver.message("frontend", b"1")
    behaviour.methods = ()
    assert driver.message("frontend", b"2") == [Send("backend", [b"2"])]  # and nothing that the first asked for
    assert (driver.account.received, driver.account.sent, driver.account.failed) == (2, 1, 1)


def test_all_time_passes_and_the_first_exception_is_raised_with_the_others_in_its_notes() -> None:
    driver = drive(behaviour := Raises("on_timer first", "on_timer second"))
    with pytest.raises(ValueError, match="on_timer first") as caught:
        driver.advance(5.0)
    assert caught.value.__notes__ == ["then a call raised ValueError: on_timer second"]
    assert behaviour.timers == ["first", "second"]
    assert driver.now_s() == 5.0


def test_what_was_sent_before_an_exception_comes_with_the_next_call() -> None:
    driver = drive(Raises("on_timer second"))
    with pytest.raises(ValueError, match="on_timer second"):
        driver.advance(2.0)
    assert driver.advance(0.0) == [Send("backend", [b"timer"])]


def test_exception_is_raised_once() -> None:
    class Keeps(Raises):
        """Keeps a message that it has not said it may keep, and raises: the engine's own check comes first."""

        held = 0

        def on_message(self, port: str, frames: list[bytes]) -> None:
            self.held = 1
            raise ValueError(port)

    driver = drive(behaviour := Keeps())
    with pytest.raises(BehaviourError, match="Keeps keeps 1 messages"):
        driver.message("frontend", b"x")
    behaviour.held = 0
    assert driver.stop() == []

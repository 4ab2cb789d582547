"""Behaviours without an engine: messages whose port is full, whose peer has left, or whose socket fails."""

from collections.abc import Iterator
from typing import Literal

import pytest

from pollbroker.pump.outcomes import FULL, SENT
from pollbroker.testing import Send, drive
from tests.behaviour.driven import Does, pass_on
from tests.support.accounts import balanced

# -- ports that are full -----------------------------------------------------------------------------------------------


def test_message_waits_for_a_port_that_is_full_and_no_other_port_is_read() -> None:
    driver = drive(Does(pass_on), ports=("frontend", "side", "backend"))
    driver.fill("backend")
    assert driver.message("frontend", b"1") == []
    assert [driver.is_open(port) for port in ("frontend", "side", "backend")] == [False, False, True]
    assert driver.message("backend", b"2") == []
    assert driver.account.held == 2
    with pytest.raises(AssertionError, match="frontend is closed, or waits for room"):
        driver.message("frontend", b"3")
    assert driver.empty("backend") == [Send("backend", [b"1"]), Send("backend", [b"2"])]
    assert driver.is_open("frontend")
    assert balanced(driver.account)


def test_no_port_is_read_when_a_thousand_messages_wait() -> None:
    driver = drive(Does(pass_on))
    driver.fill("backend")
    driver.message("frontend", b"x")
    for _ in range(999):
        assert driver.is_open("backend")
        driver.message("backend", b"x")
    assert not driver.is_open("backend")
    assert len(driver.empty("backend")) == 1000


def test_two_ports_that_are_full_hold_each_other_up() -> None:
    def cross(behaviour: Does, frames: list[bytes]) -> None:
        behaviour.send("backend", frames)
        behaviour.send("frontend", frames)

    driver = drive(Does(cross))
    driver.fill("backend")
    driver.fill("frontend")
    driver.message("frontend", b"1")
    assert [driver.is_open(port) for port in ("frontend", "backend")] == [False, False]
    driver.empty("frontend")
    assert [driver.is_open(port) for port in ("frontend", "backend")] == [False, True]


def test_behaviour_is_told_of_a_refusal() -> None:
    behaviour = Does(lambda behaviour, frames: behaviour.send("backend", frames, if_full="tell"))
    behaviour.on_refused_do = lambda port, frames: behaviour.send("frontend", [b"busy", *frames])
    driver = drive(behaviour)
    driver.fill("backend")
    assert driver.message("frontend", b"1") == [Send("frontend", [b"busy", b"1"])]
    assert behaviour.refused == [("backend", [b"1"])]
    assert (driver.account.held, driver.account.sent) == (0, 1)
    assert balanced(driver.account)


def test_refused_message_of_which_nothing_is_made_is_filtered() -> None:
    driver = drive(Does(lambda behaviour, frames: behaviour.send("backend", frames, if_full="tell")))
    driver.fill("backend")
    driver.message("frontend", b"1")
    assert driver.account.filtered == 1
    assert balanced(driver.account)


def test_message_is_refused_behind_one_of_the_same_call_that_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def send_both(behaviour: Does, frames: list[bytes]) -> None:
        for number in (b"1", b"2"):
            behaviour.send("backend", [number], if_full="tell")

    driver = drive(behaviour := Does(send_both))
    offered: list[list[bytes]] = []

    def has_room_a_moment_later(message: list[bytes]) -> int:
        offered.append(message)
        return SENT if len(offered) > 1 else FULL

    monkeypatch.setattr(driver._outlets["backend"], "send", has_room_a_moment_later)
    driver.message("frontend", b"")
    assert behaviour.refused == [("backend", [b"1"]), ("backend", [b"2"])]
    assert offered == [[b"1"]]


def test_message_is_refused_while_others_wait_before_it() -> None:
    modes: Iterator[Literal["hold", "tell"]] = iter(("hold", "tell"))
    behaviour = Does(lambda behaviour, frames: behaviour.send("backend", frames, if_full=next(modes)))
    driver = drive(behaviour)
    driver.fill("backend")
    driver.message("frontend", b"1")
    driver._outlets["backend"].full = False  # there is room, of which nobody knows yet
    driver.message("backend", b"2")
    assert behaviour.refused == [("backend", [b"2"])]


def test_message_that_is_sent_again_to_the_port_that_refused_it_waits() -> None:
    behaviour = Does(lambda behaviour, frames: behaviour.send("backend", frames, if_full="tell"))
    behaviour.on_refused_do = lambda port, frames: behaviour.send(port, frames, if_full="tell")
    driver = drive(behaviour)
    driver.fill("backend")
    driver.message("frontend", b"1")
    assert len(behaviour.refused) == 1
    assert driver.empty("backend") == [Send("backend", [b"1"])]
    assert balanced(driver.account)


def test_behaviour_is_told_of_room_where_a_message_was_refused() -> None:
    behaviour = Does(lambda behaviour, frames: behaviour.send("backend", frames, if_full="tell"))
    behaviour.on_refused_do = lambda port, frames: behaviour.kept.append(frames)
    behaviour.on_room_do = lambda port: behaviour.send(port, behaviour.kept.pop(), if_full="tell")
    driver = drive(behaviour)
    driver.fill("backend")
    driver.message("frontend", b"1")
    assert (behaviour.room, driver.account.held) == ([], 1)
    assert driver.is_open("frontend")
    assert driver.empty("backend") == [Send("backend", [b"1"])]
    assert driver.empty("backend") == []
    assert behaviour.room == ["backend"]
    assert balanced(driver.account)


def test_port_that_is_full_still_refuses_again_and_room_is_told_again() -> None:
    behaviour = Does(lambda behaviour, frames: behaviour.send("backend", frames, if_full="tell"))
    behaviour.on_refused_do = lambda port, frames: behaviour.kept.append(frames)
    behaviour.on_room_do = lambda port: behaviour.send(port, behaviour.kept.pop(), if_full="tell")
    driver = drive(behaviour, ports=("frontend", "side", "backend"))
    driver.fill("backend")
    driver.message("frontend", b"1")
    assert driver.empty("side") == []  # room elsewhere; in an engine a timer may be the reason, too
    assert len(behaviour.refused) == 2
    assert driver.empty("backend") == [Send("backend", [b"1"])]
    assert balanced(driver.account)


def test_message_waits_behind_a_refusal_and_room_is_told_when_it_has_gone() -> None:
    modes: Iterator[Literal["hold", "tell"]] = iter(("tell", "hold"))
    behaviour = Does(lambda behaviour, frames: behaviour.send("backend", frames, if_full=next(modes)))
    behaviour.on_refused_do = lambda port, frames: behaviour.kept.append(frames)
    driver = drive(behaviour)
    driver.fill("backend")
    driver.message("frontend", b"1")
    driver.message("frontend", b"2")
    assert not driver.is_open("frontend")
    assert driver.empty("backend") == [Send("backend", [b"2"])]
    assert behaviour.room == ["backend"]
    assert balanced(driver.account)


# -- peers that have left ----------------------------------------------------------------------------------------------


def test_behaviour_is_told_of_a_message_that_was_dropped() -> None:
    behaviour = Does(lambda behaviour, frames: behaviour.send("backend", [b"worker", *frames]))
    behaviour.on_dropped_do = lambda port, frames: behaviour.send("frontend", [b"nobody", *frames[1:]])
    driver = drive(behaviour)
    assert driver.message("frontend", b"1") == [Send("backend", [b"worker", b"1"])]
    driver.leave("backend", b"worker")
    assert driver.message("frontend", b"2") == [Send("frontend", [b"nobody", b"2"])]
    assert behaviour.dropped == [("backend", [b"worker", b"2"])]
    account = driver.account
    assert (account.received, account.added, account.sent, account.unroutable) == (2, 1, 2, 1)
    driver.come_back("backend", b"worker")
    assert driver.message("frontend", b"3") == [Send("backend", [b"worker", b"3"])]
    assert balanced(driver.account)


def test_behaviour_is_told_of_a_message_that_was_dropped_after_it_had_waited() -> None:
    driver = drive(behaviour := Does(pass_on))
    driver.fill("backend")
    driver.message("frontend", b"worker", b"1")
    driver.leave("backend", b"worker")
    assert driver.empty("backend") == []
    assert behaviour.dropped == [("backend", [b"worker", b"1"])]
    assert driver.is_open("frontend")
    assert balanced(driver.account)


def test_any_number_of_peers_may_have_left() -> None:
    """A message is offered to one after the other; that must not nest calls until Python's limit."""
    workers = [b"%d" % number for number in range(3000)]
    left = iter(workers)
    behaviour = Does(lambda behaviour, frames: behaviour.send("backend", [next(left), *frames]))
    behaviour.on_dropped_do = lambda port, frames: behaviour.send("backend", [next(left), *frames[1:]])
    driver = drive(behaviour)
    for worker in workers[:-1]:
        driver.leave("backend", worker)
    assert driver.message("frontend", b"1") == [Send("backend", [workers[-1], b"1"])]
    assert driver.account.unroutable == 2999
    assert balanced(driver.account)


def test_message_that_is_given_back_is_held_until_the_behaviour_has_been_told() -> None:
    """An exit in the call for the first of two: the second is told in the next call."""

    def send_two(behaviour: Does, frames: list[bytes]) -> None:
        behaviour.do = lambda behaviour, frames: None
        behaviour.send("backend", [b"1"], if_full="tell")
        behaviour.send("backend", [b"2"], if_full="tell")

    def interrupt(port: str, frames: list[bytes]) -> None:
        if frames == [b"1"]:
            raise KeyboardInterrupt

    behaviour = Does(send_two)
    behaviour.on_refused_do = interrupt
    driver = drive(behaviour)
    driver.fill("backend")
    with pytest.raises(KeyboardInterrupt):
        driver.message("frontend", b"given")
    assert (driver.account.held, driver.account.failed) == (1, 1)
    assert balanced(driver.account)
    driver.message("frontend", b"next")
    assert behaviour.refused == [("backend", [b"1"]), ("backend", [b"2"])]
    assert driver.account.held == 0
    assert balanced(driver.account)


# -- errors of sockets -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("counted", [False, True])
def test_error_of_a_socket_leaves_what_was_not_sent_waiting(counted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def send_three(behaviour: Does, frames: list[bytes]) -> None:
        for frame in (b"1", b"2", b"3"):
            behaviour.send("backend", [frame], if_full="tell" if frame == b"3" else "hold")

    driver = drive(Does(send_three))
    outlet = driver._outlets["backend"]
    send = outlet.send

    def broken(message: list[bytes]) -> int:
        if message == [b"2"]:
            outlet.finished += counted  # its sender has counted it: a later frame was not sent, or a copy
            raise KeyboardInterrupt
        return send(message)

    with monkeypatch.context() as patch:
        patch.setattr(outlet, "send", broken)
        with pytest.raises(KeyboardInterrupt):
            driver.message("frontend", b"given")
    assert driver.account.held == (1 if counted else 2)
    assert balanced(driver.account)
    sent = [frames for _, frames in driver.empty("backend")]
    assert sent == [[b"1"], *([] if counted else [[b"2"]]), [b"3"]]
    assert balanced(driver.account)

"""Behaviours without an engine: what is asked for is done when the call has returned, and accounted for."""

from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pollbroker import BehaviourError
from pollbroker.testing import Send, drive
from tests.behaviour.driven import Does, pass_on
from tests.support.accounts import balanced
from tests.support.balancer import Balancer


def test_balancer_gives_requests_to_the_worker_that_is_free_for_longest() -> None:
    balancer = drive(Balancer())
    assert not balancer.is_open("frontend")
    for worker in (b"w1", b"w2"):
        assert balancer.message("backend", worker, b"", b"READY") == []
    assert balancer.message("frontend", b"client", b"", b"1") == [Send("backend", [b"w1", b"", b"client", b"", b"1"])]
    assert balancer.message("frontend", b"client", b"", b"2") == [Send("backend", [b"w2", b"", b"client", b"", b"2"])]
    assert not balancer.is_open("frontend")
    assert balancer.message("backend", b"w2", b"", b"client", b"", b"reply") == [
        Send("frontend", [b"client", b"", b"reply"])
    ]
    assert balancer.is_open("frontend")
    assert balancer.counters == {"ready": 2}
    assert (balancer.account.filtered, balancer.account.sent) == (2, 3)
    assert balanced(balancer.account)


# -- messages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("do", "expected"),
    [
        (lambda b, frames: None, {"filtered": 1}),
        (lambda b, frames: b.send("backend", frames), {"sent": 1}),
        (lambda b, frames: [b.send("backend", frames) for _ in range(3)], {"sent": 3, "added": 2}),
        (lambda b, frames: b.kept.append(frames), {"held": 1}),
        (lambda b, frames: [b.kept.append(frames), b.send("backend", frames)], {"held": 1, "sent": 1, "added": 1}),
        (lambda b, frames: 1 / 0, {"failed": 1}),
        (lambda b, frames: [b.send("backend", frames), 1 / 0], {"failed": 1}),
        (lambda b, frames: [b.kept.append(frames), 1 / 0], {"failed": 1, "held": 1, "added": 1}),
        (lambda b, frames: b.send("backwards", frames), {"failed": 1}),
        (lambda b, frames: b.send("backend", []), {"failed": 1}),
        (lambda b, frames: b.send("backend", "text"), {"failed": 1}),
        (lambda b, frames: b.send("backend", frames, if_full="wait"), {"failed": 1}),
        (lambda b, frames: b.set_timer("t", -1), {"failed": 1}),
        (lambda b, frames: b.set_timer("t", float("nan")), {"failed": 1}),
        (lambda b, frames: b.close("nowhere"), {"failed": 1}),
        (lambda b, frames: b.set_timer(["a list"], 1), {"failed": 1}),
        (lambda b, frames: b.cancel_timer({}), {"failed": 1}),
        (lambda b, frames: b.count(["a list"]), {"failed": 1}),
        (lambda b, frames: b.count("many", "1"), {"failed": 1}),
    ],
)
def test_every_message_is_accounted_for(do: Callable[[Does, list[bytes]], Any], expected: dict[str, int]) -> None:
    driver = drive(Does(do))
    with pytest.raises((ZeroDivisionError, BehaviourError)) if "failed" in expected else nullcontext():
        driver.message("frontend", b"1")
    account = driver.account
    found = {name: getattr(account, name) for name in ("sent", "held", "added", "filtered", "failed")}
    assert found == dict.fromkeys(found, 0) | expected
    assert balanced(account)


def test_nothing_of_a_call_that_fails_is_done(caplog: pytest.LogCaptureFixture) -> None:
    def fail(behaviour: Does, frames: list[bytes]) -> None:
        behaviour.send("backend", frames)
        behaviour.close("frontend")
        behaviour.set_timer("t", 1)
        behaviour.count("failures")
        raise ValueError(frames)

    driver = drive(Does(fail))
    with pytest.raises(ValueError, match="b'1'"):
        driver.message("frontend", b"1")
    assert driver.advance(2) == []
    assert driver.is_open("frontend")
    assert driver.counters == {}
    assert "behaviour Does: a call failed (1 messages so far)" in caplog.text


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        ("backwards", "Does: backwards: a message cannot be sent to it; did you mean 'backend'?"),
        ("x", "Does: x: a message cannot be sent to it; expected one of frontend, backend"),
    ],
)
def test_send_to_an_unknown_port_raises(port: str, expected: str) -> None:
    errors: list[str] = []

    def send(behaviour: Does, frames: list[bytes]) -> None:
        try:
            behaviour.send(port, frames)
        except BehaviourError as error:
            errors.append(str(error))

    drive(Does(send)).message("frontend", b"1")
    assert errors == [expected]


def test_what_is_sent_may_be_changed_afterwards() -> None:
    def send(behaviour: Does, frames: list[bytes]) -> None:
        behaviour.send("backend", frames)
        frames.append(b"more")

    assert drive(Does(send)).message("frontend", b"1") == [Send("backend", [b"1"])]


def test_nothing_can_be_asked_for_outside_of_a_call() -> None:
    behaviour = Does()
    with pytest.raises(BehaviourError, match="Does is at work in no broker; expected an engine or `drive`"):
        behaviour.send("backend", [b"1"])
    drive(behaviour)
    with pytest.raises(
        BehaviourError, match=r"Does: nothing can be asked for now; expected a call within a method on_"
    ):
        behaviour.send("backend", [b"1"])


def test_behaviour_has_a_logger_of_its_name(caplog: pytest.LogCaptureFixture) -> None:
    drive(Does(lambda behaviour, frames: behaviour.log.warning("worker %s has left", frames))).message("frontend", b"1")
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("pollbroker.Does", "worker [b'1'] has left")
    ]


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_keeping_more_than_the_bound_raises() -> None:
    def keep(behaviour: Does, frames: list[bytes]) -> None:
        behaviour.kept.append(frames)
        behaviour.send("backend", frames)

    driver = drive(Does(keep))
    for _ in range(3):
        assert driver.message("frontend", b"1")
    with pytest.raises(BehaviourError, match="Does keeps 4 messages; expected no more than its max_held, which is 3"):
        driver.message("frontend", b"1")
    assert balanced(driver.account)


@pytest.mark.parametrize("held", [-1, None, 1.5, True])
def test_held_must_be_a_number_of_messages(held: Any) -> None:
    class Wrong(Does):
        held = 0

    behaviour = Wrong()
    driver = drive(behaviour)
    Wrong.held = held
    with pytest.raises(BehaviourError, match=r"Wrong: held is .*: expected how many messages it keeps"):
        driver.message("frontend", b"1")
    assert balanced(driver.account)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_error_of_held_is_raised_and_its_message_counted(error: type[BaseException]) -> None:
    class Broken(Does):
        broken = False

        @property
        def held(self) -> int:
            if self.broken:
                raise error
            return 0

    driver = drive(Broken())
    Broken.broken = True
    with pytest.raises(error):
        driver.message("frontend", b"1")
    assert driver.account.failed == 1
    assert balanced(driver.account)


def test_behaviour_is_at_work_in_one_broker_only() -> None:
    shared = Does(pass_on)
    first = drive(shared)
    with pytest.raises(BehaviourError, match="Does: it is at work in another broker; expected a new one for each"):
        drive(shared)
    assert first.message("frontend", b"1") == [Send("backend", [b"1"])]  # the first is as it was


def test_interrupt_comes_out_and_is_accounted_for() -> None:
    def interrupt(behaviour: Does, frames: list[bytes]) -> None:
        behaviour.kept.append(frames)
        raise KeyboardInterrupt

    driver = drive(Does(interrupt))
    with pytest.raises(KeyboardInterrupt):
        driver.message("frontend", b"1")
    assert (driver.account.failed, driver.account.held) == (1, 1)
    assert balanced(driver.account)


def test_behaviour_is_told_once_that_its_broker_has_ended() -> None:
    class Ends(Does):
        ends = 0

        def on_end(self) -> None:
            self.ends += 1
            with pytest.raises(BehaviourError, match="Ends is at work in no broker"):
                self.send("backend", [b"1"])

    driver = drive(behaviour := Ends())
    driver.stop()
    assert behaviour.ends == 0
    driver.end()
    driver.end()
    assert behaviour.ends == 1


def test_error_of_on_end_is_raised_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Wrong(Does):
        def on_end(self) -> None:
            raise ValueError("no such file")

    driver = drive(Wrong())
    with pytest.raises(ValueError, match="no such file"):
        driver.end()
    assert "behaviour Wrong: a call failed" in caplog.text
    assert "no such file" in caplog.text


def test_error_of_on_start_is_raised() -> None:
    class Wrong(Does):
        def on_start(self) -> None:
            raise ValueError("no configuration")

    with pytest.raises(ValueError, match="no configuration"):
        drive(Wrong())


# -- timers ------------------------------------------------------------------------------------------------------------


def test_timer_comes_at_its_time_once() -> None:
    behaviour = Does(lambda behaviour, frames: behaviour.set_timer("t", 1.5))
    driver = drive(behaviour)
    driver.message("frontend", b"1")
    driver.advance(1.4)
    assert behaviour.timers == []
    driver.advance(10)
    assert behaviour.timers == [("t", 1.5)]


def test_timer_that_is_set_anew_comes_at_the_new_time() -> None:
    delays = iter([1.0, 5.0, 0.5])
    behaviour = Does(lambda behaviour, frames: behaviour.set_timer("t", next(delays)))
    driver = drive(behaviour)
    driver.message("frontend", b"1")
    driver.message("frontend", b"2")
    driver.advance(2)
    assert behaviour.timers == []  # it is at 5 now
    driver.message("frontend", b"3")
    driver.advance(10)
    assert behaviour.timers == [("t", 2.5)]


def test_timer_that_is_cancelled_by_one_of_the_same_time_does_not_come() -> None:
    def set_both(behaviour: Does, frames: list[bytes]) -> None:
        behaviour.set_timer("a", 1)
        behaviour.set_timer("b", 1)

    behaviour = Does(set_both)
    behaviour.on_timer_do = lambda key: behaviour.cancel_timer("b" if key == "a" else "a")
    driver = drive(behaviour)
    driver.message("frontend", b"1")
    driver.advance(1)
    assert len(behaviour.timers) == 1


def test_timers_that_are_cancelled_or_set_anew_leave_nothing_behind() -> None:
    keys = iter(range(1_000_000))

    def wait(behaviour: Does, frames: list[bytes]) -> None:
        behaviour.set_timer("heartbeat", 3600)
        key = next(keys)
        behaviour.set_timer(key, 3600)
        behaviour.cancel_timer(key - 1)

    driver = drive(Does(wait))
    for _ in range(5000):
        driver.message("frontend", b"1")
    assert len(driver._timers) < 500
    assert len(driver._run.timers) == 2


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.one_of(st.none(), st.integers(0, 8)), st.integers(0, 4)), max_size=12)
)
def test_timers_come_as_last_set(steps: list[tuple[str, int | None, int]]) -> None:
    """The model: for each key the time when it is due. `None` as a delay cancels."""
    actions: deque[tuple[str, int | None]] = deque()

    def act(behaviour: Does, frames: list[bytes]) -> None:
        key, delay_s = actions.popleft()
        if delay_s is None:
            behaviour.cancel_timer(key)
        else:
            behaviour.set_timer(key, delay_s)

    behaviour = Does(act)
    driver = drive(behaviour)
    due_s: dict[str, float] = {}
    expected: list[tuple[str, float]] = []
    for key, delay_s, pause_s in steps:
        actions.append((key, delay_s))
        driver.message("frontend", b"")
        due_s.pop(key, None)
        if delay_s is not None:
            due_s[key] = driver.now_s() + delay_s
        driver.advance(pause_s)
        for came in sorted(key for key, at_s in due_s.items() if at_s <= driver.now_s()):
            expected.append((came, due_s.pop(came)))
    assert sorted(behaviour.timers, key=lambda timer: (timer[1], str(timer[0]))) == sorted(
        expected, key=lambda timer: (timer[1], timer[0])
    )


def test_stop_lets_it_send_what_it_keeps() -> None:
    class Keeping(Does):
        def on_stop(self) -> None:
            for frames in self.kept:
                self.send("backend", frames)
            self.kept.clear()

    driver = drive(Keeping(lambda behaviour, frames: behaviour.kept.append(frames)))
    driver.message("frontend", b"1")
    assert driver.account.held == 1
    assert driver.stop() == [Send("backend", [b"1"])]
    assert driver.account.held == 0
    assert balanced(driver.account)

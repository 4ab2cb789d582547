"""Behaviours without an engine: what is asked for is done when the call has returned, and accounted for."""

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pollbroker import Behaviour, BehaviourError
from pollbroker.pump.outcomes import FULL, SENT
from pollbroker.testing import Send, drive
from tests.support.accounts import balanced
from tests.support.balancer import Balancer


class Does(Behaviour):
    """Does what the test says, for a message; records timers and refusals."""

    max_held = 3

    def __init__(self, do: Callable[["Does", list[bytes]], Any] = lambda behaviour, frames: None) -> None:
        self.do = do
        self.kept: list[list[bytes]] = []
        self.timers: list[tuple[Hashable, float]] = []
        self.refused: list[tuple[str, list[bytes]]] = []
        self.on_timer_do: Callable[[Hashable], Any] = lambda key: None
        self.dropped: list[tuple[str, list[bytes]]] = []
        self.room: list[str] = []
        self.on_refused_do: Callable[[str, list[bytes]], Any] = lambda port, frames: None
        self.on_dropped_do: Callable[[str, list[bytes]], Any] = lambda port, frames: None
        self.on_room_do: Callable[[str], Any] = lambda port: None

    @property
    def held(self) -> int:
        return len(self.kept)

    def on_message(self, port: str, frames: list[bytes]) -> None:
        self.do(self, frames)

    def on_timer(self, key: Hashable) -> None:
        self.timers.append((key, self.now_s))
        self.on_timer_do(key)

    def on_refused(self, port: str, frames: list[bytes]) -> None:
        self.refused.append((port, frames))
        self.on_refused_do(port, frames)

    def on_room(self, port: str) -> None:
        self.room.append(port)
        self.on_room_do(port)

    def on_dropped(self, port: str, frames: list[bytes]) -> None:
        self.dropped.append((port, frames))
        self.on_dropped_do(port, frames)


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
    assert driver.message("frontend", b"1") == []
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


def test_error_of_on_end_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Wrong(Does):
        def on_end(self) -> None:
            raise ValueError("no such file")

    drive(Wrong()).end()
    assert "behaviour Wrong: a call failed" in caplog.text
    assert "no such file" in caplog.text


def test_error_of_on_start_is_raised() -> None:
    class Wrong(Does):
        def on_start(self) -> None:
            raise ValueError("no configuration")

    with pytest.raises(ValueError, match="no configuration"):
        drive(Wrong())


# -- ports that are full -----------------------------------------------------------------------------------------------


def pass_on(behaviour: Does, frames: list[bytes]) -> None:
    behaviour.send("backend", frames)


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

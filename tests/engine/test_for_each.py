"""`Engine.begin_for_each`: every broker is asked, a few in each turn, and the traffic goes on in between."""

import contextlib
import os
from collections.abc import Callable
from concurrent.futures import Future
from itertools import pairwise
from typing import Any

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from pollbroker import STREAMER, Broker, EndpointError, Engine, EngineError
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT
from tests.support.clocks import Clock
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.streamers import Peers
from tests.support.types import Connect, MakeEngine, Socket

THREE_S = 0.00008
"""An answer that takes so long leaves time for three in a portion."""


class Asking:
    """Asks brokers for their names, and notes who was asked. Each answer takes `takes_s` of the engine's clock."""

    def __init__(self, clock: Clock, takes_s: float = THREE_S) -> None:
        self.asked: list[str] = []
        self._clock = clock
        self._takes_s = takes_s

    def __call__(self, broker: Broker) -> str:
        self.asked.append(broker.name)
        self._clock.now_s += self._takes_s
        return broker.name


@pytest.fixture
def clock() -> Clock:
    """The engine's clock, which stands still until it is moved."""
    return Clock()


@pytest.fixture
def idle(make_engine: MakeEngine, clock: Clock) -> Engine:
    """An engine that nobody runs, with ten brokers."""
    engine = make_engine(clock=clock)
    add(engine, *"0123456789")
    return engine


def add(engine: Engine, *names: str) -> None:
    for name in names:
        engine.add(name, STREAMER, frontend=f"inproc://{name}-in", backend=f"inproc://{name}-out")


def turns_until(engine: Engine, done: Callable[[], bool], count: Callable[[], int]) -> list[int]:
    """Make turns until something is done; how much is counted in each of them."""
    counts = [0, count()]
    while not done():
        assert len(counts) < 100, "it is not done"
        engine.step()
        counts.append(count())
    return [after - before for before, after in pairwise(counts)]


# -- portions ----------------------------------------------------------------------------------------------------------


def test_few_brokers_are_asked_at_once(idle: Engine) -> None:
    told = idle.begin_for_each(Broker.statistics)
    assert told.done()
    assert told.result() == idle.statistics().brokers


def test_an_engine_without_brokers_answers_at_once(make_engine: MakeEngine) -> None:
    assert make_engine().begin_for_each(Broker.statistics).result(0) == {}


def test_many_brokers_are_asked_a_few_in_each_turn(idle: Engine, clock: Clock) -> None:
    ask = Asking(clock)
    told = idle.begin_for_each(ask)
    assert turns_until(idle, told.done, lambda: len(ask.asked)) == [3, 3, 3, 1]
    assert list(told.result().items()) == [(name, name) for name in "0123456789"]
    with pytest.raises(TypeError, match="cannot be changed"):
        told.result()["0"] = "another"  # type: ignore[index]


def test_slow_answers_come_one_in_each_turn_and_what_is_done_with_them_takes_another(
    idle: Engine, clock: Clock
) -> None:
    ask = Asking(clock, takes_s=1.0)
    told = idle.begin_for_each(ask)
    assert turns_until(idle, told.done, lambda: len(ask.asked)) == [1] * 10 + [0]


def test_questions_are_answered_one_after_the_other_with_one_portion_in_each_turn(idle: Engine, clock: Clock) -> None:
    several = [Asking(clock) for _ in range(5)]
    told = [idle.begin_for_each(ask) for ask in several]
    done: list[int] = []
    for number, one in enumerate(told):
        one.add_done_callback(lambda _, number=number: done.append(number))  # type: ignore[misc]
    counts = turns_until(idle, lambda: len(done) == 5, lambda: sum(len(ask.asked) for ask in several))
    assert sum(counts) == 50
    assert max(counts) == 3
    assert done == [0, 1, 2, 3, 4]
    assert all(one.result() == {name: name for name in "0123456789"} for one in told)


def test_a_turn_has_one_portion_also_if_the_question_came_in_it(idle: Engine, clock: Clock) -> None:
    """A reader is called before the queued calls of its turn, by which the questions go on."""
    ask = Asking(clock)
    told: list[Future[Any]] = []
    reads, writes = os.pipe()
    with (
        contextlib.closing(os.fdopen(reads, "rb", 0)) as readable,
        contextlib.closing(os.fdopen(writes, "wb", 0)) as writable,
    ):

        def read() -> None:
            readable.read(1)
            told.append(idle.begin_for_each(ask))

        idle.add_reader(reads, read)
        writable.write(b"x")
        wait_until(lambda: told, engine=idle)
        assert len(ask.asked) == 3
        idle.step()
        assert len(ask.asked) == 6
        idle.remove_reader(reads)


def test_a_question_within_a_question_is_answered_after_it(idle: Engine, clock: Clock) -> None:
    inner = Asking(clock)
    told: list[Future[Any]] = []

    def ask(broker: Broker) -> None:
        if broker.name == "4":
            told.append(idle.begin_for_each(inner))
        assert not inner.asked

    outer = idle.begin_for_each(ask)
    assert outer.done()
    wait_until(told[0].done, engine=idle)
    assert inner.asked == list("0123456789")


def test_traffic_goes_on_between_two_portions(
    make_engine: MakeEngine, context: "zmq.Context[Socket]", clock: Clock, connect: Connect
) -> None:
    engine = make_engine(context, clock=clock)
    jobs = engine.add("jobs", STREAMER, frontend="inproc://jobs-in", backend="inproc://jobs-out")
    peers = Peers(connect, jobs)  # over inproc a message that was sent has arrived
    add(engine, *"012345678")
    ask = Asking(clock, takes_s=1.0)
    peers.push.send(b"x")
    told = engine.begin_for_each(ask)
    wait_until(lambda: flow_of(engine, "jobs").sent or told.done(), engine=engine)
    assert not told.done(), "the message waited for all answers"


# -- brokers that come and go between two portions ---------------------------------------------------------------------


def test_a_broker_that_is_removed_before_its_turn_is_left_out_and_a_new_one_is_not_asked(
    idle: Engine, clock: Clock
) -> None:
    told = idle.begin_for_each(Asking(clock))
    idle.remove("1")  # it was asked already
    idle.remove("7")
    add(idle, "new")
    wait_until(told.done, engine=idle)
    assert list(told.result()) == list("012345689")


def test_a_broker_that_takes_the_place_of_another_is_asked_in_its_stead(idle: Engine, clock: Clock) -> None:
    told = idle.begin_for_each(lambda broker: (Asking(clock)(broker), broker))
    idle.remove("7")
    idle.add("7", STREAMER, frontend="inproc://again-in", backend="inproc://again-out")
    wait_until(told.done, engine=idle)
    assert told.result()["7"] == ("7", idle.brokers["7"])


def test_a_broker_that_fails_before_its_turn_says_so(idle: Engine, clock: Clock, context: zmq.Context[Socket]) -> None:
    pull, push = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    idle.register(pull, push, STREAMER, name="lent")

    def ask(broker: Broker) -> str:
        clock.now_s += THREE_S
        return broker.statistics().state

    told = idle.begin_for_each(ask)
    pull.close(linger=0)
    wait_until(told.done, engine=idle)
    assert told.result() == dict.fromkeys("0123456789", "running") | {"lent": "failed"}


@given(changes=st.lists(st.tuples(st.sampled_from("0123456789"), st.booleans()), max_size=12))
def test_whatever_comes_and_goes_each_broker_that_stays_is_asked_once(changes: list[tuple[str, bool]]) -> None:
    """Invariant: who was there all the time is asked exactly once, and nobody is asked twice or after its removal."""
    clock = Clock()
    with contextlib.closing(Engine(clock=clock)) as engine:
        for name in "0123456789":
            engine.add(name, STREAMER, frontend=f"inproc://{name}-in", backend=f"inproc://{name}-out")
        ask = Asking(clock)
        told = engine.begin_for_each(ask)
        removed: set[str] = set()
        for number, (name, makes_turn) in enumerate(changes):
            if name in engine.brokers:
                engine.remove(name, timeout_s=0)
                removed.add(name)
            else:
                engine.add(name, STREAMER, frontend=f"inproc://new{number}-in", backend=f"inproc://new{number}-out")
            if makes_turn:
                engine.step()
        wait_until(told.done, engine=engine)
        assert sorted(set(ask.asked)) == sorted(ask.asked)
        assert set("0123456789") - removed <= told.result().keys() <= set("0123456789")
        assert list(told.result()) == ask.asked


# -- errors and ends ---------------------------------------------------------------------------------------------------


def test_an_error_of_the_question_ends_it_alone(idle: Engine, clock: Clock) -> None:
    after = Asking(clock)
    asked: list[str] = []

    def ask(broker: Broker) -> None:
        asked.append(broker.name)
        clock.now_s += THREE_S
        if broker.name == "4":
            raise ValueError("four")

    told, other = idle.begin_for_each(ask), idle.begin_for_each(after)
    wait_until(other.done, engine=idle)
    with pytest.raises(ValueError, match="four"):
        told.result(0)
    assert asked == list("01234")
    assert after.asked == list("0123456789")


def test_ctrl_c_within_a_question_ends_the_turn_and_the_next_question_is_answered(idle: Engine, clock: Clock) -> None:
    after = Asking(clock)

    def ask(broker: Broker) -> None:
        clock.now_s += THREE_S
        if broker.name == "4":
            raise KeyboardInterrupt

    told, other = idle.begin_for_each(ask), idle.begin_for_each(after)
    with pytest.raises(KeyboardInterrupt):
        turns_until(idle, told.done, int)
    assert isinstance(told.exception(0), KeyboardInterrupt)
    wait_until(other.done, engine=idle)
    assert after.asked == list("0123456789")


def test_nobody_is_asked_any_more_when_the_future_is_cancelled(idle: Engine, clock: Clock) -> None:
    ask, after = Asking(clock), Asking(clock)
    told, other = idle.begin_for_each(ask), idle.begin_for_each(after)
    assert told.cancel()
    wait_until(other.done, engine=idle)
    assert ask.asked == list("012")
    assert after.asked == list("0123456789")


def test_closing_the_engine_ends_every_question_with_an_error(idle: Engine, clock: Clock) -> None:
    several = [idle.begin_for_each(Asking(clock)) for _ in range(2)]
    idle.close()
    for told in several:
        with pytest.raises(EngineError, match="the engine was closed before every broker was asked"):
            told.result(0)
    with pytest.raises(EngineError, match="the engine is closed"):
        idle.begin_for_each(Broker.statistics)


def test_another_thread_is_answered_by_an_engine_that_runs(
    engine: Engine, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant: the account of each broker balances, whatever passes between two portions."""
    monkeypatch.setattr("pollbroker.portions._PORTION_S", 0.0)
    several = [
        Peers(connect, engine.add(f"{number}", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)) for number in range(5)
    ]
    for _ in range(20):
        for peers in several:
            peers.push.send(b"x")
        told = engine.begin_for_each(Broker.statistics).result(DEADLINE_S)
        assert list(told) == list("01234")
        for broker in told.values():
            (flow,) = broker.flows.values()
            assert flow.received + flow.added == flow.sent + flow.held + flow.dropped


# -- what is asked besides ---------------------------------------------------------------------------------------------


def test_handles_are_made_again_only_after_a_change(idle: Engine) -> None:
    before = idle.brokers
    assert idle.brokers is before
    add(idle, "new")
    assert list(idle.brokers) == [*"0123456789", "new"]
    assert list(before) == list("0123456789"), "a snapshot has changed"
    idle.remove("new")
    assert idle.brokers == before
    idle.remove("3")
    assert "3" not in idle.brokers
    with pytest.raises(EndpointError, match="in use"):
        idle.add("bad", STREAMER, frontend="inproc://0-in", backend="inproc://0-out")
    assert "bad" not in idle.brokers


def test_a_failed_broker_that_is_taken_off_the_list_has_no_handle(idle: Engine, context: zmq.Context[Socket]) -> None:
    pull = context.socket(zmq.PULL)
    idle.register(pull, context.socket(zmq.PUSH), STREAMER, name="lent")
    pull.close(linger=0)
    wait_until(lambda: idle.statistics(["lent"]).brokers["lent"].state == "failed", engine=idle)
    assert "lent" in idle.brokers
    idle.remove("lent")
    assert "lent" not in idle.brokers


def test_statistics_of_some_brokers(idle: Engine) -> None:
    whole = idle.statistics()
    assert list(idle.statistics(["7", idle.brokers["2"]]).brokers) == ["7", "2"]
    nothing = idle.statistics(())
    assert (nothing.pump, nothing.waiter, nothing.brokers) == (whole.pump, whole.waiter, {})
    with pytest.raises(EngineError, match="no broker is named 'x'"):
        idle.statistics(["x"])

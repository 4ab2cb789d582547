"""Scenarios: what is drawn, that a run can be repeated, and schedules that are written by hand."""

from functools import partial

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from pollbroker import QUEUE, REFLECTOR, STREAMER
from pollbroker.testing import (
    Action,
    LinePlan,
    Meanwhile,
    Scenario,
    Step,
    Topology,
    check_scenario,
    check_seed,
    faults,
    high_water_marks,
    messages,
    schedules,
    topologies,
)
from pollbroker.testing.drawing import scenario_of_seed
from pollbroker.testing.environments import ENVIRONMENTS
from pollbroker.testing.trace import Counted, Got, Sent, Steered, Turned
from tests.support.descriptors import descriptors, opened_since
from tests.support.kit import few

# -- what is drawn -----------------------------------------------------------------------------------------------------


@given(message=messages(10))
@few
def test_messages_have_one_to_eight_frames(message: list[bytes]) -> None:
    assert 1 <= len(message) <= 8
    assert all(isinstance(frame, bytes) and len(frame) <= 10 for frame in message)


@given(mark=high_water_marks())
@few
def test_high_water_marks_are_small_or_none(mark: int) -> None:
    assert 0 <= mark <= 5


@given(data=st.data())
@few
def test_schedules_and_faults_fit_their_topology(data: st.DataObject) -> None:
    topology = data.draw(topologies(QUEUE))
    assert all(line.device is QUEUE for line in topology.lines)
    fault = data.draw(faults(topology))
    assert fault.action in (Action.LEAVE, Action.REJOIN, Action.PAUSE, Action.RESUME, Action.REPLACE)
    for step in data.draw(schedules(topology, 20)):
        assert 0 <= step.line < len(topology.lines)


def test_a_step_shows_what_was_asked_for() -> None:
    step = Step(Action.TURN, count=2, meanwhile=(Meanwhile(3, Step(Action.SEND, side="backend")),))
    assert repr(step) == ("Step(Action.TURN, count=2, meanwhile=(Meanwhile(3, Step(Action.SEND, side='backend')),))")
    assert eval(repr(step)) == step


# -- a run can be repeated ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(0, 40, 5))
def test_a_seed_does_the_same_again(seed: int) -> None:
    first, again = check_seed(seed), check_seed(seed)
    assert first.events == again.events
    assert len(first.events) > 0


@pytest.mark.parametrize("column", ENVIRONMENTS)
def test_everything_is_closed_after_a_run(column: str) -> None:
    scenario = scenario_of_seed(7)
    check_scenario(scenario, column)
    before = descriptors()
    for _ in range(5):
        check_scenario(scenario, column)
    assert not opened_since(before)


# -- the stage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ENVIRONMENTS)
def test_a_schedule_written_by_hand_runs(column: str) -> None:
    topology = Topology(lines=(LinePlan(STREAMER, client=zmq.SocketType.PUSH, worker=zmq.SocketType.PULL),))
    steps = (Step(Action.SEND, count=3), Step(Action.REST), Step(Action.TAKE, side="backend", count=3))
    trace = check_scenario(Scenario(topology, (Step(Action.JOIN, side="backend"), *steps)), column)
    assert [event.frames[0] for _, event in trace.of(Got)] == [b"#0af0.1/1#", b"#0af0.1/2#", b"#0af0.1/3#"]


def test_brokers_that_are_replaced_often_are_told_apart() -> None:
    plan = LinePlan(STREAMER, client=zmq.SocketType.PUSH, worker=zmq.SocketType.PULL)
    send = Step(Action.JOIN, side="backend"), Step(Action.SEND), Step(Action.REST)
    trace = check_scenario(Scenario(Topology((plan,)), (*send, *[Step(Action.REPLACE)] * 60, Step(Action.REST))))
    added = [event.broker for _, event in trace.of(Steered) if event.how == "added"]
    assert len(set(added)) == len(added) == 61


def test_a_meddler_acts_in_the_middle_of_a_turn() -> None:
    topology = Topology(lines=(LinePlan(STREAMER, client=zmq.SocketType.PUSH, worker=zmq.SocketType.PULL),))
    turn = Step(Action.TURN, meanwhile=(Meanwhile(1, Step(Action.SEND, count=2)),))
    steps = (Step(Action.JOIN, side="backend"), Step(Action.JOIN), Step(Action.SEND), turn)
    trace = check_scenario(Scenario(topology, steps))
    events = [event for event in trace.events if isinstance(event, (Sent, Turned))]
    assert [type(event) for event in events] == [Sent, Sent, Sent, Turned]
    after_it = next(event for at, event in trace.of(Counted) if at > trace.events.index(events[-1]))
    assert after_it.statistics.sent == 3


def test_a_device_of_a_seed_is_the_one_asked_for() -> None:
    trace = check_seed(11, REFLECTOR)
    assert {path.only_sink.port for path in trace.paths.values()} == {"frontend"}
    assert partial(scenario_of_seed, 11)() == scenario_of_seed(11)

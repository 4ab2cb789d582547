"""Counters of a broker that go on where those of an earlier one ended."""

from dataclasses import fields, replace
from typing import Any

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from pollbroker import STREAMER
from pollbroker.continuing import continue_counters
from pollbroker.frozen import FrozenDict
from pollbroker.states import BrokerState
from pollbroker.statistics import BrokerStatistics, Counters, FlowStatistics, PortStatistics
from pollbroker.waits import NO_WAITS
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import wait_until
from tests.support.transports import holding_streamer
from tests.support.types import Connect, MakeEngine

COUNTS = st.integers(0, 1 << 32)


@st.composite
def accounts(draw: st.DrawFn) -> FlowStatistics:
    """The account of a flow, which balances."""
    counts: dict[str, Any] = {one.name: draw(COUNTS) for one in fields(Counters)}
    times: dict[str, Any] = {name: float(draw(COUNTS)) for name in ("stalled_s", "waited_s")}
    flow = FlowStatistics(**counts, **times, stalls=draw(COUNTS), waits=tuple(draw(COUNTS) for _ in NO_WAITS))
    return replace(flow, added=0, received=flow.sent + flow.held + flow.dropped)


def statistics_of(flow: FlowStatistics, port: PortStatistics) -> BrokerStatistics:
    return BrokerStatistics(
        "a", "streamer", BrokerState.RUNNING, None, FrozenDict(frontend=flow), FrozenDict(frontend=port)
    )


@given(accounts(), accounts())
def test_account_balances_after_an_earlier_one(flow: FlowStatistics, earlier: FlowStatistics) -> None:
    port = PortStatistics("PULL", ())
    both = continue_counters(statistics_of(flow, port), statistics_of(earlier, port)).flows["frontend"]
    assert both.received + both.added == both.sent + both.held + both.dropped
    assert (both.held, both.removed) == (flow.held, flow.removed + earlier.removed + earlier.held)
    assert both.received == flow.received + earlier.received
    assert sum(both.waits) == sum(flow.waits) + sum(earlier.waits)
    assert both.waited_s == flow.waited_s + earlier.waited_s
    assert (both.stalls, both.stalled_s) == (flow.stalls + earlier.stalls, flow.stalled_s + earlier.stalled_s)


NUMBERS = [
    one.name
    for one in fields(FlowStatistics)
    if one.name not in ("source", "sinks", "state", "unread", "held", "removed", "waits")
]
"""What a flow counts; what it holds, its histogram and what it loses at its end are tested above."""


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_of_a_flow_goes_on(name: str) -> None:
    now, then = (
        statistics_of(FlowStatistics(**{name: number}), PortStatistics("PULL", ()))  # type: ignore[arg-type]
        for number in (3, 4)
    )
    assert getattr(continue_counters(now, then).flows["frontend"], name) == 7


def test_ports_count_on_and_their_peers_are_those_of_now() -> None:
    now = PortStatistics("PULL", ("tcp://127.0.0.1:1",), received=2, peers=1, connections_ended=FrozenDict(left=1))
    then = PortStatistics(
        "PULL", (), received=3, dropped=4, missed=6, peers=9, connections_ended=FrozenDict(left=2, limit=5)
    )
    both = continue_counters(statistics_of(FlowStatistics(), now), statistics_of(FlowStatistics(), then))
    assert both.ports["frontend"] == replace(
        now, received=5, dropped=4, missed=6, connections_ended=FrozenDict(left=3, limit=5)
    )


def test_ports_and_flows_of_the_earlier_broker_alone_are_left_out() -> None:
    earlier = BrokerStatistics("a", "streamer", "removed", None, FrozenDict(x=FlowStatistics(received=1)))
    now = statistics_of(FlowStatistics(received=2, sent=2), PortStatistics("PULL", ()))
    assert continue_counters(now, earlier) == now


def test_broker_goes_on_with_the_counters_of_the_one_that_it_replaces(
    make_engine: MakeEngine, connect: Connect
) -> None:
    engine = make_engine()
    engine.start()
    first = engine.add("a", holding_streamer(), frontend=ANY_PORT, backend=ANY_PORT, backend_options={"linger": 0})
    connect(zmq.PUSH, endpoint(first.frontend)).send(b"for nobody")
    wait_until(lambda: first.statistics().flows["frontend"].received == 1)
    final = first.remove(timeout_s=0)
    second = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, earlier=final)
    consumer = connect(zmq.PULL, endpoint(second.backend))
    connect(zmq.PUSH, endpoint(second.frontend)).send(b"for somebody")
    assert consumer.recv() == b"for somebody"
    wait_until(lambda: second.statistics().flows["frontend"].sent == 1)
    flow = second.statistics().flows["frontend"]
    assert (flow.received, flow.removed, flow.held) == (2, 1, 0)
    assert second.remove().flows["frontend"] == replace(flow, state="ended")

"""What a flow says of the messages that it was given."""

import threading

from pollbroker import Engine
from pollbroker.statistics import Counters, FlowStatistics
from tests.support.deadline import wait_until


def balanced(flow: FlowStatistics | Counters) -> bool:
    """The promise: received + added == sent + held + dropped."""
    return flow.received + flow.added == flow.sent + flow.held + flow.dropped


def flow_of(engine: Engine, name: str, source: str = "frontend") -> FlowStatistics:
    """What a flow of a broker says, now."""
    return engine.statistics().brokers[name].flows[source]


def stands_still(engine: Engine, name: str = "a", source: str = "frontend") -> FlowStatistics:
    """Wait until a flow moves nothing any more."""
    seen: list[tuple[int, int]] = []
    pause = threading.Event()

    def same_for_long() -> bool:
        pause.wait(0.005)
        flow = flow_of(engine, name, source)
        seen.append((flow.received, flow.sent))
        return len(seen) >= 20 and len(set(seen[-20:])) == 1

    wait_until(same_for_long)
    return flow_of(engine, name, source)

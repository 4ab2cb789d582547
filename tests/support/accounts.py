"""What a flow says of the messages that it was given."""

from pollbroker import Engine
from pollbroker.statistics import Counters, FlowStatistics


def balanced(flow: FlowStatistics | Counters) -> bool:
    """The promise: received + added == sent + held + dropped."""
    return flow.received + flow.added == flow.sent + flow.held + flow.dropped


def flow_of(engine: Engine, name: str, source: str = "frontend") -> FlowStatistics:
    """What a flow of a broker says, now."""
    return engine.statistics().brokers[name].flows[source]

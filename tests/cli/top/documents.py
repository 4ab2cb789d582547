"""Documents of STATS, as an engine tells them."""

import json
from typing import Any

from pollbroker.statistics import BrokerStatistics, EngineStatistics, FlowStatistics, PortStatistics
from pollbroker.waits import NO_WAITS


def flow(**counted: Any) -> FlowStatistics:
    return FlowStatistics(**{"source": "frontend", "sinks": ("backend",), "state": "waiting", **counted})


def broker(name: str, *flows: FlowStatistics, state: str = "running", peers: int | None = None) -> BrokerStatistics:
    flows = flows or (flow(),)
    ports = {one: PortStatistics("PULL", (), peers=peers) for one in ("frontend", "backend")}
    by_source = {one.source: one for one in flows}
    return BrokerStatistics(name=name, device="streamer", state=state, error=None, flows=by_source, ports=ports)


def stats(*brokers: BrokerStatistics, turns: int = 0) -> dict[str, Any]:
    engine = EngineStatistics(pump="native", waiter="nested", turns=turns, brokers={one.name: one for one in brokers})
    told: dict[str, Any] = json.loads(json.dumps(engine, default=vars))
    return told


def waits(**counts: int) -> tuple[int, ...]:
    """A histogram: `waits(first=9, last=1)`."""
    histogram = list(NO_WAITS)
    histogram[0] = counts.get("first", 0)
    histogram[-1] = counts.get("last", 0)
    return tuple(histogram)

"""Counters that go on where those of an earlier broker ended, as when a reload replaces a broker by another."""

from collections.abc import Mapping
from dataclasses import fields, replace
from operator import add
from typing import Final, TypeVar

from pollbroker.frozen import FrozenDict
from pollbroker.statistics import BrokerStatistics, Counters, FlowStatistics, PortStatistics

FLOW_COUNTERS: Final = (*(one.name for one in fields(Counters)), "stalls")
PORT_COUNTERS: Final = (
    "received",
    "received_frames",
    "received_bytes",
    "sent",
    "sent_frames",
    "sent_bytes",
    "dropped",
    "missed",
)

Counted = TypeVar("Counted", FlowStatistics, PortStatistics)


def continue_counters(statistics: BrokerStatistics, earlier: BrokerStatistics) -> BrokerStatistics:
    """The statistics of a broker, with the counters of an earlier one added.

    Flows count on by the name of their source, ports by their own. Those that the earlier broker alone had are left
    out. What it still held was lost with it, and is counted as `removed`.
    """
    flows = {
        source: _flow(flow, earlier.flows[source]) if source in earlier.flows else flow
        for source, flow in statistics.flows.items()
    }
    ports = {
        name: _port(port, earlier.ports[name]) if name in earlier.ports else port
        for name, port in statistics.ports.items()
    }
    counters = _sum(statistics.counters, earlier.counters)
    return replace(statistics, flows=FrozenDict(flows), ports=FrozenDict(ports), counters=counters)


def _flow(flow: FlowStatistics, earlier: FlowStatistics) -> FlowStatistics:
    both = _add(flow, earlier, FLOW_COUNTERS)
    return replace(
        both,
        held=flow.held,
        removed=both.removed + earlier.held,
        stalled_s=flow.stalled_s + earlier.stalled_s,
        waits=tuple(map(add, flow.waits, earlier.waits)),
        waited_s=flow.waited_s + earlier.waited_s,
    )


def _port(port: PortStatistics, earlier: PortStatistics) -> PortStatistics:
    both = _add(port, earlier, PORT_COUNTERS)
    return replace(both, connections_ended=_sum(port.connections_ended, earlier.connections_ended))


def _add(one: Counted, other: Counted, names: tuple[str, ...]) -> Counted:
    return replace(one, **{name: getattr(one, name) + getattr(other, name) for name in names})


def _sum(some: Mapping[str, int], others: Mapping[str, int]) -> FrozenDict[str, int]:
    return FrozenDict({name: some.get(name, 0) + others.get(name, 0) for name in {**others, **some}})

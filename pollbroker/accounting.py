"""Makes the statistics of a broker, by flow and by port, from the counters of its pumps."""

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Final

from pollbroker.device import CAPTURE
from pollbroker.errors import describe_error
from pollbroker.frozen import FrozenDict
from pollbroker.port import WorkingPort
from pollbroker.pump import Flow, FlowState
from pollbroker.states import BrokerState
from pollbroker.statistics import BrokerStatistics, Counters, FlowStatistics, PortStatistics
from pollbroker.waits import Waits, histogram_of_all

_NOTHING: Final = Counters()

BEHAVIOUR: Final = "behaviour"
"""The name of the one flow that the statistics of a broker with a behaviour have."""


def account_for(
    *,
    name: str,
    device: str,
    state: BrokerState,
    error: BaseException | None,
    ports: Sequence[WorkingPort],
    flows: Sequence[Flow],
    unread: Mapping[int, int],
    counters: Mapping[str, int] | None,
    waits: Waits | None,
    disabled: bool,
    now_s: float,
) -> BrokerStatistics:
    """The statistics of a broker.

    `ports` is in the order of the port indices, with the capture port last if there is one. `unread` has, by port
    index, how many messages were left unread there. `counters` are those of the broker's behaviour, and `waits`
    says how long its messages waited; if it has one, it has one account for all ports.
    """
    counted = [(flow, flow.pump.counters()) for flow in flows]
    if counters is None or waits is None:
        flow_statistics = {
            ports[flow.source].name: _flow_statistics(flow, of_flow, ports, unread.get(flow.source, 0), now_s)
            for flow, of_flow in counted
        }
    else:
        flow_statistics = {BEHAVIOUR: _behaviour_statistics(counted, ports, sum(unread.values()), waits, now_s)}
    return BrokerStatistics(
        name=name,
        device=device,
        state=state,
        error=None if error is None else describe_error(error),
        flows=FrozenDict(flow_statistics),
        ports=FrozenDict({port.name: _port_statistics(index, port, counted) for index, port in enumerate(ports)}),
        counters=FrozenDict(counters or {}),
        disabled=disabled,
    )


def _behaviour_statistics(
    counted: Sequence[tuple[Flow, Counters]],
    ports: Sequence[WorkingPort],
    unread: int,
    waits: Waits,
    now_s: float,
) -> FlowStatistics:
    outgoing = counted[0][0]
    counters = _total([counters for _, counters in counted])
    return FlowStatistics.with_counters(
        counters,
        source=BEHAVIOUR,
        sinks=tuple(ports[sink].name for sink in outgoing.sinks),
        state=FlowState(outgoing.state).name.lower(),
        stalls=outgoing.stalls,
        stalled_s=outgoing.stalled_s(now_s),
        waits=_waits_of_all(waits.counts, counters, outgoing.pump.queued),
        waited_s=waits.total_s,
        unread=unread,
    )


def _flow_statistics(
    flow: Flow, counters: Counters, ports: Sequence[WorkingPort], unread: int, now_s: float
) -> FlowStatistics:
    return FlowStatistics.with_counters(
        counters,
        source=ports[flow.source].name,
        sinks=tuple(ports[sink].name for sink in flow.sinks),
        state=FlowState(flow.state).name.lower(),
        stalls=flow.stalls,
        stalled_s=flow.stalled_s(now_s),
        waits=_waits_of_all(flow.waits, counters, flow.pump.queued),
        waited_s=flow.waited_s,
        unread=unread,
    )


def _waits_of_all(waited: tuple[int, ...], counters: Counters, queued: int) -> tuple[int, ...]:
    """The histogram of all messages that the flow is done with; those that a sink has queued are among them."""
    return histogram_of_all(waited, counters.received + counters.added - counters.held + queued)


def _port_statistics(index: int, port: WorkingPort, counted: Sequence[tuple[Flow, Counters]]) -> PortStatistics:
    if port.name == CAPTURE:
        all_flows = _total([counters for _, counters in counted])
        return PortStatistics(
            type=port.type.name,
            endpoints=port.endpoints,
            transport=port.transport,
            peers=port.peer_count,
            connections_ended=port.connections_ended,
            missed=port.missed,
            sent=all_flows.captured,
            sent_frames=all_flows.captured_frames,
            sent_bytes=all_flows.captured_bytes,
            dropped=all_flows.capture_dropped,
        )
    received = next((counters for flow, counters in counted if flow.source == index), _NOTHING)
    sent = _total([_sent_to(index, flow) for flow, _ in counted if index in flow.sinks])
    return PortStatistics(
        type=port.type.name,
        endpoints=port.endpoints,
        transport=port.transport,
        peers=port.peer_count,
        connections_ended=port.connections_ended,
        missed=port.missed,
        received=received.received,
        received_frames=received.received_frames,
        received_bytes=received.received_bytes,
        sent=sent.sent,
        sent_frames=sent.sent_frames,
        sent_bytes=sent.sent_bytes,
        dropped=sent.unroutable + sent.slow_peer + sent.interrupted + sent.long_subscription,
    )


def _sent_to(index: int, flow: Flow) -> Counters:
    """The counters of what a flow sent to the port of this index."""
    return flow.pump.sink_counters()[flow.sinks.index(index)]


def _total(counters: Sequence[Counters]) -> Counters:
    """The sum. For the one flow that most ports have, nothing needs to be added."""
    return reduce(add, counters) if counters else _NOTHING

"""What is left for a broker to do: messages to read, replies to wait for, what is unread when it ends and what is lost,
and how that is described."""

import logging
from collections.abc import Iterator, Sequence
from typing import Final

import zmq

from pollbroker.port import WorkingPort
from pollbroker.pump import NO_SOURCE, Flow, FlowState
from pollbroker.states import BrokerState
from pollbroker.statistics import BrokerStatistics

_logger = logging.getLogger("pollbroker")

UNREAD_MOST: Final = 10_000
"""How many unread messages a removal counts at each source. To count more would keep the other brokers waiting."""


def is_done(flow: Flow, ports: Sequence[WorkingPort], *, draining: bool) -> bool:
    """Return True if a flow holds no message, and none was left to read when its source was last looked at.

    Arguments:
        ports: those that the flow's indices are about.
        draining: True if its broker is being drained, so that a flow that is paused waits for replies.
    """
    if flow.state == FlowState.ENDED:
        return True
    if flow.pump.held:
        return False
    if flow.state == FlowState.PAUSED and draining:
        return True
    if flow.state == FlowState.BUSY:  # nobody waits for this socket, so it may be asked
        try:
            events = ports[flow.source].sync_socket.getsockopt(zmq.EVENTS)
        except zmq.ZMQError:
            return True  # it is closed, or its context was terminated, which ends the broker
        assert isinstance(events, int)
        return not events & zmq.POLLIN
    return flow.state == FlowState.WAITING


def unanswered(flow: Flow, flows: Sequence[Flow], ports: Sequence[WorkingPort]) -> int:
    """How many requests a flow has passed on whose replies have not come."""
    replies = [one for one in flows if _is_answered_by(flow, one, ports)]
    answered = sum(one.pump.counters().received for one in replies)
    passed_on = sum(counters.sent for counters in flow.pump.sink_counters())
    return max(0, passed_on - answered) if replies else 0


def _is_answered_by(flow: Flow, replies: Flow, ports: Sequence[WorkingPort]) -> bool:
    """Return True if a flow takes requests, and another one takes the replies to them."""
    if NO_SOURCE in (flow.source, replies.source):
        return False
    asks = ports[flow.source].type in (zmq.ROUTER, zmq.REP)
    asked = ports[replies.source].type in (zmq.DEALER, zmq.REQ)
    return asks and asked and replies.source in flow.sinks and flow.source in replies.sinks


def count_unread(where: str, flows: Sequence[Flow], ports: Sequence[WorkingPort]) -> dict[int, int]:
    """Count, by the source of each flow, the unread messages that are lost when the engine closes its sockets. `where`
    is the broker's name in messages of the log.

    At a registered socket nothing is counted: the rest of a message that was read in part is discarded, so that the
    caller's next receive begins with a message.
    """
    unread: dict[int, int] = {}
    for flow in flows:
        if flow.source == NO_SOURCE or ports[flow.source].socket.closed:
            continue  # closed under the engine: the native code would read memory that libzmq has freed
        try:
            if not ports[flow.source].owned:
                flow.pump.discard_rest()
            elif ports[flow.source].type != zmq.XPUB:  # which receives subscriptions, that are of no use any more
                unread[flow.source] = flow.pump.count_unread(UNREAD_MOST)
        except zmq.ZMQError as error:
            if error.errno != zmq.EFSM:  # a REP that owes a reply, or a REQ that has asked nothing: neither may receive
                port = ports[flow.source].name
                _logger.warning("%s.%s: the unread messages cannot be counted: %s", where, port, error)
    return unread


def warn_of_undelivered(final: BrokerStatistics) -> None:
    """Log how many messages are lost with a broker, by its final statistics. Nothing is logged if none are."""
    lost = sum(flow.held + flow.unread for flow in final.flows.values())
    if lost:
        _logger.warning("brokers.%s: closed with %d messages undelivered", final.name, lost)


def describe_what_is_left(statistics: BrokerStatistics) -> str:
    """Describe why a broker is not drained: what it holds and has to read, or that it does not run."""
    return ", ".join(_what_is_left(statistics)) or f"it is {statistics.state}"


def _what_is_left(statistics: BrokerStatistics) -> Iterator[str]:
    if statistics.state != BrokerState.RUNNING:
        yield f"it is {statistics.state}"
    for flow in statistics.flows.values():
        if flow.held:
            number = f"{flow.held} {'message' if flow.held == 1 else 'messages'}"
            yield f"{number} held from {flow.source} to {' and '.join(flow.sinks)} ({flow.state})"
        elif flow.state == "ready":
            yield f"{flow.source} has more to read"
        elif flow.state == "stalled":  # between ports of the wire, where the message is left at its source
            yield f"{flow.source} has more to read, and {' and '.join(flow.sinks)} has no room (stalled)"

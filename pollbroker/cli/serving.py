"""Serving: run one broker until it is told to end, and print what it has moved and lost.

In an orderly end the broker first moves the messages that it has yet to read and to send, for as long as the time
allows. Then it reads nothing more, and offers the messages that it holds for the rest of the time. Messages that are
left after that are reported as lost.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from signal import Signals

import click

from pollbroker.broker import Broker
from pollbroker.cli.signals import EndingSignals
from pollbroker.engine import Engine
from pollbroker.states import BrokerState
from pollbroker.statistics import DROPS, BrokerStatistics, FlowStatistics
from pollbroker.working import UNREAD_MOST


def serve(engine: Engine, broker: Broker, signals: EndingSignals, *, drain_s: float) -> int:
    """Run the engine until a signal comes, a TERMINATE command comes, or the broker ends.

    Returns the exit code: 1 if the broker failed, or if messages were lost.
    """
    broker.removed.add_done_callback(lambda _: engine.stop())
    engine.run()
    _say(f"ending  {_reason(broker, signals.first)}")
    before, statistics = _end(engine, broker, drain_s)
    for flow in statistics.flows.values():
        _say(describe_flow(flow))
    failed = statistics.state == BrokerState.FAILED
    if failed:
        _say(f"pollbroker: brokers.{broker.name}: failed: {statistics.error}", err=True)
    loss = describe_loss(before, statistics, drain_s)
    if loss is not None:
        _say(f"pollbroker: {loss}", err=True)
    return 1 if failed or loss is not None else 0


def _say(line: str, *, err: bool = False) -> None:
    """Print a line, if that is possible. The broker is ended in order even if nothing reads the output any more."""
    with suppress(OSError):
        click.echo(line, err=err)


def _reason(broker: Broker, signal: Signals | None) -> str:
    if signal is not None:
        return signal.name
    return f"the broker is {broker.state}" if broker.removed.done() else "TERMINATE"


def _end(engine: Engine, broker: Broker, drain_s: float) -> tuple[BrokerStatistics | None, BrokerStatistics]:
    """Drain and remove the broker. Return its statistics before the removal, and the final ones.

    The first are None if the broker had been removed or had ended before.
    """
    give_up_s = time.monotonic() + drain_s
    if not broker.removed.done() and broker.state is not BrokerState.PAUSED:  # a paused broker cannot be drained
        engine.drain(timeout_s=drain_s)
    before: BrokerStatistics | None = None
    if not broker.removed.done():
        before = engine.broker_statistics(broker.name)
        engine.remove(broker.name, timeout_s=max(0.0, give_up_s - time.monotonic()))
    return before, broker.removed.result()


def describe_loss(before: BrokerStatistics | None, final: BrokerStatistics, drain_s: float) -> str | None:
    """Describe how many messages were lost and why. Return None if none were lost.

    Arguments:
        before: the statistics at the end of draining; None if the broker had ended before it could be drained.
        final: the statistics after the removal.
        drain_s: how long draining was allowed to take.
    """
    losing = {source: flow for source, flow in final.flows.items() if flow.unread + flow.held}
    if not losing:
        return None
    lost = sum(flow.unread + flow.held for flow in losing.values())
    at_least = "at least " if any(flow.unread >= UNREAD_MOST for flow in losing.values()) else ""
    number = f"{at_least}{lost} {'message' if lost == 1 else 'messages'} lost"
    return f"brokers.{final.name}: {number}: {_explain_loss(before, losing, final.state, drain_s)}"


def _explain_loss(
    before: BrokerStatistics | None, losing: Mapping[str, FlowStatistics], state: str, drain_s: float
) -> str:
    if before is None:
        return "the broker was removed without draining" if state == BrokerState.REMOVED else f"the broker is {state}"
    if before.state == BrokerState.PAUSED:
        return "the broker was paused, and so it was not drained"
    time_limit = f"within the {drain_s:.1f} s that draining may take"
    if not all(before.flows[source].state in ("stalled", "retrying") for source in losing):
        return f"more came than could be moved {time_limit}"
    if not any(flow.sent for flow in losing.values()):
        return f"no consumer connected {time_limit}"
    return f"the consumers did not take them {time_limit}"


def describe_flow(flow: FlowStatistics) -> str:
    """Describe the counters of one direction in one line. Those that are usually 0 are left out when they are."""
    parts = [f"{flow.received} received", f"{flow.sent} sent", f"{flow.sent_bytes} bytes"]
    if flow.added:
        parts.append(f"{flow.added} added")
    if flow.held:
        parts.append(f"{flow.held} held")
    if flow.unread:
        parts.append(f"{flow.unread} unread")
    if flow.dropped:
        named = ", ".join(f"{getattr(flow, name)} {name}" for name in DROPS if getattr(flow, name))
        parts.append(f"{flow.dropped} dropped ({named})")
    if flow.captured or flow.capture_dropped:
        parts.append(f"{flow.captured} captured")
    if flow.capture_dropped:
        parts.append(f"{flow.capture_dropped} copies dropped")
    if flow.stalls:
        times = "once" if flow.stalls == 1 else f"{flow.stalls} times"
        parts.append(f"stalled {times}, for {flow.stalled_s:.1f} s")
    return f"{flow.source} -> {', '.join(flow.sinks)}  {', '.join(parts)}"

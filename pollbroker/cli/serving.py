"""Serving: one broker run until it is told to end, and its account.

The end in order: what it has yet to read and to send is moved first, for as long as the time allows; then it takes
nothing more, and what it holds is offered for the rest of the time. What is left is said.
"""

import time
from signal import Signals

import click

from pollbroker.broker import Broker, BrokerState
from pollbroker.cli.signals import EndingSignals
from pollbroker.engine import Engine
from pollbroker.statistics import BrokerStatistics, FlowStatistics

_DROPS = ("unroutable", "slow_peer", "interrupted", "filtered", "failed")


def serve(engine: Engine, broker: Broker, signals: EndingSignals, *, drain_s: float) -> int:
    """Run the engine until a signal, a TERMINATE, or the broker's own end; returns the exit code: 1 if it failed."""
    broker.removed.add_done_callback(lambda _: engine.stop())
    engine.run()
    click.echo(f"ending  {_reason(broker, signals.first)}")
    unread, statistics = _end(engine, broker, drain_s)
    for line in describe_end(statistics, unread=unread):
        click.echo(line)
    if statistics.state == BrokerState.FAILED:
        click.echo(f"pollbroker: brokers.{broker.name}: failed: {statistics.error}", err=True)
        return 1
    return 0


def _reason(broker: Broker, signal: Signals | None) -> str:
    if signal is not None:
        return signal.name
    return f"the broker is {broker.state}" if broker.removed.done() else "TERMINATE"


def _end(engine: Engine, broker: Broker, drain_s: float) -> tuple[bool, BrokerStatistics]:
    """Whether something was left unread, and the final statistics."""
    give_up_s = time.monotonic() + drain_s
    unread = False
    if not broker.removed.done() and broker.state is not BrokerState.PAUSED:  # a paused one cannot be drained
        unread = bool(engine.drain(timeout_s=drain_s))
    if not broker.removed.done():
        engine.remove(broker.name, timeout_s=max(0.0, give_up_s - time.monotonic()))
    return unread, broker.removed.result()


def describe_end(statistics: BrokerStatistics, *, unread: bool) -> list[str]:
    """One line of sums for each direction, and one for what was left undone, if anything was."""
    lines = [describe_flow(flow) for flow in statistics.flows.values()]
    held = sum(flow.held for flow in statistics.flows.values())
    if held:
        lines.append(f"undelivered  {held} {'message' if held == 1 else 'messages'} held for a peer that took nothing")
    if unread:
        lines.append("unread  it was still busy when the time was over: what it had not read is lost")
    return lines


def describe_flow(flow: FlowStatistics) -> str:
    """The sums of one direction, in one line; what is 0 and seldom otherwise is left out."""
    parts = [f"{flow.received} received", f"{flow.sent} sent", f"{flow.sent_bytes} bytes"]
    if flow.added:
        parts.append(f"{flow.added} added")
    if flow.held:
        parts.append(f"{flow.held} held")
    if flow.dropped:
        named = ", ".join(f"{getattr(flow, name)} {name}" for name in _DROPS if getattr(flow, name))
        parts.append(f"{flow.dropped} dropped ({named})")
    if flow.captured or flow.capture_dropped:
        parts.append(f"{flow.captured} captured")
    if flow.capture_dropped:
        parts.append(f"{flow.capture_dropped} copies dropped")
    if flow.stalls:
        times = "once" if flow.stalls == 1 else f"{flow.stalls} times"
        parts.append(f"stalled {times}, for {flow.stalled_s:.1f} s")
    return f"{flow.source} -> {flow.sink}  {', '.join(parts)}"

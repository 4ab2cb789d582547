"""Serving: run brokers until they are told to end, and print what they have moved and lost."""

from collections.abc import Mapping
from contextlib import suppress
from signal import Signals

import click

from pollbroker.broker import Broker
from pollbroker.cli.signals import EndingSignals
from pollbroker.ending import Ended, end_brokers
from pollbroker.engine import Engine
from pollbroker.statistics import DROPS, FlowStatistics


def serve(engine: Engine, broker: Broker, signals: EndingSignals, *, drain_s: float) -> int:
    """Run the engine until a signal comes, a TERMINATE command comes, or the broker ends.

    Returns the exit code: 1 if the broker failed, or if messages were lost.
    """
    broker.removed.add_done_callback(lambda _: engine.stop())
    engine.run()
    say(f"ending  {_reason(broker, signals.first)}")
    ended = end_brokers(engine, [broker], drain_s)
    for flow in ended[broker.name].final.flows.values():
        say(describe_flow(flow))
    return report_losses(ended)


def report_losses(ended: Mapping[str, Ended]) -> int:
    """Print which brokers failed, and what was lost with each. Return the exit code: 1 if there is anything to say."""
    code = 0
    for name, one in ended.items():
        if one.failed:
            say(f"pollbroker: brokers.{name}: failed: {one.final.error}", err=True)
        if one.loss is not None:
            say(f"pollbroker: {one.loss}", err=True)
        if one.failed or one.loss is not None:
            code = 1
    return code


def say(line: str, *, err: bool = False) -> None:
    """Print a line, if that is possible. The broker is ended in order even if nothing reads the output any more."""
    with suppress(OSError):
        click.echo(line, err=err)


def _reason(broker: Broker, signal: Signals | None) -> str:
    if signal is not None:
        return signal.name
    return f"the broker is {broker.state}" if broker.removed.done() else "TERMINATE"


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

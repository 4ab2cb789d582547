"""The promises about the loop: a flow that can move moves, no flow moves too much in a turn, and none while paused."""

from collections import defaultdict
from typing import Final

from pollbroker.statistics import FlowStatistics
from pollbroker.testing.trace import Counted, FlowKey, Joined, Left, Sent, Slept, Steered, Trace, Turned
from pollbroker.testing.violation import InvariantViolation

_LONGEST_RUN_BYTES: Final = 128 << 10
"""Ports with queues of their own move whole runs of messages, of 64 KiB and the rest of the last message. No message in
a scenario is as long as another 64 KiB."""


def whatever_can_move_moves(trace: Trace) -> None:
    """The engine does not fall asleep while a flow can move, and does not pass over a flow that can move."""
    waited: dict[FlowKey, int] = defaultdict(int)
    last: dict[FlowKey, FlowStatistics] = {}
    since: dict[FlowKey, int] = {}
    passed_over: set[FlowKey] = set()
    for at, event in enumerate(trace.events):
        if type(event) is Slept and event.movable:
            account = f"the engine fell asleep @{at} although {', '.join(map(str, sorted(event.movable)))} could move"
            raise InvariantViolation("progress", account)
        if type(event) in (Joined, Left):
            waited.clear()  # a flow that could move may be unable to now
        elif type(event) is Turned and trace.patience:
            passed_over = set(event.movable)
        elif type(event) is Counted:
            now = event.statistics
            before = last.get(event.flow)
            last[event.flow] = now
            moved = before is None or _position(before) != _position(now)
            if event.flow not in passed_over or moved or now.state == "retrying":
                waited[event.flow] = 0
                continue
            passed_over.discard(event.flow)
            since.setdefault(event.flow, at) if waited[event.flow] else since.update({event.flow: at})
            waited[event.flow] += 1
            if waited[event.flow] > trace.patience:
                account = (
                    f"{event.flow} could move since @{since[event.flow]}, and has not in {waited[event.flow]} turns"
                )
                raise InvariantViolation("progress", account)


def _position(counters: FlowStatistics) -> tuple[int, int, int, int]:
    return counters.received, counters.sent, counters.dropped, counters.added


def bursts_are_bounded(trace: Trace) -> None:
    """In one turn a flow moves at most its limit of messages and of bytes, so that the other flows are served too. A
    message that goes to several sinks counts once."""
    if not trace.burst_messages:
        return
    before: dict[FlowKey, FlowStatistics] = {}
    largest = max((sum(map(len, sent.frames)) for _, sent in trace.of(Sent)), default=0) + 64  # what routing ids add
    turns = 0
    for at, event in enumerate(trace.events):
        if type(event) is Turned:
            turns = 1
        elif type(event) is Counted:
            now = event.statistics
            last = before.get(event.flow)
            before[event.flow] = now
            if turns != 1 or last is None:
                continue
            for name in ("received",) if trace.queues else ("received", "sent"):
                moved = getattr(now, name) - getattr(last, name)
                limit = trace.burst_messages * (max(1, len(now.sinks)) if name == "sent" else 1)
                if moved > limit:
                    account = f"{event.flow} @{at}: {name} {moved} in a turn; the limit is {limit}"
                    raise InvariantViolation("fairness", account)
            moved = now.received_bytes - last.received_bytes
            if moved >= trace.burst_bytes + (_LONGEST_RUN_BYTES if trace.queues else largest):
                account = f"{event.flow} @{at}: received {moved} bytes in a turn; the limit is {trace.burst_bytes}"
                raise InvariantViolation("fairness", account)
        else:
            turns = 0


def paused_brokers_move_nothing(trace: Trace) -> None:
    """Between a pause and the resumption no counter of a broker changes. Ports that have queues of their own go on
    writing what is in them."""
    paused: dict[str, int] = {}
    last: dict[FlowKey, FlowStatistics] = {}
    for at, event in enumerate(trace.events):
        if type(event) is Steered:
            if event.how == "paused":
                paused[event.broker] = at
            else:
                paused.pop(event.broker, None)
        elif type(event) is Counted:
            before = last.get(event.flow)
            last[event.flow] = event.statistics
            read = _read if trace.queues else _all
            if event.flow.broker in paused and before is not None and read(before) != read(event.statistics):
                account = f"{event.flow} was paused @{paused[event.flow.broker]}, and had moved something by @{at}"
                raise InvariantViolation("nothing moves while paused", account)


def _read(counters: FlowStatistics) -> tuple[int, ...]:
    return counters.received, counters.added, counters.captured, counters.capture_dropped


def _all(counters: FlowStatistics) -> tuple[int, ...]:
    return (*_position(counters), counters.held, counters.captured, counters.capture_dropped)


def brokers_stay_alive(trace: Trace) -> None:
    """Nothing that a peer does ends a broker; the end of its context ends it in an orderly way."""
    ended = {event.broker for _, event in trace.of(Steered) if event.how == "ended"}
    last: dict[str, str] = {}
    for at, event in trace.of(Counted):
        last[event.flow.broker] = event.state
        if event.state == "failed" or (event.state == "ended" and event.flow.broker not in ended):
            account = f"{event.flow.broker} is {event.state} @{at}: {event.error}"
            raise InvariantViolation("brokers stay alive", account)
    for broker in ended:
        if last.get(broker, "ended") != "ended":
            account = f"{broker} is {last[broker]} although its context was terminated"
            raise InvariantViolation("brokers stay alive", account)

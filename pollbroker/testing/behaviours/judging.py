"""The promises of every behaviour, as functions over the trace of a run."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from pollbroker.statistics import BrokerStatistics
from pollbroker.testing.behaviours.recording import BehaviourTrace
from pollbroker.testing.invariants.legs import shown
from pollbroker.testing.violation import InvariantViolation

BehaviourInvariant: TypeAlias = Callable[[BehaviourTrace], None]
"""Raises `InvariantViolation` if a trace shows that a promise was not kept."""

Key: TypeAlias = tuple[str, str]


def account_balances(statistics: BrokerStatistics) -> None:
    """Raise `InvariantViolation` unless received + added = sent + held + dropped."""
    flow = statistics.flows["behaviour"]
    if flow.received + flow.added != flow.sent + flow.held + flow.dropped:
        raise InvariantViolation(
            "the account balances",
            f"received {flow.received} + added {flow.added} is not sent {flow.sent} + held {flow.held} + dropped "
            f"{flow.dropped}",
        )


def never_raises(trace: BehaviourTrace) -> None:
    """No call of the behaviour raises, whatever its peers send. To be asked for: `check_device(...,
    invariants=[never_raises])`."""
    for call in trace.calls:
        if call.failed:
            raise InvariantViolation("never raises", f"{call.method}{call.arguments!r} {call.failed}")


def is_given_what_was_sent(trace: BehaviourTrace) -> None:
    """The behaviour is given the messages of each peer, whole and in order, and nothing else."""
    assert trace.statistics is not None
    for port, counters in trace.statistics.ports.items():
        given = trace.given_from(port)
        peers = [key for key in trace.peers_sent if key[0] == port]
        if counters.type == "ROUTER":
            ids = {trace.routing_ids[key] for key in peers}
            for frames in given:
                if frames[0] not in ids:
                    raise InvariantViolation("whole and unchanged", f"{port}: {shown(tuple(frames))} came from nobody")
            for key in peers:
                own = [frames[1:] for frames in given if frames[0] == trace.routing_ids[key]]
                _check_begins_with(port, key, trace.peers_sent[key], own)
        elif counters.type != "XPUB":
            sent = [frames for key in peers for frames in trace.peers_sent[key]]
            _check_contains(f"{port}: the behaviour was given", sent, given)


def sends_come_out(trace: BehaviourTrace) -> None:
    """What the behaviour sends comes out once, in order, at the peer that it names, unless a drop is counted."""
    assert trace.last_statistics is not None
    for port, counters in trace.last_statistics.ports.items():
        sends = trace.sends_to(port)
        peers = [key for key in trace.peers_got if key[0] == port]
        for key in peers:
            got = trace.peers_got[key]
            expected = sends
            if counters.type == "ROUTER":
                expected = [frames[1:] for frames in sends if frames[0] == trace.routing_ids[key]]
            _check_subsequence(f"{port}: {key[1]}", expected, got)
        if counters.type in ("PUB", "XPUB") or port in trace.may_lose:
            continue
        came_out = sum(len(trace.peers_got[key]) for key in peers)
        lost = counters.sent - came_out
        if lost < 0 or (lost and not any(key in trace.left for key in peers)):
            raise InvariantViolation(
                "no loss beyond the counted", f"{port}: {counters.sent} were sent by its own count, {came_out} came out"
            )


def every_send_is_accounted_for(trace: BehaviourTrace) -> None:
    """At the end what was sent has been taken by a port, was dropped there, or waits there and is held."""
    assert trace.statistics is not None
    ports, flow = trace.statistics.ports, trace.statistics.flows["behaviour"]
    asked = sum(len(trace.sends_to(port)) for port in ports)
    done = sum(counters.sent + counters.dropped for counters in ports.values())
    kept = trace.calls[-1].held if trace.calls else 0
    if asked != done + flow.held - kept:
        raise InvariantViolation(
            "no loss beyond the counted",
            f"the behaviour sent {asked} messages; {done} were sent or dropped by the ports, {flow.held - kept} wait",
        )


def is_told_of_room(trace: BehaviourTrace) -> None:
    """At the end, when every peer has read everything, the behaviour was told of room where messages were refused."""
    calls = [(call.method, call.arguments[0]) for call in trace.calls if call.method in ("on_refused", "on_room")]
    for port in {port for _, port in calls}:
        if [method for method, at in calls if at == port][-1] == "on_refused":
            raise InvariantViolation("progress", f"{port} has refused a message, and nothing was said of room there")


def failures_are_counted(trace: BehaviourTrace) -> None:
    """Each message in whose call the behaviour raised is counted as failed."""
    assert trace.last_statistics is not None
    failed = sum(bool(call.failed) for call in trace.calls if call.method in ("on_message", "on_refused"))
    counted = trace.last_statistics.flows["behaviour"].failed
    if failed != counted:
        raise InvariantViolation("counters are true", f"{failed} messages failed, {counted} were counted")


def is_stopped_once(trace: BehaviourTrace) -> None:
    """The behaviour is told once that its broker is about to be removed, and of no message after that. At last it is
    told that the broker has ended."""
    methods = [call.method for call in trace.calls]
    after = methods[methods.index("on_stop") + 1 :] if "on_stop" in methods else []
    if methods.count("on_stop") != 1 or "on_message" in after or methods[-1] != "on_end":
        raise InvariantViolation("is stopped once", f"the last calls were {methods[-5:]}")


BEHAVIOUR_INVARIANTS: Final[tuple[BehaviourInvariant, ...]] = (
    is_given_what_was_sent,
    sends_come_out,
    failures_are_counted,
    is_stopped_once,
)


def _check_begins_with(port: str, key: Key, sent: Sequence[list[bytes]], given: Sequence[list[bytes]]) -> None:
    if list(sent[: len(given)]) != list(given):
        at = next((at for at, one in enumerate(given) if sent[at : at + 1] != [one]), 0)
        raise InvariantViolation(
            "order", f"{port}: message {at} of {key[1]} was given as {shown(tuple(given[at]))}; sent were {sent}"
        )


def _check_contains(where: str, sent: Sequence[list[bytes]], given: Sequence[list[bytes]]) -> None:
    rest = Counter(map(tuple, given)) - Counter(map(tuple, sent))
    if rest:
        raise InvariantViolation(
            "whole and unchanged", f"{where} {shown(next(iter(rest)))} more often than it was sent"
        )


def _check_subsequence(where: str, sent: Sequence[list[bytes]], got: Sequence[list[bytes]]) -> None:
    rest = iter(sent)
    for frames in got:
        if not any(frames == one for one in rest):
            raise InvariantViolation("order", f"{where} got {shown(tuple(frames))} twice, too late, or unsent")

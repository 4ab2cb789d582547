"""The promise about the account of each flow: it balances at every moment."""

from pollbroker.statistics import Counters
from pollbroker.testing.trace import Counted, FlowKey, Trace
from pollbroker.testing.violation import InvariantViolation


def accounts_balance(trace: Trace) -> None:
    """At every moment received + added = sent + held + dropped, at most one message is held for each sink, and no count
    goes back. Ports with queues of their own may hold more."""
    before: dict[FlowKey, Counters] = {}
    for at, event in trace.of(Counted):
        now = event.statistics
        most_held = now.held if trace.queues else max(1, len(now.sinks))
        if now.received + now.added != now.sent + now.held + now.dropped or not 0 <= now.held <= most_held:
            account = (
                f"{event.flow} @{at}: received {now.received} + added {now.added} is not sent {now.sent} + "
                f"held {now.held} + dropped {now.dropped}"
            )
            raise InvariantViolation("the account balances", account)
        last = before.get(event.flow, now)
        for name in ("received", "received_frames", "received_bytes", "sent", "sent_frames", "sent_bytes", "dropped"):
            if getattr(now, name) < getattr(last, name):
                account = f"{event.flow} @{at}: {name} went back from {getattr(last, name)} to {getattr(now, name)}"
                raise InvariantViolation("the account balances", account)
        before[event.flow] = now

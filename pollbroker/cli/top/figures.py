"""The figures of each direction of each broker, from what STATS has told lately."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pollbroker.statistics import DROPS
from pollbroker.waits import NO_WAITS, wait_quantile_s

Stats: TypeAlias = Mapping[str, Any]
"""What STATS has told: the document of `EngineStatistics`."""

HISTORY: Final = 20
"""So many rates are kept for a sparkline."""

WAITS_OVER: Final = 10
"""Quantiles of waits are those of so many intervals, since in one of them few messages may have moved."""


@dataclass(frozen=True)
class Figures:
    """One direction of a broker. Rates are for a second of the last interval."""

    broker: str
    source: str
    sinks: tuple[str, ...]
    state: str
    """That of the broker, if it is not running; otherwise that of its flow."""
    received_s: float
    sent_s: float
    sent_bytes_s: float
    rates: tuple[float, ...]
    """`sent_s` of the last intervals, the latest at the end."""
    stalled: float
    """The part of the interval in which the flow was stalled: 0 to 1."""
    held: int
    dropped: int
    """Since the start of the broker."""
    dropped_s: float
    peers: int | None
    """At the source; None where libzmq serves, which does not tell."""
    wait_p50_s: float | None
    wait_p99_s: float | None
    """None if no message has moved lately."""


class _Flow:
    """What one direction has counted lately."""

    def __init__(self) -> None:
        self.counted: dict[str, float] = {}
        self.rates: deque[float] = deque(maxlen=HISTORY)
        self.waits: deque[tuple[int, ...]] = deque(maxlen=WAITS_OVER + 1)


class Recent:
    """Takes one STATS after the other, and has the figures of the time between the last two of them."""

    def __init__(self) -> None:
        self._flows: dict[tuple[str, str], _Flow] = {}
        self._turns: int | None = None
        self.turns_s = 0.0
        """Turns of the loop in a second."""
        self.figures: tuple[Figures, ...] = ()
        """In the order of the brokers, and of their directions."""

    def take(self, stats: Stats, elapsed_s: float | None) -> None:
        """Take the next STATS.

        Arguments:
            elapsed_s: seconds since the last one; None if this is the first, or the first of another engine. Its rates
                are 0.
        """
        if elapsed_s is None:
            self._flows.clear()
            self._turns = None
        turns = stats["turns"]
        self.turns_s = 0.0 if self._turns is None or elapsed_s is None else max(0, turns - self._turns) / elapsed_s
        self._turns = turns
        before, self._flows = self._flows, {}
        self.figures = tuple(self._figures_of(stats["brokers"], before, elapsed_s))

    def _figures_of(
        self, brokers: Mapping[str, Any], before: Mapping[tuple[str, str], _Flow], elapsed_s: float | None
    ) -> Iterator[Figures]:
        for name, broker in brokers.items():
            for source, told in broker["flows"].items():
                flow = self._flows[name, source] = before.get((name, source), _Flow())
                yield _figures(name, source, broker, told, flow, elapsed_s)


def _figures(
    name: str, source: str, broker: Mapping[str, Any], told: Mapping[str, Any], flow: _Flow, elapsed_s: float | None
) -> Figures:
    dropped = sum(told[rule] for rule in DROPS)
    counted = {key: told[key] for key in ("received", "sent", "sent_bytes", "stalled_s")} | {"dropped": dropped}
    if any(counted[key] < value for key, value in flow.counted.items()):  # another broker has taken its place
        flow.counted = {}
        flow.waits.clear()

    def rate(key: str) -> float:
        if not elapsed_s or key not in flow.counted:
            return 0.0
        return float(counted[key] - flow.counted[key]) / elapsed_s

    sent_s = rate("sent")
    flow.rates.append(sent_s)
    flow.waits.append(tuple(told.get("waits", NO_WAITS)))
    waits = [last - first for first, last in zip(flow.waits[0], flow.waits[-1], strict=True)]
    figures = Figures(
        broker=name,
        source=source,
        sinks=tuple(told["sinks"]),
        state=told["state"] if broker["state"] == "running" else broker["state"],
        received_s=rate("received"),
        sent_s=sent_s,
        sent_bytes_s=rate("sent_bytes"),
        rates=tuple(flow.rates),
        stalled=min(1.0, rate("stalled_s")),
        held=told["held"],
        dropped=dropped,
        dropped_s=rate("dropped"),
        peers=_peers(broker["ports"], source),
        wait_p50_s=wait_quantile_s(waits, 0.5),
        wait_p99_s=wait_quantile_s(waits, 0.99),
    )
    flow.counted = counted
    return figures


def _peers(ports: Mapping[str, Any], source: str) -> int | None:
    """How many peers are at a port; at all ports together, for the one flow of a behaviour."""
    if source in ports:
        peers: int | None = ports[source]["peers"]
        return peers
    known = [port["peers"] for port in ports.values() if port["peers"] is not None]
    return sum(known) if known else None

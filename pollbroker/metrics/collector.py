"""Metrics of an engine, by the names and units that Prometheus asks for.

Counters begin at 0 with their broker. They end in `_total`; times are seconds, sizes are bytes.
"""

import platform
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice
from typing import Final

import zmq
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from pollbroker.engine import Engine
from pollbroker.metrics.rendering import in_portions
from pollbroker.metrics.snapshot import statistics_of
from pollbroker.states import BrokerState
from pollbroker.statistics import DROPS, BrokerStatistics
from pollbroker.version import __version__
from pollbroker.waits import WAIT_BOUNDS_S

_BATCH: Final = 20
"""So many brokers have one or two thousand samples, which the garbage collector goes through in 0.1 ms."""

_PORT: Final = ("broker", "port")
_FLOW: Final = ("broker", "source")
_BUCKETS: Final = (*map(floatToGoString, WAIT_BOUNDS_S), "+Inf")


class EngineCollector(Collector):
    """Collects the metrics of an engine. Register it with a `prometheus_client.CollectorRegistry`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def describe(self) -> Iterable[Metric]:
        """The metrics without their values, so that registering this asks the engine for nothing."""
        return _families(())

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment. Raises `EngineError` if the engine is closed."""
        yield _info()
        yield from _families(tuple(statistics_of(self._engine)))

    def collect_in_batches(self) -> Iterator[Iterable[Metric]]:
        """The same metrics in each batch, with the samples of a few brokers; those without a broker are in the first.
        Raises `EngineError` if the engine is closed."""
        brokers = statistics_of(self._engine)
        info = _info()
        while batch := tuple(islice(brokers, _BATCH)):
            yield (info, *_families(batch))
            info.samples = []
        if info.samples:  # there are no brokers
            yield (info, *_families(()))


def _info() -> Metric:
    info = InfoMetricFamily("pollbroker", "What runs.")
    info.add_metric(
        (),
        {
            "version": __version__,
            "python": platform.python_version(),
            "pyzmq": zmq.pyzmq_version(),
            "libzmq": zmq.zmq_version(),
        },
    )
    return info


def _families(brokers: Iterable[BrokerStatistics]) -> Iterator[Metric]:
    yield from _of_brokers(brokers)
    yield from _of_ports(brokers)
    yield from _of_flows(brokers)


def _of_brokers(brokers: Iterable[BrokerStatistics]) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "pollbroker_broker_state",
        "1 for the state that the broker is in, 0 for all others.",
        labels=("broker", "state"),
    )
    own = GaugeMetricFamily(
        "pollbroker_behaviour_counter", "The counters of the broker's behaviour.", labels=("broker", "counter")
    )
    for broker in in_portions(brokers):
        for one in BrokerState:
            state.add_metric((broker.name, one), float(broker.state == one))
        for name, count in broker.counters.items():
            own.add_metric((broker.name, name), count)
    return iter((state, own))


def _of_ports(brokers: Iterable[BrokerStatistics]) -> Iterator[Metric]:
    def counter(name: str, what: str) -> CounterMetricFamily:
        return CounterMetricFamily(f"pollbroker_{name}", what, labels=_PORT)

    received = counter("received_messages", "Messages taken from the port.")
    received_bytes = counter("received_bytes", "Bytes of the frames of these messages.")
    sent = counter("sent_messages", "Messages that the port accepted.")
    sent_bytes = counter("sent_bytes", "Bytes of the frames of these messages.")
    missed = counter(
        "missed_messages", "Messages that a subscriber was to be given and missed; ports of the wire only."
    )
    peers = GaugeMetricFamily("pollbroker_peers", "Peers that are connected; ports of the wire only.", labels=_PORT)
    ended = CounterMetricFamily(
        "pollbroker_connections_ended",
        "Connections that have ended or were refused, by the reason; ports of the wire only.",
        labels=(*_PORT, "reason"),
    )
    for broker in in_portions(brokers):
        for name, port in broker.ports.items():
            labels = (broker.name, name)
            received.add_metric(labels, port.received)
            received_bytes.add_metric(labels, port.received_bytes)
            sent.add_metric(labels, port.sent)
            sent_bytes.add_metric(labels, port.sent_bytes)
            if port.peers is not None:
                peers.add_metric(labels, port.peers)
                missed.add_metric(labels, port.missed)
            for reason, count in port.connections_ended.items():
                ended.add_metric((*labels, reason), count)
    return iter((received, received_bytes, sent, sent_bytes, missed, peers, ended))


def _of_flows(brokers: Iterable[BrokerStatistics]) -> Iterator[Metric]:
    dropped = CounterMetricFamily(
        "pollbroker_dropped_messages", "Messages that were dropped, by the rule.", labels=(*_FLOW, "rule")
    )
    held = GaugeMetricFamily("pollbroker_held_messages", "Messages that a sink has yet to accept.", labels=_FLOW)
    stalls = CounterMetricFamily("pollbroker_stalls", "How often a message had to wait for a full sink.", labels=_FLOW)
    stalled_s = CounterMetricFamily(
        "pollbroker_stalled_seconds", "How long messages have waited for a full sink.", labels=_FLOW
    )
    waits = HistogramMetricFamily(
        "pollbroker_wait_seconds",
        "How long messages waited in the broker until they were taken or dropped; those that need not wait, for 0 s.",
        labels=_FLOW,
    )
    capture_dropped = CounterMetricFamily(
        "pollbroker_capture_dropped_messages", "Copies that the capture port did not accept.", labels=_FLOW
    )
    for broker in in_portions(brokers):
        for source, flow in broker.flows.items():
            labels = (broker.name, source)
            for rule in DROPS:
                dropped.add_metric((*labels, rule), getattr(flow, rule))
            held.add_metric(labels, flow.held)
            stalls.add_metric(labels, flow.stalls)
            stalled_s.add_metric(labels, flow.stalled_s)
            waits.add_metric(labels, _buckets(flow.waits), flow.waited_s)
            capture_dropped.add_metric(labels, flow.capture_dropped)
    return iter((dropped, held, stalls, stalled_s, waits, capture_dropped))


def _buckets(counts: Sequence[int]) -> list[tuple[str, float]]:
    """The buckets of a histogram as Prometheus has them: each has the messages of those before it, too."""
    return [(bound, float(count)) for bound, count in zip(_BUCKETS, accumulate(counts), strict=True)]

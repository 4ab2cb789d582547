"""Makes the text of metrics, and JSON of statistics, in portions, with rests between them.

Only one thread at a time runs Python code. A loop that wants to go on has to wait until the thread that makes the text
lets it: for 5 ms, if that thread does not do so earlier (`sys.getswitchinterval`), and longer in one call of a function
in C. The text of a thousand brokers has a hundred thousand lines. So that thread makes a small portion at a time, and
then sleeps for a moment, in which the loop can begin its turn.

Such a call is also the garbage collector's, which goes through all objects that can hold others: through those of a
hundred thousand samples in many milliseconds. So samples are made for a few brokers, and forgotten when they are text.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, TypeVar

from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from pollbroker.statistics import BrokerStatistics

T = TypeVar("T")

_REST_S: Final = 0.00005
"""A sleep of no time would not do: the thread would go on before the other has woken up."""

_SAMPLES: Final = 40
"""So many samples are made into text in about 0.2 ms."""


def in_portions(items: Iterable[T], size: int = 1) -> Iterator[T]:
    """The items, with a rest after so many of them."""
    for number, item in enumerate(items, 1):
        yield item
        if number % size == 0:
            time.sleep(_REST_S)


def encode(
    batches: Iterable[Iterable[Metric]], others: Iterable[Metric], encoder: Callable[[Collector], bytes]
) -> Iterator[bytes]:
    """The text of all metrics, as parts that follow each other.

    Arguments:
        batches: the metrics of a few brokers each. All batches have the same metrics, with other samples.
        others: those that follow.
        encoder: makes the text of what a collector has, such as `prometheus_client.generate_latest`.
    """
    end = encoder(_Only(()))  # what OpenMetrics has at its end
    texts: list[list[bytes]] = []  # the parts of each metric of the batches
    for batch in batches:
        for number, metric in enumerate(batch):
            samples, metric.samples = metric.samples, []
            head = encoder(_Only((metric,))).removesuffix(end)  # its name, type and description
            if number == len(texts):
                texts.append([head])
            metric.samples = _Samples(samples)
            texts[number].append(encoder(_Only((metric,))).removesuffix(end).removeprefix(head))
    for parts in texts:
        yield from parts
    for metric in others:
        yield encoder(_Only((metric,))).removesuffix(end)
    yield end


def encode_json(brokers: Iterable[BrokerStatistics], about: Mapping[str, object]) -> Iterator[bytes]:
    """What is said of the process, and the statistics of brokers, as one document, as parts that follow each other."""
    yield b'{"about": ' + json.dumps(about).encode() + b', "brokers": {'
    separator = b""
    for broker in in_portions(brokers):
        yield separator + json.dumps(broker.name).encode() + b": " + json.dumps(broker, default=vars).encode()
        separator = b", "
    yield b"}}"


class _Samples(list[Sample]):
    """Samples that are gone through in portions."""

    def __iter__(self) -> Iterator[Sample]:
        return in_portions(super().__iter__(), _SAMPLES)


class _Only(Collector):
    """Has these metrics, and no others."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics

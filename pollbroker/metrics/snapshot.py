"""The statistics of an engine's brokers, a broker at a time."""

from collections.abc import Iterator

from pollbroker.engine import Engine
from pollbroker.errors import EngineError
from pollbroker.statistics import BrokerStatistics


def statistics_of(engine: Engine) -> Iterator[BrokerStatistics]:
    """The statistics of each broker. The loop goes on between two of them, so that many brokers do not hold it up.

    A broker that is removed meanwhile is left out. Raises `EngineError` if the engine is closed.
    """
    if engine.closed:
        raise EngineError("the engine is closed")
    for name in list(engine.brokers):
        try:
            yield engine.broker_statistics(name)
        except EngineError:
            if engine.closed:
                raise

"""Metrics of reloads, by the names that Prometheus has for its own: whether the last was successful, and when one
was.

`prometheus_client` is imported when the metrics are asked for; see `pollbroker.daemon.servers`.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import Metric


class ReloadCollector:
    """Collects the metrics of a daemon's reloads, as a `prometheus_client.registry.Collector` does. The start counts as
    the first one."""

    def __init__(self) -> None:
        self._successful = True
        self._last_success_s = time.time()

    def note(self, *, successful: bool) -> None:
        """A reload has ended. It was successful if the brokers are now as the file has them."""
        self._successful = successful
        if successful:
            self._last_success_s = time.time()

    @contextmanager
    def noting_failure(self) -> Iterator[None]:
        """As a context: a reload that raises was not successful."""
        try:
            yield
        except BaseException:
            self.note(successful=False)
            raise

    def describe(self) -> "Iterable[Metric]":
        """The metrics, as `collect` gives them: they cost nothing."""
        return self.collect()

    def collect(self) -> "Iterator[Metric]":
        """The metrics of this moment."""
        from prometheus_client.core import GaugeMetricFamily

        yield GaugeMetricFamily(
            "pollbroker_config_last_reload_successful",
            "1 if the brokers are as the configuration file had them at the last start or reload, otherwise 0.",
            value=float(self._successful),
        )
        yield GaugeMetricFamily(
            "pollbroker_config_last_reload_success_timestamp_seconds",
            "When the configuration was last started or reloaded successfully, in seconds since 1970.",
            value=self._last_success_s,
        )

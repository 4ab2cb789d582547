"""Metrics of reloads, by the names that Prometheus has for its own: whether the last was successful, and when one
was."""

from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pollbroker.daemon.reload_outcome import ReloadOutcome


class ReloadCollector(Collector):
    """Collects the metrics of a daemon's reloads."""

    def __init__(self, outcome: ReloadOutcome) -> None:
        self._outcome = outcome

    def describe(self) -> Iterable[Metric]:
        """The metrics, as `collect` gives them: they cost nothing."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment."""
        yield GaugeMetricFamily(
            "pollbroker_config_last_reload_successful",
            "1 if the brokers are as the configuration file had them at the last start or reload, otherwise 0.",
            value=float(self._outcome.successful),
        )
        yield GaugeMetricFamily(
            "pollbroker_config_last_reload_success_timestamp_seconds",
            "When the configuration was last started or reloaded successfully, in seconds since 1970.",
            value=self._outcome.last_success_s,
        )

"""Metrics and health of a running engine, over HTTP, for Prometheus and for whoever asks whether it is well.

`collector.py` makes metrics of statistics, `rendering.py` makes text of metrics, `health.py` says whether an engine
lives and is ready, and `server.py` answers requests in threads of its own. `page/` is the status page;
`recent_events.py` keeps the events that it shows, and `steering.py` decides who may steer from it. They need
`pip install 'pollbroker[metrics]'`.

A request never holds up the engine: the statistics of each broker are asked for by a call of its own, so that the loop
goes on between two of them, and the text is made in portions.
"""

from pollbroker.http_settings import check_token, parse_address
from pollbroker.metrics.collector import EngineCollector
from pollbroker.metrics.server import MetricsServer, serve_metrics

__all__ = ["EngineCollector", "MetricsServer", "check_token", "parse_address", "serve_metrics"]

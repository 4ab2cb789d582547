"""Answers requests over HTTP, in threads of its own.

| path | answer |
| --- | --- |
| /metrics | metrics in the text format of Prometheus, or in OpenMetrics, as the request asks for |
| /livez | 200 if the loop makes calls; else 503, with the reason |
| /readyz | 200 if every broker serves; else 503, with each reason on a line |
| /statz | the statistics of all brokers, as JSON |

Only GET and HEAD are answered. A connection that says nothing is closed after some seconds; `connections.py` has the
other limits.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, Final, Self, TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from pollbroker.engine import Engine
from pollbroker.errors import ConfigError, EndpointError, PollbrokerError
from pollbroker.metrics.collector import EngineCollector
from pollbroker.metrics.connections import BoundedRequest, BoundedServer
from pollbroker.metrics.health import why_not_alive, why_not_ready
from pollbroker.metrics.rendering import encode, encode_json
from pollbroker.metrics.snapshot import statistics_of
from pollbroker.version import __version__

_logger = logging.getLogger("pollbroker")

_SILENCE_S: Final = 5.0
"""How long a connection may say nothing, or take nothing."""

_LOOKS_EVERY_S: Final = 0.5
"""How long `close` may have to wait until the server sees that it is to end."""

_TEXT: Final = "text/plain; charset=utf-8"

_Answer: TypeAlias = tuple[HTTPStatus, str, list[bytes]]
"""The status, the type of the content, and the body in parts."""


class MetricsServer:
    """A server of metrics and health, which `serve_metrics` has started."""

    def __init__(
        self,
        engine: Engine,
        address: tuple[str, int],
        is_ending: Callable[[], bool],
        more_reasons: Callable[[], Iterable[str]],
    ) -> None:
        self.engine = engine
        self.is_ending = is_ending
        self.more_reasons = more_reasons
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(EngineCollector(engine))
        ProcessCollector(registry=self.registry)
        self._http = _Http(address, self)
        host, port = self._http.socket.getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        """Where it listens: the host and the port."""
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(_LOOKS_EVERY_S,), name="pollbroker-metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Answer no more requests. Closing again does nothing."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve_metrics(
    engine: Engine,
    address: str,
    *,
    is_ending: Callable[[], bool] = lambda: False,
    more_reasons: Callable[[], Iterable[str]] = tuple,
) -> MetricsServer:
    """Serve the metrics and the health of an engine over HTTP until the server is closed.

    Arguments:
        address: the host and the port to listen at, such as `127.0.0.1:9464` or `[::1]:9464`; port 0 takes any. There
            is no password: whoever reaches it can read the names of the brokers, and how much passes through them.
        is_ending: returns True when the program is about to end, so that it is not ready any more.
        more_reasons: returns more reasons not to be ready, each of one line. It is called in other threads.

    Raises `ConfigError` for a malformed address, and `EndpointError` if nobody can listen there.
    """
    host, port = parse_address(address)
    try:
        return MetricsServer(engine, (host, port), is_ending, more_reasons)
    except OSError as error:
        raise EndpointError(f"http: {address}: cannot listen: {error.strerror or error}") from error


def parse_address(address: str) -> tuple[str, int]:
    """The host and the port of an address. Raises `ConfigError`."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 0xFFFF or not host.strip("[]"):
        raise ConfigError(f"http: {address!r}: expected a host and a port, such as '127.0.0.1:9464'")
    return host.strip("[]"), int(port)


class _Http(BoundedServer):
    def __init__(self, address: tuple[str, int], server: MetricsServer) -> None:
        self.owner = server
        super().__init__(address, _Request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - as the base class has it
        """A client has left amid its answer, as a rule."""
        _logger.debug("http: the request of %s failed", client_address, exc_info=True)


class _Request(BoundedRequest):
    server: _Http
    timeout = _SILENCE_S
    protocol_version = "HTTP/1.1"
    server_version = f"pollbroker/{__version__}"
    sys_version = ""

    def do_GET(self) -> None:
        answers: dict[str, Callable[[], _Answer]] = {
            "/metrics": self._metrics,
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/statz": self._statz,
        }
        answer = answers.get(self.path.partition("?")[0])
        if answer is None:
            self._send(HTTPStatus.NOT_FOUND, _TEXT, [f"expected {', '.join(answers)}\n".encode()])
            return
        try:
            self._send(*answer())
        except PollbrokerError as error:  # the engine is closed
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, [f"{error}\n".encode()])

    do_HEAD = do_GET

    def _send(self, status: HTTPStatus, content_type: str, body: list[bytes]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(sum(map(len, body))))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            for part in body:
                self.wfile.write(part)

    def _metrics(self) -> _Answer:
        encoder, content_type = choose_encoder(self.headers.get("Accept", ""))
        return HTTPStatus.OK, content_type, list(encode(self.server.owner.registry, encoder))

    def _livez(self) -> _Answer:
        why_not = why_not_alive(self.server.owner.engine)
        return _verdict([why_not] if why_not else [])

    def _readyz(self) -> _Answer:
        owner = self.server.owner
        return _verdict([*why_not_ready(owner.engine, owner.is_ending), *owner.more_reasons()])

    def _statz(self) -> _Answer:
        brokers = statistics_of(self.server.owner.engine)
        return HTTPStatus.OK, "application/json", list(encode_json(brokers))

    def log_message(self, format: str, *args: object) -> None:
        _logger.debug("http: %s: " + format, self.client_address[0], *args)


def _verdict(why_not: list[str]) -> _Answer:
    if not why_not:
        return HTTPStatus.OK, _TEXT, [b"ok\n"]
    return HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, [f"{reason}\n".encode() for reason in why_not]

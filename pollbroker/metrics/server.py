"""Answers requests over HTTP, in threads of its own.

| path | answer |
| --- | --- |
| / | the status page |
| /metrics | metrics in the text format of Prometheus, or in OpenMetrics, as the request asks for |
| /livez | 200 if the loop makes calls; else 503, with the reason |
| /readyz | 200 if every broker serves; else 503, with each reason on a line |
| /statz | the statistics of all brokers, as JSON |
| /eventz?after=N | the last events, without the first N, as JSON |
| /steer | by POST: pauses, resumes or drains a broker, if there is a token |

Everything else is answered to GET and HEAD alone. A connection that says nothing is closed after some seconds;
`connections.py` has the other limits.
"""

import ipaddress
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple, Self
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from pollbroker.engine import Engine
from pollbroker.errors import EndpointError, PollbrokerError
from pollbroker.frozen import FrozenDict
from pollbroker.http_settings import parse_address
from pollbroker.metrics.collector import EngineCollector
from pollbroker.metrics.connections import BoundedRequest, BoundedServer
from pollbroker.metrics.health import why_not_alive, why_not_ready
from pollbroker.metrics.page import PAGE_HEADERS, page
from pollbroker.metrics.recent_events import RecentEvents
from pollbroker.metrics.rendering import encode, encode_json
from pollbroker.metrics.snapshot import statistics_of
from pollbroker.metrics.steering import RefusedError, Steering, body_length
from pollbroker.version import __version__

_logger = logging.getLogger("pollbroker")

_SILENCE_S: Final = 5.0
"""How long a connection may say nothing, or take nothing."""

_TEXT: Final = "text/plain; charset=utf-8"
_JSON: Final = "application/json"


class _Answer(NamedTuple):
    status: HTTPStatus
    content_type: str
    body: list[bytes]
    """The body in parts."""
    headers: Mapping[str, str] = FrozenDict()


class MetricsServer:
    """A server of metrics and health, which `serve_metrics` has started."""

    def __init__(
        self,
        engine: Engine,
        address: tuple[str, int],
        is_ending: Callable[[], bool],
        more_reasons: Callable[[], Iterable[str]],
        token: str | None,
    ) -> None:
        self.engine = engine
        self.is_ending = is_ending
        self.more_reasons = more_reasons
        self.events = RecentEvents(engine)
        self.steering = Steering(engine, token, at_loopback=_is_loopback(address[0]))
        self.collector = EngineCollector(engine)
        self.making = threading.Lock()
        """Held while all statistics are made into text. Whoever does that rests again and again, so that the engine's
        thread goes on. Without the lock that thread would have to wait for all who do so at a time."""
        self.registry = CollectorRegistry(auto_describe=False)
        """Whose metrics follow those of the engine."""
        ProcessCollector(registry=self.registry)
        self._http = _Http(address, self)
        host, port = self._http.socket.getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        """Where it listens: the host and the port."""
        self._thread = threading.Thread(target=self._http.serve, name="pollbroker-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more requests. Closing again does nothing."""
        self._http.end()
        self._thread.join()
        self._http.server_close()
        self._http.end_connections()
        self.events.close()

    def about(self) -> dict[str, object]:
        """What is said of the process beside the statistics of its brokers."""
        return {
            "version": __version__,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "time_s": time.time(),
            "ending": self.is_ending(),
            "steering": self.steering.possible,
        }

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
    token: str | None = None,
) -> MetricsServer:
    """Serve the metrics and the health of an engine, and a page about it, over HTTP until the server is closed.

    Arguments:
        address: the host and the port to listen at, such as `127.0.0.1:9464` or `[::1]:9464`; port 0 takes any. There
            is no password: whoever reaches it can read the names of the brokers, and how much passes through them.
        is_ending: returns True when the program is about to end, so that it is not ready any more.
        more_reasons: returns more reasons not to be ready, each of one line. It is called in other threads.
        token: whoever knows it may pause, resume and drain brokers from the page: 16 characters or more, all printable
            ASCII, without spaces. Without one nobody can.

    Raises `ConfigError` for a malformed address or token, and `EndpointError` if nobody can listen there.
    """
    host, port = parse_address(address)
    try:
        return MetricsServer(engine, (host, port), is_ending, more_reasons, token)
    except OSError as error:
        raise EndpointError(f"http: {address}: cannot listen: {error.strerror or error}") from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class _Http(BoundedServer):
    def __init__(self, address: tuple[str, int], server: MetricsServer) -> None:
        self.owner = server
        super().__init__(address, _Request)

    def service_actions(self) -> None:
        """What is done between requests, and again and again while there are none."""
        super().service_actions()
        self.owner.events.end_if_unwanted()

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
            "/": self._page,
            "/metrics": self._metrics,
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/statz": self._statz,
            "/eventz": self._eventz,
        }
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # a body is not read, and must not be taken for the next request
        path = self.path.partition("?")[0]
        if path == "/steer":
            self._send(_refusal(HTTPStatus.METHOD_NOT_ALLOWED, "expected POST", {"Allow": "POST"}))
        elif path not in answers:
            self._send(_refusal(HTTPStatus.NOT_FOUND, f"expected {', '.join([*answers, '/steer'])}"))
        else:
            self._answer(answers[path])

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.close_connection = True  # a body may be left that is not read
        if self.path.partition("?")[0] == "/steer":
            self._answer(self._steer)
        else:
            self._send(_refusal(HTTPStatus.METHOD_NOT_ALLOWED, "expected GET", {"Allow": "GET, HEAD"}))

    def _answer(self, answer: Callable[[], _Answer]) -> None:
        try:
            self._send(answer())
        except RefusedError as error:
            self._send(_refusal(error.status, str(error), error.headers))
        except PollbrokerError as error:  # the engine is closed
            self._send(_refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(error)))

    def _send(self, answer: _Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(sum(map(len, answer.body))))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            for part in answer.body:
                self.wfile.write(part)

    def _page(self) -> _Answer:
        document, policy = page()
        headers = {**PAGE_HEADERS, "Content-Security-Policy": policy}
        return _Answer(HTTPStatus.OK, "text/html; charset=utf-8", [document], headers)

    def _metrics(self) -> _Answer:
        encoder, content_type = choose_encoder(self.headers.get("Accept", ""))
        owner = self.server.owner
        with owner.making:
            parts = list(encode(owner.collector.collect_in_batches(), owner.registry.collect(), encoder))
        return _Answer(HTTPStatus.OK, content_type, parts)

    def _livez(self) -> _Answer:
        why_not = why_not_alive(self.server.owner.engine)
        return _verdict([why_not] if why_not else [])

    def _readyz(self) -> _Answer:
        owner = self.server.owner
        return _verdict([*why_not_ready(owner.engine, owner.is_ending), *owner.more_reasons()])

    def _statz(self) -> _Answer:
        owner = self.server.owner
        with owner.making:
            parts = list(encode_json(statistics_of(owner.engine), owner.about()))
        return _Answer(HTTPStatus.OK, _JSON, parts)

    def _eventz(self) -> _Answer:
        after = parse_qs(self.path.partition("?")[2]).get("after", ["0"])[0]
        if not re.fullmatch(r"[0-9]{1,18}", after):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "after: expected the number of an event, or 0")
        return _Answer(HTTPStatus.OK, _JSON, [json.dumps(self.server.owner.events.after(int(after))).encode()])

    def _steer(self) -> _Answer:
        steering = self.server.owner.steering
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(
            body_length(headers)
        )  # before any refusal, which would be lost if the body were not read
        steering.check(headers, self.client_address[0])
        return _Answer(HTTPStatus.OK, _TEXT, [f"{steering.carry_out(body)}\n".encode()])

    def log_message(self, format: str, *args: object) -> None:
        _logger.debug("http: %s: " + format, self.client_address[0], *args)


def _verdict(why_not: list[str]) -> _Answer:
    if not why_not:
        return _Answer(HTTPStatus.OK, _TEXT, [b"ok\n"])
    return _Answer(HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, list(map(_line, why_not)))


def _refusal(status: HTTPStatus, text: str, headers: Mapping[str, str] = FrozenDict()) -> _Answer:
    return _Answer(status, _TEXT, [_line(text)], headers)


def _line(text: str) -> bytes:
    """A text, such as that of an error, as one line."""
    return f"{' '.join(text.split())}\n".encode(errors="backslashreplace")

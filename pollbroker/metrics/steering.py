"""Steering over HTTP: whether a request may steer, and what it asks for. No I/O but the engine's.

- Without a token nothing can be steered. The token comes in a header, which no page of another site can send: a browser
  would ask this server first (CORS), and is not answered.
- A page whose own name was made to lead to this machine (DNS rebinding) could send it. It has no token, and a server
  that listens at loopback takes only requests by a name of loopback.
"""

import hmac
import json
import logging
import re
from collections.abc import Mapping
from concurrent.futures import CancelledError
from http import HTTPStatus
from typing import Any, Final

from pollbroker.engine import Engine
from pollbroker.errors import PollbrokerError, did_you_mean
from pollbroker.frozen import FrozenDict
from pollbroker.http_settings import check_token
from pollbroker.remaining import describe_what_is_left
from pollbroker.seldom import SeldomLog

_logger = logging.getLogger("pollbroker")

BODY_MOST: Final = 4096
"""The most bytes of a request's body."""

DRAIN_S: Final = 5.0
"""How long a drain may take."""

_LOOPBACK: Final = re.compile(r"(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?", re.IGNORECASE)

_COMMANDS: Final = ("check", "pause", "resume", "drain")


class RefusedError(Exception):
    """A request is not carried out, or not in time. The text says why."""

    def __init__(self, status: HTTPStatus, text: str, headers: Mapping[str, str] = FrozenDict()) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


def body_length(headers: Mapping[str, str]) -> int:
    """The length of a request's body, from its headers by their names in lower case. Raises `RefusedError`."""
    length = headers.get("content-length")
    if length is None or "transfer-encoding" in headers:
        raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "expected Content-Length, and no Transfer-Encoding")
    if not re.fullmatch(r"[0-9]+", length):
        raise RefusedError(HTTPStatus.BAD_REQUEST, "Content-Length: expected a number of bytes")
    if len(length) > 9 or int(length) > BODY_MOST:
        raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"Content-Length: expected {BODY_MOST} bytes at most")
    return int(length)


class Steering:
    """Carries out what requests ask for.

    Arguments:
        token: what a request has to know; without one, none is carried out.
        at_loopback: True if the server listens at loopback.
    """

    def __init__(self, engine: Engine, token: str | None, *, at_loopback: bool) -> None:
        if token is not None:
            check_token(token)
        self._engine = engine
        self._token = token
        self._at_loopback = at_loopback
        self._warn = SeldomLog(_logger.warning)

    @property
    def possible(self) -> bool:
        """True if there is a token."""
        return self._token is not None

    def check(self, headers: Mapping[str, str], peer: str) -> None:
        """Raise `RefusedError` for a request that may not steer.

        Arguments:
            headers: those of the request, by their names in lower case.
            peer: who asks, for the log.
        """
        if self._token is None:
            raise RefusedError(HTTPStatus.FORBIDDEN, "nothing can be steered here: [engine] http_token is not set")
        host = headers.get("host") or ""
        if self._at_loopback and not _LOOPBACK.fullmatch(host):
            raise RefusedError(HTTPStatus.FORBIDDEN, "Host: expected localhost, 127.0.0.1 or [::1]")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            raise RefusedError(HTTPStatus.FORBIDDEN, "Origin: expected no page of another site")
        if (headers.get("content-type") or "").partition(";")[0].strip().lower() != "application/json":
            raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content-Type: expected application/json")
        scheme, _, given = (headers.get("authorization") or "").partition(" ")
        # Headers are read as ISO 8859-1, so that every one can be written so again.
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), self._token.encode()):
            self._warn("http: %s: refused to steer: the token is missing or wrong", peer)
            raise RefusedError(
                HTTPStatus.UNAUTHORIZED,
                "Authorization: expected Bearer and the token of [engine] http_token",
                {"WWW-Authenticate": "Bearer"},
            )

    def carry_out(self, body: bytes) -> str:
        """Do what the body of a request that was checked asks for, and return what was done, as a sentence.

        Raises `RefusedError`.
        """
        command, name = _parse(body)
        if command == "check":
            return "The token is right."
        assert name is not None
        if name not in self._engine.brokers:
            near = did_you_mean(name, self._engine.brokers) or ""
            raise RefusedError(HTTPStatus.NOT_FOUND, f"no broker is named {name[:100]!r}{near}")
        try:
            done = self._do(command, name)
        except PollbrokerError as error:
            raise RefusedError(HTTPStatus.CONFLICT, str(error)) from error
        _logger.info("http: brokers.%s: %s", name, command)
        return done

    def _do(self, command: str, name: str) -> str:
        if command == "pause":
            self._engine.pause(name)
            return f"{name} is paused."
        if command == "resume":
            self._engine.resume(name)
            return f"{name} is resumed."
        try:
            left = self._engine.begin_drain(DRAIN_S, broker=name).result(2 * DRAIN_S)
        except (TimeoutError, CancelledError):
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "the engine does not run, or is ending") from None
        if left:
            why_not = describe_what_is_left(self._engine.broker_statistics(name))
            raise RefusedError(HTTPStatus.GATEWAY_TIMEOUT, f"{name} is not drained within {DRAIN_S:g} s: {why_not}")
        return f"{name} is drained: it has no message, and none to read."


def _parse(body: bytes) -> tuple[str, str | None]:
    """The command, and the name of the broker unless the command is `check`. Raises `RefusedError`."""
    try:
        asked: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise _wrong("expected JSON") from None
    if not isinstance(asked, dict) or asked.keys() - {"command", "broker"}:
        raise _wrong('expected {"command": ..., "broker": ...}')
    command, name = asked.get("command"), asked.get("broker")
    if command not in _COMMANDS:
        raise _wrong(f"command: expected {', '.join(_COMMANDS)}")
    if command != "check" and not isinstance(name, str):
        raise _wrong("broker: expected a broker's name")
    return command, name


def _wrong(text: str) -> RefusedError:
    return RefusedError(HTTPStatus.BAD_REQUEST, text)

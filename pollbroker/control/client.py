"""One command to a running engine, and its reply: what `pollbroker ctl` sends."""

import math
import time
from typing import Any

import zmq

from pollbroker.control.commands import ERROR, Frames, shown
from pollbroker.endpoint import parse_endpoints
from pollbroker.errors import ControlError, EndpointError
from pollbroker.port import open_port
from pollbroker.pump import Socket


def request(
    endpoint: str,
    command: str | bytes,
    broker: str | bytes | None = None,
    *,
    timeout_s: float = 5.0,
    context: zmq.Context[Any] | None = None,
) -> Frames:
    """The frames of the reply to one command, sent from a REQ socket to the REP or ROUTER control socket at `endpoint`.

    It is connected to, unless marked with `@`. `context` is needed for `inproc://` only.

    Raises `ControlError` if no answer comes within `timeout_s` seconds, or if the command is refused (with the reason),
    `EndpointError`, or `EngineError` (no socket can be had).
    """
    if context is None:
        with zmq.Context[Socket]() as own:
            return request(endpoint, command, broker, timeout_s=timeout_s, context=own)
    endpoint = endpoint.strip()
    parsed = parse_endpoints("control", endpoint if endpoint[:1] in ("@", ">") else f">{endpoint}")
    if len(parsed) > 1:
        raise EndpointError(f"control: {endpoint}: expected one endpoint")
    message = [part.encode() if isinstance(part, str) else part for part in (command, broker) if part is not None]
    end_s = time.monotonic() + timeout_s
    port = open_port(
        context,
        place="control",
        name="client",
        socket_type=zmq.REQ,
        endpoints=parsed,
        options=[(zmq.LINGER, 0)],
        when_ended="the context was terminated; expected an open one, or none",
    )
    with port.plain as socket:
        try:
            _await(socket, zmq.POLLOUT, end_s)
            socket.send_multipart(message, zmq.DONTWAIT)
            _await(socket, zmq.POLLIN, end_s)
            reply = socket.recv_multipart(zmq.DONTWAIT)
        except zmq.Again:
            raise ControlError(f"{endpoint}: no answer to {shown(message[0])} within {timeout_s:g} s") from None
        except zmq.ZMQError as error:
            raise ControlError(f"{endpoint}: {shown(message[0])}: {error.strerror}") from error
    if reply[0] == ERROR:
        raise ControlError(b" ".join(reply[1:]).decode(errors="backslashreplace"))
    return reply


def _await(socket: Socket, event: int, end_s: float) -> None:
    socket.poll(max(0, math.ceil((end_s - time.monotonic()) * 1000)), event)

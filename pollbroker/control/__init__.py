"""Control: steering a running engine through a ZeroMQ socket. docs/control.md describes the protocol."""

from pollbroker.control.client import ask, request
from pollbroker.control.commands import ERROR, OK, Control, Frames
from pollbroker.control.following import Portion, read_stream
from pollbroker.control.removing import broker_named
from pollbroker.control.server import ControlServer, attach, attach_socket
from pollbroker.errors import CommandRefusedError, NoAnswerError, NobodyListensError

__all__ = [
    "ERROR",
    "OK",
    "CommandRefusedError",
    "Control",
    "ControlServer",
    "Frames",
    "NoAnswerError",
    "NobodyListensError",
    "Portion",
    "ask",
    "attach",
    "attach_socket",
    "broker_named",
    "read_stream",
    "request",
]

"""Control: steering a running engine through a ZeroMQ socket. docs/control.md describes the protocol."""

from pollbroker.control.client import ask, request
from pollbroker.control.commands import ERROR, OK, Control
from pollbroker.control.following import Portion, read_stream
from pollbroker.control.server import ControlServer, attach, attach_socket
from pollbroker.errors import CommandRefusedError, NoAnswerError, NobodyListensError

__all__ = [
    "ERROR",
    "OK",
    "CommandRefusedError",
    "Control",
    "ControlServer",
    "NoAnswerError",
    "NobodyListensError",
    "Portion",
    "ask",
    "attach",
    "attach_socket",
    "read_stream",
    "request",
]

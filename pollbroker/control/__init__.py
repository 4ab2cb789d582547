"""Control: steering a running engine through a ZeroMQ socket. docs/control.md describes the protocol."""

from pollbroker.control.carrying_out import Command
from pollbroker.control.client import ask, request
from pollbroker.control.commands import Control
from pollbroker.control.following import Portion, read_stream
from pollbroker.control.replies import ERROR, OK, TIMEOUT
from pollbroker.control.server import ControlServer, attach, attach_socket
from pollbroker.control.steered import Steered
from pollbroker.errors import CommandRefusedError, NoAnswerError, NobodyListensError, NotInTimeError

__all__ = [
    "ERROR",
    "OK",
    "TIMEOUT",
    "Command",
    "CommandRefusedError",
    "Control",
    "ControlServer",
    "NoAnswerError",
    "NobodyListensError",
    "NotInTimeError",
    "Portion",
    "Steered",
    "ask",
    "attach",
    "attach_socket",
    "read_stream",
    "request",
]

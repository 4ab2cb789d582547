"""Control: steering a running engine through a ZeroMQ socket. docs/control.md describes the protocol."""

from pollbroker.control.client import request
from pollbroker.control.commands import ERROR, OK, Control
from pollbroker.control.server import ControlServer, attach, attach_socket

__all__ = ["ERROR", "OK", "Control", "ControlServer", "attach", "attach_socket", "request"]

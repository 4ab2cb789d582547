"""Moving messages: the pumps, native and Python, and the one through which a route's handler runs."""

from pollbroker.pump.choosing import Pumping, choose_pumping
from pollbroker.pump.contract import EMPTY, FULL, LIMIT, Handler, Message, Pump, Socket
from pollbroker.pump.handler import HandlerPump

__all__ = ["EMPTY", "FULL", "LIMIT", "Handler", "HandlerPump", "Message", "Pump", "Pumping", "Socket", "choose_pumping"]

"""Moving messages: the pumps, native and Python, the one through which a route's handler runs; flows, and their hub."""

from pollbroker.pump.choosing import PYTHON, Pumping, choose_pumping
from pollbroker.pump.contract import (
    DRAINED,
    EMPTY,
    FULL,
    LIMIT,
    MAXFRAMES,
    RETRY,
    SUBSCRIPTION_MAX_BYTES,
    Collector,
    Flow,
    FlowState,
    Handler,
    Hub,
    Message,
    Pump,
    Socket,
)
from pollbroker.pump.handler import HandlerPump

__all__ = [
    "DRAINED",
    "EMPTY",
    "FULL",
    "LIMIT",
    "MAXFRAMES",
    "PYTHON",
    "RETRY",
    "SUBSCRIPTION_MAX_BYTES",
    "Collector",
    "Flow",
    "FlowState",
    "Handler",
    "HandlerPump",
    "Hub",
    "Message",
    "Pump",
    "Pumping",
    "Socket",
    "choose_pumping",
]

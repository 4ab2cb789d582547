"""Moving messages: the pumps, native and Python, the one through which a route's handler runs; flows, and their hub."""

from pollbroker.pump.choosing import PYTHON, Implementation, choose_implementation
from pollbroker.pump.contract import (
    EMPTY,
    FLUSHED,
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
    "EMPTY",
    "FLUSHED",
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
    "Implementation",
    "Message",
    "Pump",
    "Socket",
    "choose_implementation",
]

"""Any number of ZeroMQ brokers in one thread.

from pollbroker import Engine, QUEUE

with Engine() as engine:
    engine.add("orders", QUEUE, frontend="tcp://*:5559", backend="tcp://*:5560")
"""

from pollbroker.behaviour import Behaviour
from pollbroker.broker import Broker, Port
from pollbroker.device import Device, Options, Route
from pollbroker.endpoint import Endpoints
from pollbroker.engine import Engine
from pollbroker.errors import (
    BehaviourError,
    ConfigError,
    ControlError,
    DeviceError,
    EndpointError,
    EngineError,
    HandOverError,
    PollbrokerError,
)
from pollbroker.events import Event, EventKind, EventReader
from pollbroker.handing_over import Adoption, HandedOver
from pollbroker.limits import Limits
from pollbroker.patterns import (
    BALANCER,
    CLONE,
    LAST_VALUE,
    MAJORDOMO,
    PARANOID_PIRATE,
    SHARDER,
    TITANIC,
    Balancer,
    Clone,
    LastValue,
    Majordomo,
    ParanoidPirate,
    Sharder,
    Titanic,
    sharder,
)
from pollbroker.pump import Handler, Message, To
from pollbroker.standard_devices import DEVICES, FILTER, FORWARDER, QUEUE, REFLECTOR, STREAMER
from pollbroker.states import BrokerState
from pollbroker.statistics import BrokerStatistics, EngineStatistics, FlowStatistics, PeerStatistics, PortStatistics
from pollbroker.taps import Tap, TappedMessage
from pollbroker.timers import Handle
from pollbroker.version import __version__

__all__ = [
    "BALANCER",
    "CLONE",
    "DEVICES",
    "FILTER",
    "FORWARDER",
    "LAST_VALUE",
    "MAJORDOMO",
    "PARANOID_PIRATE",
    "QUEUE",
    "REFLECTOR",
    "SHARDER",
    "STREAMER",
    "TITANIC",
    "Adoption",
    "Balancer",
    "Behaviour",
    "BehaviourError",
    "Broker",
    "BrokerState",
    "BrokerStatistics",
    "Clone",
    "ConfigError",
    "ControlError",
    "Device",
    "DeviceError",
    "EndpointError",
    "Endpoints",
    "Engine",
    "EngineError",
    "EngineStatistics",
    "Event",
    "EventKind",
    "EventReader",
    "FlowStatistics",
    "HandOverError",
    "HandedOver",
    "Handle",
    "Handler",
    "LastValue",
    "Limits",
    "Majordomo",
    "Message",
    "Options",
    "ParanoidPirate",
    "PeerStatistics",
    "PollbrokerError",
    "Port",
    "PortStatistics",
    "Route",
    "Sharder",
    "Tap",
    "TappedMessage",
    "Titanic",
    "To",
    "__version__",
    "sharder",
]

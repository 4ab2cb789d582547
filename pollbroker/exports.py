"""Everything that `pollbroker` exports. The package imports it when the first of the names is asked for."""

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
    "sharder",
]

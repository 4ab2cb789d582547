"""Any number of ZeroMQ brokers in one thread.

from pollbroker import Engine, QUEUE

with Engine() as engine:
    engine.add("orders", QUEUE, frontend="tcp://*:5559", backend="tcp://*:5560")
"""

from pollbroker.broker import Broker, Port
from pollbroker.device import DEVICES, FILTER, FORWARDER, QUEUE, REFLECTOR, STREAMER, Device, Route
from pollbroker.engine import Engine
from pollbroker.errors import (
    ConfigError,
    ControlError,
    DeviceError,
    EndpointError,
    EngineError,
    PollbrokerError,
)
from pollbroker.statistics import BrokerStatistics, EngineStatistics, FlowStatistics
from pollbroker.working import BrokerState

__all__ = [
    "DEVICES",
    "FILTER",
    "FORWARDER",
    "QUEUE",
    "REFLECTOR",
    "STREAMER",
    "Broker",
    "BrokerState",
    "BrokerStatistics",
    "ConfigError",
    "ControlError",
    "Device",
    "DeviceError",
    "EndpointError",
    "Engine",
    "EngineError",
    "EngineStatistics",
    "FlowStatistics",
    "PollbrokerError",
    "Port",
    "Route",
]

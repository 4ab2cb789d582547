"""Any number of ZeroMQ brokers in one thread.

from pollbroker import Engine, QUEUE

with Engine() as engine:
    engine.add("orders", QUEUE, frontend="tcp://*:5559", backend="tcp://*:5560")

The names are imported, all at once, when the first of them is asked for. So what needs none of them, such as
`pollbroker --help`, begins without pyzmq.
"""

from typing import TYPE_CHECKING

from pollbroker.version import __version__

# ruff: noqa: F405 - the names of `__all__` are those that the star brings

if TYPE_CHECKING:
    from pollbroker.exports import *  # noqa: F403

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


if not TYPE_CHECKING:  # a type checker would take every name for one of this package

    def __getattr__(name: str) -> object:
        """Import what this package exports, and return one of it. Raises `AttributeError` for any other name."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from pollbroker import exports

        globals().update({one: getattr(exports, one) for one in exports.__all__})
        return globals()[name]


def __dir__() -> list[str]:
    """Every name that is exported, whether it was imported or not."""
    return sorted({*globals(), *__all__})

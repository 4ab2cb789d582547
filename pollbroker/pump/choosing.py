"""Chooses the implementation: the one that is asked for, or else the native one if it was built, or else Python."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Final

from pollbroker.errors import ConfigError
from pollbroker.pump import hub, python, receiving, sending
from pollbroker.pump.contract import Flow, Hub, Implementation, Pump, Receiver, Sender
from pollbroker.pump.turns import Collector


@dataclass(frozen=True)
class Classes:
    """An `Implementation` that is made of the classes of one or more modules."""

    name: str
    make_pump: Callable[..., Pump]
    make_receiver: Callable[..., Receiver]
    make_sender: Callable[..., Sender]
    make_event_reader: Callable[..., Callable[[], int]]
    make_flow: Callable[..., Flow]
    make_hub: Callable[..., Hub]
    make_collector: Callable[..., Collector | None]


PYTHON: Final = Classes(
    "python",
    make_pump=python.Pump,
    make_receiver=receiving.Receiver,
    make_sender=sending.Sender,
    make_event_reader=python.EventReader,
    make_flow=hub.Flow,
    make_hub=hub.Hub,
    make_collector=lambda epoll, wakes: None,  # noqa: ARG005 - the waiter uses its own
)
"""The Python implementation, which works everywhere. Its flows take every pump."""


def choose_implementation(name: str | None = None) -> Implementation:
    """The implementation of that name (`"native"` or `"python"`). Without a name POLLBROKER_PUMP decides; if that is
    not set either, the native one is taken if it was built.

    Raises `ConfigError` for an unknown name, and for `"native"` where it was not built.
    """
    where = "pump" if name else "POLLBROKER_PUMP"
    name = name or os.environ.get("POLLBROKER_PUMP") or None
    if name not in (None, "native", "python"):
        raise ConfigError(f"{where}: {name!r}: expected 'native' or 'python'")
    if name == "python":
        return PYTHON
    try:
        native = import_module("pollbroker.pump.native")
    except ImportError as error:
        if name == "native":
            raise ConfigError(f"{where}: the native pump cannot be loaded here: {error}") from error
        return PYTHON
    return native_classes(native)


def native_classes(native: ModuleType) -> Implementation:
    """The implementation that is made of the classes of a native module."""
    return Classes(
        "native",
        make_pump=native.Pump,
        make_receiver=native.Receiver,
        make_sender=native.Sender,
        make_event_reader=native.EventReader,
        make_flow=native.Flow,
        make_hub=native.Hub,
        make_collector=native.Collector,
    )

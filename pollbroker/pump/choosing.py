"""Which pump serves: the native one if it was built, else the Python one; POLLBROKER_PUMP decides otherwise."""

import os
from dataclasses import dataclass
from importlib import import_module
from typing import Final

from pollbroker.errors import ConfigError
from pollbroker.pump import hub, python, receiving, sending
from pollbroker.pump.contract import (
    CollectorFactory,
    EventReaderFactory,
    FlowFactory,
    HubFactory,
    PumpFactory,
    ReceiverFactory,
    SendingFactory,
)


@dataclass(frozen=True)
class Implementation:
    """One implementation of the pump, and of what carries it. A flow and a hub of one take pumps of the same only."""

    name: str
    make_pump: PumpFactory
    make_receiver: ReceiverFactory
    make_sender: SendingFactory
    make_event_reader: EventReaderFactory
    make_flow: FlowFactory
    make_hub: HubFactory
    make_collector: CollectorFactory | None = None
    """None: a selector does it."""


PYTHON: Final = Implementation(
    "python",
    make_pump=python.Pump,
    make_receiver=receiving.Receiver,
    make_sender=sending.Sender,
    make_event_reader=python.EventReader,
    make_flow=hub.Flow,
    make_hub=hub.Hub,
)
"""The one that is always there; its flows take every pump."""


def choose_implementation(name: str | None = None) -> Implementation:
    """The pump of that name (`"native"` or `"python"`); without one, as POLLBROKER_PUMP says; without that, the best.

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
    return Implementation(
        "native",
        make_pump=native.Pump,
        make_receiver=native.Receiver,
        make_sender=native.Sender,
        make_event_reader=native.EventReader,
        make_flow=native.Flow,
        make_hub=native.Hub,
        make_collector=native.Collector,
    )

"""Which pump serves: the native one if it was built, else the Python one; POLLBROKER_PUMP decides otherwise."""

import os
from dataclasses import dataclass
from importlib import import_module

from pollbroker.errors import ConfigError
from pollbroker.pump import python
from pollbroker.pump.contract import EventReaderFactory, PumpFactory


@dataclass(frozen=True)
class Pumping:
    """One implementation of the pump."""

    name: str
    make_pump: PumpFactory
    make_event_reader: EventReaderFactory


_PYTHON = Pumping("python", python.Pump, python.EventReader)


def choose_pumping(name: str | None = None) -> Pumping:
    """The pump of that name (`"native"` or `"python"`); without one, as POLLBROKER_PUMP says; without that, the best.

    Raises `ConfigError` for an unknown name, and for `"native"` where it was not built.
    """
    place = "pump" if name else "POLLBROKER_PUMP"
    name = name or os.environ.get("POLLBROKER_PUMP") or None
    if name not in (None, "native", "python"):
        raise ConfigError(f"{place}: {name!r}: expected 'native' or 'python'")
    if name == "python":
        return _PYTHON
    try:
        native = import_module("pollbroker.pump.native")
    except ImportError as error:
        if name == "native":
            raise ConfigError(f"{place}: the native pump cannot be loaded here: {error}") from error
        return _PYTHON
    return Pumping("native", native.Pump, native.EventReader)

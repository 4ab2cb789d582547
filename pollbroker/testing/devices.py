"""The kit's own devices, and how a device is written in Python.

What the kit prints can be pasted into a test: it is one expression of names that `from pollbroker.testing import *`
brings. So a device is written by the table it stands in, or as it is made; a handler by where it can be imported.
"""

import importlib
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass, replace
from enum import Enum
from functools import reduce
from typing import Any, Final

import zmq

from pollbroker.device import Device, Route
from pollbroker.standard_devices import DEVICES, QUEUE

_THERE_AND_BACK: Final = (Route("frontend", "backend"), Route("backend", "frontend"))

TUNNEL: Final = Device("tunnel", zmq.PAIR, zmq.PAIR, _THERE_AND_BACK)
DEALERS: Final = Device("dealers", zmq.DEALER, zmq.DEALER, _THERE_AND_BACK)
PATIENT_QUEUE: Final = replace(QUEUE, name="patient-queue", slow_peer="wait")

_OWN: Final = {"TUNNEL": TUNNEL, "DEALERS": DEALERS, "PATIENT_QUEUE": PATIENT_QUEUE}


def named(where: str) -> Any:
    """What stands at "module:name" or "module:name.of.an.attribute". Raises `ValueError` if nothing does."""
    module, colon, name = where.partition(":")
    if not colon:
        raise ValueError(f"{where!r}: expected 'module:name'")
    try:
        return reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{where!r} cannot be had: {error}") from error


def as_python(value: object) -> str:
    """A value of a scenario as a Python expression, in one line; what has its default value is left out.

    A handler that cannot be imported (it is local to a function, or a lambda) is written as a name that is to be given
    to it: then the expression parses, and that name has to be there where it is pasted.
    """
    if isinstance(value, Device):
        return _device_as_python(value)
    if is_dataclass(value):
        return f"{type(value).__name__}({', '.join(_fields_as_python(value))})"
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, tuple):
        return f"({', '.join(map(as_python, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{as_python(key)}: {as_python(one)}' for key, one in value.items())}}}"
    return _handler_as_python(value) if callable(value) else repr(value)


def _fields_as_python(value: Any) -> list[str]:
    """The arguments that make it: those that have to be there by place, the others by name."""
    arguments = []
    for one in fields(value):
        here = getattr(value, one.name)
        if one.default is MISSING and one.default_factory is MISSING:
            arguments.append(as_python(here))
        elif here != (one.default if one.default_factory is MISSING else one.default_factory()):
            arguments.append(f"{one.name}={as_python(here)}")
    return arguments


def _device_as_python(device: Device) -> str:
    for name, one in DEVICES.items():
        if one == device:
            return f"DEVICES[{name!r}]"
    for name, one in _OWN.items():
        if one == device:
            return name
    for route in device.routes:  # whoever gives a device a handler defines both in one place, as a rule
        module = getattr(route.via, "__module__", None)
        for name, one in vars(sys.modules.get(module or "", object)).items():
            if one is device:
                return f"named({f'{module}:{name}'!r})"
    plain = Device(device.name, ports=device.ports, routes=device.routes)
    given = (
        f"{one.name}={as_python(getattr(device, one.name))}"
        for one in fields(device)
        if one.name in ("ports", "routes") or getattr(device, one.name) != getattr(plain, one.name)
    )
    return f"Device({', '.join([repr(device.name), *given])})"


def _handler_as_python(handler: Any) -> str:
    name = getattr(handler, "__qualname__", type(handler).__name__)
    where = f"{getattr(handler, '__module__', None)}:{name}"
    with suppress(ValueError):  # it can be had from within its function only
        if named(where) is handler:
            return f"named({where!r})"
    name = name.rpartition(".")[2]
    return name if name.isidentifier() else "handler"

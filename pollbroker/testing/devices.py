"""The kit's own devices, and how scenarios are printed as Python expressions.

What the kit prints can be pasted into a test: it is one expression, of names that `from pollbroker.testing import *`
brings. So a device is printed as its entry in `DEVICES`, by its name here, or as the call that makes it. A handler is
printed as the place from which it can be imported.
"""

import importlib
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass, replace
from enum import Enum
from functools import reduce
from typing import Any, Final, NamedTuple

import zmq

from pollbroker.device import Device, Route
from pollbroker.pump import Message, To
from pollbroker.settings import MadeWithSettings
from pollbroker.standard_devices import DEVICES, QUEUE

_THERE_AND_BACK: Final = (Route("frontend", "backend"), Route("backend", "frontend"))

TUNNEL: Final = Device("tunnel", zmq.PAIR, zmq.PAIR, _THERE_AND_BACK)
DEALERS: Final = Device("dealers", zmq.DEALER, zmq.DEALER, _THERE_AND_BACK)
PATIENT_QUEUE: Final = replace(QUEUE, name="patient-queue", slow_peer="wait")


def to_a_shard(message: list[bytes]) -> To:
    """A handler that gives each message to one of the sinks `a` and `b`, by its frames."""
    return To("ab"[_number(message, 2)], message)


def scatter(message: list[bytes]) -> Message | To | Iterator[Message | To] | None:
    """A handler that does with each message, by its frames, one of the things that a handler can do.

    It gives the message to every sink, to one of the sinks `a` and `b`, to a port that is no sink, or to nobody, or it
    gives several messages to different sinks.
    """
    results = (message, To("a", message), To("b", message), _several(message), None, To("nowhere", message))
    return results[_number(message, len(results))]


def _several(message: list[bytes]) -> Iterator[Message | To]:
    yield To("b", [*message, b"first"])
    yield [*message, b"second"]
    yield To("a", [*message, b"third"])


def _number(message: list[bytes], below: int) -> int:
    return zlib.crc32(b"".join(message)) % below


SHARDS: Final = Device(
    "shards",
    ports={"frontend": zmq.ROUTER, "a": zmq.DEALER, "b": zmq.DEALER},
    routes=(Route("frontend", ("a", "b"), to_a_shard), Route("a", "frontend"), Route("b", "frontend")),
    options={"frontend": {"router_mandatory": 1}},
)
FAN_OUT: Final = Device(
    "fan-out",
    ports={"intake": zmq.PULL, "a": zmq.PUSH, "b": zmq.PUSH},
    routes=(Route("intake", ("a", "b"), scatter),),
)
TEE: Final = Device(
    "tee",
    ports={"intake": zmq.PULL, "work": zmq.PUSH, "archive": zmq.PUSH},
    routes=(Route("intake", ("work", "archive")),),
)
NEWS: Final = Device(
    "news",
    ports={"wire": zmq.SUB, "readers": zmq.PUB, "archive": zmq.PUSH},
    routes=(Route("wire", ("readers", "archive")),),
    options={"wire": {"subscribe": b""}},
)
FAN_IN: Final = Device(
    "fan-in",
    ports={"left": zmq.PULL, "right": zmq.PULL, "all": zmq.PUSH},
    routes=(Route("left", "all"), Route("right", "all")),
)
EXCHANGE: Final = Device(
    "exchange",
    ports={"east": zmq.XSUB, "west": zmq.XSUB, "here": zmq.XPUB, "there": zmq.XPUB},
    routes=(
        Route("east", ("here", "there")),
        Route("west", ("there", "here")),
        Route("here", ("east", "west")),
        Route("there", ("east", "west")),
    ),
)

SEVERAL_SINKS: Final = (SHARDS, FAN_OUT, TEE, NEWS, EXCHANGE)
"""The kit's devices with a route that has several sinks."""

_OWN: Final = {
    "TUNNEL": TUNNEL,
    "DEALERS": DEALERS,
    "PATIENT_QUEUE": PATIENT_QUEUE,
    "SHARDS": SHARDS,
    "FAN_OUT": FAN_OUT,
    "TEE": TEE,
    "NEWS": NEWS,
    "FAN_IN": FAN_IN,
    "EXCHANGE": EXCHANGE,
}


def named(where: str) -> Any:
    """Return the object at "module:name" or "module:name.of.an.attribute". Raises `ValueError` if there is none."""
    module, colon, name = where.partition(":")
    if not colon:
        raise ValueError(f"{where!r}: expected 'module:name'")
    try:
        return reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{where!r} cannot be imported: {error}") from error


class Spelled(NamedTuple):
    """A value that hypothesis prints as the expression that stands for it."""

    value: Any
    expression: str

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002 - hypothesis passes both
        printer.text(self.expression)


def as_python(value: object) -> str:
    """Return a value of a scenario as a Python expression, in one line and without arguments that have their defaults.

    A handler that cannot be imported, because it is a lambda or local to a function, is printed as a plain name. The
    expression can be parsed then; whoever pastes it must define that name.
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
    """The arguments that make a dataclass instance: those without a default by position, the others by name."""
    arguments = []
    for field in fields(value):
        given = getattr(value, field.name)
        if field.default is MISSING and field.default_factory is MISSING:
            arguments.append(as_python(given))
        elif given != (field.default if field.default_factory is MISSING else field.default_factory()):
            arguments.append(f"{field.name}={as_python(given)}")
    return arguments


def _device_as_python(device: Device) -> str:
    for name, one in DEVICES.items():
        if one == device:
            return f"DEVICES[{name!r}]"
    for name, one in _OWN.items():
        if one == device:
            return name
    if isinstance(device.behaviour, MadeWithSettings):
        settings = ", ".join(f"{name}={as_python(one)}" for name, one in device.behaviour.settings.items())
        return f"{_device_as_python(replace(device, behaviour=device.behaviour.make))}.with_settings({settings})"
    found = _name_in_module(device, getattr(device.behaviour, "__module__", None))
    if found is not None:
        return found
    for route in device.routes:  # a device with a handler is usually in the module of the handler
        found = _name_in_module(device, getattr(route.via, "__module__", None))
        if found is not None:
            return found
    plain = Device(device.name, ports=device.ports, routes=device.routes, behaviour=device.behaviour)
    given = (
        f"{one.name}={as_python(getattr(device, one.name))}"
        for one in fields(device)
        if one.name == "ports"
        or (one.name in ("routes", "behaviour") and getattr(device, one.name))
        or getattr(device, one.name) != getattr(plain, one.name)
    )
    return f"Device({', '.join([repr(device.name), *given])})"


def _name_in_module(value: object, module: str | None) -> str | None:
    """The expression that names a value of a module; None if the module has no such value."""
    for name, one in vars(sys.modules.get(module or "", object)).items():
        if one is value:
            return f"named({f'{module}:{name}'!r})"
    return None


def _handler_as_python(handler: Any) -> str:
    found = _name_in_module(handler, getattr(handler, "__module__", None))
    if found is not None:
        return found
    name = getattr(handler, "__qualname__", type(handler).__name__)
    where = f"{getattr(handler, '__module__', None)}:{name}"
    with suppress(ValueError):  # a handler that is local to a function cannot be imported
        if named(where) is handler:
            return f"named({where!r})"
    name = name.rpartition(".")[2]
    return name if name.isidentifier() else "handler"

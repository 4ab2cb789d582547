"""Finding the device of a broker: one of `DEVICES`, or `module:NAME`; and the settings of its behaviour."""

import importlib
import math
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from pollbroker.device import Device
from pollbroker.errors import DeviceError, describe_error, did_you_mean
from pollbroker.settings import settings_of
from pollbroker.standard_devices import find_device


def make_importable(directory: Path) -> None:
    """Have modules beside the configuration found, now and when they import others later."""
    entry = str(directory.resolve())
    if entry not in sys.path:
        sys.path.insert(0, entry)


def find(name: str) -> Device:
    """The device of this name, or the one that `module:NAME` names. Raises `DeviceError`, which says what is wrong."""
    module_name, colon, attribute = name.partition(":")
    if not colon:
        return find_device(name)
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a module of the user's may raise anything
        raise DeviceError(f"{name!r}: cannot import {module_name!r}: {describe_error(error)}") from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except Exception as error:
            near = did_you_mean(part, vars(found)) if isinstance(found, types.ModuleType) else None
            raise DeviceError(f"{name!r}: {module_name} has no {attribute!r}{near or ''}") from error
    if not isinstance(found, Device):
        raise DeviceError(f"{name!r} is {_a(found)}; expected a Device")
    return found


def _a(found: object) -> str:
    return "a class" if isinstance(found, type) else f"of the type {type(found).__name__}"


def settings_from(device: Device, given: Mapping[str, Any], lax: set[str]) -> dict[str, Any]:
    """The settings of a behaviour, each of the type that the behaviour takes. TOML has no bytes: a text is encoded. Nor
    has it None: `inf` stands for that, where it means that a number has no limit.

    `lax` names those that came from the environment, as texts. Raises `DeviceError` if the device has no such setting.
    """
    if device.behaviour is None:
        raise DeviceError(f"the device {device.name} has no behaviour, and so no settings")
    known = settings_of(device.behaviour)
    made = {}
    for name, value in given.items():
        kinds = _kinds(known[name].annotation) if name in known else ()
        if isinstance(value, str) and bytes in kinds:
            value = value.encode()
        elif name in lax and isinstance(value, str) and str not in kinds:
            number = next((one for one in kinds if one in (bool, int, float)), None)
            if number is not None:
                try:
                    value = msgspec.convert(value, number, strict=False)
                except msgspec.ValidationError:
                    raise DeviceError(f"{name} is {value!r}: expected {number.__name__}") from None
        made[name] = None if value == math.inf and types.NoneType in kinds else value
    return made


def _kinds(annotation: Any) -> tuple[Any, ...]:
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return typing.get_args(annotation)
    return (annotation,)

"""The options of a device's command that come from the settings of its behaviour.

Each setting of the behaviour's class is an option of the same name, with its type and default. The text of the option
is what the docstring of the class says of it, under "Arguments:".
"""

import inspect
import math
import os
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal

import click

from pollbroker.device import Device
from pollbroker.settings import settings_of

_ENTRY = re.compile(r"^    (\w+): (.+)$")


def setting_options(device: Device) -> Iterator[click.Option]:
    """Yield an option for each setting of a device's behaviour. A setting of a type that no argument can have, such as
    a function, has no option."""
    if device.behaviour is None:
        return
    texts = _texts(device.behaviour)
    for name, setting in settings_of(device.behaviour).items():
        kind = _without_none(setting.annotation)
        option = f"--{name.replace('_', '-')}"
        shown = setting.default is not None and setting.default is not inspect.Parameter.empty
        more: dict[str, Any] = {"help": texts.get(name, ""), "default": setting.default, "show_default": shown}
        if kind is bool:
            yield click.Option([f"{option}/--no-{option[2:]}", name], **more)
        elif typing.get_origin(kind) is Literal:
            yield click.Option([option, name], type=click.Choice(typing.get_args(kind)), **more)
        elif kind is bytes:
            more["default"] = None if setting.default is None else os.fsdecode(setting.default)
            yield click.Option([option, name], type=os.fsencode, metavar="TEXT", **more)
        elif kind is float and name.endswith("_s"):
            parse: Callable[[str], float | None] = _seconds
            if kind is not setting.annotation:
                parse = _seconds_or_none
                more["help"] = more["help"].replace("None: ", "inf: ")
            yield click.Option([option, name], type=parse, metavar="SECONDS", **more)
        elif kind in (int, float, str):
            yield click.Option([option, name], type=kind, **more)


def with_given_settings(device: Device, given: Mapping[str, Any]) -> Device:
    """The device with those of its settings that were given a value other than its own."""
    if device.behaviour is None:
        return device
    settings = settings_of(device.behaviour)
    changed = {name: given[name] for name in settings if name in given and given[name] != settings[name].default}
    return device.with_settings(**changed) if changed else device


def _seconds(text: str) -> float:
    """Parse a number of seconds. Which numbers are right is said by the behaviour."""
    with suppress(ValueError):
        if math.isfinite(number := float(text)):
            return number
    raise click.BadParameter(f"{text!r}: expected seconds")


def _seconds_or_none(text: str) -> float | None:
    """Parse a number of seconds, or `inf`, which stands for None: no limit."""
    with suppress(ValueError):
        if (number := float(text)) == math.inf:
            return None
        if math.isfinite(number):
            return number
    raise click.BadParameter(f"{text!r}: expected seconds, or inf")


def _without_none(annotation: Any) -> Any:
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        kinds = [one for one in typing.get_args(annotation) if one is not type(None)]
        return kinds[0] if len(kinds) == 1 else annotation
    return annotation


def _texts(make: Callable[..., Any]) -> dict[str, str]:
    """What the docstring of a class says of each of its arguments."""
    doc = inspect.getdoc(getattr(make, "make", make)) or ""
    _, _, section = doc.partition("Arguments:\n")
    texts: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if entry := _ENTRY.match(line):
            name = entry[1]
            texts[name] = entry[2]
        elif line.startswith("        ") and name:
            texts[name] += " " + line.strip()
        else:
            break
    return {name: text.replace("`", "") for name, text in texts.items()}

"""The settings of a behaviour: the keyword arguments with which it is made, and a device that makes it with them."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pollbroker.behaviour import Behaviour
from pollbroker.errors import DeviceError, did_you_mean
from pollbroker.frozen import FrozenDict


@dataclass(frozen=True)
class MadeWithSettings:
    """Makes a behaviour with these settings."""

    make: Callable[..., Behaviour]
    settings: Mapping[str, Any]

    def __call__(self) -> Behaviour:
        return self.make(**self.settings)


def settings_of(make: Callable[..., Behaviour]) -> dict[str, inspect.Parameter]:
    """The settings that the class of a behaviour takes, or a function that makes one, by their names. A parameter has
    the annotation as an object, and the value that is set, or else the default."""
    made = _as_made(make)
    parameters = inspect.signature(made.make, eval_str=True).parameters
    return {
        name: parameter.replace(default=made.settings.get(name, parameter.default))
        for name, parameter in parameters.items()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    }


def make_with_settings(device: str, make: Callable[..., Behaviour], settings: Mapping[str, Any]) -> MadeWithSettings:
    """What makes a behaviour with these settings, and with those that had been set before.

    Raises `DeviceError` if there is no such setting, and whatever the behaviour raises at a value.
    """
    known = settings_of(make)
    for name in settings:
        if name not in known:
            near = did_you_mean(name, known) or f"; its settings are: {', '.join(known) or 'none'}"
            raise DeviceError(f"device {device}: its behaviour has no setting {name}{near}")
    before = _as_made(make)
    made = MadeWithSettings(before.make, FrozenDict({**before.settings, **settings}))
    made()  # a wrong value is reported here, and not when a broker begins
    return made


def _as_made(make: Callable[..., Behaviour]) -> MadeWithSettings:
    return make if isinstance(make, MadeWithSettings) else MadeWithSettings(make, FrozenDict())

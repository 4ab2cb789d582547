"""Checks of the settings of Majordomo and Titanic, so that a wrong one is an error at once."""

import math
from collections.abc import Mapping
from typing import Final

from pollbroker.errors import BehaviourError

LEAST_S: Final = 0.01
"""The shortest time that may be set, so that timers alone do not keep the engine busy."""


def check_seconds(owner: object, **settings: object) -> None:
    """Raise `BehaviourError`, in the name of a behaviour, unless each of these is a number of seconds."""
    for name, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not LEAST_S <= value < math.inf:
            raise _wrong(owner, name, value, f"a number of seconds from {LEAST_S} on")


def check_seconds_or_none(owner: object, **settings: object) -> None:
    """As `check_seconds`, but None is right, too."""
    check_seconds(owner, **{name: value for name, value in settings.items() if value is not None})


def check_numbers(owner: object, **settings: object) -> None:
    """Raise `BehaviourError` unless each of these is a whole number from 1 on."""
    for name, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise _wrong(owner, name, value, "a whole number from 1 on")


def check_type(owner: object, kind: type, expected: str, settings: Mapping[str, object]) -> None:
    """Raise `BehaviourError` unless each of these is of a type.

    Arguments:
        expected: how the error calls it, such as "True or False".
    """
    for name, value in settings.items():
        if not isinstance(value, kind):
            raise _wrong(owner, name, value, expected)


def _wrong(owner: object, name: str, value: object, expected: str) -> BehaviourError:
    return BehaviourError(f"{type(owner).__name__}: {name} is {value!r}: expected {expected}")

"""Checks the settings of behaviours. An error names the setting, what was found, and what was expected."""

import math

from pollbroker.errors import BehaviourError


def check_whole_number(where: str, name: str, value: object, *, least: int, most: float = math.inf) -> None:
    """Raise `BehaviourError` unless `value` is a whole number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        upper = "on" if most == math.inf else f"to {most}"
        raise BehaviourError(f"{where}: {name} is {value!r}: expected a whole number from {least} {upper}")


def check_seconds(where: str, name: str, value: object, *, zero: bool = False) -> None:
    """Raise `BehaviourError` unless `value` is a finite number of seconds above 0, or, with `zero`, from 0 on."""
    wrong = isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0
    if wrong or (value == 0 and not zero):
        raise BehaviourError(
            f"{where}: {name} is {value!r}: expected a number of seconds {'from 0 on' if zero else 'above 0'}"
        )

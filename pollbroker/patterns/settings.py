"""Checks of the settings that behaviours are made with.

Each raises `BehaviourError`, which says where, what was found and what was expected.
"""

import math

from pollbroker.errors import BehaviourError


def check_whole(where: str, value: object, *, least: int | None = None) -> None:
    """Raise `BehaviourError` if `value` is not a whole number, or is less than `least`.

    Arguments:
        where: the behaviour and the setting, such as `"Balancer: max_workers"`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        bound = "" if least is None else f" from {least} on"
        raise BehaviourError(f"{where} is {value!r}: expected a whole number{bound}")


def check_seconds(where: str, value: object) -> None:
    """Raise `BehaviourError` if `value` is neither None nor a number of seconds above 0."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise BehaviourError(f"{where} is {value!r}: expected a number of seconds above 0, or None")


def check_true_or_false(where: str, value: object) -> None:
    """Raise `BehaviourError` if `value` is neither True nor False."""
    if not isinstance(value, bool):
        raise BehaviourError(f"{where} is {value!r}: expected True or False")


def check_choice(where: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise `BehaviourError` if `value` is none of these."""
    if value not in choices:
        raise BehaviourError(f"{where} is {value!r}: expected one of {', '.join(choices)}")


def check_ready(where: str, value: object) -> None:
    """Raise `BehaviourError` if `value` is neither None nor one or more bytes."""
    if value is not None and not (isinstance(value, bytes) and value):
        raise BehaviourError(f"{where} is {value!r}: expected one or more bytes, or None")

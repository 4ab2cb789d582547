"""Checks of what a user sets. A wrong value is an error at once, which says where, and what was expected.

checks = SettingChecks("Balancer", BehaviourError)
checks.whole(max_workers=max_workers, max_waiting=max_waiting)
checks.seconds(time_limit_s=time_limit_s, or_none=True)
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from pollbroker.errors import PollbrokerError

_OR_NONE: Final = ", or None (inf in a file)"


@dataclass(frozen=True)
class SettingChecks:
    """Checks settings, and raises `error` if one is wrong.

    Arguments:
        where: whose settings they are, with which each error begins.
    """

    where: str
    error: type[PollbrokerError]

    def whole(self, *, least: float = 1, most: float = math.inf, **settings: object) -> None:
        """Each is a whole number within these bounds, both included."""
        for name, value in settings.items():
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                lower, upper = f" from {least}" if least > -math.inf else "", "" if most == math.inf else f" to {most}"
                raise self._wrong(name, value, f"a whole number{lower}{upper or (' on' if lower else '')}")

    def seconds(self, *, least: float = 0.0, zero: bool = False, or_none: bool = False, **settings: object) -> None:
        """Each is a finite number of seconds above 0, or at least `least`.

        Arguments:
            zero: 0 is right, too.
            or_none: None is right, too.
        """
        for name, value in settings.items():
            if or_none and value is None:
                continue
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if not is_number or value < least or (value == 0 and not zero):  # type: ignore[operator]
                bound = f"from {least:g} on" if least or zero else "above 0"
                raise self._wrong(name, value, f"a number of seconds {bound}{_OR_NONE if or_none else ''}")

    def true_or_false(self, **settings: object) -> None:
        """Each is True or False."""
        for name, value in settings.items():
            if not isinstance(value, bool):
                raise self._wrong(name, value, "True or False")

    def one_of(self, choices: Collection[object], **settings: object) -> None:
        """Each is one of these."""
        for name, value in settings.items():
            if value not in choices or isinstance(value, bool):
                raise self._wrong(name, value, f"one of {', '.join(map(str, choices))}")

    def some_bytes(self, **settings: object) -> None:
        """Each is one or more bytes, or None."""
        for name, value in settings.items():
            if value is not None and not (isinstance(value, bytes) and value):
                raise self._wrong(name, value, "one or more bytes, or None")

    def _wrong(self, name: str, value: object, expected: str) -> PollbrokerError:
        return self.error(f"{self.where}: {name} is {value!r}: expected {expected}")

"""The frames of a command: how many there are, and what those behind it say. What is wrong is a `ControlError`."""

from itertools import islice
from typing import Final

from pollbroker.control.replies import Frames, shown
from pollbroker.control.steered import Steered
from pollbroker.errors import ControlError, did_you_mean

_NAMED_BROKERS: Final = 10
"""How many names of brokers an error message has at most."""


def wrong_number(verb: str, arguments: Frames, expected: str) -> ControlError:
    """The error for a command that has another number of frames behind it than it takes."""
    number = 1 + len(arguments)
    return ControlError(f"{verb}: {number} {'frame' if number == 1 else 'frames'}; expected {expected}")


def as_text(verb: str, frame: bytes, expected: str = "text") -> str:
    """A frame as text. Raises `ControlError` unless it is UTF-8."""
    try:
        return frame.decode()
    except UnicodeDecodeError:
        raise ControlError(f"{verb}: {shown(frame)}: expected {expected} in UTF-8") from None


def find_broker(engine: Steered, verb: str, frame: bytes) -> str:
    """The name of the broker that a frame names. Raises `ControlError` if there is none of that name."""
    name = as_text(verb, frame, "a broker's name")
    known = engine.brokers
    if name not in known:
        some = ", ".join(islice(known, _NAMED_BROKERS)) + (", ..." if len(known) > _NAMED_BROKERS else "")
        near = did_you_mean(name, known) or f"; there are: {some or 'none'}"
        raise ControlError(f"{verb}: no broker is named {shown(frame)}{near}")
    return name

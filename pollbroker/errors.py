"""The errors that pollbroker raises.

Each message says what is wrong, where, and what was expected. What a peer sends is never an error: it is counted.
"""

import difflib
from collections.abc import Iterable
from itertools import islice
from typing import Final

import zmq

_LONGEST_WORD: Final = 60
_MOST_COMPARED: Final = 200
"""What a peer sends may be of any length, and an engine may have any number of brokers: within these limits comparing
takes a millisecond."""


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The end of an error's line about a word that is not known: the nearest one that is; None if none is near."""
    if len(word) > _LONGEST_WORD:
        return None
    names = {name.casefold(): name for name in islice(known, _MOST_COMPARED)}
    near = difflib.get_close_matches(word.casefold(), names, n=1)
    return f"; did you mean {names[near[0]]!r}?" if near else None


class PollbrokerError(Exception):
    """The base of every error that pollbroker raises of its own."""


class DeviceError(PollbrokerError):
    """A device definition is unsound, or a socket does not fit the device that it was registered with."""


class EndpointError(PollbrokerError):
    """An endpoint is malformed, or cannot be bound or connected."""

    address: str | None = None
    """The address that could not be bound or connected, as libzmq was given it."""


class ConfigError(PollbrokerError):
    """A setting (a socket option, an environment variable, a limit) is unknown, or its value is unfit."""


class ControlError(PollbrokerError):
    """A control command is unknown or malformed, or was refused by the engine that it was sent to."""


class EngineError(PollbrokerError):
    """The engine cannot do this now: it is closed, was forked, runs already, or does not know the broker's name."""


def describe_error(error: BaseException) -> str:
    """The error's own words, behind its type unless it is libzmq's; some errors, such as MemoryError, have none."""
    if isinstance(error, zmq.ZMQError):
        return str(error)
    return ": ".join(filter(None, (type(error).__name__, str(error))))

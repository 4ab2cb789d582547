"""The errors that pollbroker raises.

Each message says what is wrong, where, and what was expected. Nothing that a peer sends raises an error: messages that
cannot be passed on are counted.
"""

import difflib
from collections.abc import Iterable
from itertools import islice
from typing import Final

import zmq

_LONGEST_WORD: Final = 60
_MOST_COMPARED: Final = 200
"""Limits for finding the nearest name, since a word that a peer sends may have any length, and an engine may have any
number of brokers. Within these limits it takes a millisecond."""


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The end of an error message about an unknown word, with the nearest known one; None if none is near."""
    if len(word) > _LONGEST_WORD:
        return None
    names = {name.casefold(): name for name in islice(known, _MOST_COMPARED)}
    near = difflib.get_close_matches(word.casefold(), names, n=1)
    return f"; did you mean {names[near[0]]!r}?" if near else None


class PollbrokerError(Exception):
    """The base class of every error of pollbroker's own."""


class DeviceError(PollbrokerError):
    """A device definition is unsound, or a socket does not fit the device that it was registered with."""


class EndpointError(PollbrokerError):
    """An endpoint is malformed, or cannot be bound or connected."""

    address: str | None = None
    """The address that could not be bound or connected, as libzmq was given it."""

    released_just_now: bool = False
    """True if the address is in use, and a broker of this process released it a moment ago: a later try may succeed."""


class ConfigError(PollbrokerError):
    """A setting (a socket option, an environment variable, a limit) is unknown, or its value is unfit."""


class ControlError(PollbrokerError):
    """A control command is unknown or malformed, or was refused by the engine that it was sent to."""


class CommandRefusedError(ControlError):
    """A running engine was sent a control command, and has refused it."""

    lines: tuple[str, ...] = ()
    """The lines of the refusal. There are several if several things are wrong."""


class NobodyListensError(ControlError):
    """Nobody listens at the endpoint that a control command was to be sent to."""


class NoAnswerError(ControlError):
    """A control command was not answered in time: whether it was carried out is not known."""


class NotInTimeError(ControlError):
    """A running engine was sent a control command that takes time, and has not done all of it in time."""


class BehaviourError(PollbrokerError):
    """A behaviour asks for what cannot be done, or keeps more messages than it said."""


class HandOverError(PollbrokerError):
    """Brokers were not handed over to another process, or not taken over. The process that had them goes on."""


class EngineError(PollbrokerError):
    """The engine cannot do this now: it is closed, was forked, runs already, or does not know the broker's name."""


def describe_error(error: BaseException) -> str:
    """The type and the message of an error. An error of libzmq's is described by its message alone; some errors, such
    as MemoryError, have no message."""
    if isinstance(error, zmq.ZMQError):
        return str(error)
    return ": ".join(filter(None, (type(error).__name__, str(error))))

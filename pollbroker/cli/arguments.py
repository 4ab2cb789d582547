"""Parsing the arguments of the commands."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

import click

from pollbroker.device import OptionValue
from pollbroker.errors import ConfigError, did_you_mean
from pollbroker.options import parse_options

_LONGEST_S: Final = 1e6
"""The longest duration: eleven days, which every timer of the system can wait."""


def seconds(text: str) -> float:
    """Parse a duration in seconds. Raises `click.BadParameter`."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= _LONGEST_S:  # this refuses nan, too
        raise click.BadParameter(f"{text!r}: expected seconds, 0 to {_LONGEST_S:.0f}")
    return number


def some_seconds(text: str) -> float:
    """Parse a duration in seconds that is not 0. Raises `click.BadParameter`."""
    number = seconds(text)
    if not number:
        raise click.BadParameter(f"{text!r}: expected more than 0 seconds")
    return number


def one_of(words: Iterable[str], kind: str) -> Callable[[str], str]:
    """Return the `type` of a click argument that must be one of these words, in upper or lower case.

    Arguments:
        words: the words.
        kind: what the words are, for the error message, such as "a command".
    """
    known = tuple(words)
    by_folded = {word.casefold(): word for word in known}

    def word_of(text: str) -> str:
        """Return the word as it is in `words`. Raises `click.BadParameter`."""
        word = by_folded.get(text.casefold())
        if word is None:
            near = did_you_mean(text, known) or f"; expected {', '.join(known)}"
            raise click.BadParameter(f"{text!r} is not {kind}{near}")
        return word

    return word_of


def socket_option(text: str) -> tuple[str, OptionValue]:
    """Parse NAME=VALUE into a pair. The value is an integer if the option takes one. Raises `click.BadParameter`.

    The engine checks later whether the option exists and the value is valid.
    """
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.BadParameter(f"{text!r}: expected NAME=VALUE, such as sndhwm=5000")
    with suppress(ValueError, ConfigError):
        number = int(value, 0)
        parse_options(name, {name: number})
        return name, number
    return name, value


def gathered(pairs: tuple[tuple[str, OptionValue], ...]) -> dict[str, OptionValue]:
    """Return socket options by name. An option that was given several times has a list of values."""
    several: dict[str, list[OptionValue]] = {}
    for name, value in pairs:
        several.setdefault(name.lower(), []).append(value)
    options: dict[str, Any] = {name: values[0] if len(values) == 1 else values for name, values in several.items()}
    return options

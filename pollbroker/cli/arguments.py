"""Parsing the arguments of the commands."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

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


def one_of(words: Iterable[str], kind: str) -> "_OneOf":
    """Return the `type` of a click argument that must be one of these words, in upper or lower case. Shells complete
    them.

    Arguments:
        words: the words.
        kind: what the words are, for the error message, such as "a command".
    """
    return _OneOf(words, kind)


class _OneOf(click.ParamType):  # type: ignore[type-arg]  # which only newer versions of click have
    """What `one_of` returns."""

    name = "word"

    def __init__(self, words: Iterable[str], kind: str) -> None:
        self._words = tuple(words)
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002 - as click calls it
        """Return the word as it was given to the type. Raises `click.BadParameter`."""
        text = str(value)
        word = {one.casefold(): one for one in self._words}.get(text.casefold())
        if word is None:
            near = did_you_mean(text, self._words) or f"; expected {', '.join(self._words)}"
            raise click.BadParameter(f"{text!r} is not {self._kind}{near}")
        return word

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - as click calls it
        """Return the words that begin so."""
        return [CompletionItem(one) for one in self._words if one.casefold().startswith(incomplete.casefold())]


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

"""The socket options of a configuration with the places where they stand, so that what is wrong with one is said
there: several ports may have it from one key of `[defaults]`, or of their broker."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from pollbroker.daemon.positions import KeyPath
from pollbroker.daemon.problems import Place, Problem
from pollbroker.daemon.sources import Source
from pollbroker.daemon.tables import Options, OptionValue
from pollbroker.errors import ConfigError
from pollbroker.options import NEEDED, SECRET, parse_options

PlacedOptions: TypeAlias = dict[str, tuple[OptionValue, Place | None]]
"""Socket options by their names in lower case, and where each stands; None if no file says it."""

_WHERE: Final = "?"
"""The place in errors of the library, in whose stead a problem has its own."""


def read_options(source: Source, path: KeyPath, options: Mapping[str, Any], problems: list[Problem]) -> PlacedOptions:
    """The socket options of a table, each checked by itself, without those that are wrong. What is wrong is added to
    `problems`."""
    found: PlacedOptions = {}
    for name, given_value in options.items():
        at, value = (*path, name), given_value
        place = source.place(at)
        if at in source.from_environment and isinstance(value, str):
            value = _as_number(name, value)
        try:
            if name.upper() in SECRET and not isinstance(value, str):
                raise ConfigError("expected a text")
            parse_options(_WHERE, {name: value})
        except ConfigError as error:
            text = str(error).removeprefix(f"{_WHERE}: ").removeprefix(f"option {name}: ")
            problems.append(place.problem(text))
            continue
        if name.lower() in found:
            problems.append(place.problem("this option is there already; expected it once"))
            continue
        found[name.lower()] = (value, place)
    return found


def _as_number(name: str, text: str) -> OptionValue:
    """An integer, if the option takes one and the text is one."""
    try:
        number = int(text, 0)
        parse_options(_WHERE, {name: number})
    except (ValueError, ConfigError):
        return text
    return number


def joined(options: Options, places: Mapping[str, Place]) -> PlacedOptions:
    """Options and their places together."""
    return {name: (value, places.get(name)) for name, value in options.items()}


def apart(placed: PlacedOptions) -> tuple[Options, dict[str, Place]]:
    """The options, and the places of those that have one."""
    options = {name: value for name, (value, _) in placed.items()}
    return options, {name: place for name, (_, place) in placed.items() if place is not None}


def without_incomplete(placed: PlacedOptions) -> PlacedOptions:
    """Those that do not need another one that is missing."""
    lacking = {name.lower() for name, (needed, _) in NEEDED.items() if any(one.lower() not in placed for one in needed)}
    return {name: one for name, one in placed.items() if name not in lacking}

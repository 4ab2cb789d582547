"""Making the typed tables of `tables.py` from what a file holds, with a problem for each key that is wrong.

`msgspec.convert` stops at the first error. So each key is converted by itself, and tables are walked here.
"""

import re
import types
import typing
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import FieldInfo, fields

from pollbroker.daemon.positions import KeyPath
from pollbroker.daemon.problems import Problem
from pollbroker.daemon.sources import Source
from pollbroker.errors import did_you_mean

T = TypeVar("T", bound=Struct)

_INSIDE: Final = re.compile(r" - at `([^`]*)`$")
_NUMBER: Final = re.compile(r"\[(\d+)\]")

_WORDS: Final = {
    "int": "an integer", "str": "a text", "bool": "true or false", "float": "a number", "array": "a list",
    "object": "a table", "null": "nothing", "datetime": "a date and time", "date": "a date", "time": "a time",
}  # fmt: skip
"""msgspec's names of types, in the words of TOML."""


def convert_table(
    source: Source, path: KeyPath, value: object, kind: type[T], problems: list[Problem], more: Collection[str] = ()
) -> T | None:
    """A table as a structure, without the keys that are wrong or not known; None if one of these has to be there. What
    is wrong is added to `problems`.

    `more` are keys that the table may have beside the fields of the structure; they are not looked at.
    """
    if not isinstance(value, dict):
        problems.append(source.place(path).problem(f"{shown(value)}: expected a table"))
        return None
    known = _fields_of(kind)
    found: dict[str, Any] = {}
    for key, one in value.items():
        if key in known:
            found[key] = _convert_value(source, (*path, key), one, known[key].type, problems)
        elif key not in more:
            names = [*known, *more]
            near = did_you_mean(key, names) or f"; expected one of {', '.join(names)}"
            problems.append(source.place((*path, key)).problem(f"unknown key{near}"))
    for name, field in known.items():
        if field.required and name not in value:
            problems.append(source.place(path).problem(f"the key {name!r} is missing"))
    right = {name: one for name, one in found.items() if one is not UNSET}
    return kind(**right) if all(name in right or not field.required for name, field in known.items()) else None


@cache
def _fields_of(kind: type[Struct]) -> dict[str, FieldInfo]:
    return {field.name: field for field in fields(kind)}


def convert_alone(source: Source, path: KeyPath, value: object, kind: Any, problems: list[Problem]) -> Any:
    """One value by its type, as `convert_table` does it for each key. UNSET if it is wrong, or not known."""
    return _convert_value(source, path, value, kind, problems)


def _convert_value(source: Source, path: KeyPath, value: object, kind: Any, problems: list[Problem]) -> Any:
    kinds = _alternatives(kind)
    if path in source.unresolved:
        return UNSET
    if isinstance(value, dict):
        for one in kinds:
            if isinstance(one, type) and issubclass(one, Struct):
                return convert_table(source, path, value, one, problems)
            if typing.get_origin(one) is dict:
                of_values = typing.get_args(one)[1]
                made = {
                    key: _convert_value(source, (*path, key), item, of_values, problems) for key, item in value.items()
                }
                return {key: item for key, item in made.items() if item is not UNSET}
    choices = [choice for one in kinds if typing.get_origin(one) is Literal for choice in typing.get_args(one)]
    if choices and value not in choices:
        near = did_you_mean(value, choices) if isinstance(value, str) else None
        expected = " or ".join(map(repr, choices))
        problems.append(source.place(path).problem(f"{shown(value)}: expected {expected}{near or ''}"))
        return UNSET
    try:
        if isinstance(value, float) and value != value:
            raise msgspec.ValidationError("Expected a number")
        return msgspec.convert(value, kind, strict=path not in source.from_environment)
    except msgspec.ValidationError as error:
        at, text = _explain(str(error))
        wrong: Any = value
        for part in at:
            wrong = wrong[part]
        problems.append(source.place((*path, *at)).problem(f"{shown(wrong)}: {text}"))
        return UNSET


@cache
def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The types of a union, without what is said of them."""
    return tuple(_walk(kind))


def _walk(kind: Any) -> Iterator[Any]:
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        yield from _walk(typing.get_args(kind)[0])
    elif isinstance(kind, types.UnionType) or origin is typing.Union:
        for one in typing.get_args(kind):
            yield from _walk(one)
    else:
        yield kind


def _explain(text: str) -> tuple[KeyPath, str]:
    """Where in a value msgspec found an error, and the error in the words of TOML."""
    match = _INSIDE.search(text)
    at: KeyPath = ()
    if match:
        text = text[: match.start()]
        at = tuple(int(number) for number in _NUMBER.findall(match[1]))
    text = re.sub(r", got `[^`]*`$", "", text)
    text = re.sub(r"`([^`]*)`", lambda names: " or ".join(_WORDS.get(one, one) for one in names[1].split(" | ")), text)
    return at, text[:1].lower() + text[1:]


def shown(value: object) -> str:
    """A value as a problem repeats it: not too long, and on one line."""
    text = "a table" if isinstance(value, dict) else "a list" if isinstance(value, list) else repr(value)
    if isinstance(value, bool):
        text = str(value).lower()
    return text if len(text) <= 80 else f"{text[:77]}..."


def given(value: Any, default: Any) -> Any:
    """The value, or the default if the key was not there."""
    return default if isinstance(value, UnsetType) else value

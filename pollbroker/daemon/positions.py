"""Finds the line of every key of a TOML document, since `tomllib` gives the values alone.

The document is known to be valid: `tomllib` has parsed it before. So nothing is checked here; what a key or a string
ends with is all that matters. A key path is a tuple of names, and of numbers for the elements of arrays.
"""

import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from functools import cached_property
from typing import Final, TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]

_DEEPEST: Final = 100
"""The longest key path. No configuration is as deep; each path is a tuple, so that the memory for a dotted key of
thousands of parts would grow with their square."""

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY_PART: Final = re.compile(r"""[ \t]*("(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)[ \t]*""")
_STRING: Final = re.compile(
    r'''"""(?:\\.|[^\\])*?"""(?!")|"(?:[^"\\]|\\.)*"'''
    r"""|'''.*?'''(?!')|'[^']*'""",
    re.DOTALL,
)
"""Three quotes end a string only if no fourth comes: up to two may stand before those that end it."""
_BARE_VALUE: Final = re.compile(r"[^,\]}#\n]+")
"""A number, a boolean, or a date, which may hold a space."""


class Lines:
    """The lines of the keys of one valid document. They are looked for when the first of them is asked for: a file in
    which nothing is wrong is not read a second time."""

    def __init__(self, text: str) -> None:
        self._text = text

    @cached_property
    def _lines(self) -> dict[KeyPath, int]:
        return lines_of(self._text)

    def line_of(self, path: KeyPath) -> int:
        """The line of a key, from 1 on. A key that is not there is where the table is that it belongs to."""
        known = path
        while known and known not in self._lines:
            known = known[:-1]
        return self._lines.get(known, 1)


def check_depth(document: Mapping[str, object]) -> None:
    """Raise `RecursionError` if more than 100 tables and arrays of a document are in each other, as `lines_of` does."""
    level: list[object] = [document]
    for _ in range(_DEEPEST + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
        ]
        if not level:
            return
    raise RecursionError


def lines_of(text: str) -> dict[KeyPath, int]:
    """The line, from 1 on, of each key of a valid document, of each table, and of each element of an array.

    Raises `RecursionError` if more than 100 of them are in each other.
    """
    return _Scan(text).scan()


class _Scan:
    """One walk through a document."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._line_ends = [match.start() for match in re.finditer("\n", text)]
        self._lines: dict[KeyPath, int] = {}
        self._counts: dict[KeyPath, int] = {}
        """How many elements each array of tables (`[[name]]`) has so far."""

    def scan(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        at = self._skip_blank(0)
        while at < len(self._text):
            if self._text.startswith("[[", at):
                path, at = self._key(at + 2, ())
                number = self._counts.get(path, 0)
                self._counts[path] = number + 1
                table = (*path, number)
                self._lines[table] = self._line(at)
                at += 2
            elif self._text[at] == "[":
                table, at = self._key(at + 1, ())
                at += 1
            else:
                at = self._pair(at, table)
            at = self._skip_blank(at)
        return self._lines

    def _pair(self, at: int, table: KeyPath) -> int:
        path, at = self._key(at, table)
        return self._value(self._skip_blank(at + 1), path)  # after the equals sign

    def _key(self, at: int, table: KeyPath) -> tuple[KeyPath, int]:
        """The path of the dotted key at a place, beneath `table`, and the place behind it."""
        path = table
        while True:
            match = _KEY_PART.match(self._text, at)
            assert match is not None
            if path in self._counts:  # the last element of an array of tables is meant
                path = (*path, self._counts[path] - 1)
            path = (*path, _name(match[1]))
            if len(path) > _DEEPEST:
                raise RecursionError
            self._lines.setdefault(path, self._line(match.start(1)))
            at = match.end()
            if self._text[at] != ".":
                return path, at
            at += 1

    def _value(self, at: int, path: KeyPath) -> int:
        """The place behind the value that begins here."""
        match self._text[at]:
            case "[":
                return self._array(at + 1, path)
            case "{":
                return self._inline_table(at + 1, path)
            case '"' | "'":
                found = _STRING.match(self._text, at)
            case _:
                found = _BARE_VALUE.match(self._text, at)
        assert found is not None
        return found.end()

    def _array(self, at: int, path: KeyPath) -> int:
        number = 0
        while True:
            at = self._skip_blank(at)
            if self._text[at] == "]":
                return at + 1
            if self._text[at] == ",":
                at += 1
                continue
            element = (*path, number)
            if len(element) > _DEEPEST:
                raise RecursionError
            self._lines[element] = self._line(at)
            at = self._value(at, element)
            number += 1

    def _inline_table(self, at: int, path: KeyPath) -> int:
        while True:
            at = self._skip_blank(at)
            if self._text[at] == "}":
                return at + 1
            at = at + 1 if self._text[at] == "," else self._pair(at, path)

    def _skip_blank(self, at: int) -> int:
        match = _BLANK.match(self._text, at)
        assert match is not None
        return match.end()

    def _line(self, at: int) -> int:
        return bisect_right(self._line_ends, at - 1) + 1


def _name(written: str) -> str:
    """What a part of a key, as it is written, names."""
    if written[0] not in "\"'":
        return written
    name = tomllib.loads(f"name = {written}")["name"]
    assert isinstance(name, str)
    return name

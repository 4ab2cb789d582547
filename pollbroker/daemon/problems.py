"""What is wrong with a configuration: every problem has a place, and all of them are reported at once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from pollbroker.daemon.positions import KeyPath, Lines
from pollbroker.errors import ConfigError

_BARE: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
"""The characters of keys that TOML allows without quotes."""


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong, and where."""

    file: str
    line: int
    """The line from 1 on; 0 if it is about the file as a whole."""
    key: str
    text: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(filter(None, (place, self.key, self.text)))


class ConfigurationError(ConfigError):
    """A configuration cannot be used. Its text has one line for each problem."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: Sequence[Problem] = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True)
class Place:
    """A key of a file: what a problem is about."""

    file: str
    path: KeyPath
    lines: Lines | None = field(default=None, compare=False, repr=False)
    """Those of the file; None if the file as a whole is meant."""

    @property
    def line(self) -> int:
        """The line from 1 on; 0 if the file as a whole is meant."""
        return 0 if self.lines is None else self.lines.line_of(self.path)

    @property
    def key(self) -> str:
        """The path as it is written in TOML, with numbers in brackets."""
        return shown_key(self.path)

    def problem(self, text: str) -> Problem:
        """A problem here."""
        return Problem(self.file, self.line, self.key, " ".join(text.split()))

    def __str__(self) -> str:
        line = self.line
        return f"{self.file}:{line}" if line else self.file


def shown_key(path: KeyPath) -> str:
    """A key path as TOML writes it, with the numbers of elements in brackets."""
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
        else:
            shown += f".{part if part and set(part) <= _BARE else _quoted(part)}"
    return shown.removeprefix(".")


def _quoted(part: str) -> str:
    """A part of a key as a basic string of TOML. What cannot be printed is escaped."""
    escaped = part.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in escaped) + '"'

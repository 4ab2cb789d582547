"""Reading the files of a configuration: TOML, what they include, and what they take from the environment.

- `include` names files relative to the file that says so. A file is read once; one that includes itself, by whatever
  way, is an error.
- `${NAME}` in a text stands for a variable of the environment, and `$${` for a literal `${`.
- Nothing that a file holds raises anything but problems.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pollbroker.daemon.positions import KeyPath, Lines, check_depth
from pollbroker.daemon.problems import Place, Problem
from pollbroker.errors import did_you_mean

_REFERENCE: Final = re.compile(r"\$\$\{|\$\{([^}]*)\}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_AT_LINE: Final = re.compile(r" \(at line (\d+), column (\d+)\)$")

_MAX_BYTES: Final = 16 << 20
"""No configuration is as large: 1,000 brokers take a tenth of a megabyte. A device such as /dev/zero has no end."""


@dataclass
class Source:
    """One file that was read."""

    name: str
    """The path, as the user would write it."""
    data: dict[str, Any]
    lines: Lines
    from_environment: set[KeyPath] = field(default_factory=set)
    """The texts that hold something of the environment. A number may be meant."""
    unresolved: set[KeyPath] = field(default_factory=set)
    """The texts with a reference to what is not there. That is a problem; what they would be is not judged."""

    def place(self, path: KeyPath) -> Place:
        """Where a key is. A key that is not there is where the table is that it belongs to."""
        return Place(self.name, path, self.lines)


def read_sources(path: Path, environment: Mapping[str, str], problems: list[Problem]) -> list[Source]:
    """Read a file and all that it includes, each before those that it includes. What is wrong is added to
    `problems`."""
    return list(_Reading(environment, problems).read(path, ()))


def read_text(name: str, raw: bytes, problems: list[Problem]) -> Source | None:
    """Read a text that is no file, and so includes nothing and takes nothing from the environment. None if it is not
    valid TOML. What is wrong is added to `problems`."""
    reading = _Reading(None, problems)
    source = reading.parse(name, raw)
    if source is not None:
        source.data = reading.substituted(source, (), source.data)
    return source


class _Reading:
    """One reading. Without an `environment` nothing can be taken from it."""

    def __init__(self, environment: Mapping[str, str] | None, problems: list[Problem]) -> None:
        self._environment = environment
        self._problems = problems
        self._read: set[Path] = set()

    def read(self, path: Path, including: tuple[Path, ...]) -> Iterator[Source]:
        resolved = _resolved(path)
        self._read.add(resolved)
        source = self._load(path)
        if source is None:
            return
        source.data = self.substituted(source, (), source.data)
        yield source
        include = source.data.get("include")
        for number, pattern in enumerate(include if isinstance(include, list) else ()):
            if isinstance(pattern, str):
                place = source.place(("include", number))
                for included in self._matching(path, pattern, place):
                    if _resolved(included) in (*including, resolved):
                        self._problems.append(
                            place.problem(
                                f"{pattern!r} includes {included}, which includes this file; expected no circle"
                            )
                        )
                    elif _resolved(included) not in self._read:
                        yield from self.read(included, (*including, resolved))

    def _matching(self, path: Path, pattern: str, place: Place) -> list[Path]:
        try:
            found = sorted(one for one in _glob(path.parent, pattern) if not one.is_dir())
        except (ValueError, OSError, NotImplementedError, IndexError) as error:
            self._problems.append(
                place.problem(f"{pattern!r}: expected a path, or a pattern such as conf.d/*.toml ({error})")
            )
            return []
        if not found and not set("*?[") & set(pattern):
            self._problems.append(place.problem(f"{pattern!r}: there is no such file"))
        return found

    def _load(self, path: Path) -> Source | None:
        name = str(path)
        try:
            with path.open("rb") as file:
                raw = file.read(_MAX_BYTES + 1)
        except OSError as error:
            self._problems.append(Problem(name, 0, "", f"cannot be read: {error.strerror}"))
            return None
        return self.parse(name, raw)

    def parse(self, name: str, raw: bytes) -> Source | None:
        """The tables of a file; None if it is not valid TOML."""
        try:
            if len(raw) > _MAX_BYTES:
                raise ValueError(f"expected a file of at most {_MAX_BYTES >> 20} MiB")
            text = raw.decode().replace("\r\n", "\n")  # as tomllib does it
            data = tomllib.loads(text)
            check_depth(data)
            return Source(name, data, Lines(text))
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            self._problems.append(Problem(name, line, "", f"byte {raw[error.start]:#x}: expected text in UTF-8"))
        except RecursionError:
            self._problems.append(Problem(name, 0, "", "too many arrays or tables in each other; expected a few"))
        except ValueError as error:  # tomllib.TOMLDecodeError, or an integer of thousands of digits
            match = _AT_LINE.search(str(error))
            reason = (
                str(error)[: match.start()] if match else str(error).replace(" (at end of document)", " at the end")
            )
            line = int(match[1]) if match else raw.count(b"\n") + 1
            column = f" (column {match[2]})" if match else ""
            self._problems.append(Problem(name, line, "", f"not valid TOML: {' '.join(reason.split())}{column}"))
        return None

    def substituted(self, source: Source, path: KeyPath, value: Any) -> Any:
        """The value with variables of the environment in place of the references to them."""
        if isinstance(value, dict):
            return {key: self.substituted(source, (*path, key), one) for key, one in value.items()}
        if isinstance(value, list):
            return [self.substituted(source, (*path, number), one) for number, one in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value

        def replaced(match: re.Match[str]) -> str:
            name = match[1]
            if name is None:
                return "${"
            if self._environment is None:
                text = f"{match[0]}: nothing is taken from the environment here; expected a value"
                self._problems.append(source.place(path).problem(text))
                return ""
            found = self._environment.get(name)
            if not _VARIABLE.fullmatch(name):
                self._problems.append(
                    source.place(path).problem(f"{match[0]!r}: expected ${{NAME}}, or $${{ for a literal ${{")
                )
            elif found is None:
                near = did_you_mean(name, self._environment) or ""
                self._problems.append(source.place(path).problem(f"{match[0]}: no variable of this name is set{near}"))
            else:
                source.from_environment.add(path)
                return os.fsencode(found).decode(errors="backslashreplace")
            return ""

        before = len(self._problems)
        text = _REFERENCE.sub(replaced, value)
        if len(self._problems) > before:
            source.unresolved.add(path)
        return text


def _resolved(path: Path) -> Path:
    """A path without links. Of a link that leads to itself `Path.resolve` makes an error in Python 3.11 and 3.12; it
    cannot be read, which is told then."""
    return Path(os.path.realpath(path))


def _glob(directory: Path, pattern: str) -> Iterator[Path]:
    if not pattern or "\0" in pattern:
        raise ValueError("it names no file")
    if set("*?[") & set(pattern):
        absolute = Path(pattern).is_absolute()
        yield from Path("/").glob(pattern.lstrip("/")) if absolute else directory.glob(pattern)
    elif (directory / pattern).exists():
        yield directory / pattern

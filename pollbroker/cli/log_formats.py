"""How a record of `logging` becomes a line: for people, or as JSON.

No line holds a part of a message that a broker has carried. What is logged of a message is what became of it. The text
of an exception that a handler raised may hold a part of the message, so that only its type is told.
"""

import logging
import os
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import msgspec

Brokers = Callable[[], Mapping[str, Collection[str]]]
"""Returns the names of the ports of each broker, by its name."""

FIELDS: Final = ("broker", "port", "file", "line", "key", "rule", "dropped", "dropped_so_far", "left_out")
"""What a record may say beside its message, as `extra` of whoever logs."""

_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""The priorities of syslog(3) by the least level that has them."""


class LogFormat(Protocol):
    """A format of the log."""

    def goes_to_stderr(self, record: logging.LogRecord) -> bool:
        """Return True if the record is written to stderr, and False if to stdout."""

    def line(self, record: logging.LogRecord, text: str, *, for_journal: bool) -> str:
        """Return the line, or lines, of a record, whose text is given. `for_journal` is True if the journal of systemd
        reads them, which takes the priority from the beginning of a line."""


class TextFormat:
    """Lines for people: facts on stdout, and what is wrong on stderr.

    Arguments:
        timed: put the time and the level before each line.
    """

    def __init__(self, *, timed: bool = False) -> None:
        self._timed = timed

    def goes_to_stderr(self, record: logging.LogRecord) -> bool:
        """Return True for warnings and errors."""
        return record.levelno >= logging.WARNING

    def line(self, record: logging.LogRecord, text: str, *, for_journal: bool) -> str:
        """The text, and the lines of the exception if there is one."""
        ours = record.name.partition(".")[0] == "pollbroker"
        if not ours or (record.levelno >= logging.WARNING and not getattr(record, "plain", False)):
            text = f"{'pollbroker' if ours else record.name}: {text}"
        if self._timed:
            text = f"{time_of(record).isoformat(timespec='milliseconds')} {record.levelname.lower()} {text}"
        lines = [*text.splitlines(), *exception_of(record).splitlines()] or [""]
        before = f"<{_priority(record.levelno)}>" if for_journal else ""
        return "".join(f"{before}{line}\n" for line in lines)


class JsonFormat:
    """One JSON object a line, all on stdout.

    `time` is in RFC 3339 and UTC; `level`, `logger` and `message` are texts; `broker` and `port` are there if the
    record says them or its message names a broker; `exception` is the traceback, if there is one.
    """

    def __init__(self, brokers: Brokers) -> None:
        self._encode = msgspec.json.Encoder().encode
        self._brokers = brokers

    def goes_to_stderr(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - see `LogFormat`
        """Return False: one stream keeps the order."""
        return False

    def line(self, record: logging.LogRecord, text: str, *, for_journal: bool) -> str:  # noqa: ARG002
        """The object."""
        found: dict[str, Any] = {
            "time": time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _valid(text),
        }
        found |= {name: _valid(value) for name, value in place_in(text, self._brokers()).items()}
        for name in FIELDS:
            value = getattr(record, name, None)
            if isinstance(value, str):
                found[name] = _valid(value)
            elif isinstance(value, int):
                found[name] = value
        exception = exception_of(record)
        if exception:
            found["exception"] = _valid(exception)
        return self._encode(found).decode() + "\n"


def time_of(record: logging.LogRecord) -> datetime:
    """When the record was made, in UTC."""
    return datetime.fromtimestamp(record.created, UTC)


def place_in(text: str, brokers: Mapping[str, Collection[str]]) -> dict[str, str]:
    """The broker that a text names, and its port, as errors name them: `brokers.orders.frontend: ...`."""
    at = text.find("brokers.")
    while at >= 0:
        rest = text[at + len("brokers.") :]
        named = [name for name in brokers if rest.startswith((f"{name}:", f"{name}."))]
        if named:
            name = max(named, key=len)
            port = rest[len(name) + 1 :].partition(":")[0].partition(".")[0]
            return {"broker": name} | ({"port": port} if rest[len(name)] == "." and port in brokers[name] else {})
        at = text.find("brokers.", at + 1)
    return {}


def exception_of(record: logging.LogRecord) -> str:
    """The traceback of a record; empty if there is none. That of a handler has no texts, only types."""
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    error = record.exc_info[1]
    if not getattr(record, "of_a_message", False):
        return "".join(traceback.format_exception(error)).rstrip()
    return "".join(_without_texts(traceback.TracebackException.from_exception(error, compact=True))).rstrip()


def _without_texts(told: traceback.TracebackException) -> Iterator[str]:
    earlier = told.__cause__ or told.__context__
    if earlier is not None:
        yield from _without_texts(earlier)
        yield "\nThen this exception was raised:\n\n"
    yield "Traceback (most recent call last):\n"
    yield from told.stack.format()
    kind = told.exc_type
    name = "an exception" if kind is None else kind.__qualname__
    yield f"{name} (its text is not logged, since it may hold a part of a message)\n"


def is_journal(descriptor: int, environment: Mapping[str, str] = os.environ) -> bool:
    """Return True if the journal of systemd reads what is written to a descriptor (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _priority(level: int) -> int:
    return next((priority for least, priority in _PRIORITIES if level >= least), 7)


def _valid(text: str) -> str:
    """The text without what UTF-8 cannot have, such as halves of surrogate pairs."""
    return text.encode(errors="backslashreplace").decode()

"""What the log of a daemon writes, and what becomes of it where it cannot be written."""

import io
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pollbroker.cli import logs
from pollbroker.cli.log_formats import JsonFormat, LogFormat, TextFormat, is_journal, place_in
from pollbroker.cli.logs import LogHandler
from pollbroker.seldom import OF_A_MESSAGE, Seldom, SeldomLog
from tests.support.clocks import Clock
from tests.support.deadline import DEADLINE_S, wait_until

BROKERS = {"orders": ("frontend", "backend"), "orders.old": ("intake",), "prices": ("frontend",)}
SECRET = "a-body-that-must-not-appear"


def record(message: str, *args: object, level: int = logging.WARNING, name: str = "pollbroker", **more: Any) -> Any:
    made = logging.LogRecord(name, level, "", 0, message, args, more.pop("exc_info", None))
    vars(made).update(more)
    return made


def raised(raising: Callable[[], object]) -> Any:
    try:
        raising()
    except Exception as error:  # noqa: BLE001
        return type(error), error, error.__traceback__
    return None


class Streams:
    """stdout and stderr as pipes, which a test reads or fills."""

    def __init__(self) -> None:
        self.reading: dict[str, int] = {}
        self.streams: dict[str, Any] = {}
        self._writers: list[threading.Thread] = []
        for name in ("stdout", "stderr"):
            self.reading[name], writing = os.pipe()
            self.streams[name] = os.fdopen(writing, "w")

    def written(self, name: str) -> str:
        self._wait_for_writers()
        self.streams[name].close()
        parts = []
        while part := os.read(self.reading[name], 1 << 16):
            parts.append(part)
        return b"".join(parts).decode()

    def close(self) -> None:
        for reading in self.reading.values():
            os.close(reading)  # who still writes is told that nobody reads
        self._wait_for_writers()
        for stream in self.streams.values():
            stream.close()

    def _wait_for_writers(self) -> None:
        """Wait until no handler writes any more, since the numbers of closed descriptors are soon those of others."""
        for writer in self._writers:
            writer.join(DEADLINE_S)
            assert not writer.is_alive(), "the thread of a handler goes on writing"

    @contextmanager
    def handler(self, log_format: LogFormat, clock: Clock | None = None) -> Iterator[LogHandler]:
        """A handler that writes to these."""
        made = LogHandler(log_format, self.streams["stdout"], self.streams["stderr"], clock or Clock())
        self._writers.append(made._thread)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def streams() -> Iterator[Streams]:
    made = Streams()
    yield made
    made.close()


# -- once a second -----------------------------------------------------------------------------------------------------


def test_one_message_in_a_second_says_how_many_were_left_out(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    warn = SeldomLog(logging.getLogger("pollbroker").warning, clock)
    for number, later_s in enumerate([0.0, 0.0, 0.5, 0.5, 0.999, 0.001]):
        clock.now_s += later_s
        warn("warning %d", number)
    assert [one.message for one in caplog.records] == [
        "warning 0",
        "warning 3 (and 2 more since the last such message)",
        "warning 5 (and 1 more since the last such message)",
    ]


def test_seldom_counts_what_it_leaves_out() -> None:
    clock = Clock()
    seldom = Seldom(clock=clock)
    assert seldom.is_due
    assert [seldom.admit() for _ in range(3)] == [0, None, None]
    assert (seldom.is_due, seldom.left_out) == (False, 2)
    clock.now_s += 1
    assert seldom.is_due
    assert (seldom.admit(), seldom.left_out) == (2, 0)


def test_warning_that_is_repeated_is_written_once_and_then_with_a_count(streams: Streams) -> None:
    clock = Clock()
    with streams.handler(TextFormat(), clock) as handler:
        for _ in range(3):
            handler.handle(record("again"))
            handler.handle(record("a fact", level=logging.INFO))
        handler.handle(record("other"))
        clock.now_s += 1
        handler.handle(record("again"))
    assert streams.written("stderr").splitlines() == [
        "pollbroker: again",
        "pollbroker: other",
        "pollbroker: again (and 2 more since the last such message)",
    ]
    assert streams.written("stdout") == "a fact\n" * 3


def test_warning_that_does_not_come_again_is_counted_all_the_same(streams: Streams) -> None:
    clock = Clock()
    with streams.handler(TextFormat(), clock) as handler:
        for _ in range(3):
            handler.handle(record("again"))
        clock.now_s += 1

        def is_forgotten() -> bool:
            clock.now_s += 1
            return not handler.recent_texts

        wait_until(is_forgotten)
    assert streams.written("stderr") == "pollbroker: again\npollbroker: again (2 times more)\n"


def test_warning_that_does_not_come_again_is_counted_while_other_lines_keep_coming(streams: Streams) -> None:
    clock = Clock()
    with streams.handler(TextFormat(), clock) as handler:
        for _ in range(3):
            handler.handle(record("again"))

        def is_forgotten() -> bool:
            clock.now_s += 1
            handler.handle(record("a fact", level=logging.INFO))
            return not handler.recent_texts

        wait_until(is_forgotten)
    assert streams.written("stderr") == "pollbroker: again\npollbroker: again (2 times more)\n"


def test_end_of_the_log_tells_what_was_left_out(streams: Streams) -> None:
    with streams.handler(TextFormat()) as handler:
        handler.handle(record("again"))
        handler.handle(record("again"))
    assert streams.written("stderr") == "pollbroker: again\npollbroker: again (once more)\n"


def test_many_different_warnings_do_not_take_memory_for_ever(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_TEXTS_MOST", 10)
    with streams.handler(TextFormat()) as handler:
        for number in range(100):
            handler.handle(record("warning %d", number))
        assert handler.recent_texts <= 10
    assert len(streams.written("stderr").splitlines()) == 100


# -- formats -----------------------------------------------------------------------------------------------------------


def test_json_has_one_object_a_line_with_the_broker_and_the_port() -> None:
    made = record("x", level=logging.ERROR, name="pollbroker.daemon", rule="slow_peer", dropped=3)
    text = 'brokers.orders.backend: "quoted"\nand a second line, and \udc80'
    line = JsonFormat(lambda: BROKERS).line(made, text, for_journal=False)
    assert line.count("\n") == 1
    told = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", told.pop("time"))
    assert told == {
        "level": "error",
        "logger": "pollbroker.daemon",
        "message": 'brokers.orders.backend: "quoted"\nand a second line, and \\udc80',
        "broker": "orders",
        "port": "backend",
        "rule": "slow_peer",
        "dropped": 3,
    }


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("brokers.orders: failed", {"broker": "orders"}),
        ("reload: brokers.toml:3: brokers.orders.frontend: in use", {"broker": "orders", "port": "frontend"}),
        ("brokers.orders.old.intake: x", {"broker": "orders.old", "port": "intake"}),
        ("brokers.orders.options: x", {"broker": "orders"}),
        ("brokers.unknown: x", {}),
        ("brokers.order", {}),
        ("brokers.", {}),
        ("", {}),
    ],
)
def test_place_is_what_the_message_names(text: str, place: dict[str, str]) -> None:
    assert place_in(text, BROKERS) == place


def test_traceback_is_part_of_its_object_and_of_the_text() -> None:
    made = record("a call raised", exc_info=raised(lambda: dict[str, int]()["key"]))
    told = json.loads(JsonFormat(dict).line(made, "a call raised", for_journal=False))
    assert told["exception"].startswith("Traceback (most recent call last):\n")
    assert told["exception"].endswith("KeyError: 'key'")
    lines = TextFormat().line(made, "a call raised", for_journal=True).splitlines()
    assert lines[0] == "<4>pollbroker: a call raised"
    assert lines[-1] == "<4>KeyError: 'key'"


def test_no_text_of_an_exception_about_a_message_is_logged() -> None:
    def fail() -> None:
        try:
            int(SECRET)
        except ValueError as error:
            error.add_note(SECRET)
            raise KeyError(SECRET) from error

    made = record("handler h: a message was dropped", exc_info=raised(fail), **dict[str, Any](OF_A_MESSAGE))
    for log_format in (TextFormat(), TextFormat(timed=True), JsonFormat(dict)):
        line = log_format.line(made, made.getMessage(), for_journal=False)
        assert SECRET not in line
        assert "ValueError (its text is not logged, since it may hold a part of a message)" in line
        assert "KeyError (its text" in line
        assert "in fail" in line


def test_text_of_others_has_their_name_and_a_time_where_that_is_asked_for() -> None:
    made = record("x", level=logging.INFO, name="my_device")
    assert TextFormat().line(made, "x", for_journal=False) == "my_device: x\n"
    timed = TextFormat(timed=True).line(made, "x", for_journal=False)
    assert re.fullmatch(r"\S+T\S+\+00:00 info my_device: x\n", timed)


def test_journal_is_known_by_its_descriptor(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        found = os.fstat(file.fileno())
        assert is_journal(file.fileno(), {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
        assert not is_journal(file.fileno(), {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + 1}"})
        assert not is_journal(file.fileno(), {})


# -- what cannot be written --------------------------------------------------------------------------------------------


def test_lines_that_cannot_be_written_are_counted(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    written = os.write
    full = True

    def write(descriptor: int, data: bytes) -> int:
        if full and descriptor == streams.streams["stdout"].fileno():
            raise OSError(28, "No space left on device")
        return written(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    with streams.handler(TextFormat()) as handler:
        for number in range(3):
            handler.handle(record("lost %d", number, level=logging.INFO))
        wait_until(lambda: handler.lost == 3)
        full = False
        handler.handle(record("kept", level=logging.INFO))
    assert streams.written("stdout").splitlines() == [
        "pollbroker: 3 lines are missing from the log here: No space left on device",
        "kept",
    ]


def test_log_that_nobody_reads_holds_nobody_up(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "WAITING_MOST", 10)
    monkeypatch.setattr(logs, "CLOSE_S", 0.01)
    long = "x" * 10_000
    with streams.handler(TextFormat()) as handler:
        for number in range(100):
            handler.handle(record("%d %s", number, long, level=logging.INFO))
        lines = b""
        while b"missing" not in lines:
            handler.handle(record("after", level=logging.INFO))
            lines += os.read(streams.reading["stdout"], 1 << 16)
        assert re.search(rb"pollbroker: \d+ lines are missing from the log here: nobody has read the log", lines)


def test_stream_without_a_descriptor_or_no_stream_at_all() -> None:
    stream = io.StringIO()
    handler = LogHandler(TextFormat(), None, stream)
    handler.handle(record("here"))
    handler.handle(record("nowhere", level=logging.INFO))
    handler.close()
    assert stream.getvalue() == "pollbroker: here\n"


def test_record_that_cannot_be_shown_is_said_to_be_so(streams: Streams) -> None:
    with streams.handler(TextFormat()) as handler:
        handler.handle(record("%d of them", "three"))
    assert streams.written("stderr") == "pollbroker: %d of them (its arguments cannot be shown: TypeError)\n"

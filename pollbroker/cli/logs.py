"""What `pollbroker run` writes: records of `logging` as lines for people, or as JSON.

- Whoever logs never waits, and never fails. A thread writes the lines. If nobody reads them, up to `WAITING_MOST` lines
  wait, and what comes then is lost and counted.
- A line that cannot be written (the disk is full, the pipe is closed) is lost and counted. The next line that can be
  written comes after one that says how many are missing, and why.
- A warning or an error whose text was written less than a second ago is not written again. After that second a line
  says how many there were.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Final, TextIO

from pollbroker.cli.log_formats import LogFormat, is_journal
from pollbroker.seldom import Seldom, said_of

WAITING_MOST: Final = 10_000
"""Lines that wait to be written."""

CLOSE_S: Final = 1.0
"""How long lines that nobody reads may put off the end of the program."""

_TEXTS_MOST: Final = 1000
"""Of how many texts it is known when they were written last."""

_LOOK_S: Final = 0.5
"""How often it is looked whether a text that was left out is to be told of."""


class LogHandler(logging.Handler):
    """Has records written to stdout and stderr by a format.

    Arguments:
        stdout, stderr: where the lines go; None if the process has no such stream.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        log_format: LogFormat,
        stdout: TextIO | None,
        stderr: TextIO | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._format = log_format
        self._clock = clock
        self._recent: dict[str, tuple[Seldom, logging.LogRecord]] = {}
        """The texts of warnings that were written a moment ago."""
        self._stdout, self._stderr = _Output(stdout), _Output(stderr)
        self._queue: SimpleQueue[tuple[_Output, str] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="pollbroker-log", daemon=True)
        self._thread.start()

    @property
    def recent_texts(self) -> int:
        """Of how many texts it is known when they were written last."""
        return len(self._recent)

    @property
    def lost(self) -> int:
        """How many lines could not be written since the last that could."""
        return self._stdout.lost + self._stderr.lost

    def emit(self, record: logging.LogRecord) -> None:
        """Have a record written, unless its text was written a moment ago."""
        try:
            text = record.getMessage()
            left_out: int | None = 0
            if record.levelno >= logging.WARNING:
                left_out = self._seldom_of(text, record).admit()
            if left_out is not None:
                self._put(record, text + said_of(left_out))
        except Exception as error:  # noqa: BLE001 - the arguments do not fit, or one of them raises when it is shown
            self._put(record, f"{record.msg!s:.200} (its arguments cannot be shown: {type(error).__name__})")

    def _put(self, record: logging.LogRecord, text: str) -> None:
        output = self._stderr if self._format.goes_to_stderr(record) else self._stdout
        if self._queue.qsize() < WAITING_MOST:
            self._queue.put((output, self._format.line(record, text, for_journal=output.is_journal)))
        else:
            output.unread += 1

    def _seldom_of(self, text: str, record: logging.LogRecord) -> Seldom:
        if text not in self._recent:
            if len(self._recent) >= _TEXTS_MOST:
                self._tell_left_out(every=True)
            self._recent[text] = (Seldom(clock=self._clock), record)
        return self._recent[text][0]

    def _tell_left_out(self, *, every: bool = False) -> None:
        """Say how often texts were left out that have not come since, and forget those that have not come again."""
        self.acquire()
        try:
            for text, (seldom, record) in list(self._recent.items()):
                if not (seldom.is_due or every):
                    continue
                left_out = seldom.left_out
                if left_out:
                    self._put(record, f"{text} ({'once' if left_out == 1 else f'{left_out} times'} more)")
                del self._recent[text]
                if left_out and not every:
                    self._seldom_of(text, record).admit()  # the next is written in a second
        finally:
            self.release()

    def _write_all(self) -> None:
        looked_s = time.monotonic()
        while True:
            with suppress(Empty):
                taken = self._queue.get(timeout=_LOOK_S if self._recent else None)
                if taken is None:
                    return
                self._write(*taken)
            if time.monotonic() - looked_s >= _LOOK_S:  # whether or not other lines keep coming
                self._tell_left_out()
                looked_s = time.monotonic()

    def _write(self, output: "_Output", line: str) -> None:
        if output.unread:
            output.lost, output.unread = output.lost + output.unread, 0
            output.why = output.why or "nobody has read the log"
        if output.lost:
            count = f"{output.lost} {'line is' if output.lost == 1 else 'lines are'}"
            missing = logging.makeLogRecord(
                {"name": "pollbroker.log", "levelno": logging.WARNING, "levelname": "WARNING"}
            )
            text = f"{count} missing from the log here: {output.why}"
            if output.write(self._format.line(missing, text, for_journal=output.is_journal)):
                output.lost, output.why = 0, ""
        if not output.write(line):
            output.lost += 1

    def close(self) -> None:
        """Write what waits, for `CLOSE_S` at most, and end the thread."""
        self._tell_left_out(every=True)
        self._queue.put(None)
        self._thread.join(CLOSE_S)
        super().close()


class _Output:
    """stdout or stderr. Only the thread that writes uses it, but for `unread`."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.descriptor = _descriptor_of(stream)
        self.is_journal = self.descriptor is not None and is_journal(self.descriptor)
        self.lost = 0
        """Lines that could not be written since the last that could."""
        self.why = ""
        """Why they could not be written."""
        self.unread = 0
        """Lines that were not even queued, since too many wait."""

    def write(self, line: str) -> bool:
        """Write a line. Return True if that was possible."""
        try:
            if self.descriptor is not None:
                # Python's own buffer would keep a line that could not be written, and try it again with the next.
                rest = line.encode(errors="backslashreplace")
                while rest:
                    rest = rest[os.write(self.descriptor, rest) :]
            elif self._stream is not None:
                self._stream.write(line)
                self._stream.flush()
        except (OSError, ValueError) as error:  # ValueError: it was closed
            self.why = getattr(error, "strerror", None) or str(error)
            return False
        return True


def _descriptor_of(stream: TextIO | None) -> int | None:
    """The descriptor of a stream; None if it has none, as in a test, or is not there at all."""
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError):
        return None


@contextmanager
def logging_to(log_format: LogFormat, level: int) -> Iterator[None]:
    """As a context: everything that is logged by this process, from a level on, is written by a format."""
    root, handler = logging.getLogger(), LogHandler(log_format, sys.stdout, sys.stderr)
    before = root.level
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield
    finally:
        root.setLevel(before)
        root.removeHandler(handler)
        handler.close()

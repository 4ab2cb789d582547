"""Keys of a terminal, one by one, and what else wakes `top`: a new size, and news from a thread."""

import os
import re
import selectors
import signal
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

_NAMES: Final = {
    "\x03": "ctrl-c",
    "\x1b": "escape",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\x08": "backspace",
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1bOA": "up",
    "\x1bOB": "down",
    "\x1b[5~": "pageup",
    "\x1b[6~": "pagedown",
    "\x1b[H": "home",
    "\x1b[F": "end",
    "\x1bOH": "home",
    "\x1bOF": "end",
    "\x1b[1~": "home",
    "\x1b[4~": "end",
}
"""What terminals send for keys that have a name here. A key that is not known is ignored."""

_SEQUENCE: Final = re.compile(r"\x1b(?:\[\[?[0-?]*[ -/]*[@-~]|O[0-?]*.|[^\x1b])")
"""What begins with the character of Escape and is another key: the control sequence of a key without a character, or a
key that was pressed with Alt."""


def keys_of(text: str) -> Iterator[str]:
    """The keys that were pressed, by what the terminal has sent. A sequence comes whole in one read."""
    at = 0
    while at < len(text):
        sequence = _SEQUENCE.match(text, at)
        key = text[at] if sequence is None else sequence[0]
        if key in _NAMES:
            yield _NAMES[key]
        elif key.isprintable():
            yield key
        at += len(key)


class Terminal:
    """A terminal whose keys come at once, and are not shown. See `open_terminal`."""

    def __init__(self) -> None:
        self._stdin = sys.stdin.fileno()
        self._selector = selectors.DefaultSelector()
        self._awake, self._waker = socket.socketpair()
        for end in (self._awake, self._waker):
            end.setblocking(False)
        self._selector.register(self._stdin, selectors.EVENT_READ)
        self._selector.register(self._awake, selectors.EVENT_READ)

    def wake(self, *_: object) -> None:
        """Let `wait` return. Any thread, and a signal handler, may call this."""
        with suppress(BlockingIOError):  # it is about to return in any case
            self._waker.send(b"x")

    def wait(self) -> list[str]:
        """Sleep until keys are pressed or `wake` is called, and return the keys. The end of the input is a `ctrl-c`."""
        keys: list[str] = []
        for key, _ in self._selector.select():
            if key.fileobj is self._awake:
                while self._drain():
                    pass
            else:
                typed = os.read(self._stdin, 1024)
                keys += keys_of(typed.decode(errors="ignore")) if typed else ["ctrl-c"]
        return keys

    def _drain(self) -> bool:
        try:
            return bool(self._awake.recv(1024))
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Close what was opened here. The terminal itself remains open."""
        self._selector.close()
        self._awake.close()
        self._waker.close()


@contextmanager
def open_terminal() -> Iterator[Terminal]:
    """As a context: the terminal at stdin, which is left as it was. Its keys, Ctrl-C among them, are only told. SIGTERM
    and SIGHUP end the program in order."""
    terminal = Terminal()
    before = termios.tcgetattr(sys.stdin)
    handlers: dict[signal.Signals, Any] = {signal.SIGWINCH: signal.signal(signal.SIGWINCH, terminal.wake)}
    for number in (signal.SIGTERM, signal.SIGHUP):
        handlers[number] = signal.signal(number, _exit)
    try:
        tty.setraw(sys.stdin, termios.TCSANOW)
        mode = termios.tcgetattr(sys.stdin)
        mode[1] = before[1]  # output is processed as it was
        termios.tcsetattr(sys.stdin, termios.TCSANOW, mode)
        yield terminal
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        terminal.close()


def _exit(number: int, _: object) -> None:
    sys.exit(128 + number)

"""Tries to connect, which a test can look on at without an engine: the waits between them end when it says so."""

import threading
from collections.abc import Callable

from pollbroker.wire import native
from pollbroker.wire.served import STREAM_OPTIONS

NOWHERE = "tcp://127.0.0.1:1"
"""Nobody listens there: the port is tcpmux's."""


def lookups() -> list[threading.Thread]:
    """The threads that look up names."""
    return [thread for thread in threading.enumerate() if thread.name == "pollbroker-resolve"]


class Waits:
    """The times of a loop that never come, unless a test says so."""

    def __init__(self) -> None:
        self.delays_s: list[float] = []
        self.calls: list[Callable[[], None]] = []

    def call_later(self, delay_s: float, call: Callable[[], None], /) -> "Waits":
        self.delays_s.append(delay_s)
        self.calls.append(call)
        return self

    def call_soon(self, call: Callable[[], None], /) -> None:
        self.calls.append(call)

    def cancel(self) -> None:
        self.calls.clear()

    def come(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


def options_with(**options: int) -> dict[str, int]:
    return dict(STREAM_OPTIONS) | options


def serve(net: native.Net) -> None:
    for call in net.serve():
        call()

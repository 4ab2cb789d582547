"""Pollers that tell what they were asked."""

from typing import Any

import zmq


class CountedPoller:
    """A `zmq.Poller` that tells what it was asked, and what is registered in it."""

    def __init__(self) -> None:
        self._poller = zmq.Poller()
        self.asked: list[int | None] = []
        self.registered: dict[Any, int] = {}

    def register(self, socket: Any, flags: int) -> None:
        self._poller.register(socket, flags)
        self.registered[socket] = flags

    def unregister(self, socket: Any) -> None:
        self._poller.unregister(socket)
        del self.registered[socket]

    def poll(self, timeout: int | None = None) -> list[tuple[Any, int]]:
        self.asked.append(timeout)
        return self._poller.poll(timeout)


class SleeplessPoller(CountedPoller):
    """One that returns at once, however long it was asked to wait."""

    def poll(self, timeout: int | None = None) -> list[tuple[Any, int]]:
        self.asked.append(timeout)
        return self._poller.poll(0)

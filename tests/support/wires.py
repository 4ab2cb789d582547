"""Descriptors that a test makes readable, and names for what is to happen then."""

import socket as net
from typing import Any


class Wire:
    """A pair of connected descriptors: readable at `number` once `ring` was called, until `drain_waker`."""

    def __init__(self) -> None:
        self.here, self.there = net.socketpair()
        self.here.setblocking(False)

    @property
    def number(self) -> int:
        return self.here.fileno()

    def ring(self) -> None:
        self.there.send(b"x")

    def drain_waker(self) -> None:
        self.here.recv(100)

    def close(self) -> None:
        self.here.close()
        self.there.close()


def names_of(wakes: list[Any]) -> list[Any]:
    """The wakes here are functions that give a name."""
    return sorted(wake() for wake in wakes)


def named(name: str) -> Any:
    """A wake that gives this name."""
    return lambda: name

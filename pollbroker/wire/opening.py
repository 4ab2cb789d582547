"""Who opens the streams of ports: the kernel, or a simulation."""

from collections.abc import Callable
from typing import Protocol

from pollbroker.wire import native
from pollbroker.wire.connecting import Connection
from pollbroker.wire.streams import Listening, Timing


class Streams(Protocol):
    """Opens streams, with the options of `served.STREAM_OPTIONS`. Raises `OSError`."""

    clock: Callable[[], float] | None
    """The clock of deadlines, by which streams are simulated (`native.Stream`); None for sockets."""

    def listen(self, port: native.Port, address: str, options: dict[str, int], /) -> Listening:
        """Have a port listen at an address."""

    def connect(self, port: native.Port, address: str, options: dict[str, int], timing: Timing, /) -> Connection:
        """Connect a port to an address, again and again."""


class Sockets:
    """Streams of the kernel."""

    clock: Callable[[], float] | None = None

    def listen(self, port: native.Port, address: str, options: dict[str, int]) -> Listening:
        return Listening(port, address, options)

    def connect(self, port: native.Port, address: str, options: dict[str, int], timing: Timing) -> Connection:
        return Connection(port, address, options, timing)

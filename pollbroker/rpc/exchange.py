"""A request on its way, as a state machine without I/O: when it is sent again, and which reply is its own.

The protocols have no numbers for requests, so a reply that comes too late cannot be told from the reply to the next
request. Therefore each try has a socket of its own that nothing else is waiting for, and a socket on which a reply may
still come is never used again. (The guide's "Lazy Pirate", chapter 4.)
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from pollbroker.rpc.errors import RequestTimeout


class Part(NamedTuple):
    """A reply, or one part of it."""

    frames: list[bytes]
    is_last: bool


Parse: TypeAlias = Callable[[list[bytes]], Part | None]
"""Returns what a message brings, or None if it is not a reply to this request."""


class Exchange:
    """One request, from the first time that it is sent until its last reply.

    Arguments:
        where: what an error message begins with.
        frames: what is sent in each try.
        parse: what a message from the broker brings.
        timeout_s: how long a try waits for a reply, and how long it waits for each further part of it, from the time at
            which somebody wants it.
        retries: how often the request may be sent again.
        now_s: the time.
    """

    def __init__(
        self, where: str, frames: list[bytes], parse: Parse, *, timeout_s: float, retries: int, now_s: float
    ) -> None:
        self.frames = frames
        self.tries = 1
        self.until_s = now_s + timeout_s
        """When the present try is over."""
        self.is_done = False
        """True once the last part has come. Then the socket may be used for another request."""
        self._where = where
        self._parse = parse
        self._timeout_s = timeout_s
        self._retries = retries
        self._began_s = now_s
        self._parts = 0

    def received(self, message: list[bytes]) -> list[bytes] | None:
        """What a message brings, or None if it is to be passed over."""
        part = self._parse(message)
        if part is None:
            return None
        self._parts += 1
        self.is_done = part.is_last
        return part.frames

    def wait_on(self, now_s: float) -> None:
        """The part that has come was used, and the next is waited for."""
        self.until_s = now_s + self._timeout_s

    def try_again(self, now_s: float) -> None:
        """Begin another try: its time is over, and nothing has come.

        Raises `RequestTimeout` if there were enough tries, or if a part of the reply has come: it would come twice.
        """
        if self._parts:
            parts = "1 part" if self._parts == 1 else f"{self._parts} parts"
            raise RequestTimeout(
                f"{self._where}: no further part of the reply within {self._timeout_s:g} s, after {parts}"
            )
        if self.tries > self._retries:
            tries = "1 try" if self.tries == 1 else f"{self.tries} tries"
            raise RequestTimeout(f"{self._where}: no reply in {now_s - self._began_s:.3g} s ({tries})")
        self.tries += 1
        self.until_s = now_s + self._timeout_s

"""The commands that a peer of the demo gets on its stdin: one word on each line."""

import os
import select

_STDIN = 0


class StdinCommands:
    """Reads commands from stdin."""

    def __init__(self) -> None:
        self._unread = b""

    @staticmethod
    def wait(wait_ms: int) -> bool:
        """Wait at most `wait_ms`. Return True if there is something to read or stdin has ended."""
        return bool(select.select([_STDIN], [], [], wait_ms / 1000)[0])

    def read(self) -> list[str]:
        """Return the commands that have come. Raises `EOFError` at the end of stdin."""
        if not self.wait(0):
            return []
        chunk = os.read(_STDIN, 4096)
        if not chunk:
            raise EOFError
        *lines, self._unread = (self._unread + chunk).split(b"\n")
        return [line.decode() for line in lines]

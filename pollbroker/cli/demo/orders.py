"""What a peer of the demo is told, one word a line on stdin."""

import os
import select

_STDIN = 0


class Orders:
    """The words on stdin."""

    def __init__(self) -> None:
        self._unread = b""

    @staticmethod
    def wait(wait_ms: int) -> bool:
        """Whether something is to be read, now or within so many milliseconds, or stdin has ended."""
        return bool(select.select([_STDIN], [], [], wait_ms / 1000)[0])

    def read(self) -> list[str]:
        """Those that have come. Raises `EOFError` at the end of stdin."""
        if not self.wait(0):
            return []
        chunk = os.read(_STDIN, 4096)
        if not chunk:
            raise EOFError
        *lines, self._unread = (self._unread + chunk).split(b"\n")
        return [line.decode() for line in lines]

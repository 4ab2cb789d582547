"""Frames over a connected AF_UNIX socket, with descriptors.

A frame has the four bytes "pbho", a byte for what it is, eight bytes for its length, and a body. Descriptors travel as
SCM_RIGHTS (unix(7)) beside frames of their own, since the kernel takes 253 at a time at most. Whatever was received and
not fetched is closed with the channel.
"""

import array
import json
import os
import select
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Any, Final

from pollbroker.descriptors import descriptors_to_use
from pollbroker.errors import HandOverError

MAGIC: Final = b"pbho"
_HEADER: Final = struct.Struct("<4sBQ")

HELLO: Final = 1
OFFER: Final = 2
CLAIM: Final = 3
DESCRIPTORS: Final = 4
STATE: Final = 5
READY: Final = 6
COMMIT: Final = 7
TAKEN: Final = 8
REFUSED: Final = 9

_NAMES: Final = {
    HELLO: "HELLO", OFFER: "OFFER", CLAIM: "CLAIM", DESCRIPTORS: "DESCRIPTORS", STATE: "STATE", READY: "READY",
    COMMIT: "COMMIT", TAKEN: "TAKEN", REFUSED: "REFUSED",
}  # fmt: skip

_PIECE_BYTES: Final = 32 << 10
"""What is sent at once. A message of a SOCK_SEQPACKET socket has a limit, and is cut if the reader takes less."""

_DESCRIPTORS_MOST: Final = 250
"""In one message."""

_SCM_MAX_FD: Final = 253
"""The kernel's limit for one message."""

_TALK_MOST_BYTES: Final = 16 << 20
"""The longest frame but STATE. A peer that is no pollbroker cannot make this process store more."""


_LONGEST_WAIT_S: Final = 86_400.0
"""A deadline may be so late that poll(2) cannot be given the time."""

_LAST_WORDS_S: Final = 1.0
"""How long to wait for the reason of the other process when it does not listen any more."""


class Ended(HandOverError):
    """The other process has closed its end, or has died."""


class Refused(HandOverError):
    """The other process has refused."""


class Channel:
    """One end of the conversation. One thread sends and receives; `was_taken` may be called by another."""

    def __init__(self, connected: socket.socket) -> None:
        if not isinstance(connected, socket.socket) or connected.family != socket.AF_UNIX:
            raise HandOverError(f"{connected!r}: expected a connected socket of the family AF_UNIX")
        if connected.type not in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
            raise HandOverError(f"{connected!r}: expected a socket of the type SOCK_STREAM or SOCK_SEQPACKET")
        try:
            connected.getpeername()
        except OSError as error:
            raise HandOverError(f"{connected!r}: it is not connected: {error}") from error
        self._socket = connected.dup()  # so that nobody can close it meanwhile
        self._socket.setblocking(False)
        self._reading = threading.Lock()
        self._buffer = bytearray()
        self._descriptors: list[int] = []
        self._is_sending = False
        """True while a frame is sent in part: none may follow."""
        self._decided: bool | None = None

    def close(self) -> None:
        """Close this end, and all descriptors that were not fetched."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
        self._socket.close()

    # -- sending ------------------------------------------------------------------------------------------------------

    def send(self, kind: int, body: bytes = b"", *, deadline_s: float) -> None:
        """Send a frame. Raises `HandOverError`: `Refused`, or `Ended`."""
        self._send_or_explain(_HEADER.pack(MAGIC, kind, len(body)) + body, [], deadline_s)

    def tell(self, kind: int, told: object, *, deadline_s: float) -> None:
        """Send a frame whose body is JSON."""
        self.send(kind, json.dumps(told).encode(), deadline_s=deadline_s)

    def send_descriptors(self, descriptors: list[int], *, deadline_s: float) -> None:
        """Send descriptors, which stay open here."""
        for begin in range(0, len(descriptors), _DESCRIPTORS_MOST):
            batch = descriptors[begin : begin + _DESCRIPTORS_MOST]
            header = _HEADER.pack(MAGIC, DESCRIPTORS, 4)
            self._send_or_explain(header + struct.pack("<I", len(batch)), batch, deadline_s)

    def _send_or_explain(self, data: bytes, descriptors: list[int], deadline_s: float) -> None:
        try:
            self._send(data, descriptors, deadline_s)
        except Ended as gone:
            try:
                self.receive(deadline_s=min(deadline_s, time.monotonic() + _LAST_WORDS_S))
            except Refused:
                raise  # it says why it does not listen any more
            except HandOverError:
                raise gone from None

    def send_now(self, kind: int) -> None:
        """Send a frame without a body, and do not wait. Raises `Ended` if the other process does not listen any
        more."""
        self._send(_HEADER.pack(MAGIC, kind, 0), [], 0.0)

    def refuse(self, reason: str) -> None:
        """Tell the other process why nothing comes of it, unless it cannot be told."""
        if not self._is_sending and not self._decided:
            self._decided = None
            with suppress(HandOverError):
                self.tell(REFUSED, {"reason": reason}, deadline_s=0.0)
            self._decided = False

    def _send(self, data: bytes, descriptors: list[int], deadline_s: float) -> None:
        if self._decided is not None:
            raise HandOverError("it was given up here")
        rest = memoryview(data)
        self._is_sending = True
        while rest:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
            try:
                sent = self._socket.sendmsg([rest[:_PIECE_BYTES]], rights, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self._wait(select.POLLOUT, deadline_s, "take")
                continue
            except InterruptedError:
                continue
            except OSError as error:
                raise Ended(f"the other process is gone: {error.strerror}") from error
            rest = rest[sent:]
            descriptors = []
        self._is_sending = False

    def _wait(self, events: int, deadline_s: float, what: str) -> None:
        poll = select.poll()
        poll.register(self._socket, events)
        left_s = deadline_s - time.monotonic()
        if left_s <= 0 or not poll.poll(min(left_s, _LONGEST_WAIT_S) * 1000):
            raise HandOverError(f"the other process did not {what} what it should in time")

    # -- receiving ----------------------------------------------------------------------------------------------------

    def receive(self, *kinds: int, deadline_s: float) -> tuple[int, bytes]:
        """The next frame, which is to be of one of these kinds. Raises `HandOverError`: `Refused`, or `Ended`."""
        while True:
            with self._reading:
                frame = self._next_frame(kinds)
                if frame is not None and frame[0] == TAKEN:
                    self._decided = True
                if frame is None and self._decided is None and self._read_more():
                    continue
            if frame is not None:
                kind, body = frame
                if kind == REFUSED:
                    raise Refused(str(parse(body, "REFUSED").get("reason", "it gives no reason")))
                return kind, body
            if self._decided is not None:
                raise HandOverError("it was given up here")
            self._wait(select.POLLIN, deadline_s, "say")

    def _next_frame(self, kinds: tuple[int, ...]) -> tuple[int, bytes] | None:
        if len(self._buffer) < _HEADER.size:
            return None
        magic, kind, length = _HEADER.unpack_from(self._buffer)
        if magic != MAGIC or kind not in _NAMES:
            raise HandOverError(f"the other process does not hand over brokers: it says {bytes(self._buffer[:16])!r}")
        if kind not in (*kinds, REFUSED):
            expected = ", ".join(_NAMES[one] for one in kinds)
            raise HandOverError(f"the other process says {_NAMES[kind]}; expected {expected}")
        if kind != STATE and length > _TALK_MOST_BYTES:
            raise HandOverError(f"the other process says {_NAMES[kind]} of {length} bytes")
        if len(self._buffer) < _HEADER.size + length:
            return None
        body = bytes(self._buffer[_HEADER.size : _HEADER.size + length])
        del self._buffer[: _HEADER.size + length]
        return kind, body

    def _read_more(self) -> bool:
        """Read once. Return False if nothing has come. Raises `Ended`."""
        most = min(_SCM_MAX_FD, descriptors_to_use())  # the kernel gives no more than there is room for
        room = socket.CMSG_LEN(most * array.array("i").itemsize)
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(2 * _PIECE_BYTES, room, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            raise Ended(f"the other process is gone: {error.strerror}") from error
        for level, kind, rights in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                come = array.array("i")
                come.frombytes(rights[: len(rights) - len(rights) % come.itemsize])
                self._descriptors.extend(come)
        if flags & socket.MSG_CTRUNC:
            raise HandOverError("not all descriptors have come: this process may not open so many (ulimit -n)")
        if not data:
            raise Ended("the other process has closed its end, or has died")
        self._buffer += data
        return True

    def fetch_descriptors(self) -> list[int]:
        """The descriptors that have come. They belong to the caller from now on."""
        fetched, self._descriptors = self._descriptors, []
        return fetched

    # -- deciding -----------------------------------------------------------------------------------------------------

    def was_taken(self) -> bool:
        """Let nothing more come, and return True if TAKEN is the next that has come. It cannot come later."""
        with self._reading:
            if self._decided is None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RD)
                with suppress(HandOverError):
                    while self._read_more():
                        pass
                try:
                    frame = self._next_frame((TAKEN,))
                except HandOverError:
                    frame = None
                self._decided = frame is not None and frame[0] == TAKEN
            return self._decided


def parse(body: bytes, what: str) -> dict[str, Any]:
    """What a frame says. Raises `HandOverError` if that is not an object of JSON."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HandOverError(f"{what} is not JSON: {error}") from error
    if not isinstance(told, dict):
        raise HandOverError(f"{what} is not an object, but {told!r:.60}")
    return told

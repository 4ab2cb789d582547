"""ZMTP 3.1 and 3.0 (RFC 37 and 23) with the NULL mechanism, without I/O, as the kit's peers speak it."""

import struct
from typing import Final, TypeAlias

from zmq import SocketType

from pollbroker.testing.violation import InvariantViolation

_MORE: Final = 1
_LONG: Final = 2
_COMMAND: Final = 4

_SIGNATURE: Final = b"\xff" + bytes(7) + b"\x01\x7f"
_GREETING_SIZE: Final = 64

Message: TypeAlias = list[bytes]
Command: TypeAlias = bytes
"""The body of a command: its name, with the length before it, and its data."""


def greeting(minor: int) -> bytes:
    """The greeting of a peer of ZMTP 3."""
    return _SIGNATURE + bytes([3, minor]) + b"NULL".ljust(20, b"\0") + bytes(32)


def _frame(body: bytes, flags: int) -> bytes:
    if len(body) > 255:
        return bytes([flags | _LONG]) + struct.pack(">Q", len(body)) + body
    return bytes([flags, len(body)]) + body


def encode_message(frames: Message) -> bytes:
    """The bytes of a message."""
    return b"".join(_frame(body, _MORE) for body in frames[:-1]) + _frame(frames[-1], 0)


def encode_command(name: bytes, body: bytes) -> bytes:
    """The bytes of a command."""
    return _frame(bytes([len(name)]) + name + body, _COMMAND)


def encode_subscription(topic: bytes, wanted: bool, minor: int) -> bytes:
    """The bytes that subscribe to a topic, or cancel that. In ZMTP 3.0 they are a message."""
    if minor:
        return encode_command(b"SUBSCRIBE" if wanted else b"CANCEL", topic)
    return encode_message([(b"\1" if wanted else b"\0") + topic])


def encode_ready(kind: SocketType, identity: bytes) -> bytes:
    """The bytes of the command READY."""
    pairs = ((b"Socket-Type", kind.name.encode()), (b"Identity", identity))
    body = b"".join(bytes([len(name)]) + name + struct.pack(">I", len(value)) + value for name, value in pairs)
    return encode_command(b"READY", body)


def subscription_in(command: Command) -> tuple[bytes, bool] | None:
    """The topic of a command that subscribes or cancels, and True if it subscribes; None for another command."""
    for name, wanted in ((b"\x09SUBSCRIBE", True), (b"\x06CANCEL", False)):
        if command.startswith(name):
            return command[len(name) :], wanted
    return None


def answer_to(command: Command) -> bytes | None:
    """The bytes of the command that answers this one: PONG, with the context of a PING; None for another command."""
    name, size_of_ttl = b"\x04PING", 2
    return encode_command(b"PONG", command[len(name) + size_of_ttl :]) if command.startswith(name) else None


class Reader:
    """Finds the messages and commands in the bytes of a stream, which come in pieces.

    Raises `InvariantViolation` for what is not ZMTP: nobody but a port of the wire, or a peer of the kit, has sent it.
    """

    def __init__(self) -> None:
        self.minor: int | None = None
        """The minor number of the version in the greeting; None until that has come."""
        self.messages = 0
        """How many messages have come whole."""
        self._unread = bytearray()
        self._frames: Message = []

    def feed(self, more: bytes) -> list[Message | Command]:
        """Take more bytes. Return the messages and commands that are whole now."""
        self._unread += more
        if self.minor is None and not self._take_greeting():
            return []
        found: list[Message | Command] = []
        while (frame := self._take_frame()) is not None:
            flags, body = frame
            if flags & _COMMAND:
                found.append(body)
                continue
            self._frames.append(body)
            if not flags & _MORE:
                found.append(self._frames)
                self._frames = []
                self.messages += 1
        return found

    def _take_greeting(self) -> bool:
        if len(self._unread) < _GREETING_SIZE:
            return False
        begin = bytes(self._unread[:_GREETING_SIZE])
        if begin[:10] != _SIGNATURE or begin[10] != 3 or begin[12:32].rstrip(b"\0") != b"NULL":
            raise _not_zmtp(f"the greeting {begin!r}")
        self.minor = begin[11]
        del self._unread[:_GREETING_SIZE]
        return True

    def _take_frame(self) -> tuple[int, bytes] | None:
        unread = self._unread
        if len(unread) < 2:
            return None
        flags = unread[0]
        if flags & ~(_MORE | _LONG | _COMMAND) or (flags & _COMMAND and flags & _MORE):
            raise _not_zmtp(f"the flags {flags:#x} of a frame")
        start, size = 2, unread[1]
        if flags & _LONG:
            if len(unread) < 9:
                return None
            start, size = 9, int.from_bytes(unread[1:9], "big")
        if len(unread) < start + size:
            return None
        body = bytes(unread[start : start + size])
        del unread[: start + size]
        return flags, body


def _not_zmtp(found: str) -> InvariantViolation:
    return InvariantViolation("ports speak ZMTP", f"a port has sent {found}")

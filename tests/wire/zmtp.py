"""A peer that speaks ZMTP on a plain socket: 3.1 (RFC 37), 3.0 (RFC 23) and 2.0 (RFC 15), with the NULL mechanism.

It is for tests only. It can send any bytes, and stop anywhere: nothing is sent unless a test says so.
"""

import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from tests.support.deadline import DEADLINE_S

MORE: Final = 1
LONG: Final = 2
COMMAND: Final = 4

SIGNATURE: Final = b"\xff" + bytes(7) + b"\x01\x7f"

TYPES: Final = ("PAIR", "PUB", "SUB", "REQ", "REP", "DEALER", "ROUTER", "PULL", "PUSH", "XPUB", "XSUB")
"""The types of sockets, by their numbers in ZMTP 2."""


# -- what is sent ------------------------------------------------------------------------------------------------------


def greeting(minor: int = 1, *, mechanism: bytes = b"NULL", major: int = 3, as_server: int = 0) -> bytes:
    """The greeting of ZMTP 3, 64 bytes."""
    return SIGNATURE + bytes([major, minor]) + mechanism.ljust(20, b"\0") + bytes([as_server]) + bytes(31)


def greeting_2(socket_type: str, identity: bytes = b"", *, revision: int = 1) -> bytes:
    """All that a peer of ZMTP 2 sends before its messages."""
    return SIGNATURE + bytes([revision, TYPES.index(socket_type)]) + frame(identity)


def frame(body: bytes, flags: int = 0) -> bytes:
    """A frame, with a long header if it needs one, or if the flags say so."""
    if len(body) > 255 or flags & LONG:
        return bytes([flags | LONG]) + struct.pack(">Q", len(body)) + body
    return bytes([flags, len(body)]) + body


def message(*frames: bytes) -> bytes:
    """A message of these frames."""
    return b"".join(frame(body, MORE) for body in frames[:-1]) + frame(frames[-1])


def command(name: bytes, body: bytes = b"") -> bytes:
    """A command."""
    return frame(bytes([len(name)]) + name + body, COMMAND)


def properties(*pairs: tuple[bytes, bytes]) -> bytes:
    """The metadata of a READY."""
    return b"".join(bytes([len(name)]) + name + struct.pack(">I", len(value)) + value for name, value in pairs)


def ready(socket_type: str, identity: bytes | None = None) -> bytes:
    """The command READY."""
    pairs = [(b"Socket-Type", socket_type.encode())]
    if identity is not None:
        pairs.append((b"Identity", identity))
    return command(b"READY", properties(*pairs))


def hello(username: bytes, password: bytes) -> bytes:
    """The command HELLO of PLAIN."""
    return command(b"HELLO", bytes([len(username)]) + username + bytes([len(password)]) + password)


def initiate(socket_type: str) -> bytes:
    """The command INITIATE of PLAIN."""
    return command(b"INITIATE", properties((b"Socket-Type", socket_type.encode())))


def ping(ttl_tenths: int = 0, context: bytes = b"") -> bytes:
    """The command PING. The time to live is in tenths of a second."""
    return command(b"PING", struct.pack(">H", ttl_tenths) + context)


# -- what comes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """A frame that has come."""

    flags: int
    body: bytes

    @property
    def is_command(self) -> bool:
        return bool(self.flags & COMMAND)


class Ended(Exception):
    """The other side has closed the connection."""


class RawPeer:
    """One connection. It waits no longer than the deadline, in any call."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.socket.settimeout(DEADLINE_S)
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection in order."""
        self.socket.close()

    def reset(self) -> None:
        """Break the connection, so that the other side is given an error (tcp only)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # -- the handshake --

    def shake_hands(self, socket_type: str, identity: bytes | None = None, *, minor: int = 1) -> Self:
        """Do what a peer of ZMTP 3 does first, and wait until the other side has done it, too."""
        self.send(greeting(minor) + ready(socket_type, identity))
        assert self.read(64)[:10] == SIGNATURE
        answer = self.read_frame()
        assert answer.is_command
        assert answer.body.startswith(b"\x05READY")
        return self

    def shake_hands_2(self, socket_type: str, identity: bytes = b"") -> Self:
        """Do what a peer of ZMTP 2 does first, and wait until the other side has done it, too."""
        self.send(greeting_2(socket_type, identity))
        assert self.read(11)[:10] == SIGNATURE
        self.read(1)  # its type
        self.read_frame()  # its identity
        return self

    # -- bytes, frames and messages --

    def send(self, raw: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(raw)

    def send_message(self, *frames: bytes) -> None:
        self.send(message(*frames))

    def read(self, count: int) -> bytes:
        """Read so many bytes. Raises `Ended`."""
        while len(self._unread) < count:
            self._read_more()
        taken, self._unread = self._unread[:count], self._unread[count:]
        return taken

    def _read_more(self) -> None:
        try:
            more = self.socket.recv(1 << 16)
        except ConnectionError as error:
            raise Ended from error
        if not more:
            raise Ended
        self._unread += more

    def read_frame(self) -> Frame:
        flags, length = self.read(2)
        if flags & LONG:
            (length,) = struct.unpack(">Q", bytes([length]) + self.read(7))
        return Frame(flags, self.read(length))

    def read_message(self) -> list[bytes]:
        """Read the frames of the next message. Commands are left out."""
        frames: list[bytes] = []
        while True:
            one = self.read_frame()
            if one.is_command:
                continue
            frames.append(one.body)
            if not one.flags & MORE:
                return frames

    def read_command(self) -> bytes:
        """Read a frame, which has to be a command: its body."""
        one = self.read_frame()
        assert one.is_command, one
        return one.body

    def read_to_the_end(self) -> bytes:
        """Read until the other side closes the connection: what came before that."""
        try:
            while True:
                self._read_more()
        except Ended:
            return self._unread


Raw = Callable[[str], RawPeer]
"""Connects a peer to an address: the fixture `raw`."""


def connect_raw(address: str) -> RawPeer:
    """Connect to an address in libzmq's notation."""
    transport, _, rest = address.partition("://")
    if transport == "ipc":
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        where: str | tuple[str, int] = "\0" + rest[1:] if rest.startswith("@") else rest
    else:
        source, _, rest = rest.rpartition(";")
        host, _, port = rest.rpartition(":")
        bare = host.strip("[]")
        connected = socket.socket(socket.AF_INET6 if ":" in bare else socket.AF_INET, socket.SOCK_STREAM)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        where = (bare, int(port))
    connected.settimeout(DEADLINE_S)
    try:
        if transport == "tcp" and source:
            connected.bind((source, 0))
        connected.connect(where)
    except BaseException:
        connected.close()
        raise
    return RawPeer(connected)


class RawListener:
    """A listener of tcp, for ports that connect."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.socket = socket.create_server((host, port))
        self.socket.settimeout(DEADLINE_S)

    @property
    def port(self) -> int:
        number = self.socket.getsockname()[1]
        assert isinstance(number, int)
        return number

    @property
    def address(self) -> str:
        return f"tcp://{self.socket.getsockname()[0]}:{self.port}"

    def accept(self) -> RawPeer:
        """The next connection."""
        return RawPeer(self.socket.accept()[0])

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def byte_by_byte(raw: bytes) -> Iterable[bytes]:
    """Pieces of one byte each."""
    return (raw[at : at + 1] for at in range(len(raw)))


def cut(raw: bytes, places: Sequence[int]) -> list[bytes]:
    """The bytes in pieces that end at these places."""
    ends = [*sorted(place for place in places if place < len(raw)), len(raw)]
    return [raw[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]

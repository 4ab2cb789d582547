"""The socket at which a daemon waits for its successor, and connecting to it."""

import errno
import logging
import os
import socket
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from pollbroker.daemon.takeover import ANSWER_S
from pollbroker.errors import ConfigError, EndpointError, HandOverError
from pollbroker.seldom import SeldomLog
from pollbroker.socket_files import SocketFile, binding_alone, is_taken_path
from pollbroker.wire.addresses import IPC_PATH_MAX_BYTES

_logger = logging.getLogger("pollbroker.daemon")

_KEPT: Final = 2
"""Descriptors that are kept for when no other is left: one for the successor that is waited for, and one to send away
whoever else comes. A connection that cannot be accepted would wake the engine again at once, and again."""

_LONGEST_NAME: Final = ".4194304"
"""The longest name that the file has at first: that of the process with the greatest number (proc(5), pid_max)."""


def check_path(path: str) -> None:
    """Raise `ConfigError` for what can be no path of a socket file. In an address of ipc, `@` and `*` at its beginning
    are no path."""
    given = Path(path)
    longest = max(len(os.fsencode(given)), len(os.fsencode(given.parent / _LONGEST_NAME)))
    if not given.name or str(given)[0] in "@*" or "\0" in path or longest > IPC_PATH_MAX_BYTES:
        raise ConfigError(f"{path!r}: expected the path of a socket file, of at most {IPC_PATH_MAX_BYTES} bytes")


def connect_to(path: str) -> socket.socket | None:
    """Connect to the daemon that waits for its successor at this path; None if there is none."""
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connected.settimeout(ANSWER_S)
    try:
        connected.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        connected.close()
        return None
    except OSError as error:
        connected.close()
        raise HandOverError(f"{path}: {error.strerror or error}") from error
    return connected


class SuccessorSocket:
    """The socket at which a daemon waits for its successor. Its file is for this user alone."""

    def __init__(self, path: str) -> None:
        """Listen at the path. Raises `EndpointError`."""
        self.path = Path(path)
        self._arrived: deque[socket.socket] = deque()
        self._kept: list[int] = []
        self._warn = SeldomLog(_logger.warning)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # It has its path only once it listens. Until then whoever connects would be refused, as if no daemon ran.
        beginning = self.path.with_name(f".{os.getpid()}")
        try:
            self._listen(beginning)
        except OSError as error:
            self._socket.close()
            with suppress(OSError):
                beginning.unlink()
            raise EndpointError(f"{path}: cannot listen: {error.strerror or error}") from error
        self._keep_descriptors()

    def _listen(self, beginning: Path) -> None:
        with binding_alone(f"ipc://{self.path}"):
            if self.path.exists() and not self.path.is_socket():  # it is not ours to replace
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
            if is_taken_path(f"ipc://{self.path}"):
                raise OSError("another process listens there")
            before = os.umask(0o177)
            try:
                self._socket.bind(os.fspath(beginning))
            finally:
                os.umask(before)
            self._socket.setblocking(False)
            self._socket.listen(1)
            beginning.rename(self.path)
            self._file = SocketFile.at(self.path)

    def fileno(self) -> int:
        """The descriptor, which can be read when a successor has come."""
        return self._socket.fileno()

    def accept(self) -> bool:
        """Accept a successor, and keep it for `next`. Return False if none has come, or if it was sent away because no
        descriptor was left for it."""
        try:
            arrived = self._accept()
        except OSError:
            return False
        self._keep_descriptors()
        if not self._kept:
            self._warn("%s: a successor was sent away: no descriptor is left for it (ulimit -n)", self.path)
            arrived.close()
            self._keep_descriptors()
            return False
        self._arrived.append(arrived)
        return True

    def _accept(self) -> socket.socket:
        try:
            return self._socket.accept()[0]
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or not self._kept:
                raise
        os.close(self._kept.pop())
        try:
            return self._socket.accept()[0]
        except OSError:
            self._keep_descriptors()
            raise

    def _keep_descriptors(self) -> None:
        with suppress(OSError):  # none is left
            while len(self._kept) < _KEPT:
                self._kept.append(os.open(os.devnull, os.O_RDONLY))

    def next(self) -> socket.socket | None:
        """The socket to a successor that was accepted, which belongs to the caller from now on; None if there is
        none."""
        try:
            return self._arrived.popleft()
        except IndexError:
            return None

    def close(self) -> None:
        """Listen no more, and send away those that were accepted and not fetched."""
        self._file.remove()
        self._socket.close()
        while (arrived := self.next()) is not None:
            arrived.close()
        while self._kept:
            os.close(self._kept.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

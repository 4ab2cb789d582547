"""The files of `ipc://` sockets that the engine binds.

libzmq 4.3.5 takes a path away from a socket that listens at it, or from any other file, and leaves the file behind when
its own socket is closed. So the engine looks before it binds, and removes the file when it closes the socket. Two
processes that begin at once would both find that nobody listens, so that the second would take the path away from the
first: each has a lock of the directory from its look until it listens.
"""

import errno
import fcntl
import os
import socket as net
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from pollbroker.errors import EndpointError

_LOCK_S: Final = 0.2
"""How long the lock of a directory is waited for. Whoever binds has it for less than a millisecond. Another program
that has it for longer must not keep a broker from beginning."""

_IN_USE: Final = (errno.EAGAIN, errno.EPROTOTYPE)
"""Errors of connecting to a socket that is in use: it has no room for more connections, or is of another type."""


@dataclass(frozen=True)
class SocketFile:
    """The file of an `ipc://` path that the engine bound."""

    path: Path
    """Absolute, since the program may change its directory."""
    identity: tuple[int, int] | None
    """The device and the inode, which tell this file from one that somebody else has bound at the path since. A file
    system may give the inode to another file as soon as the socket is closed. So the file is removed before that, and
    this is None then: whatever is at the path is somebody else's."""
    directory: Path | None = None
    """The directory that was made for this file alone, if there is one."""

    @classmethod
    def at(cls, path: Path, directory: Path | None = None) -> Self:
        """Describe the file that was just bound at `path`. Raises `OSError` if it has been removed already."""
        return cls(path, _identify(path), directory)

    def remove(self) -> None:
        """Remove the file and its directory, unless another file is at the path now."""
        self.unlinked()
        if self.directory is not None:
            with suppress(OSError):
                self.directory.rmdir()

    def unlinked(self) -> Self:
        """Remove the file, unless another one is at the path now, and keep its directory. Return what is left: a path
        at which nobody listens for now."""
        with suppress(OSError):  # the file has been removed already, or the directory may no longer be written
            if self.identity is not None and _identify(self.path) == self.identity:
                self.path.unlink()
        return replace(self, identity=None)


def _identify(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


def make_directory(where: str) -> Path:
    """Make a directory for the file of `ipc://*`. Raises `EndpointError`, which names the place `where`."""
    try:
        return Path(tempfile.mkdtemp(prefix="pollbroker-")).absolute()
    except OSError as error:
        raise EndpointError(f"{where}: @ipc://*: cannot make a directory for the socket: {error}") from error


def path_of(address: str) -> Path | None:
    """The path of the file of an `ipc://` address; None for an abstract name, and for another transport."""
    path = address.removeprefix("ipc://")
    if path == address or path.startswith("@"):
        return None
    name = os.fsdecode(path.encode())  # libzmq takes UTF-8, whatever the encoding of file names here
    return Path(os.path.join(os.getcwd(), name))  # noqa: PTH109, PTH118 - it takes half of the time


@contextmanager
def binding_alone(address: str) -> Iterator[None]:
    """As a context: no other process of pollbroker's is between its look at an `ipc://` path in the same directory
    (`is_taken_path`) and listening there. Nothing happens for other addresses, or if the directory cannot be opened."""
    path = path_of(address)
    descriptor = -1
    if path is not None and address != "ipc://*":
        with suppress(OSError):  # it may be written, but not read; or it is not there, which is told when binding fails
            descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if descriptor >= 0:
            _lock(descriptor)
        yield
    finally:
        if descriptor >= 0:
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # a process that was forked meanwhile has a copy, too
            os.close(descriptor)


def _lock(descriptor: int) -> None:
    give_up_s = time.monotonic() + _LOCK_S
    while time.monotonic() < give_up_s:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.001)
        except OSError:
            return  # a file system without locks
        else:
            return


def is_taken_path(address: str) -> bool:
    """Return True if somebody has an `ipc://` path: a socket that is in use, or may be and cannot be asked, or a file
    that is no socket. libzmq would take the path away from it and say nothing."""
    path = address.removeprefix("ipc://")
    if path in (address, "*"):
        return False
    with net.socket(net.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect("\0" + path[1:] if path.startswith("@") else path)
        except OSError as error:
            return error.errno in _IN_USE or _is_somebody_elses(path_of(address), error)
    return True


def what_is_in_the_way(address: str) -> str:
    """What an error of an address that is in use adds, if it is not a socket that has it."""
    path = path_of(address)
    if path is None or not os.path.lexists(path):
        return ""
    try:
        there = path.stat()
    except OSError as error:
        return " (there is a link that leads nowhere)" if error.errno in (errno.ENOENT, errno.ELOOP) else ""
    return "" if stat.S_ISSOCK(there.st_mode) else " (there is a file, which is no socket)"


def _is_somebody_elses(path: Path | None, refusal: OSError) -> bool:
    """Return True if there is something at a path that is not a socket which its process has left behind."""
    if path is None or not os.path.lexists(path):
        return False
    return refusal.errno == errno.EACCES or not path.is_socket()

"""Where `pollbroker run` listens for commands, and `pollbroker ctl` sends them, when nobody says where.

It is the file `control` in a directory for run-time files, which is the first of these:

1. `$RUNTIME_DIRECTORY`, which systemd sets for a service with `RuntimeDirectory=` (of several the first);
2. `$XDG_RUNTIME_DIR/pollbroker`, which a login session has;
3. `/run/pollbroker`, for `ctl` alone, since the shell of an administrator knows nothing of a service's directory.

`ctl` takes the first that has such a file, or where it may not look. Without the two variables `run` listens nowhere.
"""

import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_NAME: Final = "control"
_OF_SERVICES: Final = Path("/run/pollbroker")


def path_to_serve(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Where a daemon listens; None if no directory is known."""
    return next(_paths(environment), None)


def path_to_ask(environment: Mapping[str, str] = os.environ) -> Path:
    """Where a daemon is asked: the first file that is there, or else the first place where one might be. A file that
    cannot be looked at, such as one in a directory that is not for this user, counts as there."""
    paths = (*_paths(environment), _OF_SERVICES / _NAME)
    return next((path for path in paths if not _is_missing(path)), paths[0])


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _paths(environment: Mapping[str, str]) -> Iterator[Path]:
    of_service = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if of_service:
        yield Path(of_service).absolute() / _NAME
    of_session = environment.get("XDG_RUNTIME_DIR", "")
    if of_session:
        yield Path(of_session).absolute() / "pollbroker" / _NAME


def make_private_directory(path: Path) -> None:
    """Make the directory of the file `path`, of mode 0700, unless it is there. Raises `OSError`."""
    path.parent.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def private_files() -> Iterator[None]:
    """As a context: socket files that are made in it have the mode 0600. It is for the whole process."""
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)


def process_listening_at(path: Path) -> int | None:
    """The number of the process that listens at a socket file; None if none does, or if it is not known here."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
            credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return None
    process: int = struct.unpack("3i", credentials)[0]
    return process or None  # 0 is one of another namespace

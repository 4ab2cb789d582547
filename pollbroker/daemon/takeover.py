"""A daemon that takes the place of another one, which goes on until the new one serves.

The two talk over a socket of the family AF_UNIX, one JSON object at a time, with descriptors beside it:

| the new daemon | the old one |
| --- | --- |
| `take over`: its version and process | |
| | finishes the change of its brokers that is under way |
| | `listeners`: how many of the following there are, and a socket for `Engine.adopt` |
| | `listener`, for each: what it is, and its descriptor |
| | `file`, for each at whose path a broker listens and no listener of the daemon's: what it is |
| | `inherited`, for each socket at which the service manager listens: its name, and its descriptor |
| reads its configuration, opens what it needs, adopts brokers with their live connections, and starts the others | |
| `serving` | |
| | closes its control socket and its HTTP server; `released` |
| opens its own | drains the brokers that it still has, and ends |

Until `serving` the old daemon changes nothing, whatever becomes of the new one.
"""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from pollbroker.daemon.listeners import Listeners
from pollbroker.engine import Engine
from pollbroker.errors import HandOverError
from pollbroker.handing_over import HandedOver
from pollbroker.handing_over.description import Fields
from pollbroker.version import __version__

PROTOCOL: Final = 1
"""The version of what the two say to each other."""

_MESSAGE_MOST_BYTES: Final = 64 << 10
ANSWER_S: Final = 5.0
"""How long a daemon may take for an answer that needs no work."""

START_S: Final = 60.0
"""How long the old daemon may take to finish a change of its brokers, and the new one to read its configuration and to
open everything. The old one serves meanwhile."""

SERVING_S: Final = 10.0
"""How long the new daemon may take then to say that it serves."""

_FIRST_PROCESS: Final = 1
"""The number of the process with which its container ends, and all other processes in it; see pid_namespaces(7)."""


class Refused(HandOverError):
    """The other daemon has said that it goes on as before."""


class Conversation:
    """One end of the socket between two daemons."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    def say(self, word: str, descriptors: tuple[int, ...] = (), **more: object) -> None:
        """Send a word, with descriptors, which stay open here. Raises `HandOverError`."""
        told = json.dumps({"say": word, **more}).encode()
        self._socket.settimeout(ANSWER_S)
        with _explaining("take"):
            socket.send_fds(self._socket, [told], descriptors)

    def hear(self, word: str, wait_s: float = ANSWER_S) -> tuple[dict[str, Any], list[int]]:
        """Wait for a word, and return what it says and its descriptors. Raises `HandOverError`."""
        self._socket.settimeout(wait_s)
        with _explaining("say"):
            told, descriptors, flags, _ = socket.recv_fds(self._socket, _MESSAGE_MOST_BYTES, 2)
        try:
            if not told:
                raise HandOverError("the other daemon has gone away")
            if flags & socket.MSG_CTRUNC:
                raise HandOverError("a descriptor has not come: this process may not open so many (ulimit -n)")
            return _parse(told, word), descriptors
        except BaseException:
            for descriptor in descriptors:
                os.close(descriptor)
            raise

    def wait_for_end(self, wait_s: float) -> bool:
        """Wait until the other daemon has ended. Return False if it has not within this time."""
        self._socket.settimeout(wait_s)
        try:
            while self._socket.recv(_MESSAGE_MOST_BYTES):
                pass
        except TimeoutError:
            return False
        except OSError:  # its end was not orderly, but it has ended
            return True
        return True

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


@contextmanager
def _explaining(what: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise HandOverError(f"the other daemon did not {what} what it should in time") from None
    except OSError as error:
        raise HandOverError(f"the other daemon is gone: {error.strerror or error}") from error


def _parse(told: bytes, word: str) -> dict[str, Any]:
    try:
        message = json.loads(told)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise HandOverError(f"the other process is not a daemon of pollbroker: it says {told!r:.60}")
    if message.get("say") == "refused":
        raise Refused(f"the other daemon refuses: {message.get('reason')}")
    if message.get("say") != word:
        raise HandOverError(f"the other daemon says {message.get('say')!r:.60}; expected {word!r}")
    return message


# -- the new daemon ----------------------------------------------------------------------------------------------------


class Predecessor:
    """The daemon whose place this one takes. Close it when it has ended."""

    def __init__(self, connected: socket.socket) -> None:
        """Ask the other daemon for its listeners. Raises `HandOverError`."""
        self._talk = Conversation(connected)
        self.listeners = Listeners()
        self.engine_socket: socket.socket | None = None
        """For `Engine.adopt`."""
        self.process = 0
        self.drain_timeout_s = 0.0
        try:
            self._introduce()
        except BaseException:
            self.close()
            raise

    def _introduce(self) -> None:
        self._talk.say("take over", protocol=PROTOCOL, version=__version__, process=os.getpid())
        told, descriptors = self._talk.hear("listeners", START_S)
        if len(descriptors) != 1:
            raise HandOverError(f"the other daemon sends {len(descriptors)} descriptors with its listeners; expected 1")
        self.engine_socket = socket.socket(fileno=descriptors[0])
        unsaid = {"files": 0, "inherited": 0}  # by a daemon of an earlier version
        fields = Fields(unsaid | told, "listeners")
        self.process = fields.number("process")
        self.drain_timeout_s = fields.seconds("drain_timeout_s")
        for _ in range(fields.number("number")):
            self.listeners.take(*self._talk.hear("listener"))
        for _ in range(fields.number("files")):
            self.listeners.take_file(self._talk.hear("file")[0])
        for _ in range(fields.number("inherited")):
            self.listeners.inherited.take_described(*self._talk.hear("inherited"))

    def announce_serving(self) -> None:
        """Tell the old daemon that this one serves. Return when it has closed its control socket and its HTTP server.

        Raises `HandOverError`: `Refused` if the old daemon goes on, and this one is to end.
        """
        with suppress(HandOverError):  # if it does not listen any more, what it has said last tells why
            self._talk.say("serving")
        self._talk.hear("released")

    def wait_for_end(self) -> bool:
        """Wait until the old daemon has ended. Return False if that takes longer than it may."""
        return self._talk.wait_for_end(self.drain_timeout_s + START_S)

    def refuse(self, reason: str) -> None:
        """Tell the old daemon why nothing comes of it, unless it cannot be told."""
        with suppress(HandOverError):
            self._talk.say("refused", reason=reason)

    def close(self) -> None:
        """Close the socket to the old daemon, and the listeners that nobody has taken."""
        self.listeners.keep_only(())
        self.listeners.inherited.close()
        if self.engine_socket is not None:
            self.engine_socket.close()
        self._talk.close()


# -- the old daemon ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Successor:
    """The daemon that has taken this one's place. The socket to it is closed when everything else is closed here."""

    process: int
    version: str
    handed_over: HandedOver
    talk: Conversation

    def release(self) -> None:
        """Tell the new daemon that the control socket and the HTTP server are closed here."""
        with suppress(HandOverError):  # it serves, whether it can still be told or not
            self.talk.say("released")


def why_irreplaceable() -> str | None:
    """Why no other process can take the place of this one; None if one can."""
    if os.getpid() == _FIRST_PROCESS:
        return (
            f"this is process {_FIRST_PROCESS}, and its container would end with it, with all that is handed over; "
            "let another container take its place (a reload needs none)"
        )
    return None


def hand_over(
    connected: socket.socket,
    engine: Engine,
    listeners: Listeners,
    drain_timeout_s: float,
    hello_s: float,
    engine_sockets: tuple[socket.socket, socket.socket],
) -> Successor:
    """Let another daemon take the place of this one. Return when it serves.

    `hello_s` is how long the other may take to say that it is there. `engine_sockets` are a connected pair, the
    first for `Engine.hand_over` and the second for the other daemon. The caller closes them.

    While this waits, another thread may shut down `connected` and the first of the pair for reading (SHUT_RD). Then it
    returns or raises soon: what has not been agreed by then does not happen.

    Raises `HandOverError`; nothing has changed then. The caller closes `connected` in that case.
    """
    talk = Conversation(connected)
    told, _ = talk.hear("take over", hello_s)
    reason = why_irreplaceable()
    if told.get("protocol") != PROTOCOL:
        reason = f"this daemon is of version {__version__}, and does not understand {told.get('version')!r:.20}"
    if reason is not None:
        with suppress(HandOverError):
            talk.say("refused", reason=reason)
        raise HandOverError(reason)
    fields = Fields(told, "take over")
    process, version = fields.number("process"), fields.get("version", str)
    here, there = engine_sockets
    described, files, inherited = listeners.describe(), listeners.describe_files(), listeners.inherited.describe()
    with there:
        talk.say(
            "listeners",
            (there.fileno(),),
            version=__version__,
            process=os.getpid(),
            number=len(described),
            files=len(files),
            inherited=len(inherited),
            drain_timeout_s=drain_timeout_s,
        )
    for listener, descriptor in described:
        talk.say("listener", (descriptor,), **listener)
    for file in files:
        talk.say("file", (), **file)
    for one, descriptor in inherited:
        talk.say("inherited", (descriptor,), **one)
    moved = engine.hand_over(here, timeout_s=START_S)
    try:
        talk.hear("serving", SERVING_S)
    except HandOverError as error:
        if not moved.moved:
            with suppress(HandOverError):
                talk.say("refused", reason=str(error))
            raise
        # Brokers are served there. What has become of the others only that process knows: it is the daemon from now on.
    return Successor(process, version, moved, talk)


def describe_left(left: Mapping[str, str]) -> str:
    """Say which brokers could not be handed over with their connections, and why."""
    return "; ".join(f"{name}: {why}" for name, why in left.items())

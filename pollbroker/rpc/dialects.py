"""What a worker says to its broker in each protocol, and what it is told."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pollbroker.patterns.majordomo import mdp
from pollbroker.patterns.majordomo.mdp import Command, Version
from pollbroker.patterns.paranoid_pirate import ppp


class Told(NamedTuple):
    """What a broker has said."""

    command: Command
    """`REQUEST`, `HEARTBEAT` or `DISCONNECT`."""
    envelope: list[bytes]
    """The way back to the client. Of a `REQUEST`."""
    body: list[bytes]


class Dialect(Protocol):
    """The frames of one protocol, as a worker's DEALER sends and receives them."""

    name: str
    heartbeats_always: bool
    """True if heartbeats are sent at regular intervals, whatever else is sent."""
    has_parts: bool
    """True if a request may be answered in parts."""

    def ready(self) -> list[bytes]: ...

    def heartbeat(self) -> list[bytes]: ...

    def disconnect(self) -> list[bytes] | None: ...

    def reply(self, envelope: Sequence[bytes], body: Sequence[bytes], is_last: bool) -> list[bytes]: ...

    def parse(self, frames: list[bytes]) -> Told | None: ...


class PirateDialect:
    """RFC 6/PPP."""

    name = "PPP"
    heartbeats_always = True
    has_parts = False

    def ready(self) -> list[bytes]:
        return [ppp.READY]

    def heartbeat(self) -> list[bytes]:
        return [ppp.HEARTBEAT]

    def disconnect(self) -> None:
        """In PPP a worker leaves without a word."""
        return

    def reply(self, envelope: Sequence[bytes], body: Sequence[bytes], is_last: bool) -> list[bytes]:  # noqa: ARG002
        return [*envelope, b"", *body]

    def parse(self, frames: list[bytes]) -> Told | None:
        if frames == [ppp.HEARTBEAT]:
            return Told(mdp.HEARTBEAT, [], [])
        parts = ppp.split_envelope(frames)
        return None if parts is None else Told(mdp.REQUEST, *parts)


class MajordomoDialect:
    """MDP 0.1 (RFC 7) or 0.2 (RFC 18)."""

    heartbeats_always = False

    def __init__(self, service: bytes, version: Version) -> None:
        self.name = f"MDP 0.{version}"
        self.has_parts = version == 2
        self._service = service
        self._version: Version = version

    def ready(self) -> list[bytes]:
        return mdp.worker_ready(self._service, self._version)

    def heartbeat(self) -> list[bytes]:
        return mdp.worker_heartbeat(self._version)

    def disconnect(self) -> list[bytes]:
        return mdp.worker_disconnect(self._version)

    def reply(self, envelope: Sequence[bytes], body: Sequence[bytes], is_last: bool) -> list[bytes]:
        (client,) = envelope
        return mdp.worker_reply(client, body, self._version, mdp.FINAL if is_last else mdp.PARTIAL)

    def parse(self, frames: list[bytes]) -> Told | None:
        message = mdp.parse_to_worker(frames)
        if message is None or message.version != self._version:
            return None
        return Told(message.command, [message.client], list(message.body))

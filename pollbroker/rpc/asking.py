"""What the clients of both kinds ask, and what they take for a reply: no I/O."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import zmq

from pollbroker.checks import SettingChecks
from pollbroker.endpoint import Endpoints
from pollbroker.errors import ConfigError
from pollbroker.patterns.majordomo import mdp
from pollbroker.patterns.majordomo.mdp import Version
from pollbroker.rpc.errors import RpcError
from pollbroker.rpc.exchange import Exchange, Part
from pollbroker.rpc.frames import shown_text, to_frame, to_frames
from pollbroker.rpc.sockets import IdleSockets, Opener

TIMEOUT_S: Final = 2.5
RETRIES: Final = 2
"""The guide's values: three tries of 2.5 s each."""

FIND_SERVICE: Final = b"mmi.service"
_FOUND: Final = {b"200": True, b"404": False}
"""RFC 8/MMI."""


class Asking:
    """What all clients have: sockets, a time limit, and the number of retries."""

    def __init__(
        self,
        where: str,
        socket_type: int,
        endpoints: Endpoints,
        *,
        timeout_s: float,
        retries: int,
        options: Mapping[str, Any] | None,
        context: zmq.Context[Any],
    ) -> None:
        self.where = where
        opener = Opener(where, socket_type, endpoints, options, context)
        self.where = opener.where
        self.sockets = IdleSockets(opener)
        self._timeout_s = timeout_s
        self._retries = retries
        self._check(timeout_s, retries)

    def _check(self, timeout_s: float, retries: int) -> None:
        checks = SettingChecks(self.where, ConfigError)
        checks.seconds(timeout_s=timeout_s)
        checks.whole(least=0, retries=retries)

    def _exchange(
        self,
        where: str,
        frames: list[bytes],
        parse: Any,
        timeout_s: float | None,
        retries: int | None,
        now_s: float,
    ) -> Exchange:
        if self.sockets.is_closed:
            raise RpcError(f"{self.where}: the client was closed; expected an open one")
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        retries = self._retries if retries is None else retries
        self._check(timeout_s, retries)
        return Exchange(where, frames, parse, timeout_s=timeout_s, retries=retries, now_s=now_s)


class PirateAsking(Asking):
    """Requests without a protocol of their own: a REQ socket's."""

    def __init__(self, endpoints: Endpoints, **settings: Any) -> None:
        super().__init__("pirate client", zmq.REQ, endpoints, **settings)

    def exchange(self, frames: Sequence[bytes], timeout_s: float | None, retries: int | None, now_s: float) -> Exchange:
        body = to_frames(self.where, frames)
        return self._exchange(self.where, body, _any_reply, timeout_s, retries, now_s)


class MajordomoAsking(Asking):
    """Requests to services, in MDP 0.1 or 0.2."""

    def __init__(self, where: str, endpoints: Endpoints, version: Version, **settings: Any) -> None:
        SettingChecks(where, ConfigError).one_of((1, 2), version=version)
        self._version: Version = version
        super().__init__(where, zmq.DEALER, endpoints, **settings)

    def exchange(
        self,
        service: str | bytes,
        frames: Sequence[bytes],
        timeout_s: float | None,
        retries: int | None,
        now_s: float,
    ) -> Exchange:
        name = to_frame(self.where, service)
        where = f"{self.where}: service {name.decode(errors='backslashreplace')}"
        if not mdp.is_service_name(name):
            raise RpcError(f"{where}: expected printable text of 1 to {mdp.MAX_NAME_BYTES} bytes")
        message = mdp.client_request(name, to_frames(where, frames), self._version)
        return self._exchange(where, message, partial(_reply_of, name, self._version), timeout_s, retries, now_s)

    def is_found(self, reply: list[bytes]) -> bool:
        """What a broker says to `mmi.service`. Raises `RpcError` if it does not know that (RFC 8: 501)."""
        found = _FOUND.get(reply[0])
        if found is None:
            raise RpcError(
                f"{self.where}: mmi.service: the broker answered {shown_text(reply[0])}; expected 200 or 404"
            )
        return found


def _any_reply(frames: list[bytes]) -> Part:
    return Part(frames, True)


def _reply_of(service: bytes, version: Version, frames: list[bytes]) -> Part | None:
    reply = mdp.parse_client_reply(frames)
    if reply is None or reply.service != service or reply.version != version:
        return None
    return Part(reply.body, reply.command is mdp.FINAL)

"""What the workers of both kinds have: a conversation, how its sockets are made, and what is checked."""

import logging
import time
from collections.abc import Mapping
from typing import Any, Final

import zmq

from pollbroker.checks import SettingChecks
from pollbroker.endpoint import Endpoints
from pollbroker.errors import ConfigError
from pollbroker.patterns.majordomo import mdp
from pollbroker.patterns.majordomo.mdp import Version
from pollbroker.rpc.dialects import Dialect, MajordomoDialect, PirateDialect
from pollbroker.rpc.dialog import Dialog, Request
from pollbroker.rpc.errors import RpcError
from pollbroker.rpc.frames import to_frame, to_frames
from pollbroker.rpc.sockets import Opener
from pollbroker.seldom import SeldomLog

_logger = logging.getLogger("pollbroker")

PIRATE_HEARTBEAT_S: Final = 1.0
MAJORDOMO_HEARTBEAT_S: Final = 2.5
LIVENESS: Final = 3
RECONNECT_S: Final = 1.0
RECONNECT_MAX_S: Final = 32.0
"""The guide's values."""

LINGER_S: Final = 1.0
"""How long the last reply may take to leave when a worker is closed."""


def pirate_dialect() -> tuple[str, Dialect]:
    """The name of a pirate worker in errors, and its protocol."""
    return "pirate worker", PirateDialect()


def majordomo_dialect(service: str | bytes, version: Version) -> tuple[str, Dialect]:
    """The name of a Majordomo worker in errors, and its protocol. Raises `ConfigError` or `RpcError`."""
    where = "majordomo worker"
    SettingChecks(where, ConfigError).one_of((1, 2), version=version)
    name = to_frame(where, service)
    where = f"{where}: service {name.decode(errors='backslashreplace')}"
    if not mdp.is_service_name(name):
        raise RpcError(f"{where}: expected printable text of 1 to {mdp.MAX_NAME_BYTES} bytes")
    if name.startswith(mdp.MANAGEMENT):
        raise RpcError(f"{where}: names that begin with mmi. are the broker's own (RFC 8); expected another")
    return where, MajordomoDialect(name, version)


class Serving:
    """A worker, but for its I/O."""

    def __init__(
        self,
        where: str,
        dialect: Dialect,
        endpoints: Endpoints,
        *,
        heartbeat_s: float,
        liveness: int,
        reconnect_s: float,
        reconnect_max_s: float,
        linger_s: float,
        options: Mapping[str, Any] | None,
        context: zmq.Context[Any],
    ) -> None:
        checks = SettingChecks(where, ConfigError)
        checks.seconds(heartbeat_s=heartbeat_s, reconnect_s=reconnect_s, reconnect_max_s=reconnect_max_s)
        checks.seconds(zero=True, linger_s=linger_s)
        checks.whole(liveness=liveness)
        self.opener = Opener(where, zmq.DEALER, endpoints, options, context)
        self.where = self.opener.where
        self.linger_ms = round(linger_s * 1000)
        self._warn = SeldomLog(_logger.warning)
        self.dialog = Dialog(
            dialect,
            heartbeat_s=heartbeat_s,
            liveness=liveness,
            reconnect_s=reconnect_s,
            reconnect_max_s=reconnect_max_s,
            now_s=time.monotonic(),
            on_refused=self._warn_of_refusal,
        )
        self.request: Request | None = None
        """The request that is to be answered."""

    @property
    def is_awaited(self) -> bool:
        """True if there is a request, and the broker still expects the reply to it."""
        return self.request is not None and self.dialog.expects(self.request)

    def _warn_of_refusal(self, wait_s: float) -> None:
        self._warn(
            "%s: the broker has answered READY with DISCONNECT; trying again in %.2g s. It has this name itself, or as "
            "many workers as it may, or it is about to end",
            self.where,
            wait_s,
        )

    def next_request(self) -> Request | None:
        """The next request, which is then to be answered."""
        if self.dialog.requests:
            self.request = self.dialog.requests.popleft()
            return self.request
        return None

    def reply(self, frames: tuple[bytes, ...] | list[bytes], *, is_last: bool) -> bool:
        """Answer the request. See `Dialog.reply`."""
        if self.request is None:
            raise RpcError(f"{self.where}: there is no request to be answered; expected a call of receive() before")
        if not is_last and not self.dialog.dialect.has_parts:
            raise RpcError(f"{self.where}: {self.dialog.dialect.name} has no replies in parts; expected MDP 0.2")
        body = to_frames(self.where, frames)
        request = self.request
        if is_last:
            self.request = None
        return self.dialog.reply(request, body, is_last=is_last, now_s=time.monotonic())

    def give_up(self) -> None:
        """Leave the request without a reply. See `Dialog.restart`."""
        self.request = None
        self.dialog.restart(time.monotonic())

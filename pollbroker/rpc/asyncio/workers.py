"""The workers on asyncio: one for each protocol."""

from collections.abc import Mapping
from typing import Any

import zmq

from pollbroker.endpoint import Endpoints
from pollbroker.patterns.majordomo.mdp import Version
from pollbroker.rpc.asyncio.working import Worker
from pollbroker.rpc.serving import (
    LINGER_S,
    LIVENESS,
    MAJORDOMO_HEARTBEAT_S,
    PIRATE_HEARTBEAT_S,
    RECONNECT_MAX_S,
    RECONNECT_S,
    majordomo_dialect,
    pirate_dialect,
)


class PirateWorker(Worker):
    """A worker of a `pollbroker.PARANOID_PIRATE`, or another broker that speaks PPP (RFC 6).

    It sends heartbeats, and when none comes from the broker it connects anew, and waits longer each time.

    Arguments:
        endpoints: where to connect. Of several, the next is used for each new connection.
        heartbeat_s: how often a heartbeat is sent, and expected. The broker should be set to the same.
        liveness: after how many heartbeats in which nothing has come the broker is taken for dead.
        reconnect_s, reconnect_max_s: how long to wait before connecting anew: at first, and at most. Each wait is twice
            as long as the one before. It is shortened at random, by half at most, so that not all workers come at once.
        linger_s: how long `close` may take to send what was not sent yet.
        options: socket options by name, such as `{"plain_username": ..., "plain_password": ...}`.
        context: by default the worker has one of its own.

    Raises `EndpointError` or `ConfigError`.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        heartbeat_s: float = PIRATE_HEARTBEAT_S,
        liveness: int = LIVENESS,
        reconnect_s: float = RECONNECT_S,
        reconnect_max_s: float = RECONNECT_MAX_S,
        linger_s: float = LINGER_S,
        options: Mapping[str, Any] | None = None,
        context: zmq.Context[Any] | None = None,
    ) -> None:
        super().__init__(
            *pirate_dialect(),
            endpoints,
            context,
            heartbeat_s=heartbeat_s,
            liveness=liveness,
            reconnect_s=reconnect_s,
            reconnect_max_s=reconnect_max_s,
            linger_s=linger_s,
            options=options,
        )


class MajordomoWorker(Worker):
    """A worker of one service at a broker that speaks MDP 0.1 (RFC 7) or 0.2 (RFC 18).

    It sends heartbeats, and when none comes from the broker it connects anew, and waits longer each time. When the
    broker says DISCONNECT it connects anew at once. If that is the answer to its READY, the broker does not take it:
    a warning is logged, and the worker tries again, and waits longer each time.

    Arguments:
        endpoints: where to connect. Of several, the next is used for each new connection.
        service: its name; a string is sent in UTF-8.
        version: 1 for MDP 0.1, 2 for MDP 0.2, in which a reply may have several parts.
        heartbeat_s: how often a heartbeat is sent, and expected. The broker should be set to the same.
        liveness: after how many heartbeats in which nothing has come the broker is taken for dead.
        reconnect_s, reconnect_max_s: how long to wait before connecting anew: at first, and at most. Each wait is twice
            as long as the one before. It is shortened at random, by half at most, so that not all workers come at once.
        linger_s: how long `close` may take to send what was not sent yet.
        options: socket options by name, such as `{"plain_username": ..., "plain_password": ...}`.
        context: by default the worker has one of its own.

    Raises `EndpointError`, `ConfigError`, or `RpcError` (a name that no service can have; those that begin with `mmi.`
    are the broker's own).
    """

    def __init__(
        self,
        endpoints: Endpoints,
        service: str | bytes,
        *,
        version: Version = 1,
        heartbeat_s: float = MAJORDOMO_HEARTBEAT_S,
        liveness: int = LIVENESS,
        reconnect_s: float = RECONNECT_S,
        reconnect_max_s: float = RECONNECT_MAX_S,
        linger_s: float = LINGER_S,
        options: Mapping[str, Any] | None = None,
        context: zmq.Context[Any] | None = None,
    ) -> None:
        super().__init__(
            *majordomo_dialect(service, version),
            endpoints,
            context,
            heartbeat_s=heartbeat_s,
            liveness=liveness,
            reconnect_s=reconnect_s,
            reconnect_max_s=reconnect_max_s,
            linger_s=linger_s,
            options=options,
        )

    async def reply_partially(self, *frames: bytes) -> bool:
        """Send a part of the reply, with more to come, and `reply` at the end. Only in MDP 0.2.

        Returns False if it was not sent, as `reply`. Raises `RpcError`, also in MDP 0.1.
        """
        return await self._reply(list(frames), is_last=False)

"""A broker that a test plays by hand, and the times of its workers."""

from typing import Any, TypeAlias

from pollbroker.patterns.majordomo import mdp
from pollbroker.patterns.paranoid_pirate import ppp
from tests.support.types import Socket

Broker: TypeAlias = tuple[Socket, str]
"""A ROUTER, and its address."""

FAST: dict[str, Any] = {"heartbeat_s": 0.05, "reconnect_s": 0.05, "reconnect_max_s": 0.1}
SLOW: dict[str, Any] = {"heartbeat_s": 60.0}
"""Nothing is said but what the test asks for."""


def next_from(router: Socket) -> tuple[bytes, list[bytes]]:
    """What a worker says next, other than heartbeats."""
    while True:
        worker, *frames = router.recv_multipart()
        if frames not in ([ppp.HEARTBEAT], mdp.worker_heartbeat(1), mdp.worker_heartbeat(2)):
            return worker, frames

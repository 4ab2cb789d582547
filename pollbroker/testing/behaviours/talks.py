"""What peers say to the devices that ship, so that seeds and `check_device` come further than garbage would."""

from collections.abc import Sequence
from typing import Final

from pollbroker.device import Device
from pollbroker.patterns.majordomo.majordomo import mdp
from pollbroker.patterns.titanic.titanic import frames as titanic_frames
from pollbroker.testing.behaviours.scenario import Talk

_MDP: Final[Sequence[list[bytes]]] = (
    mdp.client_request(b"a", [b"question"]),
    mdp.client_request(b"a", [b"question"], 2),
    mdp.client_request(b"b", [b"question"]),
    mdp.client_request(b"mmi.service", [b"a"]),
    mdp.worker_ready(b"a"),
    mdp.worker_ready(b"a", 2),
    mdp.worker_ready(b"b"),
    mdp.worker_heartbeat(),
    mdp.worker_heartbeat(2),
    mdp.worker_disconnect(),
)

_TITANIC: Final = (
    *_MDP,
    mdp.client_request(titanic_frames.REQUEST, [b"a", b"question"]),
    mdp.client_request(titanic_frames.REQUEST, [b"b", b"question"], 2),
    mdp.client_request(titanic_frames.REPLY, [b"%032x" % 1]),
    mdp.client_request(titanic_frames.CLOSE, [b"%032x" % 1]),
)


def _answer_as_a_worker(port: str, frames: list[bytes]) -> list[bytes] | None:  # noqa: ARG001 - there is one port
    message = mdp.parse_to_worker(frames)
    if message is None or message.command is not mdp.REQUEST:
        return None
    return mdp.worker_reply(message.client, message.body, message.version)


TALKS: Final[dict[str, Talk]] = {
    "majordomo": Talk({"frontend": _MDP}, _answer_as_a_worker),
    "titanic": Talk({"frontend": _TITANIC}, _answer_as_a_worker),
}
"""The talk with each device, by the name of the device."""


def talk_with(device: Device) -> Talk:
    """What the kit's peers say to a device."""
    return TALKS.get(device.name, Talk())

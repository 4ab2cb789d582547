"""What peers say to the devices that ship, so that seeds and `check_device` come further than garbage would."""

from collections.abc import Sequence
from typing import Final

from pollbroker.device import Device
from pollbroker.patterns.clone import chp
from pollbroker.patterns.majordomo import mdp
from pollbroker.patterns.paranoid_pirate import ppp
from pollbroker.patterns.titanic import frames as titanic_frames
from pollbroker.testing.behaviours.scenario import Talk

_QUESTIONS: Final[Sequence[list[bytes]]] = ([b"", b"question"], [b"", b"another", b"question"], [b"question"])

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


def _answer_in_mdp(port: str, frames: list[bytes]) -> list[bytes] | None:  # noqa: ARG001 - there is one port
    message = mdp.parse_to_worker(frames)
    if message is None or message.command is not mdp.REQUEST:
        return None
    return mdp.worker_reply(message.client, message.body, message.version)


def _set(key: bytes, value: bytes, properties: bytes = b"") -> list[bytes]:
    return [key, chp.as_frame(0), b"", properties, value]


TALKS: Final[dict[str, Talk]] = {
    "balancer": Talk({"frontend": _QUESTIONS, "backend": ([b"", b"READY"], [b"", b"\x01"], [b"", b"READY", b"3"])}),
    "sharder": Talk({"frontend": _QUESTIONS}),
    "paranoid_pirate": Talk({"frontend": _QUESTIONS, "backend": ([ppp.READY], [ppp.HEARTBEAT])}),
    "majordomo": Talk({"frontend": _MDP}, _answer_in_mdp),
    "titanic": Talk({"frontend": _TITANIC}, _answer_in_mdp),
    "last_value": Talk({"frontend": ([b"a", b"1"], [b"a", b"2"], [b"ab", b"1"], [b"b"])}),
    "clone": Talk(
        {
            "snapshot": ([chp.ICANHAZ, b""], [chp.ICANHAZ, b"a"]),
            "collector": (_set(b"a", b"1"), _set(b"ab", b"2"), _set(b"a", b""), _set(b"b", b"3", b"ttl=5\n")),
        },
        lambda port, frames: None,  # noqa: ARG005 - no client answers
    ),
}
"""The talk with each device, by the name of the device."""


def talk_with(device: Device) -> Talk:
    """What the kit's peers say to a device."""
    return TALKS.get(device.name, Talk())

"""The trace of a relay: what its peers saw, and what can be observed of the relay from outside.

A relay has no counters and no states that could be read. So its paths have no flows. Beside the events of the peers,
the trace has only what peers waited for in vain, and how the relay's thread ended.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import zmq

from pollbroker.device import Device, Route
from pollbroker.testing.trace import Path, Sink, Trace


class Unserved(NamedTuple):
    """A peer waited in vain for something that was possible, while another peer took nothing."""

    peer: str
    waited_for: str
    meanwhile: str


@dataclass
class RelayTrace(Trace):
    """What happened, in order, and how the relay ended."""

    deadline_s: float = 0.0
    """After this time in which nothing moved, a message that is missing counts as not coming any more."""
    dropped: int = 0
    """How many messages the relay itself says it has dropped; most relays cannot say."""
    alive: set[str] = field(default_factory=set)
    """The paths on which a message that was sent later came out while an earlier one was missing."""
    unsent: dict[str, int] = field(default_factory=dict)
    """How many messages each peer could not send by the deadline, because the relay did not read."""
    unserved: list[Unserved] = field(default_factory=list)
    """What peers waited for in vain."""
    early_end: str | None = None
    """How the relay ended although its context had not."""
    late: bool = False
    """Whether the relay still ran when the deadline after the end of its context had passed."""
    last_error: str | None = None
    """What the relay raised when its context ended, if that was not `zmq.ContextTerminated`."""
    activity: float | None = None
    """How busy the relay's busiest thread was while messages waited and no peer took any: the time that it ran, as a
    share of the time in which it did not wait for a core. None if that was not measured."""


def paths_of(device: Device, capacity: int, no_drop: bool) -> dict[str, Path]:
    """The paths through a relay with the sockets of a device, by the side at which they begin; see `RelayPeers`."""
    return {route.source: _path(device, route, capacity, no_drop) for route in device.routes}


def _path(device: Device, route: Route, capacity: int, no_drop: bool) -> Path:
    source, sink = device.types_of(route.source)[0], device.types_of(route.sinks[0])[0]
    publishes = sink in (zmq.PUB, zmq.XPUB)
    return Path(
        name="requests" if route.source == "frontend" else "replies",
        line="relay",
        sinks=(
            Sink(
                route.sinks[0],
                to_router=sink == zmq.ROUTER,
                is_addressed=sink in (zmq.ROUTER, zmq.REP),
                to_many=publishes,
                may_lose=publishes and not no_drop,
            ),
        ),
        flows=(),
        from_publisher=source in (zmq.SUB, zmq.XSUB),
        capacity=capacity,
        upstream=source in (zmq.PUB, zmq.XPUB),
    )

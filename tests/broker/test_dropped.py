"""`Broker.dropped` is the sum of what the statistics say, whichever pump moves the messages."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import zmq

from pollbroker import STREAMER, Behaviour, Device, Engine, Route
from pollbroker.statistics import FlowStatistics
from tests.support.deadline import wait_until
from tests.support.types import Connect


def to_both(message: list[bytes]) -> list[bytes]:
    return message


class Idle(Behaviour):
    """Sends nothing."""

    def on_message(self, port: str, frames: list[bytes]) -> None: ...


@pytest.mark.parametrize("transport", ["libzmq", "wire"])
@pytest.mark.parametrize("via", [None, to_both])
@pytest.mark.parametrize("sinks", [("a",), ("a", "b")])
def test_dropped_is_the_sum_of_all_drops(
    engine: Engine, connect: Connect, transport: str, via: Callable[..., Any] | None, sinks: tuple[str, ...]
) -> None:
    device = Device(
        "routers",
        ports={"intake": zmq.PULL} | dict.fromkeys(sinks, zmq.ROUTER),
        routes=[Route("intake", sinks, via)],
        options={sink: {"router_mandatory": 1} for sink in sinks},
        maxframes=3,
    )
    ports: dict[str, Any] = dict.fromkeys(device.ports, "tcp://127.0.0.1:*")
    broker = engine.add("r", device, **ports, transport=transport)
    assert broker.dropped == 0
    push = connect(zmq.PUSH, broker.ports["intake"].endpoints[0])
    peer = connect(zmq.DEALER, routing_id=b"peer")
    peer.connect(broker.ports["a"].endpoints[0])

    def reaches_the_peer() -> bool:
        push.send_multipart([b"peer", b"here"])
        return bool(peer.poll(20))

    wait_until(reaches_the_peer)
    before = broker.statistics().flows["intake"].unroutable
    for _ in range(3):
        push.send_multipart([b"nobody", b"lost"])
    push.send_multipart([b"one", b"of", b"too", b"many"])
    wait_until(lambda: broker.statistics().flows["intake"].too_many_frames == 1)
    flow = broker.statistics().flows["intake"]
    assert flow.unroutable >= before + 3 * len(sinks)
    wait_until(lambda: broker.dropped == broker.statistics().flows["intake"].dropped)
    final = broker.remove(timeout_s=0)
    assert broker.dropped == sum(flow.dropped for flow in final.flows.values()) >= 4


@pytest.mark.parametrize(
    "device",
    [
        STREAMER,
        replace(STREAMER, routes=(Route("frontend", "backend", to_both),)),
        Device("behaving", zmq.PULL, zmq.PUSH, behaviour=Idle),
    ],
    ids=["plain", "handled", "behaving"],
)
def test_what_an_earlier_broker_has_dropped_is_counted(engine: Engine, device: Device) -> None:
    begun = engine.add("s", device, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*").remove()
    (source,) = begun.flows
    flow = FlowStatistics(source=source, received=107, unroutable=40, removed=60, held=7)
    earlier = replace(begun, flows={source: flow, "gone": FlowStatistics(source="gone", received=5, filtered=5)})
    broker = engine.add("s", device, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*", earlier=earlier)
    assert broker.dropped == broker.statistics().flows[source].dropped == 107
    broker.remove(timeout_s=0)
    assert broker.dropped == 107


def test_message_that_is_held_is_not_dropped(engine: Engine, connect: Connect) -> None:
    # A port of the wire is not read while nobody takes its messages, so that nothing would be held there.
    broker = engine.add("s", STREAMER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*", transport="libzmq")
    connect(zmq.PUSH, broker.frontend.endpoints[0]).send(b"held")
    wait_until(lambda: broker.statistics().flows["frontend"].held)
    assert broker.dropped == 0

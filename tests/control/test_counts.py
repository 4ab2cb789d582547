"""STATISTICS, STATS and PEERS: what they count and tell, and how."""

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, replace
from typing import Any

import pytest
import zmq

from pollbroker import QUEUE, Broker, Device, Engine, FlowStatistics, PeerStatistics, PortStatistics, Route
from pollbroker.control import Control, attach
from pollbroker.statistics import BrokerStatistics, Counters, EngineStatistics
from tests.support.addresses import ANY_PORT
from tests.support.control import COMMANDS, add_streamer, make_ask
from tests.support.deadline import wait_until
from tests.support.tree import TREE
from tests.support.types import Connect


class Counted(Engine):
    """An engine whose only broker has moved what a test says."""

    flows: dict[str, FlowStatistics]

    def statistics(self, brokers: Iterable[str | Broker] | None = None) -> EngineStatistics:
        flows = self.flows.values()
        names = sorted({port for flow in flows for port in (flow.source, *flow.sinks)}, reverse=True)
        ports = {name: counted_at(name, self.flows) for name in names}
        broker = BrokerStatistics(name="b", device="d", state="running", error=None, flows=self.flows, ports=ports)
        return replace(super().statistics(brokers), brokers={"b": broker})


def counted_at(port: str, flows: Mapping[str, FlowStatistics]) -> PortStatistics:
    received = flows.get(port, FlowStatistics())
    sent = sum((flow for flow in flows.values() if port in flow.sinks), Counters())
    return PortStatistics(
        type="DEALER",
        endpoints=(),
        received_frames=received.received_frames,
        received_bytes=received.received_bytes,
        sent_frames=sent.sent_frames,
        sent_bytes=sent.sent_bytes,
    )


def counts_of(*flows: FlowStatistics) -> list[int]:
    with Counted() as engine:
        engine.flows = {flow.source: flow for flow in flows}
        reply = Control(engine).handle([b"STATISTICS"])
    assert reply is not None
    return [struct.unpack("=Q", frame)[0] for frame in reply]


def moved(source: str, sink: str, scale: int = 1) -> FlowStatistics:
    frames, size, sent, sent_size = (scale * n for n in (3, 50, 2, 40))
    return FlowStatistics(
        source=source,
        sinks=(sink,),
        received_frames=frames,
        received_bytes=size,
        sent_frames=sent,
        sent_bytes=sent_size,
    )


@pytest.mark.parametrize(
    ("flows", "counts"),
    [
        ([moved("frontend", "backend")], [3, 50, 0, 0, 0, 0, 2, 40]),
        ([moved("backend", "frontend")], [0, 0, 2, 40, 3, 50, 0, 0]),
        ([moved("frontend", "backend"), moved("backend", "frontend", 10)], [3, 50, 20, 400, 30, 500, 2, 40]),
        # libzmq counts what its proxy with one socket sends as the backend's.
        ([moved("frontend", "frontend")], [3, 50, 0, 0, 0, 0, 2, 40]),
        ([moved("frontend", "frontend"), moved("backend", "backend", 10)], [3, 50, 2, 40, 30, 500, 20, 400]),
    ],
)
def test_statistics_count_by_port_as_libzmq_does(flows: list[FlowStatistics], counts: list[int]) -> None:
    assert counts_of(*flows) == counts


def test_counts_beyond_64_bits_begin_again() -> None:
    flow = replace(moved("frontend", "backend"), received_frames=(1 << 63) + 1, received_bytes=(1 << 64) + 7)
    assert counts_of(flow)[:2] == [(1 << 63) + 1, 7]


def test_device_of_one_route_back_is_counted_at_its_ports(idle: Engine, connect: Connect) -> None:
    device = Device("up", zmq.PUSH, zmq.PULL, (Route("backend", "frontend"),))
    broker = idle.add("up", device, frontend=ANY_PORT, backend=ANY_PORT)
    pull, push = connect(zmq.PULL, broker.frontend.endpoint), connect(zmq.PUSH, broker.backend.endpoint)
    push.send(b"12345")
    wait_until(lambda: pull.poll(0), engine=idle)
    reply = Control(idle).handle([b"STATISTICS", b"up"])
    assert reply is not None
    assert [struct.unpack("=Q", frame)[0] for frame in reply] == [0, 0, 1, 5, 1, 5, 0, 0]


def test_stats_is_the_snapshot_and_documented(engine: Engine, connect: Connect) -> None:
    push, pull = add_streamer(engine, connect)
    ask = make_ask(connect(zmq.REQ, *attach(engine, ANY_PORT).endpoints))
    push.send_multipart([b"xyz", b""])
    pull.recv_multipart()

    def tells_the_snapshot() -> bool:
        whole, one = json.loads(ask(b"STATS")[1]), json.loads(ask(b"STATS", b"jobs")[1])
        wanted = json.loads(json.dumps(asdict(engine.statistics())))
        return {**whole, "turns": 0} == {**wanted, "turns": 0} and one == wanted["brokers"]["jobs"]

    wait_until(tells_the_snapshot)  # its states change as long as its peers are connecting
    page = (TREE / "docs/control.md").read_text()
    for snapshot in (EngineStatistics, BrokerStatistics, FlowStatistics, PortStatistics, Counters, PeerStatistics):
        assert [field.name for field in fields(snapshot) if f"`{field.name}`" not in page] == []
    assert [verb for verb in COMMANDS if f"`{verb.decode()}`" not in page] == []


def test_peers_tells_who_is_connected_to_ports_of_the_wire(engine: Engine, connect: Connect) -> None:
    broker = engine.add("orders", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, transport="wire")
    engine.add("other", QUEUE, frontend="inproc://other", backend=ANY_PORT, transport="libzmq")
    ask = make_ask(connect(zmq.REQ, *attach(engine, ANY_PORT).endpoints))
    identities = {b"client": "client", "ü".encode(): "ü", b"\xff\x01": "0xff01", b"a\nb": "0x610a62"}
    for identity in identities:
        connect(zmq.DEALER, broker.frontend.endpoint, routing_id=identity)

    def told(*name: bytes) -> Any:
        return json.loads(ask(b"PEERS", *name)[1])

    wait_until(lambda: len(told(b"orders")) == len(identities))
    assert {peer["routing_id"] for peer in told(b"orders")} == set(identities.values())
    assert {field.name for field in fields(PeerStatistics)} == set(told(b"orders")[0])
    everything = told()
    assert (len(everything["orders"]), everything["other"]) == (len(identities), [])

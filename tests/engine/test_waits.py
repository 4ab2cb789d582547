"""How long messages waited, in the statistics: over ports of libzmq and of the wire, with and without a handler."""

import pytest
import zmq

from pollbroker import STREAMER, Behaviour, Device
from pollbroker.waits import WAIT_BOUNDS_S, wait_quantile_s
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.clocks import Clock
from tests.support.deadline import wait_until
from tests.support.streamers import streamer_with
from tests.support.types import Connect, MakeEngine

HANDLED = streamer_with(lambda frames: frames)


@pytest.mark.parametrize("transport", ["libzmq", "wire"])
@pytest.mark.parametrize("device", [STREAMER, HANDLED], ids=["direct", "handler"])
def test_the_message_that_a_sink_refused_has_waited_and_the_others_have_not(
    make_engine: MakeEngine, connect: Connect, device: Device, transport: str
) -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    broker = engine.add("s", device, frontend=ANY_PORT, backend=ANY_PORT, transport=transport)
    producer = connect(zmq.PUSH, endpoint(broker.frontend))
    producer.send(b"waits")
    wait_until(lambda: flow_of(engine, "s").state == "stalled", engine=engine)
    assert sum(flow_of(engine, "s").waits) == 0
    clock.now_s += 2.0
    consumer = connect(zmq.PULL, endpoint(broker.backend))
    for _ in range(9):
        producer.send(b"need not wait")
    wait_until(lambda: flow_of(engine, "s").sent == 10, engine=engine)
    flow = flow_of(engine, "s")
    expected = [0] * (len(WAIT_BOUNDS_S) + 1)
    expected[0], expected[WAIT_BOUNDS_S.index(3.0)] = 9, 1
    assert (list(flow.waits), flow.waited_s) == (expected, 2.0)
    assert wait_quantile_s(flow.waits, 0.5) < 0.001 < 1.0 < wait_quantile_s(flow.waits, 0.99)  # type: ignore[operator]
    assert consumer.recv() == b"waits"


class Keeps(Behaviour):
    """Keeps messages until it is told to send them."""

    max_held = 9

    def __init__(self) -> None:
        self.kept: list[list[bytes]] = []

    @property
    def held(self) -> int:
        return len(self.kept)

    def on_message(self, port: str, frames: list[bytes]) -> None:
        if frames == [b"go"]:
            while self.kept:
                self.send("backend", self.kept.pop(0))
        else:
            self.kept.append(frames)


KEEPS = Device("keeps", ports={"frontend": zmq.PULL, "backend": zmq.PUSH}, behaviour=Keeps)


@pytest.mark.parametrize("transport", ["libzmq", "wire"])
def test_a_message_that_a_behaviour_keeps_waits_in_the_broker(
    make_engine: MakeEngine, connect: Connect, transport: str
) -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    broker = engine.add("k", KEEPS, frontend=ANY_PORT, backend=ANY_PORT, transport=transport)
    producer = connect(zmq.PUSH, endpoint(broker.frontend))
    consumer = connect(zmq.PULL, endpoint(broker.backend))
    producer.send(b"kept")
    wait_until(lambda: engine.broker_statistics("k").flows["behaviour"].held == 1, engine=engine)
    clock.now_s += 20.0
    producer.send(b"go")
    wait_until(lambda: engine.broker_statistics("k").flows["behaviour"].sent == 1, engine=engine)
    flow = engine.broker_statistics("k").flows["behaviour"]
    assert (flow.waits[WAIT_BOUNDS_S.index(30.0)], sum(flow.waits), flow.waited_s) == (1, 2, 20.0)
    assert consumer.recv() == b"kept"

"""`pollbroker_wait_seconds`, a histogram as Prometheus has them."""

import zmq
from prometheus_client.parser import text_string_to_metric_families as parse_text

from pollbroker import STREAMER
from pollbroker.metrics import serve_metrics
from pollbroker.waits import WAIT_BOUNDS_S
from tests.metrics.test_metrics import ask
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.clocks import Clock
from tests.support.deadline import wait_until
from tests.support.types import Connect, MakeEngine


def test_histogram_has_every_message_and_its_buckets_grow(make_engine: MakeEngine, connect: Connect) -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    broker = engine.add("s", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    producer = connect(zmq.PUSH, endpoint(broker.frontend))
    producer.send(b"waits")
    wait_until(lambda: flow_of(engine, "s").state == "stalled", engine=engine)
    clock.now_s += 2.0
    consumer = connect(zmq.PULL, endpoint(broker.backend))
    for _ in range(9):
        producer.send(b"need not wait")
    wait_until(lambda: flow_of(engine, "s").sent == 10, engine=engine)
    assert [len(consumer.recv()) > 0 for _ in range(10)] == [True] * 10
    with serve_metrics(engine, "127.0.0.1:0") as server:
        text = ask(server, "/metrics")[2]
    (family,) = [one for one in parse_text(text) if one.name == "pollbroker_wait_seconds"]
    assert family.type == "histogram"
    assert all(one.labels.items() >= {"broker": "s", "source": "frontend"}.items() for one in family.samples)
    buckets = {one.labels["le"]: one.value for one in family.samples if one.name.endswith("_bucket")}
    assert [float(bound) for bound in buckets] == [*WAIT_BOUNDS_S, float("inf")]
    assert (buckets["0.001"], buckets["1.0"], buckets["3.0"], buckets["+Inf"]) == (9, 9, 10, 10)
    totals = {one.name: one.value for one in family.samples if not one.name.endswith("_bucket")}
    assert totals == {"pollbroker_wait_seconds_count": 10, "pollbroker_wait_seconds_sum": 2.0}

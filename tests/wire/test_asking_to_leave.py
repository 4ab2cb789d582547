"""Peers of a broker that is drained are asked to leave, and what they have sent is read to the end."""

import zmq

from pollbroker import STREAMER, Engine
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.types import Connect, MakeEngine
from tests.support.wire_ports import peer_count, peers_alive
from tests.wire.zmtp import Raw, greeting, message, ping, ready


def test_peer_that_has_yet_to_shake_hands_is_sent_away(engine: Engine, raw: Raw) -> None:
    broker = engine.add("s", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, transport="wire")
    silent = raw(endpoint(broker.frontend))
    silent.read(10)
    final = broker.remove(timeout_s=1000, drain=True)
    assert final.ports["frontend"].connections_ended == {"closed": 1}
    silent.read_to_the_end()


def test_peer_that_has_shaken_hands_a_moment_ago_is_read(make_engine: MakeEngine, raw: Raw) -> None:
    """It has been told READY, and its own READY and a message have come, which nobody has read yet."""
    engine = make_engine()
    broker = engine.add("s", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, transport="wire")
    consumer = raw(endpoint(broker.backend))
    consumer.send(greeting() + ready("PULL"))
    producer = raw(endpoint(broker.frontend))
    producer.send(greeting())
    wait_until(lambda: peer_count(engine, broker, "backend") == 1 and peers_alive(engine) == 2, engine=engine)
    producer.read(64)
    producer.send(ready("PUSH") + message(b"1"))
    producer.close()
    removed = engine.begin_removal(broker, timeout_s=1000, drain=True)
    wait_until(removed.done, engine=engine)
    assert removed.result().flows["frontend"].sent == 1
    assert consumer.read(64)
    assert consumer.read_message() == [b"1"]


def test_what_comes_behind_a_heartbeat_that_cannot_be_answered_is_read(
    engine: Engine, raw: Raw, connect: Connect
) -> None:
    broker = engine.add("s", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, transport="wire")
    consumer = connect(zmq.PULL, endpoint(broker.backend))
    producer = raw(endpoint(broker.frontend)).shake_hands("PUSH")
    wait_until(lambda: peer_count(engine, broker) == 1)
    removed = engine.begin_removal(broker, timeout_s=1000, drain=True)
    producer.read_to_the_end()
    for number in range(100):
        producer.send(ping())
        producer.send_message(b"%d" % number)
    producer.socket.close()
    assert [consumer.recv() for _ in range(100)] == [b"%d" % number for number in range(100)]
    assert removed.result(DEADLINE_S).flows["frontend"].sent == 100


def test_peer_that_stays_is_not_waited_for_longer_than_allowed(engine: Engine, raw: Raw) -> None:
    broker = engine.add("s", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, transport="wire")
    stays = raw(endpoint(broker.frontend)).shake_hands("PUSH")
    wait_until(lambda: peer_count(engine, broker) == 1)
    final = broker.remove(timeout_s=0.2, drain=True)
    assert final.ports["frontend"].connections_ended == {"closed": 1}
    stays.read_to_the_end()

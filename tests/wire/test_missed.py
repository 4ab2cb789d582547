"""`PortStatistics.missed`: what the peers of a PUB or XPUB of the wire, which has accepted it, were not given."""

import pytest

from pollbroker import FORWARDER
from tests.support.accounts import stands_still
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import wait_until
from tests.support.types import MakeEngine
from tests.support.wire_ports import peer_count
from tests.wire.moving import Relay, ReplacedRelay, adds
from tests.wire.zmtp import Raw, RawPeer, command

COUNT = 1000


def missed(relay: Relay) -> int:
    return relay.broker.statistics().ports["backend"].missed


def publish_to_two_that_do_not_read(relay: Relay, raw: Raw) -> list[RawPeer]:
    """Publish more than the subscribers have room for. Return the subscribers."""
    publisher = raw(endpoint(relay.broker.frontend)).shake_hands("PUB")
    subscribers = [raw(endpoint(relay.broker.backend)).shake_hands("SUB") for _ in range(2)]
    for subscriber in subscribers:
        subscriber.send(command(b"SUBSCRIBE", b""))
    wait_until(lambda: [peer.subscriptions for peer in relay.broker.peers() if peer.port == "backend"] == [1, 1])
    for _ in range(COUNT):
        publisher.send_message(b"news", bytes(20_000))
    wait_until(lambda: relay.broker.statistics().flows["frontend"].received == COUNT)
    stands_still(relay.engine, "a")
    return subscribers


@pytest.mark.parametrize("kind", [Relay, ReplacedRelay], ids=["to_another_engine", "in_one_engine"])
def test_what_subscribers_miss_is_counted_wherever_their_broker_goes(
    make_engine: MakeEngine, raw: Raw, kind: type[Relay]
) -> None:
    relay = kind(make_engine, adds(FORWARDER, backend_options={"sndhwm": 100, "linger": 0}))
    first, _ = publish_to_two_that_do_not_read(relay, raw)
    peers = [peer for peer in relay.broker.peers() if peer.port == "backend"]
    assert all(peer.sent + peer.queued + peer.dropped == COUNT for peer in peers)
    assert all(peer.queued and peer.dropped for peer in peers)
    assert missed(relay) == sum(peer.dropped for peer in peers)
    relay.move()
    assert missed(relay) == sum(peer.dropped for peer in peers)
    first.close()
    wait_until(lambda: peer_count(relay.engine, relay.broker, "backend") == 1)
    (other,) = (peer for peer in relay.broker.peers() if peer.port == "backend")
    assert missed(relay) == 2 * COUNT - sum(peer.sent for peer in peers) - other.queued
    final = relay.broker.remove(timeout_s=0)
    assert final.ports["backend"].missed == 2 * COUNT - sum(peer.sent for peer in peers)


def test_subscriber_that_reads_everything_misses_nothing(make_engine: MakeEngine, raw: Raw) -> None:
    relay = Relay(make_engine, lambda engine: engine.add("a", FORWARDER, frontend=ANY_PORT, backend=ANY_PORT))
    publisher = raw(endpoint(relay.broker.frontend)).shake_hands("PUB")
    subscriber = raw(endpoint(relay.broker.backend)).shake_hands("SUB")
    subscriber.send(command(b"SUBSCRIBE", b"news"))
    publisher.read_command()
    for number in range(COUNT):
        publisher.send_message(b"olds")
        publisher.send_message(b"news %d" % number)
        assert subscriber.read_message() == [b"news %d" % number]
    subscriber.close()
    wait_until(lambda: peer_count(relay.engine, relay.broker, "backend") == 0)
    assert missed(relay) == 0

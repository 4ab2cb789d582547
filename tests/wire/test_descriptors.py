"""What happens at a wire port when the process has no descriptor left for another connection."""

import os
import resource
import socket
import threading
import time

import pytest

from pollbroker import STREAMER, Engine, HandOverError
from pollbroker.descriptors import SPARE_DESCRIPTORS
from pollbroker.handing_over.channel import DESCRIPTORS, Channel
from pollbroker.wire import native
from pollbroker.wire.connecting import REST_S, Connection
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.descriptors import descriptors, descriptors_left, no_descriptor_left, opened_since
from tests.support.wire_ports import peer_count
from tests.wire.moving import socket_pair
from tests.wire.tries import Waits, lookups, options_with
from tests.wire.zmtp import RawListener, RawPeer, connect_raw


def test_connection_waits_and_costs_nothing_while_no_descriptor_is_left(engine: Engine) -> None:
    """The listener stays readable, and would wake the engine again and again."""
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    host, _, port = endpoint(broker.frontend).removeprefix("tcp://").partition(":")
    with socket.socket() as connecting:
        with no_descriptor_left():
            connecting.connect((host, int(port)))  # the kernel accepts it, and the engine cannot
            before = engine.statistics().turns
            threading.Event().wait(0.05)
            assert engine.statistics().turns - before < 20
            assert peer_count(engine, broker) == 0
        RawPeer(connecting).shake_hands("PUSH")
        wait_until(lambda: peer_count(engine, broker) == 1)


def test_peers_are_told_while_no_descriptor_is_left(engine: Engine) -> None:
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend="ipc://*")
    with connect_raw(endpoint(broker.frontend)) as tcp, connect_raw(endpoint(broker.backend)) as ipc:
        tcp.shake_hands("PUSH")
        ipc.shake_hands("PULL")
        wait_until(lambda: all(peer_count(engine, broker, name) == 1 for name in broker.ports))
        with no_descriptor_left():
            told = sorted(peer.address for peer in broker.peers())
        assert told[0] == f"ipc, process {os.getpid()}"
        assert told[1].startswith("tcp://127.0.0.1:")


@pytest.mark.parametrize("reconnect_ivl", [-1, 10_000])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_connection_waits_while_only_the_last_descriptors_are_left(
    port: tuple[native.Net, native.Port], host: str, reconnect_ivl: int
) -> None:
    """libzmq ends the process if it has none."""
    _, pull = port
    waits = Waits()
    with RawListener() as listener:
        options = options_with(reconnect_ivl=reconnect_ivl)
        with descriptors_left(SPARE_DESCRIPTORS):
            connection = Connection(pull, f"tcp://{host}:{listener.port}", options, waits)
            for _ in range(3):
                waits.come()
            assert connection.connector is None
            assert not lookups()
        assert waits.delays_s == [REST_S] * 4
        waits.come()
        wait_until(lambda: waits.come() or connection.connector)  # type: ignore[func-returns-value]
        listener.accept().close()
        connection.close()


def test_name_that_was_looked_up_while_descriptors_ran_out_is_connected_to_later(
    port: tuple[native.Net, native.Port],
) -> None:
    _, pull = port
    waits = Waits()
    with RawListener() as listener:
        connection = Connection(pull, f"tcp://localhost:{listener.port}", options_with(), waits)
        wait_until(lambda: waits.calls and not lookups())
        with descriptors_left(SPARE_DESCRIPTORS):
            waits.come()
        assert waits.delays_s == [REST_S]
        wait_until(lambda: waits.come() or connection.connector)  # type: ignore[func-returns-value]
        connection.close()


def test_broker_is_not_replaced_by_means_of_the_last_descriptors(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each connection needs another descriptor while both brokers have it."""
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    copies: list[int] = []
    dup = os.dup
    with connect_raw(endpoint(broker.frontend)) as one, connect_raw(endpoint(broker.frontend)) as another:
        for peer in (one, another):
            peer.shake_hands("PUSH")
        wait_until(lambda: peer_count(engine, broker) == 2)
        before = descriptors()
        with descriptors_left(SPARE_DESCRIPTORS + 3), monkeypatch.context() as watched:
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            watched.setattr(os, "dup", lambda descriptor: copies.append(dup(descriptor)) or copies[-1])  # type: ignore[func-returns-value]
            with pytest.raises(HandOverError, match=r"^brokers\.a: the connections of 'a' cannot be kept: .*Too many"):
                engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, replaces="a")
        assert max(copies) <= limit - SPARE_DESCRIPTORS
        assert not opened_since(before)
        assert peer_count(engine, broker) == 2
        broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, replaces="a")
        assert peer_count(engine, broker) == 2


def test_process_that_takes_brokers_over_keeps_the_last_descriptors() -> None:
    with socket_pair() as (ours, theirs):
        sending, receiving = Channel(ours), Channel(theirs)
        deadline_s = time.monotonic() + DEADLINE_S
        sending.send_descriptors([ours.fileno()] * 10, deadline_s=deadline_s)
        with descriptors_left(SPARE_DESCRIPTORS + 3):
            with pytest.raises(HandOverError, match="this process may not open so many"):
                receiving.receive(DESCRIPTORS, deadline_s=deadline_s)
            come = receiving.fetch_descriptors()
        for descriptor in come:
            os.close(descriptor)
        assert len(come) == 3
        for channel in (sending, receiving):
            channel.close()

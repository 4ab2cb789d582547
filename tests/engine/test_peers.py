"""Peers that leave, that send garbage, and that come in crowds: none of them disturbs the others."""

import random
import socket as net
import struct
import threading

import pytest
import zmq

from pollbroker import FORWARDER, QUEUE, STREAMER, Device, Engine
from tests.support.accounts import balanced, flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.bystander import Bystander
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.processes import run_apart
from tests.support.types import Connect


def test_departed_peer_of_a_router_is_counted(engine: Engine, connect: Connect, bystander: Bystander) -> None:
    broker = engine.add("queue", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    worker = connect(zmq.DEALER, endpoint(broker.backend))
    staying = connect(zmq.REQ, endpoint(broker.frontend))
    for number in range(5):
        leaving = connect(zmq.DEALER, endpoint(broker.frontend), routing_id=b"leaving")
        leaving.send_multipart([b"", b"question"])
        asked = worker.recv_multipart()
        leaving.close()

        def dropped(asked: list[bytes] = asked, before: int = number) -> bool:
            if flow_of(engine, "queue", "backend").unroutable > before:
                return True
            worker.send_multipart([*asked[:-1], b"answer", b""])
            return False

        counted = flow_of(engine, "queue", "backend").unroutable
        wait_until(lambda c=counted, a=asked: dropped(a, c))  # type: ignore[misc]
        staying.send(b"still there?")
        worker.send_multipart(worker.recv_multipart())
        assert staying.recv() == b"still there?"
    flow = flow_of(engine, "queue", "backend")
    assert flow.unroutable >= 5
    assert balanced(flow)
    assert broker.state == "running"


GREETING = b"\xff\0\0\0\0\0\0\0\1\x7f"


def random_bytes(source: random.Random) -> bytes:
    """Plain noise, noise behind a good beginning, and what a peer of ZMTP 1.0 would say."""
    noise = source.randbytes(source.choice([0, 1, 9, 64, 300]))
    kind = source.randrange(4)
    if kind == 0:
        return GREETING + b"\3\0NULL".ljust(54, b"\0") + noise
    if kind == 1:
        return GREETING + noise
    if kind == 2:
        return b"\1\0" + b"".join(b"%c\0%b" % (len(f) + 1, f) for f in (noise[:20], noise[:5])) + noise
    return noise


def flood(address: str, connections: int, source: random.Random, made: list[int]) -> None:
    """Connect, send random bytes and leave, in turn without and with a reset; note each connection."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    for number in range(connections):
        try:
            with net.create_connection((host, int(port)), timeout=DEADLINE_S) as peer:
                made.append(number)
                peer.sendall(random_bytes(source))
                if number % 2:
                    peer.setsockopt(net.SOL_SOCKET, net.SO_LINGER, struct.pack("ii", 1, 0))
        except (ConnectionResetError, BrokenPipeError):
            continue  # libzmq hung up before everything was said


@pytest.mark.slow
def test_random_bytes_of_2_000_connections_are_survived(engine: Engine, connect: Connect, bystander: Bystander) -> None:
    queue = engine.add("queue", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    streamer = engine.add("streamer", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    worker = connect(zmq.DEALER, endpoint(queue.backend))
    pull = connect(zmq.PULL, endpoint(streamer.backend), rcvhwm=0)
    stop = threading.Event()
    made: list[int] = []

    def work() -> None:
        while not stop.is_set():
            if worker.poll(10):
                worker.send_multipart(worker.recv_multipart())

    threads = [
        threading.Thread(target=work),
        *(
            threading.Thread(target=flood, args=(endpoint(broker.frontend), 500, random.Random(seed), made))
            for seed, broker in enumerate([queue, streamer, queue, streamer])
        ),
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads[1:]):
        bystander.check()
        threads[1].join(0.05)
    stop.set()
    threads[0].join()
    assert len(made) == 2_000
    for name in ("queue", "streamer"):
        assert engine.brokers[name].state == "running"
    client = connect(zmq.REQ, endpoint(queue.frontend))
    client.send(b"still there?")
    while (asked := worker.recv_multipart())[-1] != b"still there?":
        pass
    worker.send_multipart(asked)
    assert client.recv() == b"still there?"
    push = connect(zmq.PUSH, endpoint(streamer.frontend))
    push.send(b"the last")
    received = [pull.recv_multipart()]
    while received[-1] != [b"the last"]:
        received.append(pull.recv_multipart())

    def all_have_come() -> bool:  # "the last" may overtake what others sent: libzmq takes from one peer after the other
        while pull.poll(0):
            received.append(pull.recv_multipart())
        return flow_of(engine, "streamer").sent == len(received)

    wait_until(all_have_come)
    statistics = engine.statistics().brokers
    for broker in ("queue", "streamer"):
        for flow in statistics[broker].flows.values():
            assert balanced(flow)


@pytest.mark.parametrize("device", [QUEUE, STREAMER, FORWARDER], ids=lambda device: device.name)
def test_flood_of_connections_is_survived(
    engine: Engine, connect: Connect, bystander: Bystander, device: Device
) -> None:
    broker = engine.add("flooded", device, frontend=ANY_PORT, backend=ANY_PORT)
    peers = []
    for number in range(150):
        for port in (broker.frontend, broker.backend):
            host, _, number_of_port = endpoint(port).removeprefix("tcp://").rpartition(":")
            peers.append(net.create_connection((host, int(number_of_port))))
        if number % 50 == 0:
            bystander.check()
    bystander.check()
    for peer in peers:
        peer.close()
    assert broker.state == "running"


def test_garbage_subscriptions_are_opaque(engine: Engine, connect: Connect, bystander: Bystander) -> None:
    broker = engine.add("news", FORWARDER, frontend=ANY_PORT, backend=ANY_PORT)
    garbage = connect(zmq.XSUB, endpoint(broker.backend), sndhwm=0)
    source = random.Random(1)
    sent = [[b""], [b"\0"], [b"\0never subscribed"], [b"\1"], [b"\0"], [b"\2data", b""], [b"\1a", b"\1b", b"more"]]
    sent += [[source.randbytes(source.randrange(40)) for _ in range(source.randint(1, 4))] for _ in range(500)]
    for message in sent:
        garbage.send_multipart(message)
    publisher = connect(zmq.XPUB, endpoint(broker.frontend))
    subscriber = connect(zmq.SUB, endpoint(broker.backend), subscribe=b"topic")

    def arrives() -> bool:
        publisher.send_multipart([b"topic", b"news"])
        return bool(subscriber.poll(1))

    wait_until(arrives)
    assert subscriber.recv_multipart() == [b"topic", b"news"]
    garbage.close()
    for flow in engine.statistics().brokers["news"].flows.values():
        assert balanced(flow)
    assert broker.state == "running"


# libzmq's XSUB walks its subscriptions by recursion, one call for each byte: a long one overflows the stack when its
# subscriber leaves, or when the socket is closed.
@pytest.mark.parametrize("end", ["leave", "unsubscribe", "remove"])
def test_long_subscription_never_ends_the_process(end: str) -> None:
    script = """
        import subprocess, sys, zmq
        from pollbroker import Engine, FORWARDER

        PEER = '''
        import sys, zmq
        with zmq.Context() as context, context.socket(zmq.XSUB) as peer:
            peer.linger = 0
            monitor = peer.get_monitor_socket()
            peer.connect(sys.argv[1])
            peer.send(bytes([1]) + b"a" * 1_000_000)
            print("subscribed", flush=True)
            sys.stdin.readline()
            if sys.argv[2] == "unsubscribe":
                peer.send(bytes([0]) + b"a" * 1_000_000)
                sys.stdin.readline()
            import os; os._exit(0)
        '''
        import textwrap
        engine = Engine()
        engine.start()
        broker = engine.add("news", FORWARDER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
        arguments = [sys.executable, "-c", textwrap.dedent(PEER), broker.backend.endpoints[0], sys.argv[1]]
        peer = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        peer.stdout.readline()
        received = lambda: engine.statistics().brokers["news"].flows["backend"].received
        context = zmq.Context()
        witness, publisher = context.socket(zmq.SUB), context.socket(zmq.PUB)
        witness.connect(broker.backend.endpoints[0])
        publisher.connect(broker.frontend.endpoints[0])
        def settle(topic):
            witness.subscribe = topic
            for _ in range(10_000):
                publisher.send(topic)
                if witness.poll(1):
                    break
            while witness.poll(0):
                assert witness.recv()
        import time
        end_s = time.monotonic() + 0.3
        while received() < 1 and time.monotonic() < end_s:
            time.sleep(0.001)
        settle(b"one")
        if sys.argv[1] == "unsubscribe":
            peer.stdin.write("\\n"); peer.stdin.flush()
            time.sleep(0.2)
            settle(b"two")
        if sys.argv[1] == "remove":
            engine.remove("news")
            engine.add("news", FORWARDER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
        peer.communicate("\\n\\n")
        before, end_s = received(), time.monotonic() + 0.3
        while received() == before and time.monotonic() < end_s:
            time.sleep(0.001)
        context.destroy(linger=0)
        engine.close()
        print("lived")
    """
    assert run_apart(script, end) == "lived\n"


# The same where libzmq's own limit does not help: at a device of the user's own, and at the caller's sockets.
@pytest.mark.parametrize("pump", ["native", "python"])
@pytest.mark.parametrize(
    "whose",
    [
        pytest.param(
            "device", marks=pytest.mark.libzmq("the wire ends the connection of a peer with such a subscription")
        ),
        "registered",
    ],
)
def test_long_subscription_never_ends_the_process_whoever_opened_the_sockets(whose: str, pump: str) -> None:
    script = '''
        import subprocess, sys, time, zmq
        from pollbroker import Device, Engine, Route

        OWN = Device("own", zmq.XSUB, zmq.XPUB, [Route("frontend", "backend"), Route("backend", "frontend")])
        context = zmq.Context()
        engine = Engine(pump=sys.argv[2])
        if sys.argv[1] == "device":
            broker = engine.add("news", OWN, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
            address = broker.backend.endpoints[0]
        else:
            xsub, xpub = context.socket(zmq.XSUB), context.socket(zmq.XPUB)
            address = "tcp://127.0.0.1:%d" % xpub.bind_to_random_port("tcp://127.0.0.1")
            broker = engine.register(xsub, xpub, OWN, name="news")
        engine.start()
        flow = lambda: engine.broker_statistics("news").flows["backend"]

        def wait_for(condition):
            end_s = time.monotonic() + 20
            while not condition():
                assert time.monotonic() < end_s, flow()
                time.sleep(0.001)

        # In a process of its own: closing such an XSUB overflows the stack there too.
        PEER = """if True:
            import os, sys, zmq
            peer = zmq.Context().socket(zmq.XSUB)
            peer.connect(sys.argv[1])
            peer.send(bytes([1]) + b"a" * 1_000_000)
            peer.send(bytes([1]) + b"short")
            sys.stdin.readline()
            os._exit(0)
        """
        leaver = subprocess.Popen([sys.executable, "-c", PEER, address], stdin=subprocess.PIPE)
        wait_for(lambda: flow().long_subscription == 1 and flow().sent == 1)
        leaver.communicate(b"\\n")
        wait_for(lambda: flow().long_subscription == 2 and flow().sent == 2)
        engine.close()
        context.destroy(linger=0)
        print("lived")
    '''
    assert run_apart(script, whose, pump) == "lived\n"

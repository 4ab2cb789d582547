"""What holds in every environment: with a thread of the engine's own, with `run`, on a loop of asyncio or uvloop."""

import errno
import socket as net
import threading
import time
from functools import partial

import pytest
import zmq

from pollbroker import QUEUE, BrokerState, DeviceError, EndpointError, EngineError
from tests.embedding.environments import Environment, held
from tests.support.accounts import balanced
from tests.support.addresses import bind
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.processes import run_apart
from tests.support.streamers import Peers, streamer_with
from tests.support.tree import TREE
from tests.support.types import Connect

# -- traffic ----------------------------------------------------------------------------------------------------------


def test_traffic_flows(environment: Environment, connect: Connect) -> None:
    peers = Peers(connect, environment.add("a"))
    for _ in range(20):
        peers.check()
    peers.check(*[b"%d" % number for number in range(5000)])
    queue = environment.add("q", QUEUE)
    client, worker = connect(zmq.REQ, queue.frontend.endpoint), connect(zmq.REP, queue.backend.endpoint)
    for number in range(20):
        client.send(b"%d" % number)
        worker.send(worker.recv() + b" answered")
        assert client.recv() == b"%d answered" % number
    assert environment.do(queue.statistics).flows["backend"].sent == 20


def test_registered_sockets_carry_traffic_and_are_the_callers_again(environment: Environment, connect: Connect) -> None:
    frontend, backend = connect(zmq.PULL), connect(zmq.PUSH)
    push, pull = connect(zmq.PUSH, bind(frontend)), connect(zmq.PULL, bind(backend))
    broker = environment.do(lambda: environment.engine.register(frontend, backend))
    push.send(b"x")
    assert pull.recv() == b"x"
    assert environment.do(broker.remove).state == BrokerState.REMOVED
    push.send(b"y")
    assert frontend.recv() == b"y"


def test_brokers_come_and_go_while_others_work(environment: Environment, connect: Connect) -> None:
    peers = Peers(connect, environment.add("stays"))
    for number in range(10):
        for _ in range(100):
            peers.push.send(b"x")
        broker = environment.add(f"goes-{number}")
        others = Peers(connect, broker)
        others.check()
        assert environment.do(broker.drain) is True
        final = environment.do(partial(environment.engine.remove, broker))
        assert (final.state, final.flows["frontend"].sent) == (BrokerState.REMOVED, 1)
        assert environment.do(broker.remove) == environment.do(broker.statistics) == final
    assert [peers.pull.recv() for _ in range(1000)] == [b"x"] * 1000
    assert list(environment.engine.brokers) == ["stays"]
    assert environment.engine.brokers["stays"].state == BrokerState.RUNNING


# libzmq closes a listener some time after its socket.
def test_address_can_be_had_again_at_once(environment: Environment) -> None:
    address = environment.add("a").frontend.endpoint
    for _ in range(10):
        environment.do(lambda: environment.engine.remove("a"))
        assert environment.add("a", frontend=address).frontend.endpoint == address


def test_paused_broker_moves_nothing_and_goes_on(environment: Environment, connect: Connect) -> None:
    broker = environment.add("a")
    peers = Peers(connect, broker)
    peers.check()
    environment.do(broker.pause)
    peers.push.send(b"later")
    assert environment.do(lambda: environment.engine.drain(0.02)) == ("a",)
    assert not peers.pull.poll(0)
    environment.do(broker.resume)
    assert peers.pull.recv() == b"later"


def test_removal_sends_what_is_held_if_a_consumer_comes(environment: Environment, connect: Connect) -> None:
    broker = held(environment, connect)
    removal = environment.begin(lambda: broker.remove(timeout_s=DEADLINE_S))
    wait_until(lambda: broker.state == BrokerState.REMOVING)
    environment.add("other")  # whoever waits for a removal keeps nobody else waiting
    assert connect(zmq.PULL, broker.backend.endpoint).recv() == b"held"
    assert removal.result(DEADLINE_S).flows["frontend"].sent == 1


# -- timers, and when nothing is to be done ---------------------------------------------------------------------------


def test_timers_come_in_order_and_not_if_cancelled(environment: Environment) -> None:
    def set_timers(came: list[object], done: threading.Event) -> float:
        began_s = time.monotonic()
        environment.sync.call_later(0.02, done.set)
        environment.sync.call_later(0.01, came.append, "second")
        environment.sync.call_later(0.005, came.append, "cancelled").cancel()
        environment.sync.call_later(0.0, came.append, "first")
        return time.monotonic() - began_s

    for _ in range(100):
        came: list[object] = []  # each try has its own: timers of the last one may still come
        done = threading.Event()
        took_s = environment.do(partial(set_timers, came, done))
        assert done.wait(DEADLINE_S)
        if took_s < 0.01:
            break  # otherwise the last was set so late, on a busy machine, that it came behind the others
    assert came == ["first", "second"]


def test_call_from_another_thread_and_a_reader_are_served(environment: Environment) -> None:
    reader, writer = net.socketpair()
    taken: list[bytes] = []
    environment.do(lambda: environment.sync.add_reader(reader.fileno(), lambda: taken.append(reader.recv(10))))
    writer.send(b"read")
    wait_until(lambda: taken == [b"read"])
    environment.sync.call_soon_threadsafe(taken.append, b"called")
    wait_until(lambda: taken == [b"read", b"called"])
    environment.do(lambda: environment.sync.remove_reader(reader.fileno()))
    reader.close()
    writer.close()


def turns_of(environment: Environment) -> int:
    """How many turns the engine has made; asking may take a turn."""
    turns: int = environment.do(environment.engine.statistics).turns
    return turns


def turns_meanwhile(environment: Environment, wait_s: float) -> int:
    """Turns that the engine makes while a timer of another thread runs; asking costs one at each end."""
    before = turns_of(environment)
    over = threading.Event()
    timer = threading.Timer(wait_s, over.set)
    timer.start()
    assert over.wait(DEADLINE_S)
    timer.join()
    return turns_of(environment) - before


@pytest.mark.parametrize("situation", ["nothing to do", "no consumer", "paused"])
def test_idle_engine_makes_no_turns(environment: Environment, connect: Connect, situation: str) -> None:
    Peers(connect, environment.add("a")).check()
    environment.sync.call_later(3600, print)
    if situation == "no consumer":
        held(environment, connect)
    if situation == "paused":
        broker = environment.add("paused")
        environment.do(broker.pause)
        connect(zmq.PUSH, broker.frontend.endpoint).send(b"x")
    wait_until(lambda: turns_meanwhile(environment, 0.05) <= 2)  # what libzmq has still to say of the connections
    assert turns_meanwhile(environment, 0.15) <= 2
    if situation == "paused":
        environment.do(broker.resume)
        assert connect(zmq.PULL, broker.backend.endpoint).recv() == b"x"


# With bursts of one message, moving many takes as many turns. Whoever else runs there has its turn as often.
def test_neither_the_engine_nor_its_neighbour_starves(kind: type[Environment], connect: Connect) -> None:
    with kind(burst_messages=1) as environment:
        peers = Peers(connect, environment.add("a"))
        peers.check()
        environment.do(lambda: environment.engine.pause("a"))
        for _ in range(2000):
            peers.push.send(b"x")
        ticks = 0

        def tick() -> None:
            nonlocal ticks
            ticks += 1

        environment.call_each_turn(tick)
        wait_until(lambda: ticks)
        before = ticks, turns_of(environment)
        environment.do(lambda: environment.engine.resume("a"))
        assert [peers.pull.recv() for _ in range(2000)] == [b"x"] * 2000
        made = turns_of(environment) - before[1]
        assert made >= 2000
        assert ticks - before[0] >= made - 10  # asking takes a few turns


# -- errors -----------------------------------------------------------------------------------------------------------


def test_errors_come_up_where_the_call_was_made(environment: Environment, connect: Connect) -> None:
    taken = bind(connect(zmq.PULL))
    with pytest.raises(EndpointError, match="Address already in use") as raised:
        environment.add("a", frontend=taken)
    assert isinstance(raised.value.__cause__, zmq.ZMQError)
    assert raised.value.__cause__.errno == errno.EADDRINUSE
    with pytest.raises(DeviceError, match="no_such_device"):
        environment.do(lambda: environment.engine.add("a", "no_such_device"))
    with pytest.raises(EngineError, match="no broker is named 'a'"):
        environment.do(lambda: environment.engine.remove("a"))
    with pytest.raises(EngineError, match="no broker is named 'a'"):
        environment.do(lambda: environment.engine.drain(broker="a"))
    closed = connect(zmq.PULL)
    closed.close()
    with pytest.raises(EngineError, match="the socket is closed"):
        environment.do(lambda: environment.engine.register(closed, connect(zmq.PUSH)))
    assert dict(environment.engine.brokers) == {}


def test_exceptions_of_a_handler_and_a_timer_are_logged_and_all_goes_on(
    environment: Environment, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*frames: list[bytes]) -> None:
        raise ZeroDivisionError("the user's")

    other = Peers(connect, environment.add("other"))
    broker = environment.add("handled", streamer_with(fail))
    connect(zmq.PUSH, broker.frontend.endpoint).send(b"x")
    wait_until(lambda: environment.do(broker.statistics).flows["frontend"].dropped == 1)
    assert "a message was dropped (1 so far)" in caplog.text
    environment.do(lambda: environment.sync.call_later(0, fail))
    wait_until(lambda: "a call in the engine's thread raised" in caplog.text)
    assert broker.state == BrokerState.RUNNING
    other.check()


def test_broker_that_failed_says_why_and_the_others_go_on(environment: Environment, connect: Connect) -> None:
    other = Peers(connect, environment.add("other"))
    socket = connect(zmq.PULL)
    broker = environment.do(lambda: environment.engine.register(socket, connect(zmq.PUSH)))
    environment.sync.call_soon_threadsafe(socket.close)  # in a turn, since a socket must not be used by two at once
    wait_until(lambda: socket.closed)
    assert environment.do(broker.statistics).state == broker.state == BrokerState.FAILED
    assert isinstance(broker.error, zmq.ZMQError)
    other.check()
    assert environment.do(broker.remove).state == BrokerState.FAILED


# -- the end ----------------------------------------------------------------------------------------------------------


def test_stop_ends_it_and_loses_nothing(environment: Environment, connect: Connect) -> None:
    broker = held(environment, connect)
    environment.sync.call_soon_threadsafe(environment.engine.stop)  # as control does it
    environment.wait_stopped()
    assert environment.sync.stopping or not environment.sync.running
    assert broker.state == BrokerState.RUNNING
    assert balanced(environment.do(broker.statistics).flows["frontend"])


def test_engine_whose_context_ended_stops_by_itself(kind: type[Environment], connect: Connect) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with kind(context=context) as environment:
        broker = environment.add("a")
        Peers(connect, broker).check()
        context.term()
        environment.wait_stopped()
        assert broker.state == BrokerState.ENDED


@pytest.mark.parametrize("last", ["broker", "reader"])
def test_engine_that_a_call_leaves_with_nothing_to_do_stops_by_itself(
    cancellable: Environment, connect: Connect, last: str
) -> None:
    ended, socket = connect(zmq.PULL), connect(zmq.PULL)
    broker = cancellable.do(lambda: cancellable.engine.register(ended, connect(zmq.PUSH)))
    if last == "broker":
        cancellable.add("last")
    else:
        cancellable.sync.add_reader(socket, lambda: None)
    cancellable.sync.call_soon_threadsafe(ended.close)
    wait_until(lambda: ended.closed)
    assert cancellable.do(broker.statistics).state == BrokerState.FAILED
    waiting = cancellable.begin(lambda: cancellable.engine.wait_stopped())
    cancellable.do(lambda: None)
    assert not waiting.done()
    if last == "broker":
        cancellable.do(lambda: cancellable.engine.remove("last"))
    else:
        cancellable.do(lambda: cancellable.sync.remove_reader(socket))
    waiting.result(DEADLINE_S)


def test_closed_engine_gives_everything_back(environment: Environment, connect: Connect) -> None:
    broker = environment.add("a")
    Peers(connect, broker).check()
    environment.do(lambda: environment.engine.close())
    assert environment.engine.closed
    assert broker.state == BrokerState.REMOVED
    assert environment.engine.context.closed
    with pytest.raises(EngineError, match="the engine is closed"):
        environment.add("b")
    with pytest.raises(EngineError, match="the engine is closed"):
        environment.do(environment.engine.statistics)
    environment.do(environment.engine.close)  # does nothing


def test_closing_sends_what_is_held_if_a_consumer_comes(environment: Environment, connect: Connect) -> None:
    broker = held(environment, connect)
    closing = environment.begin(lambda: environment.engine.close(timeout_s=DEADLINE_S))
    wait_until(lambda: broker.state == BrokerState.REMOVING)
    assert connect(zmq.PULL, broker.backend.endpoint).recv() == b"held"
    closing.result(DEADLINE_S)
    assert environment.engine.closed


def test_closing_ends_whoever_waits(
    environment: Environment, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    broker = held(environment, connect)
    environment.add("paused")
    environment.do(lambda: environment.engine.pause("paused"))
    waiting = [
        environment.begin(lambda: environment.engine.drain(3600.0, broker="paused")),
        environment.begin(lambda: broker.remove(timeout_s=3600.0)),
    ]
    wait_until(lambda: broker.state == BrokerState.REMOVING)
    environment.do(lambda: environment.engine.close(timeout_s=0.01))
    assert waiting[0].result(DEADLINE_S) == ()
    assert waiting[1].result(DEADLINE_S).flows["frontend"].held == 1
    assert caplog.text.count("brokers.holding: closed with 1 messages undelivered") == 1


def test_no_descriptor_is_left_open(kind: type[Environment]) -> None:
    script = """
        import os, sys
        sys.path.insert(0, sys.argv[1])
        from tests.embedding.all_environments import ALL_ENVIRONMENTS

        (kind,) = (kind for kind in ALL_ENVIRONMENTS if kind.name == sys.argv[2])

        def descriptors():
            return len(os.listdir("/dev/fd"))
        def use():
            with kind() as environment:
                environment.add("a")
                environment.do(lambda: environment.engine.remove("a"))
                environment.add("b")
        use()
        before = descriptors()
        for _ in range(5):
            use()
        assert descriptors() == before, (before, descriptors())
        print("none left")
    """
    assert run_apart(script, str(TREE), kind.name) == "none left\n"

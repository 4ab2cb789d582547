"""Readers: callbacks for other sockets and descriptors."""

import logging
import socket as net
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from pollbroker import QUEUE, STREAMER, Device, Engine, EngineError, Route
from pollbroker.broker import working_broker
from tests.support.addresses import ANY_PORT, bind
from tests.support.deadline import DEADLINE_MS, DEADLINE_S, wait_until
from tests.support.streamers import Peers
from tests.support.threads import in_thread
from tests.support.turns import rest, turn_until_idle
from tests.support.types import Connect, MakeEngine, Socket


@pytest.fixture
def pipes() -> Iterator[list[tuple[net.socket, net.socket]]]:
    """Three connected pairs: read from the first of each, write to the second."""
    pairs = [net.socketpair() for _ in range(3)]
    yield pairs
    for pair in pairs:
        for one in pair:
            one.close()


def test_reader_is_called_as_long_as_there_is_input(
    make_engine: MakeEngine, pipes: list[tuple[net.socket, net.socket]]
) -> None:
    engine = make_engine()
    reader, writer = pipes[0]
    taken: list[bytes] = []
    engine.add_reader(reader.fileno(), lambda: taken.append(reader.recv(1)))
    writer.send(b"abc")
    wait_until(lambda: len(taken) == 3, engine=engine)
    assert taken == [b"a", b"b", b"c"]
    before = engine.statistics().turns
    engine.step()
    assert (len(taken), engine.statistics().turns) == (3, before + 1)
    assert engine.remove_reader(reader.fileno())
    assert not engine.remove_reader(reader.fileno())
    writer.send(b"d")
    for _ in range(3):
        engine.step()
    assert len(taken) == 3


# As asyncio's `add_reader` and `zmq.Poller` do.
def test_reader_may_be_of_an_object_with_a_descriptor(
    make_engine: MakeEngine, pipes: list[tuple[net.socket, net.socket]]
) -> None:
    engine = make_engine()
    reader, writer = pipes[0]
    taken: list[bytes] = []
    engine.add_reader(reader, print)
    engine.add_reader(reader.fileno(), lambda: taken.append(reader.recv(1)))  # in place of the one before
    writer.send(b"a")
    wait_until(lambda: taken, engine=engine)
    assert taken == [b"a"]
    assert engine.remove_reader(reader)
    assert not engine.remove_reader(reader.fileno())


def test_reader_of_what_has_no_descriptor_or_is_closed_is_refused(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine(waiter="nested")  # the flat one finds a closed descriptor only when it waits
    with pytest.raises(EngineError, match=r"^'text' cannot be read; expected a ZeroMQ socket, a descriptor, or an obj"):
        engine.add_reader("text", print)  # type: ignore[arg-type] # as a program that is not checked
    plain, own = net.socket(), connect(zmq.PULL)
    plain.close()
    own.close()
    with pytest.raises(EngineError, match=r"^<socket\.socket \[closed\].* cannot be read; expected one that is open$"):
        engine.add_reader(plain, print)
    with pytest.raises(EngineError, match=r"cannot be read; expected an open socket$"):
        engine.add_reader(own, print)
    with pytest.raises(EngineError, match=r"^9999 cannot be read: Bad file descriptor$"):
        engine.add_reader(9999, print)


def test_reader_is_called_when_its_closed_descriptor_was_given_to_a_socket(
    make_engine: MakeEngine, context: zmq.Context[Socket]
) -> None:
    engine = make_engine(waiter="nested")  # the flat one knows sockets, and not their descriptors
    context.socket(zmq.PULL)  # the context's own descriptors are opened with its first socket
    reader, writer = net.socketpair()
    number, called = reader.fileno(), threading.Event()
    engine.add_reader(number, called.set)
    rest(engine)
    reader.close()
    made = (context.socket(zmq.PULL) for _ in range(100))  # each is given the lowest number that is free
    source = next(socket for socket in made if socket.getsockopt(zmq.FD) == number)
    engine.register(source, context.socket(zmq.PUSH), STREAMER, name="a")
    rest(engine)
    assert called.is_set()
    writer.close()


def test_socket_reader_takes_one_message_a_turn_and_misses_none(engine: Engine, connect: Connect) -> None:
    pull = connect(zmq.PULL)
    push = connect(zmq.PUSH, f"tcp://127.0.0.1:{pull.bind_to_random_port('tcp://127.0.0.1')}")
    taken: list[bytes] = []
    for number in range(50):
        push.send(b"%d" % number)
    engine.add_reader(pull, lambda: taken.append(pull.recv(zmq.DONTWAIT)))
    for number in range(50, 100):
        push.send(b"%d" % number)
    wait_until(lambda: len(taken) == 100)
    assert taken == [b"%d" % number for number in range(100)]
    push.send(b"the last")
    wait_until(lambda: len(taken) == 101)
    assert engine.remove_reader(pull)
    push.send(b"the callers")
    assert pull.recv() == b"the callers"


def test_reader_with_endless_input_lets_the_others_have_their_turn(
    engine: Engine, connect: Connect, pipes: list[tuple[net.socket, net.socket]]
) -> None:
    counts = [0, 0]

    def count(index: int) -> None:
        counts[index] += 1  # and what was there to read is still there

    for index in (0, 1):
        pipes[index][1].send(b"x")
        engine.add_reader(pipes[index][0].fileno(), count, index)
    looks: list[tuple[int, int, int]] = []

    def look() -> None:
        looks.append((counts[0], counts[1], engine.statistics().turns))

    engine.call_later(0, look)
    peers = Peers(connect, engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT))
    peers.check(*[b"%d" % number for number in range(1000)])
    engine.call_later(0, look)
    wait_until(lambda: len(looks) == 2)
    for index in (0, 1):
        engine.remove_reader(pipes[index][0].fileno())
    first, second, turns = (after - before for before, after in zip(*looks, strict=True))
    assert first == second == turns > 0


def test_reader_that_raises_is_logged_and_stays(
    engine: Engine, pipes: list[tuple[net.socket, net.socket]], caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = pipes[0]

    def fails() -> None:
        raise ValueError(f"cannot read {reader.recv(1)!r}")

    engine.add_reader(reader.fileno(), fails)
    for letter in (b"a", b"b"):
        writer.send(letter)
        wait_until(lambda x=letter: f"cannot read {x!r}" in caplog.text)  # type: ignore[misc]
    assert all(record.levelno == logging.ERROR and record.name == "pollbroker" for record in caplog.records)


def test_reader_may_remove_itself_and_others(
    make_engine: MakeEngine, pipes: list[tuple[net.socket, net.socket]]
) -> None:
    """Two are ready in one turn, and each removes the other: only one of them is called."""
    engine = make_engine()
    called: list[int] = []

    def remove_all(index: int) -> None:
        called.append(index)
        for reader, _ in pipes:
            engine.remove_reader(reader.fileno())

    for index, (reader, writer) in enumerate(pipes):
        writer.send(b"x")
        engine.add_reader(reader.fileno(), remove_all, index)
    for _ in range(5):
        engine.step(0.001)
    assert len(called) == 1


def test_replaced_callback_is_not_called_again(
    make_engine: MakeEngine, pipes: list[tuple[net.socket, net.socket]]
) -> None:
    engine = make_engine()
    reader, writer = pipes[0]
    called: list[str] = []

    def first() -> None:
        called.append("first")
        engine.add_reader(reader.fileno(), second)

    def second() -> None:
        called.append("second")
        reader.recv(1)

    engine.add_reader(reader.fileno(), lambda: called.append("never"))
    engine.add_reader(reader.fileno(), first)
    writer.send(b"x")
    wait_until(lambda: "second" in called, engine=engine)
    for _ in range(3):
        engine.step()
    assert called == ["first", "second"]


@pytest.mark.parametrize("wrong", [-1, 1 << 20, None, 5.0, "0", object()])
def test_what_cannot_be_read_is_refused_and_nothing_is_left(make_engine: MakeEngine, wrong: Any) -> None:
    engine = make_engine(waiter="nested")
    with pytest.raises((EngineError, OSError, ValueError, TypeError)):
        engine.add_reader(wrong, print)
    engine.step()
    assert not engine.remove_reader(wrong)
    engine.close()


def test_closed_socket_cannot_be_read(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    socket = connect(zmq.PULL)
    socket.close()
    with pytest.raises((EngineError, zmq.ZMQError)):
        engine.add_reader(socket, print)
    engine.step()
    assert not engine.remove_reader(socket)
    engine.close()


def test_socket_of_a_broker_cannot_be_read(engine: Engine, connect: Connect) -> None:
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    peers = Peers(connect, broker)
    with pytest.raises(EngineError):
        engine.add_reader(working_broker(broker).port("frontend").socket, print)
    peers.check()


def test_reader_whose_socket_is_closed_is_dropped_with_a_warning(
    engine: Engine, connect: Connect, context: zmq.Context[Socket], caplog: pytest.LogCaptureFixture
) -> None:
    socket = context.socket(zmq.PULL)
    engine.add_reader(socket, print)
    engine.call_soon_threadsafe(socket.close)
    for number in range(20):  # its descriptor's number is given out again
        other = context.socket(zmq.PULL)
        push = connect(zmq.PUSH, f"tcp://127.0.0.1:{other.bind_to_random_port('tcp://127.0.0.1')}")
        taken: list[bytes] = []
        engine.add_reader(other, lambda o=other, t=taken: t.append(o.recv()))
        push.send(b"%d" % number)
        wait_until(lambda t=taken: t)  # type: ignore[misc]
        engine.remove_reader(other)
        other.close()
    engine.remove_reader(socket)
    Peers(connect, engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)).check()


def test_reader_is_told_of_the_end_of_its_context_without_a_warning(
    make_engine: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    pair = context.socket(zmq.PAIR)
    with make_engine() as engine:
        engine.add_reader(pair, pair.close)
        in_thread(context.term).result(DEADLINE_S)
        assert not engine.remove_reader(pair)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


# The waiter has collected the wake-ups of the turn by then, and that of the reader may be among them.
@pytest.mark.parametrize("reader_first", [False, True])
def test_reader_that_is_removed_when_a_broker_ends_is_not_asked_any_more(
    make_engine: MakeEngine, caplog: pytest.LogCaptureFixture, reader_first: bool
) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    pull, push, pair = (context.socket(kind) for kind in (zmq.PULL, zmq.PUSH, zmq.PAIR))
    with make_engine() as engine:

        def close(_: object) -> None:
            engine.remove_reader(pair)
            for socket in (pull, push, pair):
                socket.close()

        if reader_first:
            engine.add_reader(pair, str)
        engine.register(pull, push, STREAMER).removed.add_done_callback(close)
        if not reader_first:
            engine.add_reader(pair, str)
        in_thread(context.term).result(DEADLINE_S)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_socket_has_one_reader(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    router, dealer, pair = connect(zmq.ROUTER), connect(zmq.DEALER), connect(zmq.PAIR)
    engine.register(router, dealer, QUEUE, name="q")
    with pytest.raises(EngineError, match=r"^add_reader: the socket is registered already, as brokers\.q\.frontend$"):
        engine.add_reader(router, print)
    heard: list[bytes] = []
    pair.bind("inproc://pair")
    engine.add_reader(pair, lambda: heard.append(pair.recv(zmq.DONTWAIT)))
    pairs = Device("pairs", zmq.PAIR, zmq.PAIR, (Route("frontend", "backend"),))
    with pytest.raises(EngineError, match=r"^brokers\.p\.backend: the socket is registered already, as a reader's$"):
        engine.register(connect(zmq.PAIR), pair, pairs, name="p")
    assert list(engine.brokers) == ["q"]
    connect(zmq.PAIR, "inproc://pair").send(b"still read")
    turn_until_idle(engine)
    assert heard == [b"still read"]
    assert engine.remove_reader(pair)
    engine.register(connect(zmq.PAIR), pair, pairs, name="p")


# Ctrl-C in one reader: those before it have had their turn, and it is called again only if it has more to read.
def test_readers_go_on_after_an_exception_where_they_were(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    taken: list[object] = []
    sockets = [connect(zmq.PULL) for _ in range(3)]

    def take(number: int) -> None:
        taken.append((number, sockets[number].recv(zmq.NOBLOCK)))
        if number == 1:
            raise KeyboardInterrupt

    for number, socket in enumerate(sockets):
        connect(zmq.PUSH, bind(socket)).send(b"x")
        assert socket.poll(DEADLINE_MS)
        engine.add_reader(socket, take, number)
    with pytest.raises(KeyboardInterrupt):
        engine.step()
    assert taken == [(0, b"x"), (1, b"x")]
    rest(engine)
    assert taken == [(0, b"x"), (1, b"x"), (2, b"x")]
    for socket in sockets:
        engine.remove_reader(socket)

"""A soak finds what it is there to find, and runs."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import zmq

from tests.soak.__main__ import Population, growth_mib
from tests.soak.peers import Chance, Client, Context, Sink, SoakError, Subscriber
from tests.support.addresses import address_of
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.tree import TREE
from tests.support.types import Socket

Bind = Callable[[int], tuple[Socket, list[str]]]


@pytest.fixture
def bind(context: Context) -> Bind:
    """A socket that stands for a broker's port, and its endpoint."""

    def bound(kind: int) -> tuple[Socket, list[str]]:
        socket = context.socket(kind)
        socket.rcvtimeo = int(DEADLINE_S * 1000)
        socket.bind("tcp://127.0.0.1:*")
        return socket, [address_of(socket)]

    return bound


def made_to_fail(turn: Callable[[int], None]) -> str:
    """What a peer says that was given what it should not have."""
    said = ""

    def fails() -> bool:
        nonlocal said
        try:
            turn(0)
        except SoakError as error:
            said = str(error)
        return bool(said)

    wait_until(fails)
    return said


def test_a_second_reply_is_found(context: Context, bind: Bind) -> None:
    broker, endpoints = bind(zmq.ROUTER)
    client = Client(context, endpoints, Chance(1), 10)

    def is_asked() -> object:
        client.turn(1)
        return broker.poll(0)

    wait_until(is_asked)
    request = broker.recv_multipart()
    broker.send_multipart(request)
    broker.send_multipart(request)
    assert "or the second one" in made_to_fail(client.turn)


def test_a_message_that_comes_twice_is_found(context: Context, bind: Bind) -> None:
    broker, endpoints = bind(zmq.PUSH)
    sink = Sink(context, endpoints, Chance(1), 10)
    for number in (b"7", b"8", b"7"):
        broker.send_multipart([b"", b"a", number, b""])
    assert made_to_fail(sink.turn) == "message 7 of a source has come twice"


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([(b"c", b"1")], "a message of b'c', of which nothing was wanted"),
        ([(b"a", b"2"), (b"a", b"1")], "message 1 of a publisher came late, or twice"),
        ([(b"a", b"2"), (b"a", b"2")], "message 2 of a publisher came late, or twice"),
    ],
)
def test_what_a_subscriber_should_not_have_is_found(
    context: Context, bind: Bind, messages: list[tuple[bytes, bytes]], expected: str
) -> None:
    broker, endpoints = bind(zmq.XPUB)
    subscriber = Subscriber(context, endpoints, Chance(1), 10)
    (socket,) = subscriber.wanted
    socket.subscribe(b"c")  # nobody has told the subscriber
    socket.subscribe(b"a")
    subscriber.wanted[socket].add(b"a")
    assert [broker.recv(), broker.recv()] == [b"\x01c", b"\x01a"]
    for topic, number in messages:
        broker.send_multipart([topic, b"name", number, b""])
    assert expected in made_to_fail(subscriber.turn)


def test_growth_is_that_of_the_last_quarter_over_the_second() -> None:
    assert growth_mib([1, 9, 10, 10, 10, 10, 13, 13]) == 3


def test_a_peer_that_has_ended_by_itself_is_told_of() -> None:
    population = Population({("queue", "backend"): ["nonsense://"]}, 10, Chance(1), {"worker": 2})
    try:
        population.fill()
        with pytest.raises(AssertionError, match=r"worker: (?s:.*)zmq.error.ZMQError"):
            wait_until(population.fill)
    finally:
        population.end()


@pytest.mark.slow
def test_a_short_soak_passes() -> None:
    command = [sys.executable, "-m", "tests.soak", "--seconds", "3"]
    run = subprocess.run(command, cwd=TREE, capture_output=True, text=True, timeout=100, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "every account balances, and nothing is left in use" in run.stdout

"""The protocol by which the programs of other libraries are driven, with pyzmq in a process of its own."""

import sys
from collections.abc import Callable, Iterator

import pytest
import zmq

from tests.others.driven import Driven
from tests.others.libraries import pyzmq
from tests.others.subjects import SUBJECTS, TRANSPORTS, running_engines, try_schedules
from tests.support.addresses import bind as bind_to_any_port
from tests.support.deadline import DEADLINE_S
from tests.support.types import Connect, Socket

Bind = Callable[..., tuple[Socket, str]]

EXAMPLES = 3


@pytest.fixture
def program() -> Iterator[Driven]:
    with pyzmq() as program:
        yield program


@pytest.fixture
def bind(connect: Connect) -> Bind:
    """Binds a socket of this process: `bind(zmq.ROUTER, routing_id=b"a")`. Gives the socket, and where it is."""

    def make(kind: int, **options: object) -> tuple[Socket, str]:
        socket = connect(kind, **options)
        return socket, bind_to_any_port(socket)

    return make


def test_messages_pass_whole_whatever_their_frames(program: Driven, bind: Bind) -> None:
    router, address = bind(zmq.ROUTER)
    dealer = program.socket(zmq.DEALER)
    dealer.connect(address)
    frames = [b"", bytes(range(256)), b"", b"-", b" \n", b"x" * 200_000]
    dealer.send(frames)
    sender, *received = router.recv_multipart()
    assert received == frames
    router.send_multipart([sender, *received])
    assert dealer.receive(DEADLINE_S) == frames


def test_receiving_gives_up_when_its_time_is_over(program: Driven, bind: Bind) -> None:
    push, address = bind(zmq.PUSH)
    pull = program.socket(zmq.PULL)
    pull.connect(address)
    assert pull.receive() is None
    assert pull.receive(0.01) is None
    push.send(b"a message")
    assert pull.receive(DEADLINE_S) == [b"a message"]


def test_router_waits_for_the_peer_that_it_sends_to(program: Driven, bind: Bind) -> None:
    other, address = bind(zmq.ROUTER, routing_id=b"other")
    router = program.socket(zmq.ROUTER)
    router.connect(address)
    router.send([b"other", b"a message"])
    assert other.recv_multipart()[1:] == [b"a message"]


def test_subscriptions_are_counted(program: Driven, bind: Bind) -> None:
    publisher, address = bind(zmq.XPUB)
    subscriber = program.socket(zmq.SUB)
    subscriber.connect(address)
    for topic in (b"", b"a", b"a"):
        subscriber.subscribe(topic)
    subscriber.unsubscribe(b"a")
    subscriber.unsubscribe(b"")
    assert [publisher.recv() for _ in range(3)] == [b"\x01", b"\x01a", b"\x00"]
    publisher.send(b"b")
    publisher.send(b"ab")
    assert subscriber.receive(DEADLINE_S) == [b"ab"]


def test_what_a_closed_socket_has_sent_is_still_written(program: Driven, bind: Bind) -> None:
    pull, address = bind(zmq.PULL)
    push = program.socket(zmq.PUSH)
    push.connect(address)
    push.send([b"a message"])
    push.close(linger_s=DEADLINE_S)
    assert pull.recv() == b"a message"


def test_what_goes_wrong_is_said(program: Driven) -> None:
    with pytest.raises(AssertionError, match=r"error connect: .*nowhere"):
        program.socket(zmq.PUSH).connect("tcp://nowhere")
    assert "libzmq" in program.version()


def test_end_of_the_program_is_noticed() -> None:
    with Driven([sys.executable, "-c", "input()"]) as program, pytest.raises(AssertionError, match="ended at version"):
        program.version()


@pytest.mark.parametrize("device", SUBJECTS)
def test_peers_in_a_process_of_their_own_keep_the_model(program: Driven, device: str) -> None:
    with running_engines() as engines:
        for transport in TRANSPORTS:
            outcome = try_schedules(
                SUBJECTS[device], engines, program, transport, examples=EXAMPLES, number=0, shrink=False
            )
            if outcome.wrong is not None:
                raise outcome.wrong
            assert outcome.schedules == EXAMPLES
            assert outcome.messages > 0

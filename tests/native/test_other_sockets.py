"""Sockets of classes that wait in their own ways: the plain socket beneath is used, by both twins."""

import asyncio
from contextlib import suppress
from typing import Any, NoReturn

import pytest
import zmq
import zmq.asyncio

from pollbroker.pump import Implementation
from tests.support.deadline import wait_until
from tests.support.pipes import take_all
from tests.support.types import Connect, MakeEngine, Socket


class Waiting(zmq.Socket[Any]):
    """A socket as that of zmq.green is: what it does by itself would hand the thread to somebody else."""

    def _wait(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise AssertionError("the engine used the socket and not the plain one beneath")

    send = recv = send_multipart = recv_multipart = poll = _wait


# A program gives the engine sockets that it also uses with asyncio, before and after.
@pytest.mark.parametrize("which", ["frontend", "backend", "both"])
def test_sockets_of_asyncio_are_served(
    context: zmq.Context[Socket], connect: Connect, make_engine: MakeEngine, which: str
) -> None:
    async def serve() -> None:
        taken, given = context.socket(zmq.PULL), context.socket(zmq.PUSH)
        taken.bind("inproc://taken")
        given.bind("inproc://given")
        sockets: list[Any] = [
            zmq.asyncio.Socket.shadow(socket) if which in (name, "both") else socket
            for name, socket in (("frontend", taken), ("backend", given))
        ]
        engine = make_engine(context)
        engine.register(sockets[0], sockets[1], "streamer", name="mine")
        producer, consumer = connect(zmq.PUSH, "inproc://taken"), connect(zmq.PULL, "inproc://given")
        messages = [[b"%d" % number, b"x"] for number in range(10)]
        for message in messages:
            producer.send_multipart(message)
        wait_until(lambda: engine.broker_statistics("mine").flows["frontend"].sent == 10, engine=engine)
        assert take_all(consumer) == messages
        engine.close(timeout_s=0)
        for socket, beneath in zip(sockets, (taken, given), strict=True):
            if socket is not beneath:
                socket.close(linger=0)

    asyncio.run(serve())


def test_socket_that_waits_in_its_own_way_is_not_asked_to(
    context: zmq.Context[Socket], connect: Connect, make_engine: MakeEngine
) -> None:
    taken, given = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    taken.bind("inproc://taken")
    given.bind("inproc://given")
    engine = make_engine(context)
    engine.register(Waiting(shadow=taken.underlying), Waiting(shadow=given.underlying), "streamer", name="mine")
    producer, consumer = connect(zmq.PUSH, "inproc://taken"), connect(zmq.PULL, "inproc://given")
    producer.send_multipart([b"1", b"2"])
    wait_until(lambda: engine.broker_statistics("mine").flows["frontend"].sent == 1, engine=engine)
    assert take_all(consumer) == [[b"1", b"2"]]


def test_closed_socket_of_a_registered_pair_ends_its_broker_alone(
    context: zmq.Context[Socket], connect: Connect, make_engine: MakeEngine, implementation: Implementation
) -> None:
    for closed in (0, 1):
        engine = make_engine(context)
        pairs = []
        for name in ("closing", "staying"):
            taken, given = context.socket(zmq.PULL), context.socket(zmq.PUSH)
            taken.bind(f"inproc://{name}-taken-{closed}")
            given.bind(f"inproc://{name}-given-{closed}")
            engine.register(taken, given, "streamer", name=name)
            pairs.append((taken, given))
        producers = [connect(zmq.PUSH, f"inproc://{name}-taken-{closed}") for name in ("closing", "staying")]
        consumer = connect(zmq.PULL, f"inproc://staying-given-{closed}")
        pairs[0][closed].close(linger=0)
        with suppress(zmq.Again):  # the socket that it is connected to may be closed already
            producers[0].send(b"1", zmq.DONTWAIT)
        producers[1].send(b"1")
        wait_until(lambda: engine.broker_statistics("staying").flows["frontend"].sent == 1, engine=engine)  # noqa: B023
        assert take_all(consumer) == [[b"1"]]
        wait_until(lambda: engine.broker_statistics("closing").state != "running", engine=engine)  # noqa: B023
        engine.close(timeout_s=0)

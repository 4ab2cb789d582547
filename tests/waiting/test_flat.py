"""The flat waiter: every socket in the `zmq.Poller` itself."""

from collections.abc import Callable
from typing import Any

import pytest
import zmq

from pollbroker import EngineError
from pollbroker.waiting import FlatWaiter
from tests.support.pollers import CountedPoller
from tests.support.types import Connect, Socket
from tests.support.wires import Wire, named, names_of


def test_flat_waiter_watches_for_the_events_it_was_asked_for(context: zmq.Context[Socket], connect: Connect) -> None:
    poller = CountedPoller()
    waiter = FlatWaiter(poller, 0.0)
    socket = context.socket(zmq.PUSH)
    socket.bind("inproc://sink")
    waiter.add(socket, named("sink"))
    assert poller.registered == {socket: zmq.POLLIN}
    with pytest.raises(EngineError, match="is watched already"):
        waiter.add(socket, named("again"))
    connect(zmq.PULL, "inproc://sink")
    assert waiter.wait(0) == []
    waiter.watch(socket, zmq.POLLOUT)
    assert poller.registered == {socket: zmq.POLLOUT}
    assert names_of(waiter.wait(None)) == ["sink"]
    for _ in range(2):
        waiter.watch(socket, 0)
        assert poller.registered == {}
    assert waiter.wait(0) == []
    waiter.watch(socket, zmq.POLLOUT)
    assert names_of(waiter.wait(None)) == ["sink"]
    for _ in range(2):
        waiter.remove(socket)
        assert (poller.registered, waiter.wait(0)) == ({}, [])
    waiter.add(socket, named("again"))
    assert poller.registered == {socket: zmq.POLLIN}
    waiter.close()
    assert poller.registered == {}


def test_flat_waiter_calls_the_owners_of_closed_sockets_only(
    context: zmq.Context[Socket], wires: Callable[[], Wire]
) -> None:
    poller = CountedPoller()
    waiter, wire = FlatWaiter(poller, 0.0), wires()
    closed, unwatched, other = (context.socket(zmq.PULL) for _ in range(3))
    waiter.add(wire.number, named("wire"))
    for name, socket in (("closed", closed), ("unwatched", unwatched), ("other", other)):
        waiter.add(socket, named(name))
    waiter.watch(unwatched, 0)
    closed.close()
    unwatched.close()
    assert names_of(waiter.wait(None)) == ["closed"]
    assert poller.asked == []
    waiter.remove(closed)
    wire.ring()
    assert names_of(waiter.wait(None)) == ["wire"]
    waiter.close()


class FailingPoller(CountedPoller):
    def poll(self, timeout: int | None = None) -> list[tuple[Any, int]]:
        super().poll(0)
        raise zmq.ZMQError(zmq.ETERM)


@pytest.mark.parametrize("spin_s", [0.0, 0.001])
def test_all_owners_are_called_when_the_poller_fails(wires: Callable[[], Wire], spin_s: float) -> None:
    waiter = FlatWaiter(FailingPoller(), spin_s)
    for name in ("one", "other"):
        waiter.add(wires().number, named(name))
    assert names_of(waiter.wait(5)) == ["one", "other"]


def test_flat_waiter_has_no_descriptor_and_says_what_to_do() -> None:
    with pytest.raises(
        EngineError, match=r"^the flat waiter has no descriptor: call step\(\) at intervals, or use the nested waiter$"
    ):
        FlatWaiter(zmq.Poller(), 0.0).fileno()

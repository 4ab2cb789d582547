"""The flat waiter: every socket in the `zmq.Poller` itself."""

from collections.abc import Callable
from typing import Any, cast

import pytest
import zmq

from pollbroker import EngineError
from pollbroker.waiting import FlatWaiter
from tests.support.pollers import CountedPoller
from tests.support.types import Connect, Socket
from tests.support.wires import Wire, named, names_of


class Interest:
    """A hub that wants to be woken for certain events, by port."""

    def __init__(self, *events: int) -> None:
        self.events = list(events)

    def interest(self, port_index: int, /) -> int:
        return self.events[port_index]


def add_port(waiter: FlatWaiter, socket: Socket, hub: Interest, port_index: int, name: str) -> None:
    waiter.add_port(socket, cast(Any, hub), port_index, named(name))


def watch(waiter: FlatWaiter, hub: Interest, *events: int) -> None:
    """Something has changed at the hub, which now wants to be woken for these events."""
    hub.events = list(events)
    waiter.update([cast(Any, hub)])


def test_flat_waiter_watches_for_the_events_that_the_hub_is_interested_in(
    context: zmq.Context[Socket], connect: Connect
) -> None:
    poller = CountedPoller()
    waiter = FlatWaiter(poller, 0.0)
    socket = context.socket(zmq.PUSH)
    socket.bind("inproc://sink")
    hub = Interest(zmq.POLLIN)
    add_port(waiter, socket, hub, 0, "sink")
    assert poller.registered == {socket: zmq.POLLIN}
    with pytest.raises(EngineError, match="is watched already"):
        waiter.add(socket, named("again"))
    connect(zmq.PULL, "inproc://sink")
    assert waiter.wait(0) == []
    watch(waiter, hub, zmq.POLLOUT)
    assert poller.registered == {socket: zmq.POLLOUT}
    assert names_of(waiter.wait(None)) == ["sink"]
    for _ in range(2):
        watch(waiter, hub, 0)
        assert poller.registered == {}
    assert waiter.wait(0) == []
    watch(waiter, hub, zmq.POLLOUT)
    assert names_of(waiter.wait(None)) == ["sink"]
    for _ in range(2):
        waiter.remove(socket)
        watch(waiter, hub, zmq.POLLOUT)  # the socket is not a port of the hub any more
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
    hub = Interest(zmq.POLLIN, zmq.POLLIN, zmq.POLLIN)
    for index, (name, socket) in enumerate({"closed": closed, "unwatched": unwatched, "other": other}.items()):
        add_port(waiter, socket, hub, index, name)
    watch(waiter, hub, zmq.POLLIN, 0, zmq.POLLIN)
    closed.close()
    unwatched.close()
    assert names_of(waiter.wait(None)) == ["closed"]
    assert poller.asked == []
    waiter.remove(closed)
    wire.ring()
    assert names_of(waiter.wait(None)) == ["wire"]
    waiter.close()


def test_hub_at_which_something_happened_is_asked_again(context: zmq.Context[Socket], connect: Connect) -> None:
    poller = CountedPoller()
    waiter = FlatWaiter(poller, 0.0)
    sink, idle = context.socket(zmq.PUSH), context.socket(zmq.PUSH)
    sink.bind("inproc://sink")
    hub, other = Interest(zmq.POLLOUT), Interest(zmq.POLLOUT)
    add_port(waiter, sink, hub, 0, "sink")
    add_port(waiter, idle, other, 0, "idle")
    waiter.update([cast(Any, hub), cast(Any, other)])
    connect(zmq.PULL, "inproc://sink")
    assert names_of(waiter.wait(None)) == ["sink"]
    hub.events, other.events = [0], [0]
    waiter.update([])
    assert poller.registered == {idle: zmq.POLLOUT}
    waiter.close()
    assert poller.registered == {}


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

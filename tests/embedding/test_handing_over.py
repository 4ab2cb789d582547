"""Brokers that are handed over from one program with a loop to another one, whose loops go on meanwhile."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from pollbroker import BrokerState, ConfigError, EngineError, HandOverError
from pollbroker.wire.served import why_not_built
from tests.embedding.all_environments import ALL_ENVIRONMENTS
from tests.embedding.environments import Environment
from tests.support.addresses import ANY_PORT
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.streamers import Peers
from tests.support.types import Connect

pytestmark = pytest.mark.skipif(why_not_built() is not None, reason="only ports of the wire can move")

AWAITED = [kind for kind in ALL_ENVIRONMENTS if kind.cancellable and kind.name != "gevent"]


@pytest.fixture(params=AWAITED, ids=lambda kind: kind.name)
def programs(request: pytest.FixtureRequest) -> Iterator[tuple[Environment, Environment]]:
    """The program that has the brokers, and the one that is to have them."""
    with request.param() as old, request.param() as new:
        yield old, new


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of the connection between them."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def add(program: Environment, name: str) -> Any:
    """Begin, where `program` has its loop, to add a broker that can be moved."""
    return program.engine.add(name, "streamer", frontend=ANY_PORT, backend=ANY_PORT, transport="wire")


class Adopting:
    """Takes brokers over in a program. What happens in the block is up to the test."""

    def __init__(self, program: Environment, theirs: socket.socket, *names: str) -> None:
        self._program = program
        self._theirs = theirs
        self._names = names
        self.offered: tuple[str, ...] = ()
        self.moved: tuple[str, ...] = ()

    async def __call__(self) -> None:
        async with self._program.engine.adopt(self._theirs, timeout_s=DEADLINE_S) as adoption:
            self.offered = adoption.offered
            assert adoption.moved == ()
            for name in self._names:
                await add(self._program, name)
        self.moved = adoption.moved


def hand_over(program: Environment, ours: socket.socket, *names: str) -> Any:
    brokers = names or None
    return program.engine.hand_over(ours, brokers, timeout_s=DEADLINE_S, freeze_s=DEADLINE_S)


def test_connections_move_and_peers_notice_nothing(
    programs: tuple[Environment, Environment], sockets: tuple[socket.socket, socket.socket], connect: Connect
) -> None:
    old, new = programs
    broker = old.do(lambda: add(old, "a"))
    stays = old.do(lambda: add(old, "stays"))
    peers, others = Peers(connect, broker), Peers(connect, stays)
    peers.check(b"1")
    adopting = Adopting(new, sockets[1], "a", "of its own")
    handing = old.begin(lambda: hand_over(old, sockets[0]))
    new.do(adopting)
    handed_over = handing.result(DEADLINE_S)
    assert sorted(adopting.offered) == ["a", "stays"]
    assert handed_over.moved == adopting.moved == ("a",)
    assert list(handed_over.left) == ["stays"]
    assert broker.state is BrokerState.REMOVED
    assert list(old.engine.brokers) == ["stays"]
    assert set(new.engine.brokers) == {"a", "of its own"}
    peers.check(b"2", b"3")
    others.check()
    assert new.do(new.engine.brokers["a"].statistics).flows["frontend"].sent == 3


def test_loops_go_on_while_the_other_side_is_waited_for(
    programs: tuple[Environment, Environment], sockets: tuple[socket.socket, socket.socket], connect: Connect
) -> None:
    old, new = programs
    peers = Peers(connect, old.do(lambda: add(old, "a")))
    others = Peers(connect, new.do(lambda: add(new, "other")))
    adopting = Adopting(new, sockets[1], "a")
    taking = new.begin(adopting)
    others.check()  # it waits for an offer
    assert not taking.done()
    handing = old.begin(lambda: hand_over(old, sockets[0], "a"))
    taking.result(DEADLINE_S)
    assert handing.result(DEADLINE_S).moved == ("a",)
    peers.check()
    others.check()


def test_a_block_that_raises_leaves_everything_as_it_was(
    programs: tuple[Environment, Environment], sockets: tuple[socket.socket, socket.socket], connect: Connect
) -> None:
    old, new = programs
    peers = Peers(connect, old.do(lambda: add(old, "a")))

    async def adopt() -> None:
        async with new.engine.adopt(sockets[1], timeout_s=DEADLINE_S):
            await add(new, "a")
            raise OverflowError("too much")

    handing = old.begin(lambda: hand_over(old, sockets[0]))
    with pytest.raises(OverflowError, match="too much"):
        new.do(adopt)
    with pytest.raises(HandOverError, match="OverflowError: too much"):
        handing.result(DEADLINE_S)
    assert not new.engine.brokers
    peers.check()


def test_what_cannot_be_handed_over_is_refused_at_once(
    programs: tuple[Environment, Environment], sockets: tuple[socket.socket, socket.socket]
) -> None:
    old, new = programs
    old.do(lambda: old.engine.add("b", "streamer", frontend=ANY_PORT, backend=ANY_PORT, transport="libzmq"))
    with pytest.raises(ConfigError, match=r"brokers\.b: it cannot be handed over"):
        old.do(lambda: hand_over(old, sockets[0], "b"))
    with pytest.raises(HandOverError, match=r"brokers\.b: it cannot be handed over"):
        new.do(Adopting(new, sockets[1]))
    with pytest.raises(EngineError, match="no broker is named 'unknown'"):
        old.do(lambda: hand_over(old, sockets[0], "unknown"))


def test_a_hand_over_goes_on_when_it_is_cancelled(
    programs: tuple[Environment, Environment], sockets: tuple[socket.socket, socket.socket], connect: Connect
) -> None:
    old, new = programs
    broker = old.do(lambda: add(old, "a"))
    peers = Peers(connect, broker)
    handing = old.begin(lambda: hand_over(old, sockets[0]))
    old.do(lambda: None)
    handing.cancel()
    adopting = Adopting(new, sockets[1], "a")
    new.do(adopting)
    assert adopting.moved == ("a",)
    wait_until(lambda: broker.state is BrokerState.REMOVED)
    peers.check()


def test_a_block_that_is_cancelled_before_it_begins_takes_nothing_over(
    programs: tuple[Environment, Environment], sockets: tuple[socket.socket, socket.socket], connect: Connect
) -> None:
    old, new = programs
    peers = Peers(connect, old.do(lambda: add(old, "a")))
    adopting = Adopting(new, sockets[1], "a")
    taking = new.begin(adopting)
    new.do(lambda: None)
    taking.cancel()
    new.do(lambda: None)
    with pytest.raises(HandOverError, match="cancelled before it began"):
        old.do(lambda: hand_over(old, sockets[0]))
    assert adopting.offered == ()
    assert not new.engine.brokers
    peers.check()
    with ExitStack() as stack:  # and the next one can begin
        ours, theirs = socket.socketpair()
        stack.enter_context(ours)
        stack.enter_context(theirs)
        again = Adopting(new, theirs, "a")
        handing = old.begin(lambda: hand_over(old, ours))
        new.do(again)
        assert handing.result(DEADLINE_S).moved == again.moved == ("a",)
    peers.check()


def test_a_block_goes_on_when_it_is_cancelled_at_its_end(
    programs: tuple[Environment, Environment], sockets: tuple[socket.socket, socket.socket], connect: Connect
) -> None:
    old, new = programs
    broker = old.do(lambda: add(old, "a"))
    peers = Peers(connect, broker)
    added, waits, go_on = threading.Event(), threading.Event(), threading.Event()

    def wait() -> None:
        waits.set()
        go_on.wait(DEADLINE_S)

    async def adopt() -> None:
        async with new.engine.adopt(sockets[1], timeout_s=DEADLINE_S):
            await add(new, "a")
            old.sync.call_soon_threadsafe(wait)  # the other program does not hand it over yet
            assert waits.wait(DEADLINE_S)
            added.set()

    handing = old.begin(lambda: hand_over(old, sockets[0]))
    taking = new.begin(adopt)
    try:
        assert added.wait(DEADLINE_S)
        new.do(lambda: None)
        taking.cancel()
        new.do(lambda: None)
        assert broker.state is BrokerState.RUNNING
    finally:
        go_on.set()
    assert handing.result(DEADLINE_S).moved == ("a",)
    wait_until(lambda: new.engine.brokers["a"].state is BrokerState.RUNNING)
    peers.check()


def test_threads_of_the_conversation_end(
    programs: tuple[Environment, Environment], sockets: tuple[socket.socket, socket.socket]
) -> None:
    old, new = programs
    old.do(lambda: add(old, "a"))
    handing = old.begin(lambda: hand_over(old, sockets[0]))
    new.do(Adopting(new, sockets[1], "a"))
    handing.result(DEADLINE_S)
    names = {"pollbroker-hand-over", "pollbroker-adopt"}
    wait_until(lambda: not any(thread.name in names for thread in threading.enumerate()))

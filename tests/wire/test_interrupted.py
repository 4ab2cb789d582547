"""Exceptions of whoever is told of events, such as a SystemExit: nothing that happened is lost, or done twice."""

from typing import Any

import pytest
import zmq

from pollbroker import STREAMER, Event, EventKind
from pollbroker.engine import engine_loop
from pollbroker.wire import native
from pollbroker.wire.connecting import Connection
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import wait_until
from tests.support.types import MakeEngine
from tests.support.wire_ports import peer_count
from tests.wire.tries import serve
from tests.wire.zmtp import RawListener, command, connect_raw, greeting, ready


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_port_connects_again_after_a_listener_has_ended_the_run(make_engine: MakeEngine) -> None:
    engine = make_engine()
    with RawListener() as listener:
        broker = engine.add(
            "a", STREAMER, frontend=ANY_PORT, backend=f">{listener.address}", backend_options={"reconnect_ivl": 5}
        )
        end = engine.on_event(_end_at_the_first(EventKind.PEER_LEFT))
        engine.start()
        with listener.accept() as consumer:
            consumer.shake_hands("PULL")
            wait_until(lambda: peer_count(engine, broker, "backend") == 1)
        wait_until(lambda: not engine.running)
        engine.start()
        with listener.accept() as consumer:
            consumer.shake_hands("PULL")
        end()


def _end_at_the_first(kind: EventKind) -> Any:
    told: list[Event] = []

    def listen(event: Event) -> None:
        if event.kind is kind:
            told.append(event)
            if len(told) == 1:
                raise SystemExit

    return listen


def test_port_is_closed_once_whatever_a_listener_raises() -> None:
    net = native.Net()
    port = native.Port(net, zmq.XPUB)
    with RawListener() as listener, connect_raw(listener.address) as peer:
        accepting = native.Listener(port, listener.socket.detach())
        peer.send(greeting() + ready("SUB") + command(b"SUBSCRIBE", b"a"))
        wait_until(lambda: serve(net) or port.peer_count == 1)  # type: ignore[func-returns-value]
        net.listen(_interrupt)
        with pytest.raises(KeyboardInterrupt):
            port.close()
        assert port.closed
        port.close()
        accepting.close()
    assert net.alive == (0, 0, 0, 0)
    net.close()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_port_that_its_listener_closes_is_closed_once() -> None:
    net = native.Net()
    port = native.Port(net, zmq.XPUB)
    told: list[Any] = []

    def close(notices: list[Any], lost: int) -> None:
        told.extend(notices)
        port.close()

    with RawListener() as listener, connect_raw(listener.address) as peer:
        accepting = native.Listener(port, listener.socket.detach())
        peer.send(greeting() + ready("SUB"))
        wait_until(lambda: serve(net) or port.peer_count == 1)  # type: ignore[func-returns-value]
        net.listen(close)
        port.close()
        accepting.close()
    assert [kind for kind, *_ in told] == ["left"]
    assert net.alive == (0, 0, 0, 0)
    net.close()


def test_events_of_connections_come_before_what_happens_later_in_the_turn(make_engine: MakeEngine) -> None:
    engine = make_engine()
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    with engine.events() as events:
        with connect_raw(endpoint(broker.frontend)) as peer:
            peer.send(greeting() + ready("PUSH"))
            wait_until(lambda: peer_count(engine, broker) == 1, engine=engine)
        engine.call_soon_threadsafe(engine.pause, "a")
        wait_until(lambda: broker.state == "paused", engine=engine)
        engine.step(0)
        told = []
        while (event := events.read(0)) is not None:
            told.append(event.kind)
    assert told[-2:] == [EventKind.PEER_LEFT, EventKind.BROKER_PAUSED]


def test_other_calls_of_a_turn_are_made_after_one_that_has_raised(make_engine: MakeEngine) -> None:
    """What has happened at two connections is found in one turn."""
    engine = make_engine()
    context = engine_loop(engine).access.wire_context()
    called: list[str] = []

    def end() -> None:
        called.append("first")
        raise SystemExit

    context._calls += [end, lambda: called.append("second")]
    with pytest.raises(SystemExit):
        context.serve()
    assert called == ["first"]
    engine.step(0)
    assert called == ["first", "second"]


def test_call_that_there_is_no_memory_for_is_made_again_and_the_others_at_once(
    make_engine: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine()
    context = engine_loop(engine).access.wire_context()
    called: list[str] = []
    fails = [MemoryError, MemoryError]

    def fail_twice() -> None:
        if fails:
            raise fails.pop()
        called.append("first")

    context._calls += [fail_twice, lambda: called.append("second")]
    context.serve()
    assert called == ["second"]
    wait_until(lambda: called == ["second", "first"], engine=engine)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [MemoryError, MemoryError]


def test_connection_whose_end_there_is_no_memory_for_is_made_again(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    fails = [MemoryError]
    wait = Connection._wait

    def fail_first(connection: Connection, delay_s: float) -> None:
        if fails:
            raise fails.pop()
        wait(connection, delay_s)

    with RawListener() as listener:
        engine.add(
            "a", STREAMER, frontend=ANY_PORT, backend=f">{listener.address}", backend_options={"reconnect_ivl": 5}
        )
        engine.start()
        monkeypatch.setattr(Connection, "_wait", fail_first)
        listener.accept().shake_hands("PULL").close()
        listener.accept().shake_hands("PULL").close()
    assert not fails

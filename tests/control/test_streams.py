"""EVENTS and TAP: what a client is told that asks for the next again and again."""

import json
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
import zmq

from pollbroker import Engine
from pollbroker.control import (
    CommandRefusedError,
    ControlServer,
    NobodyListensError,
    attach,
    attach_socket,
    read_stream,
    request,
    streams,
)
from pollbroker.control.streams import message_as_json, printable
from pollbroker.engine import engine_loop
from pollbroker.taps import TappedMessage
from tests.support.addresses import ANY_PORT, bind
from tests.support.control import Ask, add_streamer, make_ask, text_of
from tests.support.deadline import wait_until
from tests.support.types import Connect
from tests.support.wire_ports import in_engine


@pytest.fixture
def plain_engine() -> Iterator[Engine]:
    """An engine in a thread of its own."""
    with Engine() as engine:
        yield engine


@pytest.fixture
def ask(plain_engine: Engine, connect: Connect) -> Ask:
    """Asks the control socket of the engine."""
    server = attach(plain_engine, ANY_PORT)
    return make_ask(connect(zmq.REQ, *server.endpoints))


def portion(reply: list[bytes]) -> dict[str, Any]:
    status, told = reply
    assert status == b"OK"
    made: dict[str, Any] = json.loads(told)
    assert sorted(made) == ["ended", "items", "lost"]
    return made


def begin(ask: Ask, *command: bytes) -> bytes:
    status, number = ask(*command)
    assert status == b"OK", number
    return number


# -- events ------------------------------------------------------------------------------------------------------------


def test_events_come_as_they_happen(plain_engine: Engine, ask: Ask, connect: Connect) -> None:
    number = begin(ask, b"EVENTS")
    add_streamer(plain_engine, connect)
    kinds: list[str] = []
    while kinds.count("peer_connected") < 2:
        kinds += [event["kind"] for event in portion(ask(b"NEXT", number))["items"]]
    assert kinds == ["broker_added", "peer_connected", "peer_connected"]
    assert ask(b"END", number) == [b""]
    assert "is not a stream: it has ended" in text_of(ask(b"NEXT", number))


def test_events_of_one_broker_are_told_also_of_a_later_one_of_its_name(plain_engine: Engine, ask: Ask) -> None:
    brokers = [plain_engine.add(name, "streamer", frontend=ANY_PORT, backend=ANY_PORT) for name in "ab"]
    number = begin(ask, b"EVENTS", b"b")
    for broker in brokers:
        broker.remove()
    for name in "ab":
        plain_engine.add(name, "streamer", frontend=ANY_PORT, backend=ANY_PORT)
    told = portion(ask(b"NEXT", number))["items"]
    assert [(event["kind"], event["broker"]) for event in told] == [("broker_removed", "b"), ("broker_added", "b")]


def test_next_is_answered_in_time_if_nothing_happens(ask: Ask) -> None:
    number = begin(ask, b"EVENTS")
    assert portion(ask(b"NEXT", number, b"0.01")) == {"items": [], "lost": 0, "ended": None}


@pytest.mark.parametrize("command", [b"EVENTS", b"TAP"])
def test_stream_in_which_nothing_happens_does_not_wake_the_engine(idle: Engine, command: bytes) -> None:
    idle.add("jobs", "streamer", frontend=ANY_PORT, backend=ANY_PORT)
    of_engine = streams.Streams(idle, tap_bodies=False)
    began = of_engine.commands[command]([b"jobs"])
    assert isinstance(began, list)
    told = of_engine.commands[b"NEXT"]([began[1], b"5"])
    assert isinstance(told, Future)
    while idle.step(0):  # what the broker has to begin with
        pass
    assert (idle.next_timer_s() or 0.0) > 1.0
    idle.brokers["jobs"].remove()  # an event, and the end of a tap
    assert (idle.next_timer_s() or 0.0) < 0.1
    wait_until(told.done, engine=idle)
    answer = portion(told.result())
    assert [event["kind"] for event in answer["items"]] == (["broker_removed"] if command == b"EVENTS" else [])
    assert answer["ended"] == (None if command == b"EVENTS" else "brokers.jobs: it was removed")
    of_engine.close()


def test_commands_are_answered_while_another_client_waits(plain_engine: Engine, connect: Connect) -> None:
    endpoint = attach(plain_engine, ANY_PORT).endpoints[0]
    follower, other = connect(zmq.REQ, endpoint), connect(zmq.REQ, endpoint)
    number = begin(make_ask(follower), b"EVENTS")
    follower.send_multipart([b"NEXT", number, b"5"])
    assert make_ask(other)(b"LIST") == [b"OK"]
    add_streamer(plain_engine, connect)
    assert portion(follower.recv_multipart())["items"][0]["kind"] == "broker_added"


def test_commands_that_come_while_a_late_reply_is_sent_are_served(plain_engine: Engine, connect: Connect) -> None:
    """The send may take from the socket what would wake the engine for them."""
    endpoint = attach(plain_engine, ANY_PORT).endpoints[0]
    client = connect(zmq.DEALER, endpoint)
    number = begin(make_ask(client, b""), b"EVENTS")
    for _ in range(300):
        client.send_multipart([b"", b"NEXT", number, b"0"])
        client.send_multipart([b"", b"LIST"])
        assert sorted(len(client.recv_multipart()) for _ in range(2)) == [2, 3]


def test_end_answers_the_client_that_waits_for_more(idle: Engine) -> None:
    of_engine = streams.Streams(idle, tap_bodies=False)
    began = of_engine.commands[b"EVENTS"]([])
    assert isinstance(began, list)
    told = of_engine.commands[b"NEXT"]([began[1], b"5"])
    assert isinstance(told, Future)
    assert of_engine.commands[b"END"]([began[1]]) == [b""]
    assert portion(told.result(0)) == {"items": [], "lost": 0, "ended": "END has ended it"}


def test_second_next_takes_the_place_of_the_first(ask: Ask, plain_engine: Engine, connect: Connect) -> None:
    endpoint = attach(plain_engine, ANY_PORT).endpoints[0]
    client = connect(zmq.DEALER, endpoint)
    number = begin(make_ask(client, b""), b"EVENTS")
    client.send_multipart([b"", b"NEXT", number, b"5"])
    client.send_multipart([b"", b"NEXT", number, b"0.1"])
    assert [portion(client.recv_multipart()[1:])["items"] for _ in range(2)] == [[], []]


def test_a_hundred_clients_follow_events_and_those_that_do_not_read_cost_no_more_than_a_thousand(
    plain_engine: Engine, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some are killed, and some read nothing. The others are told everything, in order, and commands are answered."""
    monkeypatch.setattr(streams, "LEASE_S", 1000.0)  # however slow the machine is
    server = attach(plain_engine, ANY_PORT)
    (endpoint,) = server.endpoints
    clients = [connect(zmq.REQ, endpoint) for _ in range(100)]
    numbers = [begin(make_ask(client), b"EVENTS") for client in clients]
    command = make_ask(connect(zmq.REQ, endpoint))
    assert text_of(command(b"EVENTS")) == "100 streams are followed already; expected fewer"
    readers, deaf, killed = range(20), range(20, 60), range(60, 100)
    for each in (*deaf, *killed):
        clients[each].send_multipart([b"NEXT", numbers[each], b"5"])
    for each in killed[::2]:
        clients[each].close()
    broker = plain_engine.add("a", "streamer", frontend=ANY_PORT, backend=ANY_PORT)
    for each in killed[1::2]:
        clients[each].close()
    for chunk in range(6):
        for _ in range(200):
            broker.pause()
            broker.resume()
        for each in readers:
            clients[each].send_multipart([b"NEXT", numbers[each]])
        assert command(b"LIST") == [b"OK", b"a"]
        for each in readers:
            told = portion(clients[each].recv_multipart())["items"]
            added = [] if chunk else ["broker_added"]
            assert [event["kind"] for event in told] == [*added, *["broker_paused", "broker_resumed"] * 200]
    kept = in_engine(plain_engine, lambda: [len(each.source._reader._events) for each in open_streams(server)])
    assert sorted(kept) == [0] * len(readers) + [1000] * (len(deaf) + len(killed))
    for each in deaf:  # what each is told, and what it has lost, are all
        first = portion(clients[each].recv_multipart())["items"]
        lost, *rest = portion(make_ask(clients[each])(b"NEXT", numbers[each]))["items"]
        assert lost["kind"] == "events_lost"
        rest += portion(make_ask(clients[each])(b"NEXT", numbers[each]))["items"]
        rest += portion(make_ask(clients[each])(b"NEXT", numbers[each]))["items"]
        assert len(rest) == 1000
        assert len(first) + lost["count"] + len(rest) == 6 * 400 + 1


def open_streams(server: ControlServer) -> list[Any]:
    """The streams that the clients of a control socket follow. Only the engine's thread may look."""
    return list(server._streams._streams.values())


def test_nobody_listens_any_more_when_no_client_asks(
    plain_engine: Engine, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LEASE_S", 0.05)
    number = begin(ask, b"EVENTS")
    wait_until(lambda: not somebody_listens(plain_engine))
    assert "within 0.05 s" in text_of(ask(b"NEXT", number))


def test_nobody_listens_any_more_when_a_client_has_left_after_an_answer(
    plain_engine: Engine, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = begin(ask, b"EVENTS")
    monkeypatch.setattr(streams, "LEASE_S", 0.05)
    portion(ask(b"NEXT", number, b"0"))
    wait_until(lambda: not somebody_listens(plain_engine))


def somebody_listens(engine: Engine) -> bool:
    """Return True if somebody listens to events."""
    return engine_loop(engine).events.wanted


def test_control_that_is_closed_ends_its_streams(plain_engine: Engine, connect: Connect) -> None:
    server = attach(plain_engine, ANY_PORT)
    begin(make_ask(connect(zmq.REQ, *server.endpoints)), b"EVENTS")
    assert somebody_listens(plain_engine)
    plain_engine.call_soon_threadsafe(server.close)
    wait_until(lambda: not somebody_listens(plain_engine))


# -- taps --------------------------------------------------------------------------------------------------------------


def test_tap_tells_messages_and_its_end(plain_engine: Engine, ask: Ask, connect: Connect) -> None:
    push, pull = add_streamer(plain_engine, connect)
    number = begin(ask, b"TAP", b"jobs")
    push.send_multipart([b"secret", b"x"])
    pull.recv_multipart()
    (message,) = portion(ask(b"NEXT", number))["items"]
    assert message.pop("time_s") > 0
    assert message == {
        "source": "frontend", "sink": "backend", "frames": 2, "size": 7, "sizes": [6, 1], "routing_id": "", "topic": "",
    }  # fmt: skip
    plain_engine.remove("jobs")
    assert portion(ask(b"NEXT", number)) == {"items": [], "lost": 0, "ended": "brokers.jobs: it was removed"}
    assert "is not a stream" in text_of(ask(b"NEXT", number))


def test_flood_is_told_in_part_and_the_rest_is_counted(plain_engine: Engine, ask: Ask, connect: Connect) -> None:
    push, pull = add_streamer(plain_engine, connect)
    number = begin(ask, b"TAP", b"jobs", b"frontend")
    for i in range(1000):
        push.send(b"%d" % i)
    for _ in range(1000):
        pull.recv()
    seen = lost = 0
    while seen + lost < 1000:
        told = portion(ask(b"NEXT", number))
        seen += len(told["items"])
        lost += told["lost"]
    assert seen + lost == 1000
    assert lost


def test_bodies_are_refused_unless_the_owner_allows_them(plain_engine: Engine, ask: Ask, connect: Connect) -> None:
    add_streamer(plain_engine, connect)
    assert "bodies are not shown here; tap_bodies = true" in text_of(ask(b"TAP", b"jobs", b"", b"BODIES"))


def test_bodies_are_told_if_the_owner_allows_them(plain_engine: Engine, connect: Connect) -> None:
    server = attach(plain_engine, ANY_PORT, tap_bodies=True)
    ask = make_ask(connect(zmq.REQ, *server.endpoints))
    push, pull = add_streamer(plain_engine, connect)
    number = begin(ask, b"TAP", b"jobs", b"", b"BODIES")
    push.send_multipart([b"text", b"\0\xff"])
    pull.recv_multipart()
    assert portion(ask(b"NEXT", number))["items"][0]["bodies"] == ["text", "0x00ff"]


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ((b"TAP",), "TAP: 1 frame; expected the command, a broker's name"),
        ((b"TAP", b"job"), "TAP: no broker is named 'job'; did you mean 'jobs'?"),
        ((b"TAP", b"\xff"), r"TAP: '\\xff': expected a broker's name in UTF-8"),
        ((b"TAP", b"jobs", b"\xff"), r"TAP: '\\xff': expected text in UTF-8"),
        ((b"EVENTS", b"job"), "EVENTS: no broker is named 'job'; did you mean 'jobs'?"),
        ((b"TAP", b"jobs", b"middle"), "brokers.jobs: it has no middle to tap; its ports are: frontend, backend"),
        ((b"TAP", b"jobs", b"", b"bodies"), "TAP: 'bodies': expected BODIES, or nothing"),
        ((b"EVENTS", b"a", b"b"), "EVENTS: 3 frames; expected the command and a broker's name"),
        ((b"NEXT",), "NEXT: expected the id of a stream, which EVENTS or TAP has answered"),
        ((b"NEXT", b"7"), "NEXT: '7' is not a stream: it has ended"),
        ((b"END", b"7", b"8"), "END: expected the id of a stream"),
        ((b"NEXTT", b"7"), "'NEXTT' is not a command; did you mean 'NEXT'?"),
    ],
)
def test_refusals_say_what_was_expected(
    plain_engine: Engine, ask: Ask, connect: Connect, command: tuple[bytes, ...], text: str
) -> None:
    add_streamer(plain_engine, connect)
    assert text_of(ask(*command)).startswith(text)


def test_seconds_that_are_none_are_refused(ask: Ask) -> None:
    number = begin(ask, b"EVENTS")
    for wrong in (b"soon", b"nan", b"-1", b"6"):
        assert "seconds to wait, 0 to 5" in text_of(ask(b"NEXT", number, wrong))


def test_number_of_streams_is_limited(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_STREAMS_MOST", 2)
    begin(ask, b"EVENTS")
    begin(ask, b"EVENTS")
    assert "2 streams are followed already" in text_of(ask(b"EVENTS"))


def test_socket_that_cannot_answer_later_refuses_streams(plain_engine: Engine, connect: Connect) -> None:
    own = connect(zmq.REP)
    endpoint = bind(own)
    attach_socket(plain_engine, own)
    assert "EVENTS: a REP socket cannot answer later; expected REP or ROUTER" in text_of(
        make_ask(connect(zmq.REQ, endpoint))(b"EVENTS")
    )


# -- the client --------------------------------------------------------------------------------------------------------


def test_following_yields_what_happens_until_it_is_closed(plain_engine: Engine, connect: Connect) -> None:
    (endpoint,) = attach(plain_engine, ANY_PORT).endpoints
    followed = read_stream(endpoint, "EVENTS", timeout_s=10)
    assert next(followed).items == ()
    add_streamer(plain_engine, connect)
    items = [item for _ in range(3) for item in next(followed).items]
    assert items[0]["kind"] == "broker_added"
    followed.close()  # type: ignore[attr-defined]
    wait_until(lambda: not somebody_listens(plain_engine))


def test_following_what_is_not_there_is_refused(plain_engine: Engine) -> None:
    (endpoint,) = attach(plain_engine, ANY_PORT).endpoints
    with pytest.raises(CommandRefusedError, match=r"no broker is named 'a'; there are: none"):
        next(read_stream(endpoint, "TAP", "a"))
    with pytest.raises(NobodyListensError):
        next(read_stream("ipc:///nowhere/at/all", "EVENTS"))


# -- removing ----------------------------------------------------------------------------------------------------------


def test_removing_delivers_what_there_is_first(plain_engine: Engine, ask: Ask, connect: Connect) -> None:
    push, pull = add_streamer(plain_engine, connect)
    for i in range(100):
        push.send(b"%d" % i)
    assert pull.recv() == b"0"
    assert ask(b"REMOVE", b"jobs") == [b"OK", b""]
    assert [pull.recv() for _ in range(99)] == [b"%d" % i for i in range(1, 100)]
    assert ask(b"LIST") == [b"OK"]
    assert text_of(ask(b"REMOVE", b"jobs")) == "REMOVE: no broker is named 'jobs'; there are: none"
    assert text_of(ask(b"REMOVE")) == "REMOVE: 1 frame; expected the command and a broker's name"


def test_removing_a_paused_broker_says_what_is_lost(plain_engine: Engine, connect: Connect) -> None:
    (endpoint,) = attach(plain_engine, ANY_PORT).endpoints
    push, pull = add_streamer(plain_engine, connect)
    push.send(b"first")
    pull.recv()
    request(endpoint, "PAUSE", "jobs")
    push.send(b"lost")
    wait_until(lambda: plain_engine.statistics().brokers["jobs"].state == "paused")
    (status, text) = request(endpoint, "REMOVE", "jobs")
    assert status == b"OK"
    assert text in (b"", b"brokers.jobs: 1 message lost")  # it may still be on its way


# -- what is printed ---------------------------------------------------------------------------------------------------


def test_what_is_not_text_is_told_in_hexadecimal_digits() -> None:
    assert printable(b"\x00\x80\x01") == "0x008001"
    assert printable("ü".encode()) == "ü"
    assert printable(b"a\x1b[31m") == "0x611b5b33316d"  # it would steer a terminal
    message = TappedMessage(1.0, "a", "b", 1, 2, (2,), b"\0id")
    assert message_as_json(message, bodies=False)["routing_id"] == "0x006964"

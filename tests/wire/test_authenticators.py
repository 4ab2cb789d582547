"""What an authenticator is asked about each peer (ZAP, RFC 27), and what becomes of the peer by what is answered."""

import select
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest
import zmq

from pollbroker import STREAMER, Engine, HandOverError
from tests.support.addresses import ANY_PORT, bind, endpoint
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.descriptors import no_descriptor_left
from tests.support.threads import in_thread
from tests.support.types import Connect
from tests.support.wire_ports import ended_by, in_engine, peer_count
from tests.wire.logging_in import (
    DOMAIN,
    PLAIN_GREETING,
    SERVER,
    Authenticator,
    add_door,
    authentication_of,
    expect,
    finish,
    log_in,
    passes,
)
from tests.wire.moving import Side, socket_pair
from tests.wire.zmtp import (
    Raw,
    byte_by_byte,
    command,
    connect_raw,
    frame,
    greeting,
    hello,
    initiate,
    message,
    properties,
    ready,
)

# -- what is asked -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["NULL", "PLAIN"])
@pytest.mark.parametrize("address", [ANY_PORT, "tcp://[::1]:*", "ipc://*"])
def test_question_is_that_of_libzmq(
    engine: Engine, raw: Raw, authenticator: Authenticator, address: str, mechanism: str
) -> None:
    asked = []
    for transport in ("libzmq", "wire"):
        options = {"routing_id": b"me", "plain_server": int(mechanism == "PLAIN"), **DOMAIN}
        door = engine.add(
            transport, STREAMER, frontend=address, backend=ANY_PORT, frontend_options=options, transport=transport
        )
        peer = raw(endpoint(door.frontend))
        peer.send(greeting(mechanism=mechanism.encode()) + (hello(b"a", b"bc") if mechanism == "PLAIN" else b""))
        version, _request_id, *rest = authenticator.question()
        asked.append((version, *rest))
        peer.close()
    assert asked[0] == asked[1]
    assert asked[0][1] == b"here"


@pytest.mark.parametrize(
    ("username", "password"), [(b"", b""), (b"u", b""), (b"", b"p"), (b"u" * 255, b"p" * 255), (b"\0\xff", b"\n")]
)
def test_credentials_arrive_as_they_are(
    engine: Engine, raw: Raw, authenticator: Authenticator, username: bytes, password: bytes
) -> None:
    door = add_door(engine, **SERVER)
    peer = raw(endpoint(door.frontend))
    for byte in byte_by_byte(PLAIN_GREETING + hello(username, password)):
        peer.send(byte)
    question = authenticator.question()
    assert question[5:] == [b"PLAIN", username, password]
    authenticator.answer(question, b"200", b"who?")
    peer.read(64)
    assert peer.read_command() == b"\7WELCOME"
    for byte in byte_by_byte(initiate("PUSH")):
        peer.send(byte)
    assert peer.read_command() == b"\5READY" + properties((b"Socket-Type", b"PULL"))
    assert [one.user_id for one in door.peers()] == ["who?"]


def test_each_peer_is_asked_about_with_a_number_of_its_own(
    engine: Engine, raw: Raw, authenticator: Authenticator
) -> None:
    door = add_door(engine, **SERVER)
    questions = []
    peers = []
    for number in range(5):
        peers.append(log_in(raw(endpoint(door.frontend)), b"%d" % number))
        questions.append(authenticator.question())
    assert len({question[1] for question in questions}) == 5
    for number in (3, 0, 4, 1, 2):  # in any order
        authenticator.answer(questions[number], b"200", questions[number][6])
        finish(peers[number])
    assert sorted(one.user_id for one in door.peers()) == ["0", "1", "2", "3", "4"]


# -- what is answered --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["NULL", "PLAIN"])
@pytest.mark.parametrize("status", ["300", "400", "500"])
def test_peer_is_refused_with_the_status(
    engine: Engine, raw: Raw, authenticator: Authenticator, mechanism: str, status: str
) -> None:
    door = add_door(engine, **(SERVER if mechanism == "PLAIN" else DOMAIN))
    peer = raw(endpoint(door.frontend))
    said = hello(b"", b"") if mechanism == "PLAIN" else ready("PUSH")
    peer.send(greeting(mechanism=mechanism.encode()) + said)
    authenticator.answer(authenticator.question(), status.encode())
    peer.read(64)
    error = (b"^RROR" if mechanism == "PLAIN" else b"\5ERROR") + b"\3" + status.encode()
    assert peer.read_to_the_end() == (b"" if status == "300" else frame(error, 4))
    expect(engine, door, {"authentication": 1})


def test_error_arrives_although_the_peer_has_sent_more(engine: Engine, raw: Raw, authenticator: Authenticator) -> None:
    """A connection that is closed with bytes that nobody has read is reset."""
    door = add_door(engine, **DOMAIN)
    peer = raw(endpoint(door.frontend))
    peer.send(greeting())
    question = authenticator.question()
    peer.send(ready("PUSH"))
    authenticator.answer(question, b"400")
    peer.read(64)
    assert peer.read_command() == b"\5ERROR\x03400"
    assert peer.socket.recv(1) == b""  # in order: a reset would raise


def test_peer_of_null_is_let_in_and_may_have_said_more_meanwhile(
    engine: Engine, raw: Raw, connect: Connect, authenticator: Authenticator
) -> None:
    door = add_door(engine, **DOMAIN)
    peer = raw(endpoint(door.frontend))
    peer.send(greeting() + ready("PUSH") + message(b"early"))
    question = authenticator.question()
    assert peer_count(engine, door) == 0
    authenticator.answer(question, b"200", b"\xffx")
    peer.read(64)
    assert peer.read_command().startswith(b"\5READY")
    pull = connect(zmq.PULL, endpoint(door.backend))
    assert pull.recv() == b"early"
    assert [one.user_id for one in door.peers() if one.port == "frontend"] == ["\\xffx"]


def test_peer_of_null_may_say_as_much_of_itself_as_anywhere(
    engine: Engine, raw: Raw, connect: Connect, authenticator: Authenticator
) -> None:
    """All of it has come in one piece, with the greeting."""
    door = add_door(engine, **DOMAIN)
    peer = raw(endpoint(door.frontend))
    peer.send(greeting() + command(b"READY", properties((b"Socket-Type", b"PUSH"), (b"X-More", bytes(8000)))))
    authenticator.answer(authenticator.question(), b"200")
    peer.read(64)
    assert peer.read_command().startswith(b"\5READY")
    assert passes(peer, door, connect)


def test_port_that_connects_asks_about_the_listener(
    engine: Engine, connect: Connect, authenticator: Authenticator
) -> None:
    pull = connect(zmq.PULL)
    out = engine.add("o", STREAMER, frontend=ANY_PORT, backend=f">{bind(pull)}", backend_options=DOMAIN)
    authenticator.answer(authenticator.question(), b"400")
    expect(engine, out, {"authentication": 1}, "backend")
    authenticator.answer(authenticator.question(), b"200", b"listener")
    connect(zmq.PUSH, endpoint(out.frontend)).send(b"hello")
    assert pull.recv() == b"hello"


MALFORMED: Final[Mapping[str, Callable[[bytes], list[bytes]]]] = {
    "no status": lambda number: [b"1.0", number],
    "too few frames": lambda number: [b"1.0", number, b"200", b"", b""],
    "too many frames": lambda number: [b"1.0", number, b"200", b"", b"", b"", b""],
    "another version": lambda number: [b"1.1", number, b"200", b"", b"", b""],
    "an unknown status": lambda number: [b"1.0", number, b"201", b"", b"", b""],
    "a short status": lambda number: [b"1.0", number, b"20", b"", b"", b""],
    "no number": lambda number: [b"1.0", number, b"", b"", b"", b""],
    "metadata that is cut": lambda number: [b"1.0", number, b"200", b"", b"", properties((b"a", b"b"))[:-1]],
    "a byte of metadata": lambda number: [b"1.0", number, b"200", b"", b"", b"\0"],
    "a long user id": lambda number: [b"1.0", number, b"200", b"", bytes(4097), b""],
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_answer_ends_that_connection_alone(
    engine: Engine, raw: Raw, connect: Connect, authenticator: Authenticator, kind: str
) -> None:
    door = add_door(engine, **SERVER)
    other = log_in(raw(endpoint(door.frontend)))
    question = authenticator.question()
    peer = log_in(raw(endpoint(door.frontend)))
    authenticator.say(*MALFORMED[kind](authenticator.question()[1]))
    assert peer.read_to_the_end() == b""
    expect(engine, door, {"no_verdict": 1})
    authenticator.answer(question, b"200", bytes(4096), properties((b"a", b"b"), (b"", b"")))
    assert passes(finish(other), door, connect)


NOBODYS: Final = (
    *(b"", b"1", b"1-", b"1-99", b"7-1", b"-1", b"1-x", b"1--1", "1-²".encode()),
    *(b"1-" + b"9" * 30, b"1-" + b"9" * 5000),
)


def test_answers_for_nobody_are_ignored(
    engine: Engine, raw: Raw, connect: Connect, authenticator: Authenticator
) -> None:
    door = add_door(engine, **SERVER)
    peer = log_in(raw(endpoint(door.frontend)))
    question = authenticator.question()
    for number in NOBODYS:
        authenticator.say(b"1.0", number, b"400", b"", b"", b"")
    authenticator.say(b"1.0")
    authenticator.say(b"")
    authenticator.answer(question, b"200")
    for _ in range(3):
        authenticator.answer(question, b"400")  # it was answered
    assert passes(finish(peer), door, connect)
    assert ended_by(engine, door) == {}


@pytest.mark.parametrize("how", ["close", "reset"])
def test_answer_for_a_peer_that_has_left_is_ignored(
    engine: Engine, raw: Raw, connect: Connect, authenticator: Authenticator, how: str
) -> None:
    door = add_door(engine, handshake_ivl=0, **SERVER)
    peer = log_in(raw(endpoint(door.frontend)))
    question = authenticator.question()
    getattr(peer, how)()
    wait_until(lambda: ended_by(engine, door) in ({"left": 1}, {"broken": 1}))
    authenticator.answer(question, b"200")
    other = log_in(raw(endpoint(door.frontend)))
    authenticator.answer(authenticator.question(), b"200")
    assert passes(finish(other), door, connect)


def test_peer_that_has_left_before_it_was_read_is_not_asked_about(engine: Engine, authenticator: Authenticator) -> None:
    """What it has said is there, and it is known to have left."""
    door = add_door(engine, handshake_ivl=0, **SERVER)

    def come_and_go() -> None:
        with connect_raw(endpoint(door.frontend)) as peer:
            peer.send(PLAIN_GREETING + hello(b"a", b"b"))

    in_engine(engine, come_and_go)
    wait_until(lambda: sum(ended_by(engine, door).values()) == 1)
    assert set(ended_by(engine, door)) <= {"left", "broken"}
    assert not authenticator.socket.poll(0)


def test_authenticator_that_never_answers_costs_the_handshake(
    engine: Engine, raw: Raw, authenticator: Authenticator
) -> None:
    door = add_door(engine, handshake_ivl=200, **SERVER)
    peer = log_in(raw(endpoint(door.frontend)))
    question = authenticator.question()
    assert peer.read_to_the_end() == b""
    expect(engine, door, {"slow_handshake": 1})
    authenticator.answer(question, b"200")  # late
    in_engine(engine, lambda: None)
    assert ended_by(engine, door) == {"slow_handshake": 1}


def test_port_that_is_removed_while_it_asks(engine: Engine, raw: Raw, authenticator: Authenticator) -> None:
    door = add_door(engine, **SERVER)
    peer = log_in(raw(endpoint(door.frontend)))
    question = authenticator.question()
    door.remove(timeout_s=0)
    assert peer.read_to_the_end() == b""
    authenticator.answer(question, b"200")  # nobody is there to be answered


def test_answer_that_comes_while_a_port_is_handed_over_lets_nobody_in(
    engine: Engine, raw: Raw, connect: Connect, authenticator: Authenticator
) -> None:
    """The other process does not know the peer. If it takes the port over, the connection ends. If not, the
    authenticator is asked again."""
    door = add_door(engine, **DOMAIN)
    other = engine.add("other", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, frontend_options=DOMAIN)
    peer, stranger = raw(endpoint(door.frontend)), raw(endpoint(other.frontend))
    peer.send(greeting() + ready("PUSH"))
    question = authenticator.question()
    peer.read(64)
    with socket_pair() as (ours, theirs):
        handed_over = in_thread(lambda: engine.hand_over(ours, freeze_s=DEADLINE_S))
        side = Side(theirs)
        side.claim("door")
        side.receive_state()
        authenticator.answer(question, b"200")
        stranger.send(greeting() + ready("PUSH"))
        authenticator.answer(authenticator.question(), b"200")
        wait_until(lambda: peer_count(engine, other) == 1)
        assert not select.select([peer.socket], [], [], 0)[0]
        side.close()
        with pytest.raises(HandOverError):
            handed_over.result(DEADLINE_S)
    again = authenticator.question()
    assert again[1] != question[1]
    assert again[2:] == question[2:]
    authenticator.answer(again, b"200")
    assert peer.read_command().startswith(b"\5READY")
    assert passes(peer, door, connect)


def test_time_of_asking_is_not_silence(engine: Engine, raw: Raw, authenticator: Authenticator) -> None:
    """The peer was not read meanwhile, so that it could not be heard."""
    door = add_door(engine, heartbeat_ivl=100, heartbeat_timeout=900, **DOMAIN)
    silent = raw(endpoint(door.frontend))
    silent.send(greeting() + ready("PUSH"))
    authenticator.answer(authenticator.question(), b"200")
    asked = []
    for _ in range(5):
        peer = raw(endpoint(door.frontend))
        peer.send(greeting() + ready("PUSH"))
        asked.append((peer, authenticator.question()))
    expect(engine, door, {"silent": 1})  # it takes as long as that
    for peer, question in asked:
        authenticator.answer(question, b"200")
        peer.read(64)
        assert peer.read_command().startswith(b"\5READY")
        assert peer.read_command().startswith(b"\4PING")


def test_authenticator_is_asked_while_no_descriptor_is_left(
    engine: Engine, raw: Raw, connect: Connect, authenticator: Authenticator
) -> None:
    door = add_door(engine, **SERVER)
    waiting = raw(endpoint(door.frontend))
    log_in(raw(endpoint(door.frontend)))  # what the authenticator is asked by is open now
    authenticator.question()
    with no_descriptor_left():
        log_in(waiting)
        question = authenticator.question()
    assert question[3] == b"127.0.0.1"
    authenticator.answer(question, b"200")
    assert passes(finish(waiting), door, connect)


def test_sockets_that_could_not_be_opened_whole_are_closed_and_opened_anew(
    engine: Engine, raw: Raw, connect: Connect, authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = add_door(engine, **SERVER)
    authentication = authentication_of(engine)
    opened: list[Any] = []

    def fail(one: Any, _: object) -> None:
        opened.append(one)
        raise MemoryError

    with monkeypatch.context() as failing:
        failing.setattr(authentication, "_watch", fail)
        assert log_in(raw(endpoint(door.frontend))).read_to_the_end() == b""
        expect(engine, door, {"no_verdict": 1})
    assert [one.closed for one in opened] == [True]
    client = log_in(raw(endpoint(door.frontend)))
    authenticator.answer(authenticator.question(), b"200")
    assert passes(finish(client), door, connect)


def test_question_that_there_is_no_memory_for_ends_that_connection_alone(
    engine: Engine, raw: Raw, connect: Connect, authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = add_door(engine, **SERVER)

    def fail(*_: object) -> None:
        raise MemoryError

    client = log_in(raw(endpoint(door.frontend)))
    question = authenticator.question()
    for number, name in enumerate(("_send", "_is_there"), 1):
        with monkeypatch.context() as failing:
            failing.setattr(authentication_of(engine), name, fail)
            assert log_in(raw(endpoint(door.frontend))).read_to_the_end() == b""
            expect(engine, door, {"no_verdict": number})
    authenticator.answer(question, b"200")
    assert passes(finish(client), door, connect)

"""Who is let in at wire ports: with PLAIN (RFC 24) or NULL, with and without an authenticator, and who is refused."""

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import zmq
from zmq.auth.thread import ThreadAuthenticator

from pollbroker import QUEUE, STREAMER, ConfigError, Engine
from pollbroker.wire import zap
from tests.support.addresses import ANY_PORT, bind, endpoint
from tests.support.deadline import DEADLINE_MS, DEADLINE_S, wait_until
from tests.support.types import Connect, MakeEngine, Socket
from tests.support.wire_ports import ended_by, in_engine, peer_count, wire_port
from tests.wire.logging_in import (
    DOMAIN,
    INTRUDER,
    PLAIN_GREETING,
    SERVER,
    USER,
    WELCOME,
    Authenticator,
    add_door,
    authentication_of,
    expect,
    failure_of,
    finish,
    log_in,
    passes,
)
from tests.wire.zmtp import (
    Raw,
    RawListener,
    command,
    frame,
    greeting,
    greeting_2,
    hello,
    initiate,
    message,
    properties,
    ready,
)


@pytest.fixture
def guard() -> Iterator[Callable[[zmq.Context[Socket]], ThreadAuthenticator]]:
    """Starts pyzmq's authenticator in a context. It knows one user."""
    started: list[ThreadAuthenticator] = []

    def start(context: zmq.Context[Socket]) -> ThreadAuthenticator:
        made = ThreadAuthenticator(context)
        made.start()
        started.append(made)
        made.configure_plain("here", {"somebody": "secret"})
        return made

    yield start
    for one in started:
        one.stop()


# -- with peers of libzmq, and pyzmq's authenticator -------------------------------------------------------------------


def test_client_of_libzmq_with_the_right_password_is_let_in(engine: Engine, connect: Connect, guard: Any) -> None:
    guard(engine.context)
    door = add_door(engine, **SERVER)
    push = connect(zmq.PUSH, endpoint(door.frontend), **USER)
    pull = connect(zmq.PULL, endpoint(door.backend))
    push.send(b"hello")
    assert pull.recv() == b"hello"
    assert {peer.port: peer.user_id for peer in door.peers()} == {"frontend": "somebody", "backend": ""}


@pytest.mark.parametrize("waiter", ["nested", "flat"])
def test_authenticator_is_heard_with_each_waiter(
    make_engine: MakeEngine, connect: Connect, guard: Any, waiter: str
) -> None:
    engine = make_engine(waiter=waiter)
    engine.start()
    guard(engine.context)
    door = add_door(engine, **SERVER)
    pushes = [connect(zmq.PUSH, endpoint(door.frontend), **USER) for _ in range(20)]
    wait_until(lambda: peer_count(engine, door) == len(pushes))
    assert failure_of(connect(zmq.PUSH, **INTRUDER), endpoint(door.frontend))[1] == 400


def test_client_of_libzmq_with_a_wrong_password_is_told_so(engine: Engine, connect: Connect, guard: Any) -> None:
    guard(engine.context)
    door = add_door(engine, **SERVER)
    refused = failure_of(connect(zmq.PUSH, **INTRUDER), endpoint(door.frontend))
    assert refused == (zmq.EVENT_HANDSHAKE_FAILED_AUTH, 400)
    expect(engine, door, {"authentication": 1})


def test_queue_answers_clients_that_have_logged_in(engine: Engine, connect: Connect, guard: Any) -> None:
    guard(engine.context)
    options = {"frontend": SERVER, "backend": SERVER}
    queue = engine.add("q", QUEUE, frontend=ANY_PORT, backend="ipc://*", options=options)
    worker = connect(zmq.REP, endpoint(queue.backend), **USER)
    clients = [connect(zmq.REQ, endpoint(queue.frontend), **USER) for _ in range(5)]
    for number, client in enumerate(clients):
        client.send(b"%d" % number)
    for _ in clients:
        worker.send(worker.recv())
    assert [client.recv() for client in clients] == [b"%d" % number for number in range(5)]


def test_port_logs_in_at_a_server_of_libzmq(engine: Engine, context: Any, connect: Connect, guard: Any) -> None:
    guard(context)
    pull = connect(zmq.PULL, **SERVER)
    out = engine.add("o", STREAMER, frontend=ANY_PORT, backend=f">{bind(pull)}", backend_options=USER)
    connect(zmq.PUSH, endpoint(out.frontend)).send(b"hello")
    assert pull.recv(copy=False).get("User-Id") == "somebody"


def test_port_that_was_refused_comes_again(engine: Engine, context: Any, connect: Connect, guard: Any) -> None:
    knows = guard(context)
    pull = connect(zmq.PULL, **SERVER)
    options = {**INTRUDER, "reconnect_ivl": 1}
    out = engine.add("o", STREAMER, frontend=ANY_PORT, backend=f">{bind(pull)}", backend_options=options)
    wait_until(lambda: ended_by(engine, out, "backend").get("refused", 0) >= 3)
    assert set(ended_by(engine, out, "backend")) == {"refused"}
    knows.configure_plain("here", {"somebody": "guessed"})
    connect(zmq.PUSH, endpoint(out.frontend)).send(b"hello")
    assert pull.recv() == b"hello"


@pytest.mark.parametrize("user", [USER, INTRUDER], ids=["right", "wrong"])
def test_port_logs_in_at_another_port(engine: Engine, connect: Connect, guard: Any, user: Any) -> None:
    guard(engine.context)
    door = add_door(engine, **SERVER)
    out = engine.add("o", STREAMER, frontend=ANY_PORT, backend=f">{endpoint(door.frontend)}", backend_options=user)
    if user is USER:
        connect(zmq.PUSH, endpoint(out.frontend)).send(b"hello")
        assert connect(zmq.PULL, endpoint(door.backend)).recv() == b"hello"
    else:
        wait_until(lambda: ended_by(engine, door).get("authentication", 0) >= 2)
        assert set(ended_by(engine, out, "backend")) == {"refused"}


# -- without an authenticator ------------------------------------------------------------------------------------------


def test_without_an_authenticator_no_client_of_plain_is_let_in(engine: Engine, raw: Raw) -> None:
    door = add_door(engine, plain_server=1)
    for number in range(1, 4):
        assert log_in(raw(endpoint(door.frontend))).read_to_the_end() == b""
        expect(engine, door, {"no_verdict": number})


def test_without_an_authenticator_peers_of_null_are_let_in(engine: Engine, raw: Raw, connect: Connect) -> None:
    door = add_door(engine, **DOMAIN)
    assert passes(raw(endpoint(door.frontend)).shake_hands("PUSH"), door, connect)


def test_with_an_enforced_domain_there_must_be_an_authenticator(engine: Engine, raw: Raw, connect: Connect) -> None:
    door = add_door(engine, zap_enforce_domain=1, **DOMAIN)
    peer = raw(endpoint(door.frontend))
    peer.send(greeting() + ready("PUSH"))
    peer.read(64)
    assert peer.read_to_the_end() == b""
    expect(engine, door, {"no_verdict": 1})
    judge = Authenticator(engine.context)
    try:
        other = raw(endpoint(door.frontend))
        other.send(greeting() + ready("PUSH"))
        judge.answer(judge.question(), b"200")
        other.read(64)
        other.read_command()
        assert passes(other, door, connect)
    finally:
        judge.close()


def test_authenticators_come_and_go(engine: Engine, raw: Raw) -> None:
    door = add_door(engine, **SERVER)
    authentication = in_engine(engine, lambda: authentication_of(engine))
    for number in range(3):
        assert log_in(raw(endpoint(door.frontend))).read_to_the_end() == b""
        expect(engine, door, {"no_verdict": number + 1})
        judge = Authenticator(engine.context)
        for _ in range(2):
            peer = log_in(raw(endpoint(door.frontend)))
            judge.answer(judge.question(), b"200", b"%d" % number)
            finish(peer)
        judge.close()
        wait_until(lambda: authentication._probe is None)
    assert sorted(one.user_id for one in door.peers()) == ["0", "0", "1", "1", "2", "2"]


@pytest.mark.parametrize("asked", [True, False])
def test_another_authenticator_takes_the_place_of_one_that_has_gone(engine: Engine, raw: Raw, asked: bool) -> None:
    door = add_door(engine, **SERVER)
    assert log_in(raw(endpoint(door.frontend))).read_to_the_end() == b""
    authentication = in_engine(engine, lambda: authentication_of(engine))
    first = Authenticator(engine.context)
    if asked:
        peer = log_in(raw(endpoint(door.frontend)))
        first.answer(first.question(), b"200", b"first")
        finish(peer)
    wait_until(lambda: authentication._was_bound)
    first.close()
    wait_until(lambda: authentication._probe is None)
    second = Authenticator(engine.context)
    peer = log_in(raw(endpoint(door.frontend)))
    second.answer(second.question(), b"200", b"second")
    finish(peer)
    second.close()


def test_answer_that_comes_while_something_is_asked_is_read(
    engine: Engine, raw: Raw, authenticator: Authenticator
) -> None:
    """libzmq reports it by an edge of a descriptor, which sending takes away."""
    door = add_door(engine, **SERVER)
    peer = log_in(raw(endpoint(door.frontend)))
    question = authenticator.question()

    def answer_and_ask() -> None:
        authenticator.answer(question, b"200")
        assert authenticator.socket.poll(10) == 0  # longer than libzmq waits before it looks again
        port = wire_port(door, "frontend")
        authentication_of(engine).ask(port, 1 << 40, peer.socket.fileno(), b"PLAIN", (b"", b""))

    in_engine(engine, answer_and_ask)
    finish(peer)


def test_questions_that_wait_have_a_limit(
    engine: Engine, raw: Raw, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zap, "UNANSWERED_MAX", 1)
    judge = Authenticator(engine.context, rcvhwm=1)
    door = add_door(engine, **SERVER)
    peers = [log_in(raw(endpoint(door.frontend))) for _ in range(10)]
    wait_until(lambda: ended_by(engine, door).get("authentication", 0) > 0)
    assert peers[-1].read_to_the_end() == b""
    judge.answer(judge.question(), b"200")
    finish(peers[0])
    judge.close()


def test_end_of_the_context_is_not_held_up_by_whoever_waits_for_a_verdict(make_engine: MakeEngine, raw: Raw) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    engine = make_engine(context)
    engine.start()
    judge = Authenticator(context)
    door = add_door(engine, **SERVER)
    inside = log_in(raw(endpoint(door.frontend)))
    judge.answer(judge.question(), b"200")
    finish(inside)
    waiting = log_in(raw(endpoint(door.frontend)))
    judge.question()
    judge.close()
    ending = threading.Thread(target=context.term)
    ending.start()
    ending.join(DEADLINE_S)
    assert not ending.is_alive(), "the context waits for sockets"
    wait_until(lambda: door.state == "ended")
    for peer in (inside, waiting):
        assert peer.read_to_the_end() == b""


# -- handshakes that do not fit ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", [b"NULL", b"CURVE", b"PLAINER", b"plain", b""])
def test_server_of_plain_refuses_other_mechanisms(engine: Engine, raw: Raw, mechanism: bytes) -> None:
    door = add_door(engine, plain_server=1)
    peer = raw(endpoint(door.frontend))
    peer.send(greeting(mechanism=mechanism) + ready("PUSH"))
    peer.read_to_the_end()
    expect(engine, door, {"mechanism": 1})


def test_two_servers_of_plain_do_not_fit(engine: Engine, raw: Raw) -> None:
    door = add_door(engine, plain_server=1)
    peer = raw(endpoint(door.frontend))
    peer.send(greeting(mechanism=b"PLAIN", as_server=1))
    assert peer.read_to_the_end() == greeting(mechanism=b"PLAIN", as_server=1)
    expect(engine, door, {"mechanism": 1})


@pytest.mark.parametrize("port", [{}, SERVER], ids=["NULL", "PLAIN"])
def test_peer_of_libzmq_with_another_mechanism_is_refused(engine: Engine, connect: Connect, port: Any) -> None:
    door = add_door(engine, **port)
    event, _ = failure_of(connect(zmq.PUSH, **({} if port else USER)), endpoint(door.frontend))
    assert event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    wait_until(lambda: set(ended_by(engine, door)) <= {"mechanism", "left", "broken"} and ended_by(engine, door))


@pytest.mark.parametrize("revision", [1, 2])
@pytest.mark.parametrize("options", [SERVER, DOMAIN, USER], ids=["server", "domain", "client"])
def test_peer_of_zmtp_2_is_refused_where_it_would_have_to_say_who_it_is(
    engine: Engine, raw: Raw, authenticator: Authenticator, options: Any, revision: int
) -> None:
    door = add_door(engine, **options)
    peer = raw(endpoint(door.frontend))
    peer.send(greeting_2("PUSH", revision=revision))
    peer.read_to_the_end()
    expect(engine, door, {"mechanism": 1})
    assert not authenticator.socket.poll(0)


HELLOS: Final[Mapping[str, tuple[bytes, str]]] = {
    "no credentials": (command(b"HELLO"), "bad_command"),
    "no password": (command(b"HELLO", b"\1a"), "bad_command"),
    "a name that is cut": (command(b"HELLO", b"\5ab"), "bad_command"),
    "a password that is cut": (command(b"HELLO", b"\1a\2b"), "bad_command"),
    "more behind it": (command(b"HELLO", b"\1a\1bc"), "bad_command"),
    "too long": (frame(b"\5HELLO" + bytes(600), 4), "bad_command"),
    "announced too long": (b"\6" + (1 << 40).to_bytes(8, "big"), "bad_command"),
    "another name": (command(b"HELLA", b"\1a\1b"), "bad_command"),
    "half a name": (command(b"HELL"), "bad_command"),
    "an empty command": (frame(b"", 4), "bad_command"),
    "INITIATE": (initiate("PUSH"), "bad_command"),
    "READY": (ready("PUSH"), "bad_command"),
    "ERROR": (command(b"ERROR", b"\x03400"), "bad_command"),
    "a message": (message(b"hello"), "bad_frame"),
    "flags": (b"\x08\0", "bad_frame"),
    "more before it was answered": (hello(b"a", b"b") + initiate("PUSH"), "bad_command"),
}


@pytest.mark.parametrize("kind", HELLOS)
def test_malformed_hello_is_refused(engine: Engine, raw: Raw, authenticator: Authenticator, kind: str) -> None:
    door = add_door(engine, **SERVER)
    peer = raw(endpoint(door.frontend))
    said, reason = HELLOS[kind]
    peer.send(PLAIN_GREETING + said)
    peer.read_to_the_end()
    expect(engine, door, {reason: 1})
    assert not authenticator.socket.poll(0)


INITIATES: Final[Mapping[str, tuple[bytes, str]]] = {
    "READY": (ready("PUSH"), "bad_command"),
    "another HELLO": (hello(b"a", b"b"), "bad_command"),
    "WELCOME": (WELCOME, "bad_command"),
    "no type": (command(b"INITIATE"), "socket_type"),
    "a type that does not fit": (initiate("SUB"), "socket_type"),
    "metadata that is cut": (initiate("PUSH")[:-1].replace(b"\x1d", b"\x1c", 1), "bad_command"),
    "too long": (frame(b"\10INITIATE" + bytes(9000), 4), "bad_command"),
    "a message": (message(b"hello"), "bad_frame"),
}


@pytest.mark.parametrize("kind", INITIATES)
def test_malformed_initiate_is_refused(engine: Engine, raw: Raw, authenticator: Authenticator, kind: str) -> None:
    door = add_door(engine, **SERVER)
    peer = log_in(raw(endpoint(door.frontend)))
    authenticator.answer(authenticator.question(), b"200")
    assert peer.read_command() == b"\7WELCOME"
    said, reason = INITIATES[kind]
    peer.send(said)
    assert b"READY" not in peer.read_to_the_end()
    expect(engine, door, {reason: 1})


@pytest.mark.parametrize("count", [10_000, 200_000])
def test_peer_that_sends_much_before_it_was_judged(
    engine: Engine, raw: Raw, authenticator: Authenticator, count: int
) -> None:
    door = add_door(engine, **DOMAIN)
    peer = raw(endpoint(door.frontend))
    peer.send(greeting() + ready("PUSH") + message(b"x" * count))
    peer.read_to_the_end()
    expect(engine, door, {"bad_command": 1})


ANSWERS: Final[Mapping[str, tuple[bytes, str]]] = {
    "ERROR of RFC 24": (command(b"ERROR", b"\x03400"), "refused"),
    "ERROR of libzmq": (frame(b"^RROR\x03400", 4), "refused"),
    "READY": (ready("PULL"), "bad_command"),
    "HELLO": (hello(b"a", b"b"), "bad_command"),
    "a long WELCOME": (command(b"WELCOME", b"!"), "bad_command"),
    "a short WELCOME": (command(b"WELCOM"), "bad_command"),
    "another WELCOME": (WELCOME + WELCOME, "bad_command"),
    "INITIATE": (WELCOME + initiate("PULL"), "bad_command"),
    "ERROR later": (WELCOME + frame(b"^RROR\x03500", 4), "refused"),
    "a type that does not fit": (WELCOME + ready("PUB"), "socket_type"),
    "a message": (WELCOME + message(b"hello"), "bad_frame"),
    "nothing": (b"", "slow_handshake"),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_server_of_plain_that_is_mistaken_is_left(engine: Engine, kind: str) -> None:
    said, reason = ANSWERS[kind]
    with RawListener() as listener:
        options = {**USER, "reconnect_ivl": 1, "handshake_ivl": 200 if not said else DEADLINE_MS}
        out = engine.add("o", STREAMER, frontend=ANY_PORT, backend=f">{listener.address}", backend_options=options)
        for times in (1, 2):
            with listener.accept() as server:
                server.send(greeting(mechanism=b"PLAIN", as_server=1))
                assert server.read(64) == PLAIN_GREETING
                assert frame(server.read_command(), 4) == hello(b"somebody", b"secret")
                server.send(said)
                rest = server.read_to_the_end()
                assert rest in (b"", command(b"INITIATE", properties((b"Socket-Type", b"PUSH"))))
                expect(engine, out, {reason: times}, "backend")
        out.remove(timeout_s=0)


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["plain_username", "plain_password", "zap_domain"])
@pytest.mark.parametrize("value", [b"", b"x" * 256])
def test_empty_and_long_credentials_are_refused(engine: Engine, option: str, value: bytes) -> None:
    with pytest.raises(ConfigError, match=option):
        add_door(engine, ANY_PORT, **{option: value})


def test_option_that_is_set_last_decides_about_the_mechanism(engine: Engine, raw: Raw) -> None:
    client = engine.add(
        "c", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, frontend_options={"plain_server": 1, **USER}
    )
    peer = raw(endpoint(client.frontend))
    peer.send(greeting(mechanism=b"PLAIN", as_server=1))
    assert peer.read(64) == PLAIN_GREETING
    assert peer.read_command().startswith(b"\5HELLO")
    nobody = engine.add(
        "n", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, frontend_options={**USER, "plain_server": 0}
    )
    raw(endpoint(nobody.frontend)).shake_hands("PUSH")


def test_sockets_are_closed_with_the_last_port_that_may_ask(engine: Engine, raw: Raw, tmp_path: Path) -> None:
    """A program that waits until its context ends does not wait for ports that it has removed."""
    door = add_door(engine, f"ipc://{tmp_path}/door", **SERVER)
    log_in(raw(endpoint(door.frontend))).read_to_the_end()
    authentication = in_engine(engine, lambda: authentication_of(engine))
    assert None not in (authentication._socket, authentication._probe)
    door.remove()
    assert (authentication._socket, authentication._probe) == (None, None)

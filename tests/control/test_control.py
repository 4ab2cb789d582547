"""Control: wire-compatible with libzmq's proxy, answered whatever the traffic, unmoved by garbage."""

import json
import logging
import select
import socket as net
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pollbroker import ConfigError, ControlError, Device, EndpointError, Engine, EngineError, FlowStatistics, Route
from pollbroker.control import Control, attach, attach_socket, request
from pollbroker.statistics import BrokerStatistics, Counters, EngineStatistics
from tests.support.deadline import DEADLINE_MS, wait_until
from tests.support.tree import TREE
from tests.support.types import Connect, MakeEngine, Socket

LOOPBACK = "tcp://127.0.0.1:*"
STEERING = (b"PAUSE", b"RESUME", b"TERMINATE")
COMMANDS = (*STEERING, b"STATISTICS", b"LIST", b"STATS")

Ask = Callable[..., list[bytes]]


def make_ask(client: Socket, *envelope: bytes) -> Ask:
    """`ask(*frames)`: what the control socket answers, without the envelope, which has to come back as it was."""

    def ask(*frames: bytes) -> list[bytes]:
        client.send_multipart([*envelope, *frames])
        reply = client.recv_multipart()
        assert reply[: len(envelope)] == list(envelope)
        return reply[len(envelope) :]

    return ask


def bind(socket: Socket) -> str:
    socket.bind(LOOPBACK)
    endpoint = socket.last_endpoint
    assert isinstance(endpoint, bytes)
    return endpoint.decode()


def add_streamer(engine: Engine, connect: Connect, name: str = "jobs") -> tuple[Socket, Socket]:
    """A STREAMER of that name, and its PUSH and PULL."""
    broker = engine.add(name, "streamer", frontend=LOOPBACK, backend=LOOPBACK)
    return connect(zmq.PUSH, *broker.frontend.endpoints), connect(zmq.PULL, *broker.backend.endpoints)


def numbers(reply: list[bytes]) -> list[int]:
    assert [len(frame) for frame in reply] == [8] * 8
    return [struct.unpack("=Q", frame)[0] for frame in reply]


def text_of(refusal: list[bytes]) -> str:
    status, text = refusal
    assert status == b"ERROR"
    assert text.decode().isprintable()
    return text.decode()


# -- on the wire ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server_type", "client_type", "envelope"),
    [
        (zmq.REP, zmq.REQ, ()),
        (zmq.REP, zmq.DEALER, (b"",)),
        (zmq.REP, zmq.DEALER, (b"hop", b"")),
        (zmq.ROUTER, zmq.REQ, ()),
        (zmq.ROUTER, zmq.DEALER, (b"",)),
        (zmq.ROUTER, zmq.DEALER, (b"hop", b"")),
        (zmq.ROUTER, zmq.DEALER, ()),
    ],
)
@pytest.mark.parametrize("own", [False, True])
def test_rep_and_router_answer_every_command(
    engine: Engine, connect: Connect, server_type: int, client_type: int, envelope: tuple[bytes, ...], own: bool
) -> None:
    if own:
        socket = connect(server_type)
        endpoint = bind(socket)
        attach_socket(engine, socket)
    else:
        (endpoint,) = attach(engine, LOOPBACK, socket_type=server_type).endpoints
    engine.add("jobs", "streamer", frontend=LOOPBACK, backend=LOOPBACK)
    ask = make_ask(connect(client_type, endpoint), *envelope)
    assert ask(b"PAUSE") == [b""]
    assert ask(b"RESUME") == [b""]
    assert ask(b"STATISTICS") == [bytes(8)] * 8
    assert ask(b"PAUSE", b"jobs") == [b""]
    assert ask(b"STATISTICS", b"jobs") == [bytes(8)] * 8
    assert ask(b"LIST") == [b"OK", b"jobs"]
    assert ask(b"STATS")[0] == b"OK"
    assert "''" in text_of(ask(b""))
    assert "'PAUSE\\x00'" in text_of(ask(b"PAUSE\0"))
    assert ask(b"TERMINATE", b"jobs") == [b""]
    assert ask(b"LIST") == [b"OK"]
    assert ask(b"TERMINATE") == [b""]


def test_pair_answers_all_but_the_three_that_libzmq_leaves_unanswered(engine: Engine, connect: Connect) -> None:
    broker = engine.add("jobs", "streamer", frontend=LOOPBACK, backend=LOOPBACK)
    server = attach(engine, LOOPBACK, socket_type=zmq.PAIR)
    client = connect(zmq.PAIR, *server.endpoints)
    client.send(b"PAUSE")
    assert make_ask(client)(b"LIST") == [b"OK", b"jobs"]
    assert broker.state == "paused"
    client.send(b"RESUME")
    assert make_ask(client)(b"STATISTICS") == [bytes(8)] * 8
    assert broker.state == "running"
    assert make_ask(client)(b"PAUSE", b"jobs") == [b""]
    assert "NONSENSE" in text_of(make_ask(client)(b"NONSENSE"))
    client.send(b"TERMINATE")
    wait_until(lambda: not engine.running)
    assert not client.poll(0)


def test_sub_obeys_and_warns(engine: Engine, connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    broker = engine.add("jobs", "streamer", frontend=LOOPBACK, backend=LOOPBACK)
    publisher = connect(zmq.XPUB)
    server = attach(engine, f">{bind(publisher)}", socket_type=zmq.SUB)
    assert publisher.recv() == b"\x01"
    for frames in ([b"NONSENSE"], [b"NONSENSE", b"again"], [b"STATISTICS"], [b"PAUSE"]):
        publisher.send_multipart(frames)
    wait_until(lambda: broker.state == "paused")
    publisher.send_multipart([b"RESUME", b"jobs"])
    wait_until(lambda: broker.state == "running")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]  # of two, within a second
    assert "NONSENSE" in caplog.text
    assert not server.closed
    publisher.send(b"TERMINATE")
    wait_until(lambda: not engine.running)


@contextmanager
def libzmq_proxy(context: zmq.Context[Socket], frontend: int, backend: int | None) -> Iterator[list[str]]:
    """libzmq's own steerable proxy; the endpoints of its frontend, backend and control."""
    types = [kind for kind in (frontend, backend, zmq.REP) if kind is not None]
    sockets = [context.socket(kind) for kind in types]
    bound = [bind(socket) for socket in sockets]
    first, second, control = 0, -2, -1  # the second is the first if there is no backend
    thread = threading.Thread(
        target=zmq.proxy_steerable, args=(sockets[first], sockets[second], None, sockets[control])
    )
    thread.start()
    yield [bound[first], bound[second], bound[control]]
    thread.join(DEADLINE_MS / 1000)
    assert not thread.is_alive()


@contextmanager
def our_proxy(engine: Engine, device: str) -> Iterator[list[str]]:
    backend = None if device == "reflector" else LOOPBACK
    broker = engine.add("it", device, frontend=LOOPBACK, backend=backend)
    server = attach(engine, LOOPBACK)
    yield [*broker.frontend.endpoints, *list(broker.ports.values())[-1].endpoints, *server.endpoints]
    wait_until(lambda: not engine.running)


@pytest.mark.parametrize(
    ("device", "frontend", "backend"),
    [("queue", zmq.ROUTER, zmq.DEALER), ("streamer", zmq.PULL, zmq.PUSH), ("reflector", zmq.ROUTER, None)],
)
def test_statistics_are_those_of_libzmq_byte_for_byte(
    engine: Engine, context: zmq.Context[Socket], connect: Connect, device: str, frontend: int, backend: int | None
) -> None:
    replies = []
    for proxy in (libzmq_proxy(context, frontend, backend), our_proxy(engine, device)):
        with proxy as (front, back, control):
            ask = make_ask(connect(zmq.REQ, control))
            if device == "streamer":
                pusher, puller = connect(zmq.PUSH, front), connect(zmq.PULL, back)
                for size in (0, 1, 1000):
                    pusher.send_multipart([b"", bytes(size)])
                    puller.recv_multipart()
            else:
                client = connect(zmq.REQ, front)
                worker = None if backend is None else connect(zmq.REP, back)
                for size in (0, 1, 1000):
                    client.send_multipart([bytes(size), b"end"])
                    if worker is not None:
                        worker.recv_multipart()
                        worker.send(b"done")
                    client.recv_multipart()
            replies.append([ask(b"STATISTICS"), ask(b"TERMINATE")])
    assert replies[0] == replies[1]
    assert any(numbers(replies[1][0]))


def test_script_for_libzmqs_proxy_steers_a_queue(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    broker = engine.add("orders", "queue", frontend=LOOPBACK, backend=LOOPBACK)
    control = connect(zmq.REQ, *attach(engine, LOOPBACK).endpoints)
    client = connect(zmq.REQ, *broker.frontend.endpoints)
    worker = connect(zmq.REP, *broker.backend.endpoints)
    thread = threading.Thread(target=engine.run)
    thread.start()

    def serve(request: bytes) -> None:
        client.send(request)
        assert worker.recv() == request
        worker.send(b"done")
        assert client.recv() == b"done"

    def statistics() -> list[int]:
        control.send(b"STATISTICS")
        return numbers(control.recv_multipart())

    serve(b"one")
    control.send(b"PAUSE")
    assert control.recv_multipart() == [b""]
    before = statistics()
    assert before[::2] == [3, 3, 3, 3]  # routing id, delimiter, body
    client.send(b"two")
    assert all(statistics() == before for _ in range(50))  # each a turn in which it could have moved
    assert not worker.poll(0)
    control.send(b"RESUME")
    assert control.recv_multipart() == [b""]
    assert worker.recv() == b"two"
    worker.send(b"done")
    client.recv()
    assert statistics()[::2] == [6, 6, 6, 6]
    control.send(b"TERMINATE")
    assert control.recv_multipart() == [b""]
    thread.join(DEADLINE_MS / 1000)
    assert not thread.is_alive()


def test_statistics_are_summed_over_all_brokers_or_of_one(engine: Engine, connect: Connect) -> None:
    ask = make_ask(connect(zmq.REQ, *attach(engine, LOOPBACK).endpoints))
    for name, count in (("a", 1), ("b", 2)):
        push, pull = add_streamer(engine, connect, name)
        for _ in range(count):
            push.send_multipart([b"xyz", b""])
            pull.recv_multipart()
    wait_until(lambda: engine.statistics().brokers["b"].flows["frontend"].sent == 2)
    assert numbers(ask(b"STATISTICS")) == [6, 9, 0, 0, 0, 0, 6, 9]
    assert numbers(ask(b"STATISTICS", b"a")) == [2, 3, 0, 0, 0, 0, 2, 3]


def test_terminate_is_answered_before_everything_closes(engine: Engine, connect: Connect) -> None:
    name = "x" * 200_000
    engine.add(name, "streamer", frontend=LOOPBACK, backend=LOOPBACK)
    client = connect(zmq.DEALER, *attach(engine, LOOPBACK).endpoints, rcvhwm=1, rcvbuf=4096)
    for _ in range(50):
        client.send(b"LIST")  # more than the network takes before the client reads
    client.send(b"TERMINATE")
    wait_until(lambda: not engine.running)
    closing = threading.Thread(target=engine.close)
    closing.start()
    replies = [client.recv_multipart() for _ in range(51)]
    closing.join()
    assert replies == [[b"OK", name.encode()]] * 50 + [[b""]]


# -- what is valid, what is not, and what it changes ------------------------------------------------------------------

BROKERS = ("a", "b", "ü", "dead")
names = st.sampled_from([name.encode() for name in BROKERS])
verbs = st.sampled_from(COMMANDS)
anything = st.binary(max_size=12) | names | verbs | st.sampled_from([b"", b"\xff", b"\r\nPAUSE", b"x" * 5000])
messages = (
    st.tuples(verbs).map(list)
    | st.tuples(verbs, names).map(list)
    | st.tuples(verbs, anything).map(list)
    | st.lists(anything, max_size=4)
)


@contextmanager
def engine_with_a_failed_broker() -> Iterator[Engine]:
    """Brokers of the names `BROKERS`, of which the last has failed."""
    context: zmq.Context[Socket] = zmq.Context()
    engine = Engine(context)
    sockets = [context.socket(zmq.PAIR) for _ in BROKERS]
    for name, socket in zip(BROKERS, sockets, strict=True):
        engine.register(socket, None, "reflector", name=name)
    sockets[-1].close()
    wait_until(lambda: engine.brokers["dead"].state == "failed", engine=engine)
    try:
        yield engine
    finally:
        engine.close()
        context.destroy(linger=0)


def states(engine: Engine) -> dict[str, str]:
    return {name: str(broker.state) for name, broker in engine.brokers.items()}


def expect(model: dict[str, str], command: list[bytes]) -> str:
    """What kind of reply a command is due; carries it out on the model, which has a state for each broker."""
    verb, *rest = command or [b""]
    if verb not in COMMANDS or len(rest) > (verb != b"LIST"):
        return "error"
    addressed = [name for name in model if name.encode() == rest[0]] if rest else list(model)
    if rest and not addressed:
        return "error"
    if verb in (b"PAUSE", b"RESUME"):
        alive = [name for name in addressed if model[name] != "failed"]
        model.update(dict.fromkeys(alive, "paused" if verb == b"PAUSE" else "running"))
        return "error" if rest and not alive else "done"
    if verb == b"TERMINATE":
        for name in addressed if rest else ():
            del model[name]
        return "done"
    return "numbers" if verb == b"STATISTICS" else "ok"


def kind_of(reply: list[bytes]) -> str:
    if reply == [b""]:
        return "done"
    if reply[0] == b"OK":
        return "ok"
    if reply[0] == b"ERROR":
        return "error" if text_of(reply) else "an empty refusal"
    return "numbers" if numbers(reply) else "never"


# Any frames whatever get the reply that they are due, and only valid commands change anything: what they say.
@given(st.lists(messages, max_size=12), st.sampled_from([zmq.REP, zmq.ROUTER, zmq.PAIR, zmq.SUB]))
@example([[b"PAUSE"], [b"PAUSE", b"dead"], [b"TERMINATE", b"dead"], [b"RESUME"]], zmq.REP)
@example([[b"PAUSE", b"a"], [b"PAUSE", b"a"], [b"RESUME"], [b"RESUME", b"a"], [b"PAUSE"]], zmq.REP)
@example([[], [b""], [b"", b""], [b"PAUSE", b""], [b"LIST", b"a"], [b"pause"]], zmq.ROUTER)
@example([[b"PAUSE"], [b"PAUSE", b"a"], [b"LIST"], [b"TERMINATE"]], zmq.PAIR)
@settings(max_examples=150, deadline=None)
def test_any_command_is_carried_out_or_refused(commands: list[list[bytes]], socket_type: int) -> None:
    with engine_with_a_failed_broker() as engine:
        control = Control(engine, socket_type)
        model = states(engine)
        stopped = False
        for command in commands:
            delimited = socket_type == zmq.ROUTER and b"" in command[:-1]
            bare = command[command.index(b"") + 1 :] if delimited else command
            expected = expect(model, bare)
            stopped = stopped or bare == [b"TERMINATE"]
            reply = control.handle([b"\0id", *command] if socket_type == zmq.ROUTER else list(command))
            if socket_type == zmq.SUB or (socket_type == zmq.PAIR and len(bare) == 1 and bare[0] in STEERING):
                assert reply is None
            else:
                assert reply is not None
                if socket_type == zmq.ROUTER:
                    envelope = [b"\0id", *command[: len(command) - len(bare)]]
                    assert reply[: len(envelope)] == envelope
                    reply = reply[len(envelope) :]
                assert kind_of(reply) == expected
            assert states(engine) == model
            assert engine._stopping == stopped


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ([], "an empty message; expected PAUSE, RESUME, TERMINATE, STATISTICS, LIST, STATS"),
        ([b"KILL"], "'KILL' is not a command; expected PAUSE, RESUME, TERMINATE, STATISTICS, LIST, STATS"),
        ([b"STATISTIC"], "'STATISTIC' is not a command; did you mean 'STATISTICS'?"),
        ([b"pause"], "'pause' is not a command; did you mean 'PAUSE'?"),
        ([b"PAUSE\0"], "'PAUSE\\x00' is not a command; did you mean 'PAUSE'?"),
        ([b"PAUSE", b"dad"], "PAUSE: no broker is named 'dad'; did you mean 'dead'?"),
        ([b"PAUSE", b"c"], "PAUSE: no broker is named 'c'; there are: a, b, ü, dead"),
        ([b"PAUSE", b"\xff"], "PAUSE: '\\\\xff': expected a broker's name in UTF-8"),
        ([b"PAUSE", b"a", b"b"], "PAUSE: 3 frames; expected the command and a broker's name"),
        ([b"LIST", b"a"], "LIST: 2 frames; expected the command alone"),
        ([b"RESUME", b"dead"], "brokers.dead: "),
    ],
)
def test_refusal_says_what_is_wrong_and_what_was_expected(command: list[bytes], expected: str) -> None:
    with engine_with_a_failed_broker() as engine:
        reply = Control(engine).handle(command)
        assert reply is not None
        assert text_of(reply).startswith(expected)


@pytest.mark.parametrize("error", [RuntimeError("no\nluck"), EngineError("no\nluck")])
def test_engine_that_fails_in_a_command_is_reported(error: Exception) -> None:
    class Broken(Engine):
        def statistics(self) -> EngineStatistics:
            raise error

    with Broken() as engine:
        reply = Control(engine).handle([b"STATS"])
    assert reply is not None
    assert "luck" in text_of(reply)


def test_broker_that_cannot_be_paused_now_is_not_passed_over(engine: Engine, connect: Connect) -> None:
    control = Control(engine)
    steer = Route("frontend", "frontend", via=lambda frames: [frames[0], *(control.handle(frames[1:]) or ())])
    own = engine.add("own", Device("steerer", zmq.ROUTER, None, (steer,)), frontend=LOOPBACK)
    other = engine.add("other", "streamer", frontend=LOOPBACK, backend=LOOPBACK)
    ask = make_ask(connect(zmq.DEALER, *own.frontend.endpoints))
    assert "its own handler" in text_of(ask(b"PAUSE"))
    assert own.state == "running"
    assert ask(b"PAUSE", b"other") == [b""]
    assert other.state == "paused"


def test_broker_that_holds_a_message_is_removed_at_once(engine: Engine, connect: Connect) -> None:
    broker = engine.add("jobs", "streamer", frontend=LOOPBACK, backend=LOOPBACK)
    connect(zmq.PUSH, *broker.frontend.endpoints).send(b"for nobody")
    wait_until(lambda: engine.statistics().brokers["jobs"].flows["frontend"].held)
    started_s = time.monotonic()
    assert Control(engine).handle([b"TERMINATE", b"jobs"]) == [b""]
    assert time.monotonic() - started_s < 0.9  # of the second that remove() waits by default
    assert not engine.brokers


def test_stats_is_the_snapshot_and_documented(engine: Engine, connect: Connect) -> None:
    push, pull = add_streamer(engine, connect)
    ask = make_ask(connect(zmq.REQ, *attach(engine, LOOPBACK).endpoints))
    push.send_multipart([b"xyz", b""])
    pull.recv_multipart()

    def tells_the_snapshot() -> bool:
        whole, one = json.loads(ask(b"STATS")[1]), json.loads(ask(b"STATS", b"jobs")[1])
        wanted = asdict(engine.statistics())
        return {**whole, "turns": 0} == {**wanted, "turns": 0} and one == wanted["brokers"]["jobs"]

    wait_until(tells_the_snapshot)  # its states change as long as its peers are connecting
    page = (TREE / "docs/control.md").read_text()
    for snapshot in (EngineStatistics, BrokerStatistics, FlowStatistics, Counters):
        assert [field.name for field in fields(snapshot) if f"`{field.name}`" not in page] == []
    assert [verb for verb in COMMANDS if f"`{verb.decode()}`" not in page] == []


# -- in the loop ------------------------------------------------------------------------------------------------------


def test_command_is_answered_within_one_burst_of_a_flooded_broker(
    context: zmq.Context[Socket], make_engine: MakeEngine, connect: Connect
) -> None:
    engine = make_engine(context, burst_messages=10)
    engine.add("jobs", "streamer", frontend="inproc://in", backend="inproc://out", frontend_options={"rcvhwm": 0})
    attach(engine, "inproc://control")
    push, pull = connect(zmq.PUSH, "inproc://in", sndhwm=0), connect(zmq.PULL, "inproc://out", rcvhwm=0)
    control = connect(zmq.REQ, "inproc://control")
    for _ in range(1000):
        push.send(b"x")
    wait_until(lambda: pull.poll(0), engine=engine)
    before = engine.statistics().brokers["jobs"].flows["frontend"].sent_frames
    assert 0 < before < 900
    control.send(b"STATISTICS")
    engine.step()
    counts = numbers(control.recv_multipart(zmq.DONTWAIT))
    assert counts[6] == before  # it was served before the broker
    assert engine.statistics().brokers["jobs"].flows["frontend"].sent_frames == before + 10  # which had its burst


def test_flood_of_commands_leaves_the_traffic_its_turn(
    context: zmq.Context[Socket], make_engine: MakeEngine, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pollbroker.control.server._BURST_S", DEADLINE_MS / 1000)
    engine = make_engine(context, burst_messages=10)
    engine.add("jobs", "streamer", frontend="inproc://in", backend="inproc://out")
    attach(engine, "inproc://control", socket_type=zmq.ROUTER, options={"sndhwm": 0})
    push, pull = connect(zmq.PUSH, "inproc://in"), connect(zmq.PULL, "inproc://out")
    control = connect(zmq.DEALER, "inproc://control", sndhwm=0, rcvhwm=0)
    for _ in range(500):
        control.send(b"LIST")
    push.send(b"x")
    wait_until(lambda: pull.poll(0), engine=engine)
    answered = 0
    while control.poll(0):
        assert control.recv_multipart() == [b"OK", b"jobs"]
        answered += 1
    assert 1 <= answered <= 300  # three turns at most: to be told, to receive, to send
    for _ in range(500 - answered):
        wait_until(lambda: control.poll(0), engine=engine)
        control.recv_multipart()


def test_slow_commands_end_a_burst_early(
    context: zmq.Context[Socket], make_engine: MakeEngine, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pollbroker.control.server._BURST_S", 0.0)
    engine = make_engine(context)
    attach(engine, "inproc://control")
    control = connect(zmq.DEALER, "inproc://control")
    for _ in range(10):
        control.send(b"LIST")
    wait_until(lambda: control.poll(0), engine=engine)
    for _ in range(9):
        control.recv_multipart(zmq.DONTWAIT)
        assert not control.poll(0)
        engine.step()
    assert control.recv_multipart(zmq.DONTWAIT) == [b"OK"]


def test_peer_that_left_without_a_delimiter_costs_nobody_the_answer(engine: Engine, connect: Connect) -> None:
    (endpoint,) = attach(engine, LOOPBACK).endpoints
    for _ in range(10):
        rude = connect(zmq.DEALER, endpoint)
        for _ in range(5):
            rude.send_multipart([b"no", b"delimiter"])
        rude.close(linger=DEADLINE_MS)
        assert request(endpoint, "LIST") == [b"OK"]


def test_garbage_leaves_a_rep_socket_working_and_the_traffic_intact(engine: Engine, connect: Connect) -> None:
    push, pull = add_streamer(engine, connect)
    server = attach(engine, LOOPBACK)
    rude = connect(zmq.DEALER, *server.endpoints)
    for i in range(300):
        rude.send_multipart([b""] * (i % 5) + [bytes([i % 256]) * i] * (i % 7) + [b"\xff"])
        push.send(b"%d" % i)
    rude.close()
    ask = make_ask(connect(zmq.REQ, *server.endpoints))
    assert len(text_of(ask(b"x" * 100_000))) < 200
    assert ask(b"LIST") == [b"OK", b"jobs"]
    assert [pull.recv() for _ in range(300)] == [b"%d" % i for i in range(300)]


@pytest.mark.parametrize("socket_type", [zmq.PAIR, zmq.ROUTER])
def test_reply_that_cannot_be_sent_is_dropped_and_counted(
    context: zmq.Context[Socket],
    make_engine: MakeEngine,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    socket_type: int,
) -> None:
    engine = make_engine(context)
    server = attach(engine, "inproc://control", socket_type=socket_type, options={"sndhwm": 1, "rcvhwm": 0})
    client = connect(zmq.PAIR if socket_type == zmq.PAIR else zmq.DEALER, "inproc://control", rcvhwm=1)
    for _ in range(10):
        client.send(b"LIST")
    wait_until(lambda: server.dropped_replies == 8, engine=engine)
    assert [client.recv_multipart() for _ in range(2)] == [[b"OK"]] * 2
    assert len([record for record in caplog.records if "dropped" in record.message]) == 1  # in a second
    client.send(b"STATISTICS")
    wait_until(lambda: client.poll(0), engine=engine)
    assert len(client.recv_multipart()) == 8
    for _ in range(3):
        client.send(b"LIST")
    client.close(linger=DEADLINE_MS)
    wait_until(lambda: server.dropped_replies > 8, engine=engine)


def test_endpoints_are_real_and_close_lets_go(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    server = attach(engine, [LOOPBACK, "@" + LOOPBACK])
    assert len(server.endpoints) == len(set(server.endpoints)) == 2
    for endpoint in server.endpoints:
        assert request(endpoint, "LIST") == [b"OK"]
    server.close()
    server.close()
    assert server.closed
    # libzmq closes its listener a moment later, in its own thread.
    with pytest.raises(ControlError, match=r"no answer|nobody listens"):
        request(server.endpoints[0], "LIST", timeout_s=0.05)
    assert not caplog.records


def test_socket_of_the_callers_stays_the_callers(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    engine.start()
    own = connect(zmq.REP)
    client = connect(zmq.REQ, bind(own))
    server = attach_socket(engine, own)
    assert make_ask(client)(b"LIST") == [b"OK"]
    engine.close()
    assert server.closed
    assert own.linger == 0
    client.send(b"mine")
    assert own.recv() == b"mine"


def test_engine_closes_its_control_sockets(make_engine: MakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    engine = make_engine()
    servers = [attach(engine, LOOPBACK, socket_type=kind) for kind in (zmq.REP, zmq.PAIR, zmq.SUB, zmq.ROUTER)]
    engine.close()
    assert all(server.closed for server in servers)
    assert not caplog.records  # of a context that cannot end
    with pytest.raises(EngineError, match="closed"):
        attach(engine, LOOPBACK)


def test_attachment_that_fails_leaves_nothing_open(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine()
    monkeypatch.setattr(engine, "on_close", lambda callback: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        attach(engine, LOOPBACK)
    engine.close()
    assert not caplog.records  # of a context that cannot end


def test_terminated_context_closes_control_in_order(make_engine: MakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    engine = make_engine(context)
    engine.start()
    server = attach(engine, LOOPBACK)
    terminated = threading.Thread(target=context.term)
    terminated.start()
    terminated.join(DEADLINE_MS / 1000)
    assert not terminated.is_alive()
    assert server.closed
    assert "control:" not in caplog.text


@pytest.mark.parametrize(
    ("endpoint", "kwargs", "error", "match"),
    [
        ("tcp://127.0.0.1:70000", {}, EndpointError, r"control: tcp://127.0.0.1:70000: port must be"),
        ("nonsense", {}, EndpointError, "control: nonsense"),
        (LOOPBACK, {"socket_type": zmq.PUSH}, ConfigError, "PUSH socket .* expected REP, PAIR, SUB or ROUTER"),
        (LOOPBACK, {"socket_type": 99}, ConfigError, "99 socket"),
        (LOOPBACK, {"options": {"sndhmw": 1}}, ConfigError, "control: 'sndhmw' .* did you mean 'sndhwm'"),
        (LOOPBACK, {"options": {"subscribe": b""}}, ConfigError, "control: option subscribe"),
    ],
)
def test_bad_attachment_is_refused(
    make_engine: MakeEngine, endpoint: str, kwargs: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        attach(make_engine(), endpoint, **kwargs)


def test_unfit_socket_is_refused(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    with pytest.raises(ConfigError, match="DEALER"):
        attach_socket(engine, connect(zmq.DEALER))
    closed = connect(zmq.REP)
    closed.close()
    with pytest.raises(EngineError, match="the socket is closed"):
        attach_socket(engine, closed)


@pytest.mark.parametrize(("options", "bound"), [(None, 1 << 20), ({"MaxMsgSize": 100}, 100)])
def test_frame_beyond_the_bound_is_not_read(
    make_engine: MakeEngine, connect: Connect, options: dict[str, object] | None, bound: int
) -> None:
    engine = make_engine()
    server = attach(engine, LOOPBACK, options=options)
    small, big = (connect(zmq.REQ, *server.endpoints) for _ in range(2))
    big.send(bytes(bound + 1))
    small.send(bytes(bound))
    wait_until(lambda: small.poll(0), engine=engine)
    assert not big.poll(0)


# -- request ----------------------------------------------------------------------------------------------------------


def test_request_returns_the_reply_or_raises_why_not(engine: Engine) -> None:
    engine.add("ü", "streamer", frontend=LOOPBACK, backend=LOOPBACK)
    for kind in (zmq.REP, zmq.ROUTER):
        (endpoint,) = attach(engine, LOOPBACK, socket_type=kind).endpoints
        assert request(endpoint, "PAUSE") == [b""]
        assert request(f">{endpoint}", b"RESUME", "ü") == [b""]
        assert request(endpoint, "LIST") == [b"OK", "ü".encode()]
        with pytest.raises(ControlError, match=r"^PAUSE: no broker is named 'nobody'; there are: ü$"):
            request(endpoint, "PAUSE", b"nobody")
    assert request(endpoint, "TERMINATE") == [b""]


@pytest.mark.parametrize(("attached", "asked"), [("inproc://#", "inproc://#"), (">ipc://#", "@ipc://#")])
def test_request_reaches_inproc_and_engines_that_connect(
    engine: Engine, tmp_path: Path, attached: str, asked: str
) -> None:
    server = attach(engine, attached.replace("#", f"{tmp_path}/control"))
    socket = server._port.sync_socket
    descriptor = engine._calls.call(lambda: int(socket.getsockopt(zmq.FD)))
    try:
        context = engine.context if asked.startswith("inproc") else None
        reply = request(asked.replace("#", f"{tmp_path}/control"), "LIST", context=context)
    except ControlError as error:
        # Which of these it was: the engine was not woken although a command had come (input, and nothing to wake it),
        # it did not get a core (something to wake it), or nothing came (neither).
        wakes = bool(select.select([descriptor], [], [], 0)[0])
        events = engine._calls.call(lambda: int(socket.getsockopt(zmq.EVENTS)))
        error.add_note(f"something wakes it: {wakes}; events: {events}; replies dropped: {server.dropped_replies}")
        raise
    assert reply == [b"OK"]


def leave_stale_file(path: Path) -> str:
    """A socket file that its process has left behind."""
    with net.socket(net.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
    return f"ipc://{path}"


def unused_port() -> str:
    """An address on loopback that nobody listens at."""
    with net.create_server(("127.0.0.1", 0)) as listener:
        return f"tcp://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("mark", ["", ">"])
@pytest.mark.parametrize(
    ("find", "why"),
    [
        (lambda path: leave_stale_file(path / "stale"), " any more: whoever made the file has ended"),
        (lambda path: f"ipc://{path}/missing", ": there is no such file"),
        (lambda path: f"ipc://@{path}/missing", ""),
        (lambda path: unused_port(), ""),
    ],
    ids=["stale-file", "no-file", "abstract", "tcp"],
)
def test_request_to_nobody_is_told_at_once(mark: str, find: Callable[[Path], str], why: str, tmp_path: Path) -> None:
    endpoint = mark + find(tmp_path)
    began_s = time.monotonic()
    with pytest.raises(ControlError) as raised:
        request(endpoint, "LIST", timeout_s=1000)
    assert str(raised.value) == f"{endpoint}: nobody listens there{why}; expected the control socket of an engine"
    assert time.monotonic() - began_s < DEADLINE_MS / 1000


def test_request_to_a_path_that_cannot_be_reached_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ControlError, match="nobody listens there, or not for this process: Not a directory; expected"):
        request(f"ipc://{tmp_path}/file/control", "LIST", timeout_s=1000)


def test_request_to_a_name_that_cannot_be_reached_says_what_it_may_be() -> None:
    endpoint = unused_port().replace("127.0.0.1", "localhost")
    with pytest.raises(ControlError, match="nobody listens there, or the name does not resolve; expected"):
        request(endpoint, "LIST", timeout_s=1000)


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_engine_that_does_not_answer_is_told_apart(make_engine: MakeEngine, transport: str, tmp_path: Path) -> None:
    engine = make_engine()  # which nobody runs
    (endpoint,) = attach(engine, LOOPBACK if transport == "tcp" else f"ipc://{tmp_path}/hung").endpoints
    expected = f"^{endpoint}: no answer to 'LIST' within 0.2 s; somebody listens there, but does not answer$"
    with pytest.raises(ControlError, match=expected):
        request(endpoint, "LIST", timeout_s=0.2)


def test_listener_with_a_full_queue_is_somebody(tmp_path: Path) -> None:
    path = str(tmp_path / "busy")
    with net.socket(net.AF_UNIX) as listener, ExitStack() as stack:
        listener.bind(path)
        listener.listen(0)
        with pytest.raises(BlockingIOError):  # noqa: PT012 - until it is full
            while True:
                client = stack.enter_context(net.socket(net.AF_UNIX))
                client.setblocking(False)
                client.connect(path)
        with pytest.raises(ControlError, match=r"no answer to 'LIST' within 0\.05 s$"):
            request(f"ipc://{path}", "LIST", timeout_s=0.05)


def test_request_that_waits_for_an_engine_to_connect_says_where(tmp_path: Path) -> None:
    expected = f"^@ipc://{tmp_path}/nobody: nobody connected within 0.05 s to be sent 'LIST'$"
    with pytest.raises(ControlError, match=expected):
        request(f"@ipc://{tmp_path}/nobody", "LIST", timeout_s=0.05)


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:70000", "tcp://127.0.0.1:*", "", "ipc://a,ipc://b"])
def test_request_to_a_bad_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(EndpointError, match="control: "):
        request(endpoint, "LIST")

"""Control in the loop: answered whatever the traffic, unmoved by garbage, and no burden to the traffic."""

import pytest
import zmq

from pollbroker import Engine
from pollbroker.control import Control, ControlServer, attach, attach_socket, request
from pollbroker.port import WorkingPort
from tests.support.addresses import ANY_PORT
from tests.support.clocks import FakeTime
from tests.support.control import add_streamer, make_ask, numbers, text_of
from tests.support.deadline import DEADLINE_MS, wait_until
from tests.support.types import Connect, MakeEngine, Socket

# -- commands and traffic ----------------------------------------------------------------------------------------------


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


def test_commands_that_come_with_a_late_reply_are_all_served(
    context: zmq.Context[Socket], make_engine: MakeEngine, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are found when the reply is sent, and the time of a turn is over after each of them."""
    monkeypatch.setattr("pollbroker.control.server._BURST_S", -1.0)
    engine = make_engine(context)
    server = attach(engine, "inproc://control")
    control = connect(zmq.DEALER, "inproc://control")
    for count in (1, 5):
        for _ in range(count):
            control.send_multipart([b"", b"LIST"])
        if count > 1:
            server._answer_later(None)
        for _ in range(count):
            wait_until(lambda: control.poll(0), engine=engine)
            assert control.recv_multipart() == [b"", b"OK"]
        while engine.step(0):
            pass


def test_many_late_replies_bring_about_one_burst_more(
    context: zmq.Context[Socket], make_engine: MakeEngine, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If each brought about one, a flood of commands that are answered late would keep others waiting for seconds."""
    monkeypatch.setattr("pollbroker.control.server._BURST_S", -1.0)  # a burst is one command
    engine = make_engine(context)
    server = attach(engine, "inproc://control")
    client = connect(zmq.DEALER, "inproc://control")
    for _ in range(50):
        client.send_multipart([b"", b"LIST"])
    for _ in range(20):
        server._answer_later(None)
    engine.step()
    answered = 0
    while client.poll(0):
        client.recv_multipart()
        answered += 1
    assert 1 <= answered <= 2  # that of the socket's reader, and one more


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
    (endpoint,) = attach(engine, ANY_PORT).endpoints
    for _ in range(10):
        rude = connect(zmq.DEALER, endpoint)
        for _ in range(5):
            rude.send_multipart([b"no", b"delimiter"])
        rude.close(linger=DEADLINE_MS)
        assert request(endpoint, "LIST") == [b"OK"]


def test_garbage_leaves_a_rep_socket_working_and_the_traffic_intact(engine: Engine, connect: Connect) -> None:
    push, pull = add_streamer(engine, connect)
    server = attach(engine, ANY_PORT)
    rude = connect(zmq.DEALER, *server.endpoints)
    for i in range(300):
        rude.send_multipart([b""] * (i % 5) + [bytes([i % 256]) * i] * (i % 7) + [b"\xff"])
        push.send(b"%d" % i)
    rude.close()
    ask = make_ask(connect(zmq.REQ, *server.endpoints))
    assert len(text_of(ask(b"x" * 100_000))) < 300
    assert ask(b"LIST") == [b"OK", b"jobs"]
    assert [pull.recv() for _ in range(300)] == [b"%d" % i for i in range(300)]


def lists(client: Socket, number: int) -> None:
    for _ in range(number):
        client.send(b"LIST")


def answers_at(client: Socket) -> int:
    answers = 0
    while client.poll(0):
        assert client.recv_multipart() == [b"OK"]
        answers += 1
    return answers


def test_a_burst_is_a_hundred_commands(
    context: zmq.Context[Socket], make_engine: MakeEngine, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pollbroker.control.server.time", FakeTime())
    engine = make_engine(context)
    attach(engine, "inproc://control")
    client = connect(zmq.DEALER, "inproc://control")
    lists(client, 250)
    wait_until(lambda: client.poll(0), engine=engine)
    for expected in (100, 100, 50):
        assert answers_at(client) == expected
        engine.step()


def test_a_burst_ends_at_its_time(
    context: zmq.Context[Socket], make_engine: MakeEngine, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeTime()
    monkeypatch.setattr("pollbroker.control.server.time", clock)
    monkeypatch.setattr("pollbroker.control.server._BURST_S", 3.0)
    engine = make_engine(context)

    class Slow(Control):
        def handle(self, frames: list[bytes]) -> list[bytes] | None:
            clock.now_s += 1.0
            return super().handle(frames)

    router = context.socket(zmq.ROUTER)
    router.bind("inproc://control")
    ControlServer(engine, Slow(engine, zmq.ROUTER), WorkingPort("control", router, owned=False))
    client = connect(zmq.DEALER, "inproc://control")
    lists(client, 7)
    wait_until(lambda: client.poll(0), engine=engine)
    for expected in (3, 3, 1):
        assert answers_at(client) == expected
        engine.step()


# -- sockets that fail -------------------------------------------------------------------------------------------------


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


class Closing(Control):
    """Closes the socket that the reply is for."""

    socket: Socket

    def handle(self, frames: list[bytes]) -> list[bytes] | None:
        self.socket.close()
        return super().handle(frames)


def test_dropped_reply_is_told_with_its_reason(
    context: zmq.Context[Socket], make_engine: MakeEngine, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine(context)
    server = attach(engine, "inproc://control", socket_type=zmq.ROUTER, options={"sndhwm": 1})
    client = connect(zmq.DEALER, "inproc://control", rcvhwm=1)
    lists(client, 3)
    wait_until(lambda: server.dropped_replies, engine=engine)
    assert [record.message for record in caplog.records] == [
        "control: a reply was dropped (1 so far): Resource temporarily unavailable"
    ]


def test_socket_that_fails_in_a_command_takes_no_more(
    context: zmq.Context[Socket], make_engine: MakeEngine, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine(context)
    control = Closing(engine, zmq.ROUTER)
    control.socket = context.socket(zmq.ROUTER)
    control.socket.bind("inproc://control")
    server = ControlServer(engine, control, WorkingPort("control", control.socket, owned=False))
    assert server.closed is False
    connect(zmq.DEALER, "inproc://control").send(b"LIST")
    wait_until(lambda: server.closed, engine=engine)
    assert server.dropped_replies == 1
    messages = [record.message for record in caplog.records if record.message.startswith("control: ")]
    assert messages == [
        "control: <WorkingPort control registered> takes commands no longer: Socket operation on non-socket"
    ]


def test_opened_socket_that_fails_is_named_by_its_endpoint(
    context: zmq.Context[Socket],
    make_engine: MakeEngine,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(control: Control, frames: list[bytes]) -> None:
        raise zmq.ZMQError(zmq.EFAULT)

    monkeypatch.setattr(Control, "handle", fail)
    engine = make_engine(context)
    server = attach(engine, "inproc://control")
    connect(zmq.DEALER, "inproc://control").send(b"LIST")
    wait_until(lambda: server.closed, engine=engine)
    assert [record.message for record in caplog.records] == [
        "control: <WorkingPort control inproc://control> takes commands no longer: Bad address"
    ]


def test_lent_socket_that_fails_is_named_and_stays_open(
    context: zmq.Context[Socket],
    make_engine: MakeEngine,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(control: Control, frames: list[bytes]) -> None:
        raise zmq.ZMQError(zmq.EFAULT)

    monkeypatch.setattr(Control, "handle", fail)
    engine = make_engine(context)
    router = context.socket(zmq.ROUTER)
    router.bind("inproc://control")
    server = attach_socket(engine, router)
    connect(zmq.DEALER, "inproc://control").send(b"LIST")
    wait_until(lambda: server.closed, engine=engine)
    assert not router.closed
    assert [record.message for record in caplog.records] == [
        "control: <WorkingPort control registered> takes commands no longer: Bad address"
    ]

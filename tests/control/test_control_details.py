"""Control, closer up: what refusals and warnings say, what a burst is, and what becomes of a socket that fails."""

import logging
import struct
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import zmq

from pollbroker import ControlError, Device, EndpointError, Engine, EngineError, FlowStatistics, Route
from pollbroker.control import Control, ControlServer, attach, attach_socket, request
from pollbroker.control.commands import make_seldom_warning
from pollbroker.port import WorkingPort
from pollbroker.statistics import BrokerStatistics, EngineStatistics
from tests.support.deadline import DEADLINE_MS, wait_until
from tests.support.types import Connect, MakeEngine, Socket

LOOPBACK = "tcp://127.0.0.1:*"


def refusal_of(reply: list[bytes] | None) -> str:
    assert reply is not None
    status, text = reply
    assert status == b"ERROR"
    return text.decode()


@pytest.fixture
def idle(make_engine: MakeEngine) -> Engine:
    """An engine that nobody runs."""
    return make_engine()


# -- what commands say ------------------------------------------------------------------------------------------------


def test_unknown_broker_is_told_with_ten_of_those_that_there_are(idle: Engine) -> None:
    control = Control(idle)
    unknown = [b"PAUSE", b"x"]
    assert refusal_of(control.handle(unknown)) == "PAUSE: no broker is named 'x'; there are: none"
    for number in range(12):
        names = ", ".join(f"b{n}" for n in range(min(number, 10)))
        if number:
            more = ", ..." if number > 10 else ""
            assert refusal_of(control.handle(unknown)) == f"PAUSE: no broker is named 'x'; there are: {names}{more}"
        idle.add(f"b{number}", "streamer", frontend=LOOPBACK, backend=LOOPBACK)


@pytest.mark.parametrize(
    ("command", "shown"),
    [(b"x" * 60, f"'{'x' * 60}'"), (b"x" * 61, f"'{'x' * 60}'... (61 bytes)"), (b"\n\xff", r"'\n\\xff'")],
)
def test_long_frame_is_shown_as_far_as_it_goes(idle: Engine, command: bytes, shown: str) -> None:
    assert refusal_of(Control(idle).handle([command])).startswith(f"{shown} is not a command; expected PAUSE, ")


def test_unfit_text_is_refused_in_one_line_of_utf8() -> None:
    class Broken(Engine):
        def statistics(self) -> EngineStatistics:
            raise EngineError("no\n\n \udcff luck")

    with Broken() as engine:
        assert refusal_of(Control(engine).handle([b"STATS"])) == r"no \udcff luck"


def test_command_that_raises_is_logged_and_refused(caplog: pytest.LogCaptureFixture) -> None:
    error = RuntimeError("no luck")

    class Broken(Engine):
        def statistics(self) -> EngineStatistics:
            raise error

    with Broken() as engine:
        reply = Control(engine).handle([b"STATS"])
    assert refusal_of(reply) == "the engine failed to carry it out: RuntimeError('no luck')"
    (record,) = caplog.records
    assert (record.levelno, record.message) == (logging.WARNING, "control: a command raised")
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_what_a_sub_cannot_answer_is_logged(idle: Engine, caplog: pytest.LogCaptureFixture) -> None:
    control = Control(idle, zmq.SUB)
    assert control.handle([b"LIST"]) is None
    assert not caplog.records
    assert control.handle([b"LIST", b"%s"]) is None
    assert [record.message for record in caplog.records] == ["control: LIST: 2 frames; expected the command alone"]


class FakeTime:
    """A clock that stands still until it is moved."""

    now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


def test_warnings_are_a_second_apart(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeTime()
    monkeypatch.setattr("pollbroker.control.commands.time", clock)
    warn = make_seldom_warning()
    for number, later_s in enumerate([0.0, 0.0, 0.5, 0.5, 0.999, 0.001]):
        clock.now_s += later_s
        warn("warning %d", number)
    assert [record.message for record in caplog.records] == ["warning 0", "warning 3", "warning 5"]


# -- statistics -------------------------------------------------------------------------------------------------------


class Counted(Engine):
    """An engine whose only broker has moved what a test says."""

    flows: dict[str, FlowStatistics]

    def statistics(self) -> EngineStatistics:
        broker = BrokerStatistics(name="b", device="d", state="running", error=None, flows=self.flows)
        return replace(super().statistics(), brokers={"b": broker})


def counts_of(*flows: FlowStatistics) -> list[int]:
    with Counted() as engine:
        engine.flows = {flow.source: flow for flow in flows}
        reply = Control(engine).handle([b"STATISTICS"])
    assert reply is not None
    return [struct.unpack("=Q", frame)[0] for frame in reply]


def moved(source: str, sink: str, scale: int = 1) -> FlowStatistics:
    frames, size, sent, sent_size = (scale * n for n in (3, 50, 2, 40))
    return FlowStatistics(
        source=source,
        sink=sink,
        received_frames=frames,
        received_bytes=size,
        sent_frames=sent,
        sent_bytes=sent_size,
    )


@pytest.mark.parametrize(
    ("flows", "counts"),
    [
        ([moved("frontend", "backend")], [3, 50, 0, 0, 0, 0, 2, 40]),
        ([moved("backend", "frontend")], [0, 0, 2, 40, 3, 50, 0, 0]),
        ([moved("frontend", "backend"), moved("backend", "frontend", 10)], [3, 50, 20, 400, 30, 500, 2, 40]),
        # libzmq counts what its proxy with one socket sends as the backend's.
        ([moved("frontend", "frontend")], [3, 50, 0, 0, 0, 0, 2, 40]),
        ([moved("frontend", "frontend"), moved("backend", "backend", 10)], [3, 50, 2, 40, 30, 500, 20, 400]),
    ],
)
def test_statistics_count_by_port_as_libzmq_does(flows: list[FlowStatistics], counts: list[int]) -> None:
    assert counts_of(*flows) == counts


def test_counts_beyond_64_bits_begin_again() -> None:
    flow = replace(moved("frontend", "backend"), received_frames=(1 << 63) + 1, received_bytes=(1 << 64) + 7)
    assert counts_of(flow)[:2] == [(1 << 63) + 1, 7]


# -- in the loop ------------------------------------------------------------------------------------------------------


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


class Closing(Control):
    """Closes the socket that the reply is for."""

    socket: Socket

    def handle(self, frames: list[bytes]) -> list[bytes] | None:
        self.socket.close()
        return super().handle(frames)


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


# -- attaching --------------------------------------------------------------------------------------------------------


def test_attachment_to_a_closed_engine_is_told(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.close()
    with pytest.raises(EngineError, match=r"^control: the engine is closed$"):
        attach(engine, LOOPBACK)


def test_attachment_of_a_closed_socket_is_told(idle: Engine, connect: Connect) -> None:
    closed = connect(zmq.REP)
    closed.close()
    expected = r"^control: the socket is closed; expected an open REP, PAIR, SUB or ROUTER socket$"
    with pytest.raises(EngineError, match=expected):
        attach_socket(idle, closed)


# -- request ----------------------------------------------------------------------------------------------------------


def answer_once(server: Socket, *reply: bytes) -> threading.Thread:
    def answer() -> None:
        server.recv_multipart()
        server.send_multipart(reply)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    return thread


def test_refusal_of_any_shape_is_raised_as_one_line(connect: Connect) -> None:
    server = connect(zmq.REP)
    server.bind(LOOPBACK)
    endpoint = server.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(endpoint, bytes)
    answering = answer_once(server, b"ERROR", b"no", b"\xff", b"luck")
    with pytest.raises(ControlError, match=r"^no \\xff luck$"):
        request(endpoint.decode(), "LIST")
    answering.join(DEADLINE_MS / 1000)


def raised_by(call: Callable[[], Any]) -> list[BaseException]:
    try:
        call()
    except ControlError as error:
        return [error]
    return []


def test_request_whose_context_ends_says_so(connect: Connect) -> None:
    server = connect(zmq.ROUTER)
    server.bind(LOOPBACK)
    address = server.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(address, bytes)
    endpoint = address.decode()
    context: zmq.Context[Socket] = zmq.Context()
    raised: list[BaseException] = []
    asking = threading.Thread(
        target=lambda: raised.extend(raised_by(lambda: request(endpoint, "STATS", b"a", context=context))), daemon=True
    )
    asking.start()
    assert server.recv_multipart()[2:] == [b"STATS", b"a"]  # it waits for the answer now, or is about to
    ending = threading.Thread(target=context.term, daemon=True)
    ending.start()
    for thread in (asking, ending):
        thread.join(DEADLINE_MS / 1000)
        assert not thread.is_alive()
    assert [str(error) for error in raised] == [f"{endpoint}: 'STATS': Context was terminated"]


def test_request_at_an_address_that_is_taken_says_where(connect: Connect) -> None:
    taken = connect(zmq.REP)
    taken.bind(LOOPBACK)
    address = taken.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(address, bytes)
    with pytest.raises(EndpointError, match=rf"^control: @{address.decode()}: cannot bind: Address already in use"):
        request(f"@{address.decode()}", "LIST")


def test_device_of_one_route_back_is_counted_at_its_ports(idle: Engine, connect: Connect) -> None:
    device = Device("up", zmq.PUSH, zmq.PULL, (Route("backend", "frontend"),))
    broker = idle.add("up", device, frontend=LOOPBACK, backend=LOOPBACK)
    pull, push = connect(zmq.PULL, broker.frontend.endpoint), connect(zmq.PUSH, broker.backend.endpoint)
    push.send(b"12345")
    wait_until(lambda: pull.poll(0), engine=idle)
    reply = Control(idle).handle([b"STATISTICS", b"up"])
    assert reply is not None
    assert [struct.unpack("=Q", frame)[0] for frame in reply] == [0, 0, 1, 5, 1, 5, 0, 0]

"""`request`: it returns the reply, or raises why there is none."""

import os
import select
import socket as net
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import zmq

from pollbroker import ControlError, EndpointError, Engine
from pollbroker.control import attach, request
from pollbroker.engine import engine_loop
from pollbroker.errors import NoAnswerError, NobodyListensError
from pollbroker.port import WorkingPort
from tests.support.addresses import ANY_PORT, OWN_HOST, address_of
from tests.support.deadline import DEADLINE_MS, wait_until
from tests.support.types import Connect, MakeEngine, Socket


def test_request_returns_the_reply_or_raises_why_not(engine: Engine) -> None:
    engine.add("ü", "streamer", frontend=ANY_PORT, backend=ANY_PORT)
    for kind in (zmq.REP, zmq.ROUTER):
        (endpoint,) = attach(engine, ANY_PORT, socket_type=kind).endpoints
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
    descriptor = engine_loop(engine).calls.call(lambda: int(socket.getsockopt(zmq.FD)))
    try:
        context = engine.context if asked.startswith("inproc") else None
        reply = request(asked.replace("#", f"{tmp_path}/control"), "LIST", context=context)
    except ControlError as error:
        # Which of these it was: the engine was not woken although a command had come (input, and nothing to wake it),
        # it did not get a core (something to wake it), or nothing came (neither).
        wakes = bool(select.select([descriptor], [], [], 0)[0])
        events = engine_loop(engine).calls.call(lambda: int(socket.getsockopt(zmq.EVENTS)))
        error.add_note(f"something wakes it: {wakes}; events: {events}; replies dropped: {server.dropped_replies}")
        raise
    assert reply == [b"OK"]


def test_monitor_of_a_request_ends_before_its_reader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Otherwise the I/O thread of the context could wait for ever to tell of one more attempt, and no other request in
    that context would be served."""
    ended: list[str] = []

    def close(port: WorkingPort, **options: Any) -> None:
        ended.append(port.name)
        close_port(port, **options)

    def disable_monitor(socket: Socket) -> None:
        ended.append("monitor")
        end_monitor(socket)

    close_port, end_monitor = WorkingPort.close, zmq.Socket.disable_monitor
    monkeypatch.setattr(WorkingPort, "close", close)
    monkeypatch.setattr(zmq.Socket, "disable_monitor", disable_monitor)
    with pytest.raises(NobodyListensError):
        request(f"ipc://{tmp_path}/nobody", "LIST")
    assert ended == ["monitor", "client", "attempts"]


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
        (lambda path: leave_stale_file(path / "stale"), " any more: the process that made the file has ended"),
        (lambda path: f"ipc://{path}/missing", ": there is no such file"),
        (lambda path: f"ipc://{path}", ": it is not a socket"),
        (lambda path: f"ipc://{__file__}", ": it is not a socket"),
        (lambda path: f"ipc://@{path}/missing", ""),
        (lambda path: unused_port(), ""),
    ],
    ids=["stale-file", "no-file", "directory", "other-file", "abstract", "tcp"],
)
def test_request_that_nobody_can_answer_raises_at_once(
    mark: str, find: Callable[[Path], str], why: str, tmp_path: Path
) -> None:
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
def test_engine_that_does_not_answer_raises_another_error(
    make_engine: MakeEngine, transport: str, tmp_path: Path
) -> None:
    engine = make_engine()  # which nobody runs
    (endpoint,) = attach(engine, ANY_PORT if transport == "tcp" else f"ipc://{tmp_path}/hung").endpoints
    who = "somebody" if transport == "tcp" else f"process {os.getpid()}"
    expected = f"{endpoint}: no answer to 'LIST' within 0.2 s; {who} listens there, but does not answer"

    def says_so() -> bool:
        with pytest.raises(ControlError) as raised:
            request(endpoint, "LIST", timeout_s=0.2)
        return str(raised.value) == expected

    wait_until(says_so)  # on a busy machine even the connection may take longer


def test_listener_with_a_full_queue_counts_as_present(tmp_path: Path) -> None:
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


def answer_once(server: Socket, *reply: bytes) -> threading.Thread:
    def answer() -> None:
        server.recv_multipart()
        server.send_multipart(reply)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    return thread


def test_refusal_of_any_shape_is_raised_as_one_line(connect: Connect) -> None:
    server = connect(zmq.REP)
    server.bind(ANY_PORT)
    endpoint = server.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(endpoint, bytes)
    answering = answer_once(server, b"ERROR", b"no", b"\xff", b"luck")
    with pytest.raises(ControlError, match=r"^no \\xff luck$"):
        request(endpoint.decode(), "LIST")
    answering.join(DEADLINE_MS / 1000)


def listen(server: Socket, path: Path) -> str:
    """Let a server listen at a path, at which another one may listen so far."""
    new = path.with_suffix(".new")
    server.bind(f"ipc://{new}")
    new.rename(path)
    return f"ipc://{path}"


@contextmanager
def asking(endpoint: str, command: str, *arguments: str, **options: Any) -> Iterator[list[Any]]:
    """While something happens, a request waits for its reply. Yields a list in which the reply is in the end, or the
    error."""
    came: list[Any] = []

    def ask() -> None:
        try:
            came.append(request(endpoint, command, *arguments, **options))
        except ControlError as error:
            came.append((type(error), str(error)))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    yield came
    thread.join(DEADLINE_MS / 1000)
    assert not thread.is_alive()


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_request_to_an_engine_that_ends_before_it_has_answered_raises_at_once(
    connect: Connect, tmp_path: Path, transport: str
) -> None:
    server = connect(zmq.ROUTER)
    if transport == "tcp":
        server.bind(f"tcp://{OWN_HOST}:*")
        endpoint = address_of(server)
    else:
        endpoint = listen(server, tmp_path / "control")
    with asking(endpoint, "DRAIN", "a", wait_s=1000) as came:
        assert server.recv_multipart()[2:] == [b"DRAIN", b"a", b"1000"]
        server.close()
    why = "" if transport == "tcp" else " any more: the process that made the file has ended"
    expected = f"{endpoint}: nobody listens there{why}; the connection ended before 'DRAIN' was answered"
    assert came == [(NobodyListensError, expected)]


def test_request_to_an_engine_whose_place_another_takes_is_not_answered(connect: Connect, tmp_path: Path) -> None:
    server, successor = connect(zmq.ROUTER), connect(zmq.ROUTER)
    endpoint = listen(server, tmp_path / "control")
    with asking(endpoint, "DRAIN", "a", wait_s=1000) as came:
        assert server.recv_multipart()[2:] == [b"DRAIN", b"a", b"1000"]
        listen(successor, tmp_path / "control")
        server.close()
    expected = f"{endpoint}: the connection ended before 'DRAIN' was answered; somebody listens there again"
    assert came == [(NoAnswerError, expected)]


def test_reply_of_an_engine_that_ends_with_it_is_returned(connect: Connect, tmp_path: Path) -> None:
    server = connect(zmq.ROUTER, linger=DEADLINE_MS)
    endpoint = listen(server, tmp_path / "control")
    with asking(endpoint, "TERMINATE", timeout_s=1000) as came:
        server.send_multipart([*server.recv_multipart()[:2], b"OK"])
        server.close()
    assert came == [[b"OK"]]


def test_request_that_was_not_sent_when_its_connection_ended_goes_to_who_listens_next(
    connect: Connect, tmp_path: Path
) -> None:
    path = tmp_path / "control"
    server = connect(zmq.REP)
    with net.socket(net.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(DEADLINE_MS / 1000)
        with asking(f"ipc://{path}", "LIST", timeout_s=1000) as came:
            for _ in range(2):
                listener.accept()[0].close()
            connection = listener.accept()[0]
            listen(server, path)
            connection.close()
            assert server.recv_multipart() == [b"LIST"]
            server.send(b"OK")
    assert came == [[b"OK"]]


def raised_by(call: Callable[[], Any]) -> list[BaseException]:
    try:
        call()
    except ControlError as error:
        return [error]
    return []


def test_request_whose_context_ends_says_so(connect: Connect) -> None:
    server = connect(zmq.ROUTER)
    server.bind(ANY_PORT)
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
    taken.bind(ANY_PORT)
    address = taken.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(address, bytes)
    with pytest.raises(EndpointError, match=rf"^control: @{address.decode()}: cannot bind: Address already in use"):
        request(f"@{address.decode()}", "LIST")


def test_listener_that_ends_each_connection_is_said_to_listen() -> None:
    """As a forwarded port does behind which nobody is."""
    with net.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        ended = threading.Event()

        def accept() -> None:
            while not ended.is_set():
                with suppress(TimeoutError):
                    listener.accept()[0].close()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            with pytest.raises(NoAnswerError, match="somebody listens there, but does not answer"):
                request(f"tcp://127.0.0.1:{listener.getsockname()[1]}", "LIST", timeout_s=0.5)
        finally:
            ended.set()
            accepting.join()

"""The load of the brokers that decide, in this process and over inproc, and the peers from the ZeroMQ guide as far as
they can be tested without it."""

import ctypes
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zmq

from bench.load.native import libzmq_path
from bench.load.role import RunningLoad
from bench.peers.guide_c import REPLACED, replaced
from bench.peers.need import GUIDE_C, GUIDE_PYTHON, GUIDE_VARIABLE, GuideNeed
from bench.question import Sample
from bench.questions import busy_memory, guide_brokers, heartbeats, worker_turns
from bench.work import TRAFFIC, Load, ProcessSample, Work
from pollbroker import DEVICES, Engine
from tests.support.deadline import wait_until
from tests.support.types import Connect, Socket

MakeLoad = Callable[[Load], RunningLoad]

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="the load is written in C")


@pytest.fixture
def load(context: zmq.Context[Socket]) -> Iterator[MakeLoad]:
    """Starts a load. At the end of the test its threads end, before the sockets are closed that they use."""
    names: set[str] = set()

    def start(one: Load) -> RunningLoad:
        names.add(one.role)
        return RunningLoad(context, one)

    yield start
    libzmq = ctypes.CDLL(libzmq_path())  # pyzmq has no call for this, with which every call on a socket ends
    libzmq.zmq_ctx_shutdown(ctypes.c_void_p(context.underlying))
    for thread in threading.enumerate():
        if thread.name in names:
            thread.join(5.0)
            assert not thread.is_alive(), thread.name


@pytest.fixture
def through_broker(context: zmq.Context[Socket], load: MakeLoad) -> Iterator[Callable[..., dict[str, RunningLoad]]]:
    """Starts a broker and the load at both of its sides."""
    engines: list[Engine] = []

    def start(work: Work, directory: Path, **settings: Any) -> dict[str, RunningLoad]:
        device = DEVICES[TRAFFIC[work.traffic].device]
        if settings:
            device = device.with_settings(**settings)
        endpoints = {port: f"inproc://{port}" for port in device.ports}
        engines.append(Engine(context))
        engines[-1].add("broker", device, **endpoints)  # type: ignore[arg-type]  # by the names of the ports
        engines[-1].start()
        sides = {}
        for side in ("backend", "frontend"):
            one = work.load(side, (endpoints.get(side, endpoints["frontend"]),), directory)
            sides[side] = load(replace(one, heartbeat_s=settings.get("heartbeat_s", one.heartbeat_s)))
        return sides

    yield start
    for engine in engines:
        engine.close()


def failure(one: RunningLoad) -> int:
    return one.sample(one.count()).failure


@pytest.mark.parametrize("traffic", ["balanced", "majordomo"])
def test_every_request_of_the_load_is_answered_once_and_whole(
    traffic: str, through_broker: Callable[..., dict[str, RunningLoad]], tmp_path: Path
) -> None:
    sides = through_broker(Work(traffic, "inproc", peers=2, workers=3, window=4, limit=100), tmp_path)
    wait_until(lambda: sides["frontend"].count() == 100)
    assert sides["frontend"].sample(100).malformed == 0
    wait_until(lambda: sides["backend"].count() == 100)
    assert [failure(one) for one in sides.values()] == [0, 0]


@pytest.mark.parametrize("traffic", ["balanced turns", "majordomo turns"])
def test_workers_are_timed_from_their_reply_to_their_next_request(
    traffic: str, through_broker: Callable[..., dict[str, RunningLoad]], tmp_path: Path
) -> None:
    worker = through_broker(Work(traffic, "inproc", peers=2, workers=3, window=4), tmp_path)["backend"]
    wait_until(lambda: worker.count() >= 10)
    times_us = worker.sample(worker.count()).round_trips_us
    assert 0 < times_us["p50_us"] <= times_us["p99_us"] <= times_us["worst_us"]
    assert failure(worker) == 0


@pytest.mark.parametrize(
    ("traffic", "ready", "beat"),
    [
        ("majordomo heartbeats", [b"", b"MDPW01", b"\x01", b"echo"], [b"", b"MDPW01", b"\x04"]),
        ("pirate heartbeats", [b"\x01"], [b"\x02"]),
    ],
)
def test_idle_workers_send_heartbeats(
    traffic: str, ready: list[bytes], beat: list[bytes], load: MakeLoad, connect: Connect, tmp_path: Path
) -> None:
    broker = connect(zmq.ROUTER)
    broker.bind("inproc://broker")
    work = Work(traffic, "inproc", workers=2)
    load(replace(work.load("backend", ("inproc://broker",), tmp_path), heartbeat_s=0.01))
    messages = [broker.recv_multipart() for _ in range(10)]
    for worker in {message[0] for message in messages}:
        first, *others = [message[1:] for message in messages if message[0] == worker]
        assert first == ready
        assert others
        assert all(other == beat for other in others)


@pytest.mark.parametrize("traffic", ["majordomo heartbeats", "pirate heartbeats"])
def test_heartbeats_of_the_broker_are_counted(
    traffic: str, through_broker: Callable[..., dict[str, RunningLoad]], tmp_path: Path
) -> None:
    work = Work(traffic, "inproc", workers=2, window=0)
    worker = through_broker(work, tmp_path, heartbeat_s=0.05, liveness=100)["backend"]
    wait_until(lambda: worker.count() >= 6)
    assert failure(worker) == 0


def test_worker_that_is_disconnected_ends_the_load(load: MakeLoad, connect: Connect, tmp_path: Path) -> None:
    broker = connect(zmq.ROUTER)
    broker.bind("inproc://broker")
    worker = load(Work("majordomo", "inproc").load("backend", ("inproc://broker",), tmp_path))
    routing_id, *ready = broker.recv_multipart()
    assert ready == [b"", b"MDPW01", b"\x01", b"echo"]
    broker.send_multipart([routing_id, b"", b"MDPW01", b"\x05"])
    wait_until(lambda: failure(worker) != 0)


def test_reply_of_another_service_is_malformed(load: MakeLoad, connect: Connect, tmp_path: Path) -> None:
    broker = connect(zmq.ROUTER)
    broker.bind("inproc://broker")
    client = load(Work("majordomo", "inproc", size=1, window=2).load("frontend", ("inproc://broker",), tmp_path))
    for service in (b"echo", b"other"):
        routing_id, *request = broker.recv_multipart()
        assert request == [b"", b"MDPC01", b"echo", b"\0"]
        broker.send_multipart([routing_id, b"", b"MDPC01", service, b"x"])
    wait_until(lambda: client.sample(client.count()).malformed == 1)
    assert client.count() == 1


def test_memory_is_compared_with_that_after_a_tenth_of_the_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    awaited: list[int] = []

    class FakeRig:
        def __init__(self, peer: object, work: Work) -> None: ...

        def __enter__(self) -> "FakeRig":
            return self

        def __exit__(self, *error: object) -> None: ...

        def start(self) -> None: ...

        def wait_for_messages(self, side: str, count: int, within_s: float) -> None:
            awaited.append(count)

        def sample_broker(self) -> ProcessSample:
            return ProcessSample(0.0, 0.0, {100: 10 << 10, 1000: 12 << 10}[awaited[-1]], 1)

    monkeypatch.setattr(busy_memory, "Rig", FakeRig)
    (cell, _) = busy_memory.cells(True)
    case = replace(cell.cases[0], work=replace(cell.cases[0].work, limit=1000))
    expected: Sample = {"resident_mib": 12.0, "grown_mib": 2.0}
    assert busy_memory.measure(case, cell.plan) == expected


@pytest.mark.parametrize("question", [guide_brokers, worker_turns, heartbeats])
def test_guides_brokers_are_left_out_where_there_is_no_guide(question: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for need in (GUIDE_PYTHON, GUIDE_C):
        monkeypatch.setitem(need.__dict__, "met", False)
    for cell in question.cells(False):
        assert {case.peer.name for case in cell.cases} <= {"pollbroker", "pollbroker, wire", "no broker"}


def test_guide_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_met(header: str = "") -> bool:
        return GuideNeed("C/broker.c", "", header=header).met

    monkeypatch.delenv(GUIDE_VARIABLE, raising=False)
    assert not is_met()
    monkeypatch.setenv(GUIDE_VARIABLE, str(tmp_path))
    assert not is_met()
    (tmp_path / "examples" / "C").mkdir(parents=True)
    (tmp_path / "examples" / "C" / "broker.c").touch()
    assert is_met()
    assert is_met("stdio.h")
    assert not is_met("no_such_header.h")


def test_guides_program_is_compiled_only_if_the_lines_that_are_replaced_are_there_once() -> None:
    program, lines = "lbbroker2.c", REPLACED["lbbroker2.c"]
    source = "".join(["first\n", *lines, "last\n"])
    assert replaced(program, source) == "".join(["first\n", *lines.values(), "last\n"])
    for wrong in ("first\n", source + source):
        with pytest.raises(ValueError, match=r"lbbroker2\.c: '#define NBR_CLIENTS 10\\n' is there [02] times"):
            replaced(program, wrong)
    assert replaced("mdbroker.c", "as it is\n") == "as it is\n"

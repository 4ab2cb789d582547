"""Ctrl-C during a request: it ends the request at whatever moment it is pressed, and nothing is left open."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import zmq

import pollbroker
from pollbroker import Engine
from pollbroker.control import attach, read_stream, request
from pollbroker.control.deferred_signals import DeferredSignals
from pollbroker.engine import engine_loop
from pollbroker.events import EventKind
from tests.support.deadline import DEADLINE_S

INTERRUPTED_CODE = tuple(str(Path(module.__file__ or "").parent) for module in (pollbroker, zmq))


@pytest.fixture(autouse=True)
def _ctrl_c_raises() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def with_ctrl_c_at_line(number: int, call: Callable[[], object]) -> bool:
    """Call something, and press Ctrl-C when it begins this line of pollbroker's or pyzmq's code.

    Returns True if it had as many lines.
    """
    left = number

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.startswith(INTERRUPTED_CODE) or frame.f_code.co_name == "__del__":
            return None  # Python drops what a finalizer raises
        if event == "line":
            left -= 1
            if left == 0:
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return left <= 0


def read_a_stream(endpoint: str) -> None:
    with closing(read_stream(endpoint, "EVENTS", timeout_s=DEADLINE_S)) as stream:  # type: ignore[type-var]
        next(stream)


@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("ignore:Unclosed context")  # interrupted where it begins or ends, it is closed by Python
@pytest.mark.parametrize(("call", "step"), [(lambda endpoint: request(endpoint, "LIST"), 1), (read_a_stream, 11)])
def test_ctrl_c_at_any_line_ends_a_request(tmp_path: Path, call: Callable[[str], object], step: int) -> None:
    interrupted = 0
    with Engine() as engine:
        (endpoint,) = attach(engine, f"ipc://{tmp_path}/control").endpoints

        def happen() -> None:
            engine_loop(engine).events.emit(EventKind.BROKER_PAUSED)
            engine.call_later(0.005, happen)

        engine.call_soon_threadsafe(happen)
        while True:
            try:
                ended_before = not with_ctrl_c_at_line(1 + interrupted * step, lambda: call(endpoint))
            except KeyboardInterrupt:
                interrupted += 1
            else:
                assert ended_before, "Ctrl-C had no effect"
                break
    assert interrupted > 40
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("one", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_handlers_run_while_it_waits_and_at_the_end(one: signal.Signals) -> None:
    ran: list[int] = []
    before = signal.signal(one, lambda number, _: ran.append(number))
    try:
        with DeferredSignals() as signals:
            signal.raise_signal(one)
            assert ran == []
            with signals.waiting():
                assert ran == [one]
                signal.raise_signal(one)
                assert ran == [one] * 2
            signal.raise_signal(one)
            assert ran == [one] * 2
        assert ran == [one] * 3
    finally:
        signal.signal(one, before)


def test_ignored_signals_stay_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with DeferredSignals():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_other_threads_leave_signals_alone() -> None:
    found: list[object] = []

    def enter() -> None:
        with DeferredSignals() as signals, signals.waiting():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]

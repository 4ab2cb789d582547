"""`pollbroker top` in a terminal of its own, which pyte draws; and with --once, without one."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyte
import pytest
import zmq

from pollbroker import STREAMER, Engine
from pollbroker.control import attach
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.commands import invoke
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.transports import holds_without_a_consumer
from tests.support.types import Connect


class Shown:
    """`pollbroker top` in a terminal."""

    def __init__(self, *arguments: str, columns: int = 80, lines: int = 24) -> None:
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self.written = b""
        """All that the program has written."""
        self._end, inner = pty.openpty()
        self._set_size(inner, columns, lines)
        self.modes = termios.tcgetattr(inner)
        self._inner = inner
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pollbroker", "top", *arguments],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
            | {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"},
        )

    @staticmethod
    def _set_size(descriptor: int, columns: int, lines: int) -> None:
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def resize(self, columns: int, lines: int) -> None:
        """Give the terminal another size. Its program is told, as by a real one."""
        self._set_size(self._end, columns, lines)
        self.screen.resize(lines, columns)
        self.process.send_signal(signal.SIGWINCH)

    def press(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def wait_for(self, condition: Callable[[list[str]], object]) -> list[str]:
        """Draw until the lines on the screen are as they should be, up to the deadline."""
        give_up_s = time.monotonic() + 3 * DEADLINE_S  # a command is started, too
        while not condition(self.lines):
            remaining_s = give_up_s - time.monotonic()
            assert remaining_s > 0, "the screen did not become as it should be:\n" + "\n".join(self.lines)
            self._draw(min(remaining_s, 0.1))
        return self.lines

    def _draw(self, wait_s: float) -> bool:
        """Draw what was written. Return False if nothing was within this time."""
        if not select.select([self._end], [], [], wait_s)[0]:
            return False
        written = os.read(self._end, 1 << 16)
        self.written += written
        self._stream.feed(written)
        return True

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]

    def end(self) -> int:
        """Its exit code, once it has ended; what it still writes is drawn."""
        give_up_s = time.monotonic() + 3 * DEADLINE_S
        while self.process.poll() is None:
            assert time.monotonic() < give_up_s, "it has not ended before the deadline"
            self._draw(0.05)
        while self._draw(0.0):
            pass
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_S)
        os.close(self._end)
        os.close(self._inner)


ENTERS_SCREEN, LEAVES_SCREEN = b"\x1b[?1049h", b"\x1b[?1049l"
"""What makes a terminal show another screen, and the first one again (xterm's control sequences)."""


@pytest.fixture
def show() -> Iterator[Callable[..., Shown]]:
    """Starts `pollbroker top` in terminals, which are closed at the end of the test."""
    made: list[Shown] = []

    def start(*arguments: str, columns: int = 80, lines: int = 24) -> Shown:
        made.append(Shown(*arguments, columns=columns, lines=lines))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture
def engine() -> Iterator[Engine]:
    """One engine: which pump and waiter it has makes no difference here."""
    with Engine() as made:
        yield made


@pytest.fixture
def control(engine: Engine, tmp_path: Path) -> str:
    """An engine with the brokers `orders` and `prices`, and where its control socket is."""
    for name in ("orders", "prices"):
        engine.add(name, STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    return attach(engine, f"ipc://{tmp_path}/control").endpoints[0]


def line_of(lines: list[str], broker: str) -> str:
    return next((line for line in lines if line.startswith(broker)), "")


def test_brokers_are_shown_and_q_leaves_the_terminal_as_it_was(
    engine: Engine, connect: Connect, control: str, show: Callable[..., Shown]
) -> None:
    broker = engine.brokers["orders"]
    producer, consumer = connect(zmq.PUSH, endpoint(broker.frontend)), connect(zmq.PULL, endpoint(broker.backend))
    shown = show(control, "--interval", "0.05")
    shown.wait_for(lambda lines: line_of(lines, "orders") and line_of(lines, "prices"))
    assert shown.lines[0].startswith("2 brokers  ")
    assert shown.lines[-1].startswith("q ends")

    def moves(lines: list[str]) -> bool:
        producer.send(b"through")
        consumer.recv()
        return "<1ms" in line_of(lines, "orders") and "█" in line_of(lines, "orders")

    shown.wait_for(moves)
    assert "waiting" in line_of(shown.lines, "prices")
    shown.press("q")
    assert shown.end() == 0
    assert termios.tcgetattr(shown._inner) == shown.modes
    assert shown.written.rindex(LEAVES_SCREEN) > shown.written.rindex(ENTERS_SCREEN)


def test_selected_broker_is_paused_and_resumed_by_key(engine: Engine, control: str, show: Callable[..., Shown]) -> None:
    shown = show(control, "--interval", "0.05")
    shown.wait_for(lambda lines: line_of(lines, "prices"))
    shown.press("\x1b[B" + "p")
    shown.wait_for(lambda lines: "paused" in line_of(lines, "prices"))
    assert (engine.brokers["orders"].state, engine.brokers["prices"].state) == ("running", "paused")
    assert "PAUSE prices: done" in shown.lines[1]
    shown.press("p")
    shown.wait_for(lambda lines: "waiting" in line_of(lines, "prices"))
    assert engine.brokers["prices"].state == "running"


def test_filter_sort_and_another_size(control: str, show: Callable[..., Shown]) -> None:
    shown = show(control, "--interval", "0.05")
    shown.wait_for(lambda lines: line_of(lines, "orders"))
    shown.press("n")
    shown.wait_for(lambda lines: lines[3].startswith("prices") and lines[4].startswith("orders"))
    shown.press("/ord\r")
    shown.wait_for(lambda lines: not line_of(lines, "prices") and "filter: ord" in lines[1])
    shown.press("\x1b")
    shown.wait_for(lambda lines: line_of(lines, "prices"))
    shown.resize(132, 40)
    shown.wait_for(lambda lines: lines[39].startswith("q ends") and " in/s" in lines[2])
    shown.resize(60, 10)
    shown.wait_for(lambda lines: lines[9].startswith("q ends") and " in/s" not in lines[2])


def test_engine_that_ends_is_told_and_its_return_is_seen(
    engine: Engine, control: str, show: Callable[..., Shown]
) -> None:
    shown = show(control, "--interval", "0.05", "--timeout", "2")
    shown.wait_for(lambda lines: line_of(lines, "orders"))
    engine.close(timeout_s=0)
    shown.wait_for(lambda lines: "nobody listens there" in lines[1])
    with Engine() as other:
        other.add("again", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
        attach(other, control)
        shown.wait_for(lambda lines: line_of(lines, "again"))
        assert not line_of(shown.lines, "orders")
        shown.press("\x03")
        assert shown.end() == 0


def test_address_at_which_no_engine_can_be_is_an_error(show: Callable[..., Shown]) -> None:
    shown = show("tcp://127.0.0.1:70000")
    assert shown.end() == 2
    assert "control: >tcp://127.0.0.1:70000: port must be" in shown.lines[0]
    assert termios.tcgetattr(shown._inner) == shown.modes


def test_sigterm_leaves_the_terminal_as_it_was(control: str, show: Callable[..., Shown]) -> None:
    shown = show(control)
    shown.wait_for(lambda lines: line_of(lines, "orders"))
    shown.process.terminate()
    assert shown.end() == 143
    assert termios.tcgetattr(shown._inner) == shown.modes


@holds_without_a_consumer
def test_once_prints_one_table(engine: Engine, connect: Connect, control: str) -> None:
    broker = engine.brokers["orders"]
    connect(zmq.PUSH, endpoint(broker.frontend)).send(b"waits for a consumer")
    wait_until(lambda: engine.broker_statistics("orders").flows["frontend"].held == 1)
    result = invoke("top", control, "--once", "--interval", "0.01", "--sort", "held")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == [
        "broker",
        "from",
        "state",
        "in/s",
        "out/s",
        "B/s",
        "stall",
        "held",
        "drops",
        "peers",
        "p50",
        "p99",
    ]
    assert [line.split()[0] for line in lines[1:]] == ["orders", "prices"]
    assert lines[1].split()[2] == "stalled"
    only = invoke("top", control, "--once", "--interval", "0.01", "--filter", "PRI")
    assert [line.split()[0] for line in only.stdout.splitlines()[1:]] == ["prices"]


def test_what_is_wrong_is_said(control: str, tmp_path: Path) -> None:
    gone = invoke("top", f"ipc://{tmp_path}/gone", "--once")
    assert (gone.exit_code, "there is no such file" in gone.stderr) == (4, True)
    assert "there is no terminal; expected one, or --once" in invoke("top", control).stderr
    assert "'weight' is not an order" in invoke("top", control, "--sort", "weight").stderr

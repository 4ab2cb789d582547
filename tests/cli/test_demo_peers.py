"""The demo's screen, its roles, and the processes of its peers."""

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import zmq
from rich.console import Console
from zmq.utils.monitor import recv_monitor_message

from pollbroker.cli.demo import processes
from pollbroker.cli.demo.checks import Check
from pollbroker.cli.demo.comparison import Row
from pollbroker.cli.demo.processes import DemoError, PeerProcess, PeerProcesses
from pollbroker.cli.demo.screen import Rate, Screen, compute_rates
from pollbroker.cli.demo.stdin import StdinCommands
from pollbroker.cli.demo.streaming import Publisher, Subscriber
from pollbroker.cli.demo.workload import make_body
from pollbroker.statistics import BrokerStatistics, EngineStatistics, FlowStatistics
from tests.support.addresses import bind
from tests.support.deadline import DEADLINE_MS, DEADLINE_S, wait_until
from tests.support.types import Connect, Socket

# -- the screen --------------------------------------------------------------------------------------------------------


def test_rates_are_what_was_sent_between_two_looks() -> None:
    def look(sent: int) -> EngineStatistics:
        flow = FlowStatistics(source="frontend", sinks=("backend",), sent=sent, sent_bytes=64 * sent, state="waiting")
        return EngineStatistics(
            "native", "nested", 1, {"b": BrokerStatistics("b", "x", "running", None, {"frontend": flow})}
        )

    (rate,) = compute_rates(look(100), look(300), 0.5)
    assert rate == Rate("b", "to backend", messages_s=400.0, bytes_s=25600.0, messages=300, state="waiting")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_screen_shows_rates_in_place_on_a_terminal_and_in_lines_elsewhere(is_terminal: bool) -> None:
    shown = io.StringIO()
    screen = Screen(Console(file=shown, force_terminal=is_terminal, width=100))
    rate = Rate("queue", "to backend", messages_s=1234.0, bytes_s=2e6, messages=99, state="waiting")
    with screen.live_rates() as show:
        show(1.0, [rate])
        show(2.0, [replace(rate, messages_s=5678.0)])
    text = shown.getvalue()
    assert "1,234" in text
    assert "5,678" in text
    assert ("\x1b[" in text) is is_terminal
    if not is_terminal:
        assert len(text.splitlines()) == 2


def test_the_screen_shows_a_check_of_no_message_as_no_success() -> None:
    shown = io.StringIO()
    Screen(Console(file=shown, width=100)).show_checks([Check("a: it works", 1), Check("b: it works", 0)])
    assert shown.getvalue().splitlines() == [
        "ok      a: it works",
        "FAILED  b: it works: nothing to check, no message was sent",
    ]


def test_the_screen_shows_the_figures_of_both_sides() -> None:
    shown = io.StringIO()
    Screen(Console(file=shown, width=100)).show_comparison([Row("replies lost", "2 lost", "3 lost")])
    assert re.search(r"measured here .* pollbroker .* zmq.proxy ", shown.getvalue())
    assert re.search(r"replies lost .* 2 lost .* 3 lost ", shown.getvalue())


# -- the roles ---------------------------------------------------------------------------------------------------------


def test_a_publisher_is_ready_when_all_of_its_topics_are_subscribed_to(
    connect: Connect, context: zmq.Context[Socket]
) -> None:
    broker = connect(zmq.XSUB)
    publisher = Publisher(context, StdinCommands(), "publisher", 0, ["a", "b"])
    publisher.socket.connect(bind(broker))

    def sees(missing: set[bytes]) -> bool:
        broker.poll(0)  # so that it notices the connection
        return publisher.is_ready() is (not missing) and publisher.missing == missing

    broker.send(b"\1a")
    wait_until(lambda: sees({b"\1b"}))
    broker.send(b"\1b")
    wait_until(lambda: sees(set()))


def test_a_subscriber_is_ready_when_it_has_heard_every_stream_and_counts_no_probe(
    connect: Connect, context: zmq.Context[Socket]
) -> None:
    broker = connect(zmq.XPUB)
    subscriber = Subscriber(context, StdinCommands(), "subscriber", 0, ["a0", "a1"])
    subscriber.socket.connect(bind(broker))
    assert broker.recv() == b"\1a"
    broker.send(make_body("a0", 0))
    broker.send(make_body("a0", 1))
    wait_until(lambda: subscriber.is_ready() or subscriber.tallies)
    assert not subscriber.is_ready()
    broker.send(make_body("a1", 0))
    wait_until(subscriber.is_ready)
    assert {stream: tally.count for stream, tally in subscriber.tallies.items()} == {"a0": 1}


# -- the peers' processes ---------------------------------------------------------------------------------------------


@pytest.fixture
def member() -> Iterator[PeerProcess]:
    """A peer that is ready, and connected to nobody."""
    one = PeerProcess("puller", 0, "tcp://127.0.0.1:9")
    one.read_reply(time.monotonic() + DEADLINE_S)
    yield one
    one.begin_end()
    one.end(time.monotonic())


def test_a_peer_that_ends_too_soon_is_named_with_its_last_words() -> None:
    one = PeerProcess("gardener", 0, "tcp://127.0.0.1:9")
    with pytest.raises(DemoError, match=r"^demo: gardener 0 ended before it was told to: KeyError: 'gardener'$"):
        one.read_reply(time.monotonic() + DEADLINE_S)
    with pytest.raises(DemoError, match="ended before it was told to"):
        one.tell("report")
    one.begin_end()
    one.end(time.monotonic() + DEADLINE_S)


def test_a_peer_that_says_nothing_in_time_is_named(member: PeerProcess) -> None:
    with pytest.raises(DemoError, match="demo: puller 0 did not reply in time"):
        member.read_reply(time.monotonic())


def test_waiting_for_peers_is_told_of_if_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_STILL_S", 0.0)
    said: list[str] = []
    with PeerProcesses() as few:
        few.start("puller", 0, "tcp://127.0.0.1:9")
        os.kill(few.members[0].pid, signal.SIGSTOP)
        resume = threading.Timer(0.3, os.kill, (few.members[0].pid, signal.SIGCONT))
        resume.start()
        few.wait_until_ready(said.append)
        resume.join()
    assert said[0] == "  0 of 1 peers are connected; this machine is slow or busy"


def test_a_peer_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_END_S", 0.05)
    with PeerProcesses() as few:
        few.start("puller", 0, "tcp://127.0.0.1:9")
        few.wait_until_ready()
        os.kill(few.members[0].pid, signal.SIGSTOP)
    with pytest.raises(ProcessLookupError):
        os.kill(few.members[0].pid, 0)


def test_a_peer_does_not_outlive_its_starter(connect: Connect) -> None:
    socket = connect(zmq.PUSH)
    address = bind(socket)
    monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
    monitor.linger = 0
    monitor.rcvtimeo = DEADLINE_MS
    program = f"""if True:
        import os, sys, time
        from pollbroker.cli.demo.processes import PeerProcess
        member = PeerProcess("puller", 0, {address!r})
        member.read_reply(time.monotonic() + {DEADLINE_S})
        sys.stdin.read()
        os._exit(0)
    """
    starter = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
    try:
        assert recv_monitor_message(monitor)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
        starter.communicate(timeout=DEADLINE_S)
        assert recv_monitor_message(monitor)["event"] == zmq.EVENT_DISCONNECTED
    finally:
        starter.kill()
        starter.communicate()
        socket.disable_monitor()
        monitor.close()

"""The command line: what it prints, how it ends, and how it says what was wrong."""

import json
import os
import re
import resource
import select
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import click
import pytest
import zmq
from click.testing import CliRunner, Result

from pollbroker import DEVICES, STREAMER, Broker, Engine, __version__
from pollbroker.broker import working_broker
from pollbroker.cli import devices, doctor, main
from pollbroker.cli.arguments import gathered, socket_option
from pollbroker.cli.ctl import describe_statistics
from pollbroker.cli.serving import describe_flow, describe_loss, serve
from pollbroker.cli.signals import EndingSignals
from pollbroker.endpoint import parse_endpoints
from pollbroker.errors import ControlError, EndpointError
from pollbroker.statistics import BrokerStatistics, FlowStatistics
from tests.support.deadline import DEADLINE_MS, DEADLINE_S, wait_until
from tests.support.types import Connect, Socket

ANY_PORT = "tcp://127.0.0.1:*"


ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def dispositions(ignored: Collection[signal.Signals]) -> Iterator[None]:
    """What is started here ignores these of the ending signals and no other, whoever runs the tests (`nohup`, `&`)."""
    before = {one: signal.getsignal(one) for one in ENDING_SIGNALS}
    try:
        for one in ENDING_SIGNALS:
            signal.signal(one, signal.SIG_IGN if one in ignored else signal.SIG_DFL)
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


class Command:
    """`pollbroker ...` in a process of its own, with its lines read as they come."""

    def __init__(self, *arguments: str | bytes, ignored: Collection[signal.Signals] = ()) -> None:
        with dispositions(ignored):
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pollbroker", *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
            )
        self.lines: list[str] = []
        self._unread = b""

    def read_until(self, word: str) -> list[str]:
        """The lines up to the one that begins with a word."""
        assert self.process.stdout is not None
        give_up_s = time.monotonic() + DEADLINE_S
        while not any(line.startswith(word) for line in self.lines):
            remaining_s = give_up_s - time.monotonic()
            assert remaining_s > 0, f"no line {word!r} came before the deadline, but {self.lines}"
            if select.select([self.process.stdout], [], [], remaining_s)[0]:
                chunk = self.process.stdout.read(1 << 16)
                assert chunk, f"it ended without a line {word!r}: {self.end()}"
                *lines, self._unread = (self._unread + chunk).split(b"\n")
                self.lines += [line.decode() for line in lines]
        return self.lines

    def addresses(self) -> dict[str, str]:
        """The address of each port, once it is ready."""
        facts = [line.split("  ")[0].split(" ") for line in self.read_until("ready")]
        return {fact[0]: fact[1] for fact in facts if len(fact) == 2}

    def end(self) -> tuple[int, list[str], str]:
        """Its exit code, its remaining lines and its stderr, once it has ended."""
        stdout, stderr = self.process.communicate(timeout=DEADLINE_S)
        stdout = stdout or b""  # it was closed here
        self.lines += (self._unread + stdout).decode().splitlines()
        return self.process.returncode, self.lines, stderr.decode()

    def kill(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.communicate(timeout=DEADLINE_S)


Run: TypeAlias = Callable[..., Command]


@pytest.fixture
def run() -> Iterator[Run]:
    """Starts commands; those that still run at the end of the test are killed."""
    commands: list[Command] = []

    def start(*arguments: str | bytes, ignored: Collection[signal.Signals] = ()) -> Command:
        commands.append(Command(*arguments, ignored=ignored))
        return commands[-1]

    yield start
    for command in commands:
        command.kill()


def invoke(*arguments: str) -> Result:
    """A command that ends by itself, in this process."""
    return CliRunner().invoke(main, arguments)


def bind(socket: Socket) -> str:
    """The address at which a socket is now bound."""
    socket.bind(ANY_PORT)
    address = socket.last_endpoint
    assert isinstance(address, bytes)
    return address.decode()


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("frobnicate", "pollbroker: 'frobnicate' is not a command; expected ctl, demo, doctor, "),
        ("queu", "pollbroker: 'queu' is not a command; did you mean 'queue'?"),
        ("Queue", "pollbroker: 'Queue' is not a command; did you mean 'queue'?"),
        ("queue", "pollbroker queue: Missing argument 'FRONTEND'"),
        (f"queue {ANY_PORT}", "Missing argument 'BACKEND'"),
        (
            f"queue --frob {ANY_PORT} {ANY_PORT}",
            "'--frob' is not an option; expected one that pollbroker queue --help names",
        ),
        (f"queue {ANY_PORT} {ANY_PORT} --hmw 5", "queue: '--hmw' is not an option; did you mean '--hwm'?"),
        ("--verson", "pollbroker: '--verson' is not an option; did you mean '--version'?"),
        ("demo --second 1", "pollbroker demo: '--second' is not an option; did you mean '--seconds'?"),
        (
            f"queue {ANY_PORT} tcp://127.0.0.1:70000",
            "brokers.queue.backend: tcp://127.0.0.1:70000: port must be 0 to 65535",
        ),
        (f"queue {ANY_PORT} tcp://two\nlines", "brokers.queue.backend: tcp://two lines: expected tcp://host:port"),
        (f"queue {ANY_PORT} nonsense", "brokers.queue.backend: nonsense: expected transport://address"),
        (f"queue {ANY_PORT} {ANY_PORT} --name 7\n7", "cannot name a broker"),
        (f"queue {ANY_PORT} {ANY_PORT} --control tcp://127.0.0.1:-1", "control: tcp://127.0.0.1:-1: port must be"),
        (f"queue {ANY_PORT} {ANY_PORT} --capture tcp://*", "brokers.queue.capture: tcp://*: expected tcp://host:port"),
        (f"queue {ANY_PORT} {ANY_PORT} --frontend-option sndhwn=4", "did you mean 'sndhwm'?"),
        (f"queue {ANY_PORT} {ANY_PORT} --frontend-option sndhwm=many", "option sndhwm: 'many': expected an integer"),
        (f"queue {ANY_PORT} {ANY_PORT} --backend-option sndhwm", "'sndhwm': expected NAME=VALUE"),
        (f"queue {ANY_PORT} {ANY_PORT} --backend-option =4", "'=4': expected NAME=VALUE"),
        (f"queue {ANY_PORT} {ANY_PORT} --hwm -1", "-1 is not in the range"),
        (f"queue {ANY_PORT} {ANY_PORT} --rcvhwm 99999999999", "option rcvhwm: 99999999999: expected an integer"),
        (f"queue {ANY_PORT} {ANY_PORT} --slow-peer shout", "'shout' is not one of 'drop', 'wait'"),
        (f"queue {ANY_PORT} {ANY_PORT} --topic a", "'--topic' is not an option"),
        (f"queue {ANY_PORT} {ANY_PORT} --drain nan", "'nan': expected seconds"),
        (f"streamer {ANY_PORT} {ANY_PORT} --slow-peer drop", "'--slow-peer' is not an option"),
        (f"reflector {ANY_PORT} {ANY_PORT}", "unexpected extra argument"),
        ("ctl nonsense LIST", "expected transport://address"),
        (f"ctl {ANY_PORT} LIST", "port must be 1 to 65535"),
        (
            "ctl tcp://127.0.0.1:9 EXPLODE",
            "'EXPLODE' is not a command; expected PAUSE, RESUME, TERMINATE, STATISTICS, ",
        ),
        ("ctl tcp://127.0.0.1:9 statistic", "'statistic' is not a command; did you mean 'STATISTICS'?"),
        ("fuzz --device queu", "'queu' is not a device; did you mean 'queue'?"),
        ("ctl tcp://127.0.0.1:9 LIST --timeout -1", "'-1': expected seconds"),
        ("demo --seconds 0", "'--seconds': '0': expected more than 0 seconds"),
        ("demo --seconds soon", "'soon': expected seconds"),
        ("doctor now", "unexpected extra argument"),
    ],
)
def test_misuse_is_one_line_on_stderr_and_exit_code_2(arguments: str, expected: str) -> None:
    result = invoke(*arguments.split(" "))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("pollbroker")
    assert result.stderr.count("\n") == 1
    assert expected in result.stderr


def test_an_address_in_use_is_one_line_and_exit_code_2(connect: Connect) -> None:
    address = bind(connect(zmq.PULL))
    result = invoke("queue", address, ANY_PORT)
    assert result.exit_code == 2
    assert result.stderr == f"pollbroker: brokers.queue.frontend: @{address}: cannot bind: Address already in use\n"


def test_bytes_that_are_no_text_are_one_line_and_exit_code_2(run: Run) -> None:
    code, lines, stderr = run("queue", b"inproc://\xff", ANY_PORT).end()
    assert (code, lines) == (2, [])
    assert stderr.startswith("pollbroker: ")
    assert stderr.count("\n") == 1


def test_a_refused_pump_is_one_line_and_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLLBROKER_PUMP", "bellows")
    result = invoke("queue", ANY_PORT, ANY_PORT)
    assert result.exit_code == 2
    assert result.stderr == "pollbroker: POLLBROKER_PUMP: 'bellows': expected 'native' or 'python'\n"


def test_ctl_of_nobody_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    result = invoke("ctl", f"ipc://{tmp_path}/nobody", "LIST", "--timeout", "1000")
    assert result.exit_code == 2
    assert result.stderr == (
        f"pollbroker: ipc://{tmp_path}/nobody: nobody listens there: there is no such file; "
        "expected the control socket of an engine\n"
    )


@pytest.mark.parametrize("arguments", [[], ["--help"], ["queue", "--help"], ["ctl", "--help"], ["demo", "--help"]])
def test_help_is_no_error(arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("Usage: pollbroker")


def test_version_names_the_installed_version(run: Run) -> None:
    code, lines, stderr = run("--version").end()
    assert (code, lines, stderr) == (0, [f"pollbroker, version {__version__}"], "")


# -- running a broker -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDING_SIGNALS)
def test_a_queue_carries_requests_until_a_signal_ends_it_in_order(
    run: Run, connect: Connect, ending: signal.Signals
) -> None:
    command = run("queue", ANY_PORT, ANY_PORT)
    addresses = command.addresses()
    client = connect(zmq.REQ, addresses["frontend"])
    worker = connect(zmq.REP, addresses["backend"])
    client.send(b"question")
    worker.send(worker.recv() + b"!")
    assert client.recv() == b"question!"
    command.process.send_signal(ending)
    code, lines, stderr = command.end()
    assert (code, stderr) == (0, "")
    assert lines[-3] == f"ending  {ending.name}"
    # A message has the routing id (5 bytes) and the empty frame of a REQ before its body.
    assert lines[-2].startswith("frontend -> backend  1 received, 1 sent, 13 bytes")
    assert lines[-1] == "backend -> frontend  1 received, 1 sent, 14 bytes"


@pytest.mark.parametrize("name", DEVICES)
def test_each_device_says_its_addresses_and_who_connects(run: Run, name: str) -> None:
    device = DEVICES[name]
    ports = ["frontend", "backend"] if device.backend else ["frontend"]
    command = run(name, *[ANY_PORT for _ in ports])
    lines = command.read_until("ready")
    assert lines[0].startswith(f"broker {name}  {name}, ")
    for port, line in zip(ports, lines[1:-1], strict=True):
        peers = devices.PEERS[device.types_of("frontend" if port == "frontend" else "backend")[0]]
        said, address, text = line.split(" ", 2)
        assert said == port
        assert address.startswith("tcp://127.0.0.1:")
        assert not address.endswith("*")
        assert text == f" {peers} connect here"
    command.process.terminate()
    assert command.end()[0] == 0


def test_an_endpoint_may_be_connected_and_several_given(run: Run, connect: Connect, tmp_path: Path) -> None:
    puller = connect(zmq.PULL)
    address = bind(puller)
    command = run("streamer", f"ipc://{tmp_path}/in,@tcp://0.0.0.0:*", f">{address}", "--name", "relay")
    lines = command.read_until("ready")
    assert lines[0].startswith("broker relay  streamer, ")
    assert lines[1] == f"frontend ipc://{tmp_path}/in  PUSH pushers connect here"
    everywhere = lines[2].split(" ")[1]
    port = everywhere.removeprefix("tcp://0.0.0.0:")
    assert lines[2].startswith(
        f"frontend {everywhere}  PUSH pushers connect here: tcp://127.0.0.1:{port} from this machine, tcp://"
    )
    assert lines[3] == f"backend {address}  connects to PULL pullers that are bound there"
    connect(zmq.PUSH, f"tcp://127.0.0.1:{port}").send(b"through")
    assert puller.recv() == b"through"


def test_a_capture_socket_gets_a_copy(run: Run, connect: Connect) -> None:
    command = run("streamer", ANY_PORT, ANY_PORT, "--capture", ANY_PORT)
    addresses = command.addresses()
    pusher = connect(zmq.PUSH, addresses["frontend"])
    puller = connect(zmq.PULL, addresses["backend"])
    watcher = connect(zmq.SUB, addresses["capture"], subscribe=b"")

    def is_captured() -> bool:
        pusher.send(b"seen")
        assert puller.recv() == b"seen"
        return bool(watcher.poll(10))

    wait_until(is_captured)  # its subscription takes its time
    assert watcher.recv() == b"seen"


def test_a_filter_lets_its_topics_pass_whatever_their_bytes(run: Run, connect: Connect) -> None:
    command = run("filter", ANY_PORT, ANY_PORT, "--topic", "a", "--topic", b"\xff")
    addresses = command.addresses()
    publisher = connect(zmq.PUB, addresses["frontend"])
    subscriber = connect(zmq.SUB, addresses["backend"], subscribe=b"")

    def arrives() -> bool:
        for topic in (b"b-unwanted", b"a-wanted", b"\xff-wanted"):
            publisher.send(topic)
        return bool(subscriber.poll(10))

    wait_until(arrives)
    assert {subscriber.recv(), subscriber.recv()} == {b"a-wanted", b"\xff-wanted"}


def test_options_reach_the_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, object] = {}

    def look(engine: Engine, broker: Broker, signals: EndingSignals, *, drain_s: float) -> int:
        for port in working_broker(broker).ports:
            found[port.name] = (port.socket.sndhwm, port.socket.rcvhwm, port.socket.linger)
        found["policy"] = broker.device.slow_peer
        found["drain"] = drain_s
        return 7

    monkeypatch.setattr(devices, "serve", look)
    options = "--hwm 5 --sndhwm 6 --backend-option RcvHwm=0x7 --frontend-option linger=8 --slow-peer wait --drain 9"
    result = invoke("queue", ANY_PORT, ANY_PORT, *options.split())
    assert result.exit_code == 7
    assert found == {"frontend": (6, 5, 8), "backend": (6, 7, 1000), "policy": "wait", "drain": 9.0}


def test_the_policy_for_slow_peers_is_asked_only_where_it_has_an_effect() -> None:
    options = {name: [p.name for p in devices.device_command(device).params] for name, device in DEVICES.items()}
    assert [name for name, names in options.items() if "slow_peer" in names] == ["queue", "reflector"]
    assert [name for name, names in options.items() if "topic" in names] == ["filter"]


def test_a_socket_option_is_an_integer_where_one_is_expected() -> None:
    pairs = tuple(
        map(socket_option, ["sndhwm=5", "tcp_keepalive=0x1", "plain_username=5", "SNDHWM=6", "routing_id=a=b"])
    )
    assert pairs[2] == ("plain_username", "5")
    assert gathered(pairs) == {"sndhwm": [5, 6], "tcp_keepalive": 1, "plain_username": "5", "routing_id": "a=b"}


# -- the end ----------------------------------------------------------------------------------------------------------


def test_the_end_delivers_what_is_still_there(run: Run, connect: Connect) -> None:
    command = run("streamer", ANY_PORT, ANY_PORT, "--drain", "60", "--control", ANY_PORT)
    addresses = command.addresses()
    pusher = connect(zmq.PUSH, addresses["frontend"])
    for number in range(3):
        pusher.send(b"%d" % number)
    wait_until(lambda: "1 frame," in invoke("ctl", addresses["control"], "STATISTICS").stdout)
    command.process.terminate()
    command.read_until("ending")
    puller = connect(zmq.PULL, addresses["backend"])
    assert [puller.recv() for _ in range(3)] == [b"0", b"1", b"2"]
    code, lines, _ = command.end()
    assert code == 0
    assert lines[-1].startswith("frontend -> backend  3 received, 3 sent, 3 bytes")


def test_the_end_says_what_was_not_delivered(run: Run, connect: Connect) -> None:
    command = run("streamer", ANY_PORT, ANY_PORT, "--drain", "0.1", "--control", ANY_PORT)
    addresses = command.addresses()
    connect(zmq.PUSH, addresses["frontend"]).send(b"for nobody")
    wait_until(
        lambda: "frontend received  1 frame, 10 bytes" in invoke("ctl", addresses["control"], "STATISTICS").stdout
    )
    command.process.terminate()
    code, lines, stderr = command.end()
    assert code == 1
    assert lines[-1].startswith("frontend -> backend  1 received, 0 sent, 0 bytes, 1 held, stalled once, for ")
    assert stderr == (
        "pollbroker: brokers.streamer: 1 message lost: no consumer connected within the 0.1 s that draining may take\n"
    )


def test_the_end_counts_what_no_consumer_was_there_for(run: Run, connect: Connect) -> None:
    command = run("streamer", ANY_PORT, ANY_PORT)
    pusher = connect(zmq.PUSH, command.addresses()["frontend"], linger=DEADLINE_MS)
    for number in range(50):
        pusher.send(b"%d" % number)
    pusher.close()
    pusher.context.term()  # when it has sent all of them
    command.process.send_signal(signal.SIGINT)
    code, lines, stderr = command.end()
    assert code == 1
    assert lines[-1].startswith("frontend -> backend  1 received, 0 sent, 0 bytes, 1 held, 49 unread, stalled once")
    assert stderr == (
        "pollbroker: brokers.streamer: 50 messages lost: "
        "no consumer connected within the 1.0 s that draining may take\n"
    )


def test_a_paused_broker_says_what_is_lost_with_it(run: Run, connect: Connect) -> None:
    command = run("streamer", ANY_PORT, ANY_PORT, "--control", ANY_PORT, "--drain", "0.1")
    addresses = command.addresses()
    connect(zmq.PUSH, addresses["frontend"]).send(b"for later")
    wait_until(lambda: "1 frame," in invoke("ctl", addresses["control"], "STATISTICS").stdout)
    assert invoke("ctl", addresses["control"], "PAUSE").exit_code == 0
    command.process.terminate()
    code, _, stderr = command.end()
    assert code == 1
    assert stderr == (
        "pollbroker: brokers.streamer: 1 message lost: the broker was paused, and so it was not drained\n"
    )


LOST_FLOW = FlowStatistics(source="frontend", sink="backend", held=1, unread=49, state="ended")


@pytest.mark.parametrize(
    ("before", "final", "state", "expected"),
    [
        ("stalled", {}, "removed", "50 messages lost: no consumer connected within the 2.0 s that draining may take"),
        (
            "retrying",
            {"sent": 1},
            "removed",
            "50 messages lost: the consumers did not take them within the 2.0 s that ",
        ),
        ("ready", {"sent": 1}, "removed", "50 messages lost: more came than could be moved within the 2.0 s that "),
        ("waiting", {"held": 0, "unread": 1}, "removed", "1 message lost: more came than could be moved within the 2"),
        (None, {"unread": 0}, "removed", "1 message lost: the broker was removed without draining"),
        (None, {"unread": 0}, "failed", "1 message lost: the broker is failed"),
        ("stalled", {"unread": 10_000}, "removed", "at least 10001 messages lost: no consumer connected within"),
    ],
)
def test_a_loss_is_told_with_its_reason(before: str | None, final: dict[str, int], state: str, expected: str) -> None:
    def broker(state: str, flow: FlowStatistics) -> BrokerStatistics:
        back = FlowStatistics(source="backend", sink="frontend", state="waiting")
        return BrokerStatistics("b", "queue", state, None, {"frontend": flow, "backend": back})

    then = None if before is None else broker("running", replace(LOST_FLOW, unread=0, state=before))
    loss = describe_loss(then, broker(state, replace(LOST_FLOW, **final)), 2.0)  # type: ignore[arg-type]
    assert loss is not None
    assert loss.startswith(f"brokers.b: {expected}")


def test_nothing_lost_is_not_told() -> None:
    flow = replace(LOST_FLOW, held=0, unread=0, unroutable=3)
    statistics = BrokerStatistics("b", "streamer", "removed", None, {"frontend": flow})
    assert describe_loss(statistics, statistics, 2.0) is None


@pytest.mark.parametrize(
    ("first", "second"),
    [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM), (signal.SIGHUP, signal.SIGHUP)],
)
def test_a_second_signal_ends_it_at_once(
    run: Run, connect: Connect, first: signal.Signals, second: signal.Signals
) -> None:
    command = run("streamer", ANY_PORT, ANY_PORT, "--drain", "1000", "--control", ANY_PORT)
    addresses = command.addresses()
    connect(zmq.PUSH, addresses["frontend"]).send(b"for nobody")
    wait_until(lambda: "1 frame," in invoke("ctl", addresses["control"], "STATISTICS").stdout)
    command.process.send_signal(first)
    command.read_until("ending")

    def has_ended() -> bool:
        command.process.send_signal(second)  # the first of these may come too soon to count as another
        return command.process.poll() is not None

    wait_until(has_ended)
    assert command.process.returncode == -second


@pytest.mark.parametrize("ignored", [signal.SIGHUP, signal.SIGINT])
def test_an_ignored_signal_stays_ignored_and_sigterm_ends_it(run: Run, ignored: signal.Signals) -> None:
    command = run("queue", ANY_PORT, ANY_PORT, ignored=ENDING_SIGNALS)  # even SIGTERM
    command.read_until("ready")
    command.process.send_signal(ignored)
    command.process.terminate()
    code, lines, stderr = command.end()
    assert (code, stderr) == (0, "")
    assert "ending  SIGTERM" in lines


def test_a_signal_that_comes_twice_at_once_is_one_signal() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Engine() as engine, EndingSignals(engine) as signals:
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
    assert signals.first is signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_ends_the_sleep_of_the_loop_whichever_thread_it_comes_in() -> None:
    engine = Engine()
    late: list[str] = []

    def rescue() -> None:
        late.append("nothing but this timer woke the loop")
        engine.stop()

    def send_signal_here() -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    engine.call_later(DEADLINE_S, rescue)
    elsewhere = threading.Timer(0.05, send_signal_here)  # by then this thread sleeps in the loop
    try:
        with EndingSignals(engine) as signals:
            elsewhere.start()
            engine.run()
    finally:
        elsewhere.join()
        engine.close()
    assert (signals.first, late) == (signal.SIGTERM, [])


def test_a_signal_for_a_closed_engine_is_no_error() -> None:
    engine = Engine()
    with dispositions(()), EndingSignals(engine) as signals:
        engine.close()
        signal.raise_signal(signal.SIGINT)
    assert signals.first is signal.SIGINT


def test_a_broker_that_fails_ends_the_command_with_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    engine = Engine()
    try:
        broker = engine.add("doomed", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
        assert broker.backend is not None
        working_broker(broker).backend.socket.close()
        engine.call_later(DEADLINE_S, engine.stop)
        with EndingSignals(engine) as signals:
            assert serve(engine, broker, signals, drain_s=0.1) == 1
    finally:
        engine.close()
    said = capsys.readouterr()
    assert said.err == "pollbroker: brokers.doomed: failed: backend: the socket was closed under the engine\n"
    assert said.out.splitlines()[0] == "ending  the broker is failed"


def test_sums_name_what_was_dropped_and_captured() -> None:
    there = FlowStatistics(
        received=9, added=1, sent=5, sent_bytes=50, held=1, unroutable=3, filtered=1, captured=4, capture_dropped=2,
        source="frontend", sink="backend",
    )  # fmt: skip
    back = FlowStatistics(source="backend", sink="frontend")
    statistics = BrokerStatistics("b", "queue", "removed", None, {"frontend": there, "backend": back})
    assert [describe_flow(flow) for flow in statistics.flows.values()] == [
        "frontend -> backend  9 received, 5 sent, 50 bytes, 1 added, 1 held, "
        "4 dropped (3 unroutable, 1 filtered), 4 captured, 2 copies dropped",
        "backend -> frontend  0 received, 0 sent, 0 bytes",
    ]


# -- ctl --------------------------------------------------------------------------------------------------------------


def test_ctl_steers_a_running_broker(run: Run, connect: Connect) -> None:
    command = run("streamer", ANY_PORT, ANY_PORT, "--name", "work", "--control", ANY_PORT)
    addresses = command.addresses()
    pusher = connect(zmq.PUSH, addresses["frontend"])
    puller = connect(zmq.PULL, addresses["backend"])

    def ctl(*arguments: str) -> str:
        result = invoke("ctl", addresses["control"], *arguments)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout

    pusher.send_multipart([b"ab", b"c"])
    assert puller.recv_multipart() == [b"ab", b"c"]
    assert ctl("list") == "work\n"
    assert ctl("STATISTICS", "work").splitlines() == [
        "frontend received  2 frames, 3 bytes",
        "frontend sent      0 frames, 0 bytes",
        "backend received   0 frames, 0 bytes",
        "backend sent       2 frames, 3 bytes",
    ]
    assert json.loads(ctl("stats"))["brokers"]["work"]["flows"]["frontend"]["sent"] == 1
    assert ctl("pause", "work") == "done\n"
    assert json.loads(ctl("Stats", "work"))["state"] == "paused"
    assert ctl("resume") == "done\n"
    refused = invoke("ctl", addresses["control"], "PAUSE", "play")
    assert refused.exit_code == 2
    assert refused.stderr == "pollbroker: PAUSE: no broker is named 'play'; there are: work\n"
    assert ctl("terminate") == "done\n"
    code, lines, stderr = command.end()
    assert (code, stderr) == (0, "")
    assert lines[-2] == "ending  TERMINATE"
    assert lines[-1].startswith("frontend -> backend  1 received, 1 sent, 3 bytes")


def test_terminating_the_only_broker_ends_the_command(run: Run) -> None:
    command = run("queue", ANY_PORT, ANY_PORT, "--control", ANY_PORT)
    assert invoke("ctl", command.addresses()["control"], "TERMINATE", "queue").exit_code == 0
    code, lines, stderr = command.end()
    assert (code, stderr) == (0, "")
    assert lines[-3] == "ending  the broker is removed"


def test_a_paused_broker_ends_without_waiting(run: Run) -> None:
    command = run("queue", ANY_PORT, ANY_PORT, "--control", ANY_PORT, "--drain", "1000")
    assert invoke("ctl", command.addresses()["control"], "PAUSE").exit_code == 0
    command.process.terminate()
    assert command.end()[0] == 0


@pytest.mark.parametrize("frames", [[], [b""], [b"12345678"] * 7, [b"12345678"] * 7 + [b"1234567"]])
def test_a_strange_reply_to_statistics_is_refused(frames: list[bytes]) -> None:
    with pytest.raises(ControlError, match="expected 8 frames of 8 bytes"):
        describe_statistics(frames)


def test_statistics_are_eight_numbers_of_64_bits() -> None:
    frames = [struct.pack("=Q", number) for number in (1, 2**64 - 1, 0, 0, 0, 0, 0, 0)]
    assert describe_statistics(frames)[0] == "frontend received  1 frame, 18446744073709551615 bytes"


# -- output that nobody reads -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", ["doctor", "--help", "queue --help", "--version", f"queue {ANY_PORT} {ANY_PORT}"])
def test_output_that_is_cut_off_ends_the_command_in_silence(run: Run, arguments: str) -> None:
    command = run(*arguments.split())
    assert command.process.stdout is not None
    command.process.stdout.close()
    code, _, stderr = command.end()
    assert (code, stderr) == (141, "")


def test_ctl_whose_output_is_cut_off_has_been_carried_out(run: Run) -> None:
    broker = run("queue", ANY_PORT, ANY_PORT, "--control", ANY_PORT)
    command = run("ctl", broker.addresses()["control"], "TERMINATE")
    assert command.process.stdout is not None
    command.process.stdout.close()
    code, _, stderr = command.end()
    assert (code, stderr) == (141, "")
    assert broker.end()[0] == 0


def test_a_broker_whose_output_is_closed_goes_on_and_ends_in_order(run: Run, connect: Connect) -> None:
    command = run("streamer", ANY_PORT, ANY_PORT, "--drain", "60")
    addresses = command.addresses()
    pusher = connect(zmq.PUSH, addresses["frontend"], linger=DEADLINE_MS)
    pusher.send(b"through")
    pusher.close()
    pusher.context.term()
    assert command.process.stdout is not None
    command.process.stdout.close()
    command.process.send_signal(signal.SIGHUP)
    with zmq.Context() as context, context.socket(zmq.PULL) as puller:
        puller.connect(addresses["backend"])
        assert puller.poll(DEADLINE_MS)
        assert puller.recv() == b"through"
    code, _, stderr = command.end()
    assert (code, stderr) == (0, "")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_full_disk_is_one_line_or_none_and_exit_code_2(stream: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pollbroker", *(["doctor"] if stream == "stdout" else ["frobnicate"])],
            stdout=full if stream == "stdout" else subprocess.PIPE,
            stderr=full if stream == "stderr" else subprocess.PIPE,
            timeout=DEADLINE_S,
        )
    assert done.returncode == 2
    assert done.stderr == (b"pollbroker: [Errno 28] No space left on device\n" if stream == "stdout" else None)


# -- a control socket that strangers reach ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "warned"),
    [
        ("tcp://0.0.0.0:5561", True),
        ("tcp://[::]:5561", True),
        ("tcp://192.0.2.7:5561", True),
        ("tcp://eth0;host.example:5561", True),
        ("tcp://127.0.0.1:5561", False),
        ("tcp://127.9.9.9:5561", False),
        ("tcp://[::1]:5561", False),
        ("tcp://[::ffff:127.0.0.1]:5561", False),
        ("tcp://localhost:5561", False),
        ("tcp://*:*;localhost:5561", False),
        ("ipc:///tmp/control", False),
        ("ipc://@tcp://0.0.0.0:1", False),
        ("inproc://control", False),
    ],
)
def test_a_control_socket_off_loopback_is_warned_of(address: str, warned: bool) -> None:
    lines = list(devices.warn_of_strangers([address]))
    assert lines == warned * [
        f"pollbroker: warning: control: whoever reaches {address} can stop the broker; "
        "use ipc://path or tcp://127.0.0.1:port instead"
    ]


def test_the_warning_of_a_control_socket_is_one_line_on_stderr(run: Run, tmp_path: Path) -> None:
    command = run("queue", ANY_PORT, ANY_PORT, "--control", f"tcp://0.0.0.0:*,{ANY_PORT},ipc://{tmp_path}/control")
    address = command.addresses()
    command.process.terminate()
    code, lines, stderr = command.end()
    everywhere = next(line.split(" ")[1] for line in lines if line.startswith("control tcp://0.0.0.0:"))
    assert code == 0, address
    assert stderr == "".join(f"{line}\n" for line in devices.warn_of_strangers([everywhere]))


def test_socket_files_of_a_command_go_with_it(run: Run, tmp_path: Path) -> None:
    command = run("queue", "ipc://*", f"ipc://{tmp_path}/backend", "--control", "ipc://*", "--capture", "ipc://*")
    paths = [Path(address.removeprefix("ipc://")) for address in command.addresses().values() if "ipc://" in address]
    assert len(paths) == 4
    assert all(path.is_absolute() and path.is_socket() for path in paths)
    command.process.terminate()
    assert command.end()[0] == 0
    assert not any(path.exists() for path in paths)


# -- doctor -----------------------------------------------------------------------------------------------------------


def test_doctor_tells_versions_and_tests_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POLLBROKER_PUMP", raising=False)
    monkeypatch.delenv("POLLBROKER_WAITER", raising=False)
    result = invoke("doctor")
    assert (result.exit_code, result.stderr) == (0, "")
    facts = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert facts["pollbroker"] == __version__
    assert facts["libzmq"] == zmq.zmq_version()
    assert facts["pyzmq"] == zmq.__version__
    assert facts["pump"].startswith("native")
    assert facts["waiter"].startswith("nested")
    assert str(resource.getrlimit(resource.RLIMIT_NOFILE)[0]) in facts["descriptors"]
    assert facts["transports"] == ", ".join(["tcp", *["ipc"] * zmq.has("ipc"), "inproc"])
    assert facts["mechanisms"].startswith("null, plain")
    assert ("curve" in facts["mechanisms"]) is zmq.has("curve") is ("curve" not in facts["missing"])
    assert facts["self-test"].startswith("one message")


@pytest.mark.parametrize(
    ("version", "refused"),
    [((4, 3, 2), True), ((4, 3, 3), False), ((4, 10, 0), False), ((3, 9, 9), True), ((5, 0, 0), False)],
)
def test_a_libzmq_before_4_3_3_is_refused(version: tuple[int, ...], refused: bool) -> None:
    assert (doctor.refuse_libzmq(version) is not None) is refused


def test_doctor_says_so_and_exits_with_1_if_libzmq_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "OLDEST_LIBZMQ", (99, 0, 0))
    result = invoke("doctor")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"pollbroker: libzmq {zmq.zmq_version()} is too old: expected 99.0.0 or newer")
    assert result.stderr.count("\n") == 1


def test_doctor_explains_the_pump() -> None:
    not_built = ModuleNotFoundError("No module named 'pollbroker.pump.native'", name="pollbroker.pump.native")
    broken = ImportError("undefined symbol:\n zmq_msg_recv")
    assert doctor.explain_pump("native", None, None) == "native, the faster of the two"
    assert doctor.explain_pump("python", "python", None) == "python, as POLLBROKER_PUMP says"
    assert "no working C compiler at install" in doctor.explain_pump("python", None, not_built)
    assert "free-threaded Python" in doctor.explain_pump("python", None, not_built, free_threaded=True)
    assert doctor.explain_pump("python", None, broken).endswith("cannot be loaded: undefined symbol: zmq_msg_recv")


def test_doctor_names_the_transports_that_endpoints_take_and_no_other() -> None:
    result = invoke("doctor")
    facts = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    for transport in facts["transports"].split(", "):
        parse_endpoints("here", f"{transport}://127.0.0.1:5559")
    for transport in ("tipc", "pgm", "epgm", "norm", "vmci", "ws", "wss", "udp"):
        with pytest.raises(EndpointError, match=f"transport {transport!r} is not known"):
            parse_endpoints("here", f"{transport}://127.0.0.1:5559")


def test_doctor_says_what_this_libzmq_was_built_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zmq, "has", lambda ability: ability != "ipc" and ability != "gssapi")
    facts = dict(line.split(maxsplit=1) for line in invoke("doctor").stdout.splitlines())
    assert facts["transports"] == "tcp, inproc"
    assert facts["mechanisms"] == "null, plain, curve"
    assert facts["missing"] == "ipc, gssapi"


def test_doctor_says_why_the_native_pump_cannot_be_loaded() -> None:
    script = """
        import ctypes
        from pollbroker.cli import main

        class Hidden(ctypes.CDLL):
            def __getattr__(self, name):
                if name.startswith("zmq_"):
                    raise AttributeError(name)
                return super().__getattr__(name)

        ctypes.CDLL = Hidden
        main(["doctor"])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env={name: value for name, value in os.environ.items() if name != "POLLBROKER_PUMP"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    (pump,) = (line for line in done.stdout.splitlines() if line.startswith("pump "))
    assert pump.startswith("pump        python: the native one cannot be loaded: ")
    assert re.search(r"has no symbol zmq_\w+: this build of pyzmq hides its libzmq$", pump)


def test_doctor_explains_the_waiter() -> None:
    assert doctor.explain_waiter("nested", None, "epoll").startswith("nested, on epoll")
    assert doctor.explain_waiter("flat", "flat", "epoll") == "flat, as POLLBROKER_WAITER says"
    assert doctor.explain_waiter("flat", None, "select").endswith("select, cannot be polled itself")


@pytest.mark.parametrize(
    ("descriptors", "used", "sockets", "brokers"),
    [(1024, 24, 65535, 250), (10, 20, 65535, 0), (resource.RLIM_INFINITY, 24, 1000, 500), (1 << 30, 0, 65535, 32767)],
)
def test_doctor_counts_the_brokers_that_fit(descriptors: int, used: int, sockets: int, brokers: int) -> None:
    assert doctor.count_brokers(descriptors, used, sockets) == brokers


def test_a_broker_takes_as_many_descriptors_as_the_doctor_says() -> None:
    with Engine() as engine:
        engine.add("first", "queue", frontend=ANY_PORT, backend=ANY_PORT)
        before = len(list(Path("/dev/fd").iterdir()))
        for number in range(5):
            engine.add(f"queue-{number}", "queue", frontend=ANY_PORT, backend=ANY_PORT)
        after = len(list(Path("/dev/fd").iterdir()))
    assert doctor.count_brokers(after, before, 65535) == 5


def test_the_main_group_still_returns_and_raises_when_it_is_not_to_exit() -> None:
    with pytest.raises(click.UsageError):
        main(["frobnicate"], standalone_mode=False)
    result: Any = main(["--version"], standalone_mode=False)
    assert result == 0

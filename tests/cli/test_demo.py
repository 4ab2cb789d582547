"""The demo: it works, it notices when something is wrong, and it leaves nothing behind."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import zmq
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from zmq.utils.monitor import recv_monitor_message

from pollbroker import DEVICES, Device, Engine, Route
from pollbroker.cli import main
from pollbroker.cli.demo import command, crew
from pollbroker.cli.demo.checks import Check, check_all, count_unwanted, sum_up
from pollbroker.cli.demo.crew import Crew, DemoError, Member
from pollbroker.cli.demo.orders import Orders
from pollbroker.cli.demo.roles import Publisher, Subscriber
from pollbroker.cli.demo.screen import Rate, Screen, compute_rates
from pollbroker.cli.demo.workload import (
    Report,
    Tallies,
    Tally,
    add_to_tallies,
    is_probe,
    make_body,
    merge_tallies,
    report_from_json,
)
from pollbroker.pump import Handler
from pollbroker.statistics import BrokerStatistics, EngineStatistics, FlowStatistics
from tests.cli.test_cli import dispositions
from tests.support.deadline import DEADLINE_MS, DEADLINE_S, wait_until
from tests.support.types import Connect, Socket

WANTED = {0: ("a0", "a1"), 1: ("a0", "a1", "b0", "b1")}

# -- the account of messages ------------------------------------------------------------------------------------------


def tally_of(stream: str, numbers: Sequence[int]) -> Tally:
    """What counting these messages, in this order, comes to."""
    tally = Tally()
    for number in numbers:
        tally.add([make_body(stream, number)])
    return tally


numbers = st.lists(st.integers(1, 1000), min_size=1, max_size=30, unique=True).map(sorted)


# However the messages are spread over sinks and bursts, their tallies together equal the source's.
@given(numbers, st.data())
def test_tallies_of_the_same_messages_agree(sent: list[int], data: st.DataObject) -> None:
    sinks: list[Tallies] = [{}, {}]
    left = sent
    while left:
        size = data.draw(st.integers(1, len(left)))
        add_to_tallies(sinks[data.draw(st.integers(0, 1))], [make_body("s0", number) for number in left[:size]])
        left = left[size:]
    merged = merge_tallies(sinks)["s0"]
    assert merged.same_messages(tally_of("s0", sent))
    assert merged.disordered == 0


# A message lost, doubled, taken for another or changed in one byte makes a different tally.
@given(numbers, st.data())
def test_tallies_of_other_messages_differ(sent: list[int], data: st.DataObject) -> None:
    bodies = [make_body("s0", number) for number in sent]
    at = data.draw(st.integers(0, len(bodies) - 1))
    changed = bytearray(bodies[at])
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    other = make_body("s0", data.draw(st.integers(1001, 2000)))
    for instead in ([], [bodies[at]] * 2, [bytes(changed)], [other]):
        tally = Tally()
        tally.add(bodies[:at] + instead + bodies[at + 1 :])
        assert not tally.same_messages(tally_of("s0", sent))


# Messages out of order are the same messages, and are seen to be out of order; so is one that comes twice.
@given(numbers, st.data())
def test_disorder_shows(sent: list[int], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(sent))
    tally = tally_of("s0", shuffled)
    assert tally.same_messages(tally_of("s0", sent))
    assert (tally.disordered == 0) is (shuffled == sent)
    assert tally_of("s0", [*sent, sent[-1]]).disordered == 1


def test_only_the_number_0_is_a_probe() -> None:
    assert is_probe(make_body("a0", 0))
    assert not any(is_probe(make_body("a0", number)) for number in (1, 256, 1 << 56))


def test_a_report_survives_json() -> None:
    report = Report("client", 1, {"r1": tally_of("r1", [1, 3, 2])}, replies=3, wrong=1)
    again = report_from_json(report.as_json())
    assert again.tallies["r1"].same_messages(report.tallies["r1"])
    assert again.tallies["r1"].disordered == 1
    assert replace(again, tallies={}) == replace(report, tallies={})


# -- the checks -------------------------------------------------------------------------------------------------------


def sound_reports() -> dict[tuple[str, int], Report]:
    """What all peers report when all goes well: three messages in each stream."""

    def report(role: str, number: int, *streams: str, messages: Sequence[int] = (1, 2, 3), **more: int) -> Report:
        return Report(role, number, {stream: tally_of(stream, messages) for stream in streams}, **more)

    several = [
        *(report("client", i, f"r{i}", replies=3) for i in (0, 1)),
        *(report("publisher", i, f"a{i}", f"b{i}", f"c{i}", probes=4) for i in (0, 1)),
        *(report("pusher", i, f"s{i}") for i in (0, 1)),
        report("worker", 0, "r0", "r1", messages=(1, 3)),
        report("worker", 1, "r0", "r1", messages=(2,)),
        *(report("subscriber", i, *WANTED[i]) for i in (0, 1)),
        report("puller", 0, "s0", "s1", messages=(2, 3)),
        report("puller", 1, "s0", "s1", messages=(1,)),
    ]
    return {(one.role, one.number): one for one in several}


def sound_brokers() -> dict[str, BrokerStatistics]:
    """What the engine has counted then."""

    def broker(name: str, **counts: int) -> BrokerStatistics:
        flows = {
            port: FlowStatistics(source=port, sink="", received=count, sent=count) for port, count in counts.items()
        }
        return BrokerStatistics(name, name, "running", None, flows)

    brokers = (
        broker("queue", frontend=6, backend=6),
        broker("forwarder", frontend=4 * 3 + 2 * 4, backend=2),
        broker("streamer", frontend=6),
    )
    return {one.name: one for one in brokers}


def test_a_check_of_no_message_does_not_hold() -> None:
    reports = [replace(report, tallies={}, replies=0) for report in sound_reports().values()]
    flows = {"frontend": FlowStatistics(source="frontend"), "backend": FlowStatistics(source="backend")}
    brokers = {name: replace(broker, flows=flows) for name, broker in sound_brokers().items()}
    probed = {
        "frontend": replace(flows["frontend"], received=8, sent=8),
        "backend": replace(flows["backend"], received=2, sent=2),
    }
    brokers["forwarder"] = replace(brokers["forwarder"], flows=probed)
    checks = check_all(reports, brokers, WANTED)
    assert [(check.holds, check.messages, check.wrong) for check in checks] == [(False, 0, ())] * 5


def failed(reports: Mapping[tuple[str, int], Report], brokers: Mapping[str, BrokerStatistics]) -> list[Check]:
    """The checks that do not hold."""
    return [check for check in check_all(list(reports.values()), brokers, WANTED) if not check.holds]


def test_checks_hold_when_all_goes_well() -> None:
    assert failed(sound_reports(), sound_brokers()) == []
    assert len(check_all(list(sound_reports().values()), sound_brokers(), WANTED)) == 5


@pytest.mark.parametrize(
    ("role", "stream", "arrived", "claim", "wrong"),
    [
        ("worker", "r0", [1], "queue: every request was worked on once", "stream r0: 3 sent, 2 arrived"),
        ("worker", "r1", [1, 3, 3], "queue: every request was worked on once", "worker 0: stream r1: 1 not in order"),
        ("worker", "r1", [3, 1], "queue: every request was worked on once", "worker 0: stream r1: 1 not in order"),
        ("puller", "s1", [3], "streamer: everything pushed was pulled", "stream s1: 3 sent, 2 arrived"),
        ("puller", "s0", [2, 4], "streamer: everything pushed was pulled", "3 sent, 3 arrived, but not the same ones"),
        ("puller", "s0", [1, 2, 3], "streamer: everything pushed was pulled", "stream s0: 3 sent, 4 arrived"),
        ("puller", "s2", [1], "streamer: everything pushed was pulled", "stream s2: 0 sent, 1 arrived"),
        ("subscriber", "a1", [1, 3], "forwarder: every subscriber got", "subscriber 0: stream a1: 3 sent, 2 arrived"),
        ("subscriber", "a0", [2, 1, 3], "forwarder: every subscriber got", "subscriber 0: stream a0: 1 not in order"),
        ("subscriber", "b0", [1], "forwarder: every subscriber got", "subscriber 0: stream b0: 0 sent, 1 arrived"),
        ("subscriber", "c0", [1], "forwarder: every subscriber got", "subscriber 0: stream c0: 0 sent, 1 arrived"),
    ],
)
def test_a_sink_that_got_something_else_is_noticed(
    role: str, stream: str, arrived: list[int], claim: str, wrong: str
) -> None:
    reports = sound_reports()
    tallies = {**reports[role, 0].tallies, stream: tally_of(stream, arrived)}
    reports[role, 0] = replace(reports[role, 0], tallies=tallies)
    (check,) = failed(reports, sound_brokers())
    assert check.claim.startswith(claim)
    assert any(wrong in text for text in check.wrong)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"replies": 2}, "client 1: 2 replies to 3 requests"),
        ({"wrong": 1}, "client 1: 1 replies were not its own"),
    ],
)
def test_a_request_without_its_own_reply_is_noticed(change: dict[str, Any], wrong: str) -> None:
    reports = sound_reports()
    reports["client", 1] = replace(reports["client", 1], **change)
    (check,) = failed(reports, sound_brokers())
    assert (check.claim, check.wrong) == ("queue: every request was answered, by its own reply", (wrong,))


@pytest.mark.parametrize("broker", ["queue", "forwarder", "streamer"])
@pytest.mark.parametrize("change", [{"received": 1}, {"sent": 1}, {"held": 1}, {"unroutable": 1}])
def test_an_engine_that_counted_something_else_is_noticed(broker: str, change: dict[str, Any]) -> None:
    for port in sound_brokers()[broker].flows:
        brokers = sound_brokers()
        flows = dict(brokers[broker].flows)
        flows[port] = replace(flows[port], **change)
        brokers[broker] = replace(brokers[broker], flows=flows)
        (check,) = failed(sound_reports(), brokers)
        assert check.claim.startswith("engine: ")
        assert check.wrong[0].startswith(f"{broker}.{port}: ")


def test_sums_count_a_message_for_two_subscribers_twice() -> None:
    reports = list(sound_reports().values())
    queue, forwarder, streamer = sum_up(reports, sound_brokers(), WANTED)
    assert (queue.sent, queue.expected, queue.arrived) == (6, 6, 6)
    assert (forwarder.sent, forwarder.expected, forwarder.arrived) == (12, 18, 18)
    assert (streamer.sent, streamer.received, streamer.sent_on, streamer.arrived) == (6, 6, 6, 6)
    assert count_unwanted(reports, WANTED) == 6


# -- the screen -------------------------------------------------------------------------------------------------------


def test_rates_are_what_was_sent_between_two_looks() -> None:
    def look(sent: int) -> EngineStatistics:
        flow = FlowStatistics(source="frontend", sink="backend", sent=sent, sent_bytes=64 * sent, state="waiting")
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


# -- the roles --------------------------------------------------------------------------------------------------------


def bind(socket: Socket) -> str:
    """The address at which a socket is now bound."""
    socket.bind("tcp://127.0.0.1:*")
    address = socket.last_endpoint
    assert isinstance(address, bytes)
    return address.decode()


def test_a_publisher_is_ready_when_all_of_its_topics_are_subscribed_to(
    connect: Connect, context: zmq.Context[Socket]
) -> None:
    broker = connect(zmq.XSUB)
    publisher = Publisher(context, Orders(), "publisher", 0, ["a", "b"])
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
    subscriber = Subscriber(context, Orders(), "subscriber", 0, ["a0", "a1"])
    subscriber.socket.connect(bind(broker))
    assert broker.recv() == b"\1a"
    broker.send(make_body("a0", 0))
    broker.send(make_body("a0", 1))
    wait_until(lambda: subscriber.is_ready() or subscriber.tallies)
    assert not subscriber.is_ready()
    broker.send(make_body("a1", 0))
    wait_until(subscriber.is_ready)
    assert {stream: tally.count for stream, tally in subscriber.tallies.items()} == {"a0": 1}


# -- the crew ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def member() -> Iterator[Member]:
    """A peer that is ready, and connected to nobody."""
    one = Member("puller", 0, "tcp://127.0.0.1:9")
    one.hear(time.monotonic() + DEADLINE_S)
    yield one
    one.begin_end()
    one.end(time.monotonic())


def test_a_peer_that_ends_too_soon_is_named_with_its_last_words() -> None:
    one = Member("gardener", 0, "tcp://127.0.0.1:9")
    with pytest.raises(DemoError, match=r"^demo: gardener 0 ended before it was told to: KeyError: 'gardener'$"):
        one.hear(time.monotonic() + DEADLINE_S)
    with pytest.raises(DemoError, match="ended before it was told to"):
        one.tell("report")
    one.begin_end()
    one.end(time.monotonic() + DEADLINE_S)


def test_a_peer_that_says_nothing_in_time_is_named(member: Member) -> None:
    with pytest.raises(DemoError, match="demo: puller 0 said nothing in time"):
        member.hear(time.monotonic())


def test_a_peer_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "_END_S", 0.05)
    with Crew() as few:
        few.hire("puller", 0, "tcp://127.0.0.1:9")
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
        from pollbroker.cli.demo.crew import Member
        member = Member("puller", 0, {address!r})
        member.hear(time.monotonic() + {DEADLINE_S})
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


# -- the whole --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pump", ["native", "python"])
def test_the_demo_moves_everything_and_exits_with_0(pump: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pollbroker", "demo", "--seconds", "1"],
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | {"POLLBROKER_PUMP": pump},
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert f"({pump} pump), 12 peers" in lines[0]
    assert len([line for line in lines if line.startswith("ok  ")]) == 5
    assert not [line for line in lines if "FAILED" in line]
    rates = [line for line in lines if " msg/s " in line]
    for name in ("queue     to backend", "queue     to frontend", "forwarder to backend", "streamer  to backend"):
        assert any(name in line for line in rates)


def lose_some(frames: list[bytes], counted: list[None]) -> list[bytes] | None:
    """Every hundredth message is lost."""
    counted.append(None)
    return None if len(counted) % 100 == 0 else frames


def delay_some(frames: list[bytes], counted: list[None], kept: list[list[bytes]]) -> Iterator[list[bytes]]:
    """Every hundredth message comes ten messages late."""
    counted.append(None)
    if len(counted) % 100 == 0:
        kept.append(frames)
        return
    yield frames
    if kept and len(counted) % 100 == 10:
        yield kept.pop()


def spoil(device: Device, handler: Handler) -> Device:
    """The device with a handler on the way from its frontend."""
    routes = [
        Route(route.source, route.sink, handler if route.source == "frontend" else None) for route in device.routes
    ]
    return replace(device, routes=tuple(routes))


@pytest.mark.parametrize(
    ("name", "handler", "verdict"),
    [
        ("streamer", partial(lose_some, counted=[]), "FAILED  streamer: everything pushed was pulled"),
        ("forwarder", partial(delay_some, counted=[], kept=[]), "FAILED  forwarder: every subscriber got"),
    ],
    ids=["loses", "delays"],
)
def test_the_demo_exits_with_1_if_a_broker_spoils_its_messages(
    name: str, handler: Handler, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, name.upper(), spoil(DEVICES[name], handler))
    monkeypatch.setattr(command, "_STAGNATION_S", 1.0)
    result = CliRunner().invoke(main, ["demo", "--seconds", "0.5"])
    assert (result.exit_code, result.stderr) == (1, "")
    assert verdict in result.stdout


def has_ended(group: int) -> bool:
    """Whether no process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def test_ctrl_c_ends_the_demo_and_its_peers_without_a_traceback() -> None:
    with dispositions(()):
        process = subprocess.Popen(
            [sys.executable, "-m", "pollbroker", "demo", "--seconds", "1000"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
    try:
        assert process.stdout is not None
        assert "peers in other processes" in process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        _, stderr = process.communicate(timeout=DEADLINE_S)
        assert (process.returncode, stderr.strip()) == (130, "")

        wait_until(lambda: has_ended(process.pid))
    finally:
        process.kill()
        process.communicate()


def test_a_demo_in_which_nothing_was_sent_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    tell = Crew.tell
    monkeypatch.setattr(Crew, "tell", lambda few, word, roles: None if word == "go" else tell(few, word, roles))
    result = CliRunner().invoke(main, ["demo", "--seconds", "0.01"])
    assert (result.exit_code, result.stderr) == (1, "")
    verdicts = [line.split(":") for line in result.stdout.splitlines() if line.startswith(("ok ", "FAILED "))]
    # Each client has had one reply before the start.
    assert [(verdict[0].split(), verdict[2:]) for verdict in verdicts] == [
        (["ok", "queue"], []),
        (["ok", "queue"], []),
        (["FAILED", "forwarder"], [" nothing to check, no message was sent"]),
        (["FAILED", "streamer"], [" nothing to check, no message was sent"]),
        (["ok", "engine"], []),
    ]


def test_a_demo_whose_output_is_cut_off_ends_in_silence_and_so_do_its_peers() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "pollbroker", "demo", "--seconds", "1000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    )
    try:
        assert process.stdout is not None
        assert b"peers in other processes" in process.stdout.readline()
        process.stdout.close()  # as `head -1` does
        process.stdout = None
        _, stderr = process.communicate(timeout=crew.READY_S)
        assert (process.returncode, stderr) == (141, b"")
        wait_until(lambda: has_ended(process.pid))
    finally:
        process.kill()
        process.communicate()


def test_a_broker_of_the_demo_that_cannot_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_brokers(engine: Engine) -> None:
        raise DemoError("demo: no brokers today")

    monkeypatch.setattr(command, "open_brokers", no_brokers)
    result = CliRunner().invoke(main, ["demo"])
    assert (result.exit_code, result.stderr) == (1, "pollbroker: demo: no brokers today\n")

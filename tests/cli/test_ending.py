"""How a command ends: what is delivered, what is told of losses, and by which signals."""

import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import zmq

from pollbroker import STREAMER, Engine
from pollbroker.broker import working_broker
from pollbroker.cli.describing import describe_flow
from pollbroker.cli.serving import serve
from pollbroker.cli.signals import EndingSignals
from pollbroker.daemon import Daemon, single
from pollbroker.ending import describe_loss, end_brokers
from pollbroker.statistics import BrokerStatistics, FlowStatistics
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT
from tests.support.commands import ENDING_SIGNALS, Run, dispositions, invoke
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.transports import holds_without_a_consumer
from tests.support.types import Connect

# -- what is lost is told ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP])
@holds_without_a_consumer
def test_a_command_delivers_at_its_end_what_it_still_holds(run: Run, connect: Connect, ending: signal.Signals) -> None:
    command = run("streamer", ANY_PORT, ANY_PORT, "--drain", "60", "--control", ANY_PORT)
    addresses = command.addresses()
    pusher = connect(zmq.PUSH, addresses["frontend"])
    for number in range(3):
        pusher.send(b"%d" % number)
    wait_until(lambda: "1 frame," in invoke("ctl", addresses["control"], "STATISTICS").stdout)
    command.process.send_signal(ending)
    command.read_until("ending")
    puller = connect(zmq.PULL, addresses["backend"])
    assert [puller.recv() for _ in range(3)] == [b"0", b"1", b"2"]
    code, lines, _ = command.end()
    assert code == 0
    assert lines[-2].startswith("frontend -> backend  3 received, 3 sent, 3 bytes")


@holds_without_a_consumer
def test_a_command_says_at_its_end_what_was_not_delivered(run: Run, connect: Connect) -> None:
    command = run("streamer", ANY_PORT, ANY_PORT, "--drain", "0.1", "--control", ANY_PORT)
    addresses = command.addresses()
    connect(zmq.PUSH, addresses["frontend"]).send(b"for nobody")
    wait_until(
        lambda: "frontend received  1 frame, 10 bytes" in invoke("ctl", addresses["control"], "STATISTICS").stdout
    )
    command.process.terminate()
    code, lines, stderr = command.end()
    assert code == 1
    assert lines[-2].startswith("frontend -> backend  1 received, 0 sent, 0 bytes, 1 held, stalled once, for ")
    assert lines[-1] == "ended  1 broker, 1 received, 0 sent, 1 left"
    assert stderr == (
        "pollbroker: brokers.streamer: 1 message lost: no consumer connected within the 0.1 s that draining may take\n"
    )


@holds_without_a_consumer
def test_a_command_counts_at_its_end_what_no_consumer_was_there_for(run: Run, connect: Connect, tmp_path: Path) -> None:
    frontend = f"ipc://{tmp_path}/frontend"
    pusher = connect(zmq.PUSH, frontend)
    for number in range(50):
        pusher.send(b"%d" % number)  # waiting for the broker, to which libzmq then sends all of them at once
    command = run("streamer", frontend, ANY_PORT, "--control", ANY_PORT)
    control = command.addresses()["control"]
    wait_until(lambda: "1 frame," in invoke("ctl", control, "STATISTICS").stdout)
    command.process.send_signal(signal.SIGINT)
    code, lines, stderr = command.end()
    assert code == 1
    assert lines[-2].startswith("frontend -> backend  1 received, 0 sent, 0 bytes, 1 held, 49 unread, stalled once")
    assert stderr == (
        "pollbroker: brokers.streamer: 50 messages lost: "
        "no consumer connected within the 1.0 s that draining may take\n"
    )


@holds_without_a_consumer
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


LOST_FLOW = FlowStatistics(source="frontend", sinks=("backend",), held=1, unread=49, state="ended")


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
        (
            "ready",
            {"held": 0, "unread": 50},
            "removed",
            "50 messages lost: more came than could be moved within the 2.0 ",
        ),
        ("waiting", {"held": 0, "unread": 1}, "removed", "1 message lost: more came than could be moved within the 2"),
        (
            "stalled",
            {"held": 0, "unread": 300, "stalled_s": 2.0},
            "removed",
            "300 messages lost: no consumer connected within",
        ),
        (None, {"unread": 0}, "removed", "1 message lost: the broker was removed without draining"),
        (None, {"unread": 0}, "failed", "1 message lost: the broker is failed"),
        ("stalled", {"unread": 10_000}, "removed", "at least 10001 messages lost: no consumer connected within"),
    ],
)
def test_a_loss_is_reported_with_its_reason(
    before: str | None, final: dict[str, float], state: str, expected: str
) -> None:
    def broker(state: str, flow: FlowStatistics) -> BrokerStatistics:
        back = FlowStatistics(source="backend", sinks=("frontend",), state="waiting")
        return BrokerStatistics("b", "queue", state, None, {"frontend": flow, "backend": back})

    then = None if before is None else broker("running", replace(LOST_FLOW, unread=0, state=before))
    loss = describe_loss(then, broker(state, replace(LOST_FLOW, **final)), 2.0, 2.1)  # type: ignore[arg-type]
    assert loss is not None
    assert loss.startswith(f"brokers.b: {expected}")


@pytest.mark.parametrize("transport", ["libzmq", "wire"])
def test_what_no_consumer_was_there_for_is_said_so_at_any_port(connect: Connect, transport: str) -> None:
    with Engine() as engine:
        broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, transport=transport)
        connect(zmq.PUSH, broker.frontend.endpoint).send(b"lost")
        wait_until(lambda: flow_of(engine, "a").state == "stalled")
        loss = end_brokers(engine, [broker], 0.1)["a"].loss
    assert loss == "brokers.a: 1 message lost: no consumer connected within the 0.1 s that draining may take"


def test_nothing_is_said_if_nothing_was_lost() -> None:
    flow = replace(LOST_FLOW, held=0, unread=0, unroutable=3)
    statistics = BrokerStatistics("b", "streamer", "removed", None, {"frontend": flow})
    assert describe_loss(statistics, statistics, 2.0, 0.1) is None


def test_what_came_when_the_broker_had_nothing_left_to_do_was_not_too_much() -> None:
    flow = replace(LOST_FLOW, held=0)
    statistics = BrokerStatistics("b", "streamer", "removed", None, {"frontend": flow})
    loss = describe_loss(replace(statistics, state="running"), statistics, 2.0, 0.1)
    assert loss == "brokers.b: 49 messages lost: they came when the broker had begun to end"


def test_totals_name_what_was_dropped_and_captured() -> None:
    there = FlowStatistics(
        received=9, added=1, sent=5, sent_bytes=50, held=1, unroutable=3, filtered=1, captured=4, capture_dropped=2,
        source="frontend", sinks=("backend",),
    )  # fmt: skip
    back = FlowStatistics(source="backend", sinks=("frontend",))
    statistics = BrokerStatistics("b", "queue", "removed", None, {"frontend": there, "backend": back})
    assert [describe_flow(flow) for flow in statistics.flows.values()] == [
        "frontend -> backend  9 received, 5 sent, 50 bytes, 1 added, 1 held, "
        "4 dropped (3 unroutable, 1 filtered), 4 captured, 2 copies dropped",
        "backend -> frontend  0 received, 0 sent, 0 bytes",
    ]


# -- signals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM), (signal.SIGHUP, signal.SIGHUP)],
)
@holds_without_a_consumer
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
    daemon = Daemon(
        single(
            "doomed", STREAMER, {"frontend": ANY_PORT, "backend": ANY_PORT}, options={}, transport="libzmq",
            control=None, http=None, drain_timeout_s=0.1,
        )
    )  # fmt: skip

    start = daemon.start

    def start_doomed(takeover: object = None) -> None:
        start(None)
        working_broker(daemon.engine.brokers["doomed"]).port("backend").socket.close()
        daemon.engine.call_later(DEADLINE_S, daemon.stop)

    daemon.start = start_doomed  # type: ignore[method-assign]
    code = serve(daemon, EndingSignals(daemon), log_format="text", log_level="info", exit_refused=2)
    assert code == 1
    said = capsys.readouterr()
    assert said.err == "pollbroker: brokers.doomed: failed: backend: the socket was closed under the engine\n"
    assert "ending  every broker has ended" in said.out.splitlines()

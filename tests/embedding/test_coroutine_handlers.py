"""Coroutine handlers, where an engine is on a loop that can run them; elsewhere they are refused."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
import zmq

import pollbroker.anyio
from pollbroker import STREAMER, BrokerState, Device, DeviceError, Route, To
from pollbroker.statistics import BrokerStatistics, FlowStatistics
from tests.embedding.all_environments import ALL_ENVIRONMENTS, Gevent
from tests.embedding.environments import EngineRun, EngineThread, Environment, held
from tests.support.accounts import balanced, flow_of
from tests.support.addresses import ANY_PORT, bind
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.threads import in_thread
from tests.support.types import Connect, Socket

WITHOUT_COROUTINES = (EngineThread, EngineRun, Gevent)


@pytest.fixture(
    params=[kind for kind in ALL_ENVIRONMENTS if kind not in WITHOUT_COROUTINES], ids=lambda kind: kind.name
)
def awaiting(request: pytest.FixtureRequest) -> Iterator[Environment]:
    """Each environment that runs coroutines, at work."""
    with request.param() as environment:
        yield environment


class Work:
    """A broker with a coroutine handler, which is done with a message when the test says so."""

    def __init__(self, environment: Environment, connect: Connect, *, max_concurrency: int = 10) -> None:
        self.environment, self.connect = environment, connect
        self.events: dict[bytes, anyio.Event] = {}
        self.results: dict[bytes, Callable[[], Any]] = {}
        self.cancelled: list[bytes] = []
        device = Device(
            "working",
            zmq.PULL,
            zmq.PUSH,
            [Route("frontend", "backend", self.handle, max_concurrency=max_concurrency)],
        )
        self.broker = environment.add("working", device)
        self.push = connect(zmq.PUSH, self.broker.frontend.endpoint)

    async def handle(self, message: list[bytes]) -> Any:
        (frame,) = message
        event = self.events[frame] = anyio.Event()
        try:
            await event.wait()
        except BaseException:
            self.cancelled.append(frame)
            raise
        return self.results.get(frame, lambda: message)()

    def give(self, *frames: bytes) -> None:
        """Send messages, and wait until they are with the handler."""
        for frame in frames:
            self.push.send(frame)
        wait_until(lambda: self.events.keys() >= {*frames})

    def finish(self, frame: bytes, result: Callable[[], Any] | None = None) -> None:
        """Let the handler be done with a message, which it returns, unless there is something else to do."""
        if result is not None:
            self.results[frame] = result
        self.environment.do(lambda: self.events[frame].set())

    def pull(self, **options: Any) -> Socket:
        return self.connect(zmq.PULL, self.broker.backend.endpoint, **options)

    @property
    def flow(self) -> FlowStatistics:
        return flow_of(self.environment.sync, "working")


@pytest.mark.parametrize("kind", WITHOUT_COROUTINES, ids=lambda kind: kind.name)
def test_engine_on_no_loop_refuses_a_coroutine_handler(kind: type[Environment], connect: Connect) -> None:
    async def handle(message: list[bytes]) -> list[bytes]:
        return message

    device = Device("working", zmq.PULL, zmq.PUSH, [Route("frontend", "backend", handle)])
    expected = (
        r"^brokers\.a: device working: route frontend -> backend: via is <function .*>, a coroutine function, and this "
        r"engine is on no loop that could run it; expected an engine of pollbroker\.asyncio"
    )
    with kind() as environment:
        with pytest.raises(DeviceError, match=expected):
            environment.add("a", device, frontend="inproc://a", backend=ANY_PORT)
        with pytest.raises(DeviceError, match=expected):
            environment.do(lambda: environment.engine.register(connect(zmq.PULL), connect(zmq.PUSH), device, name="a"))
        environment.add("a", STREAMER, frontend="inproc://a")  # nothing was opened


def test_messages_leave_in_order_whichever_is_done_first(awaiting: Environment, connect: Connect) -> None:
    work = Work(awaiting, connect)
    pull = work.pull()
    work.give(b"1", b"2", b"3")
    work.finish(b"3")
    work.finish(b"2")
    assert (work.flow.held, work.flow.sent, work.flow.state) == (3, 0, "waiting")
    work.finish(b"1")
    assert [pull.recv() for _ in range(3)] == [b"1", b"2", b"3"]
    wait_until(lambda: not work.flow.held)
    assert balanced(work.flow)


def test_handler_has_no_more_messages_than_it_may(awaiting: Environment, connect: Connect) -> None:
    work = Work(awaiting, connect, max_concurrency=2)
    pull = work.pull()
    for number in range(5):
        work.push.send(b"%d" % number)
    for number in range(4):
        with_handler = [b"%d" % i for i in range(number + 2)]
        wait_until(lambda expected=with_handler: sorted(work.events) == expected)  # type: ignore[misc]
        assert (work.flow.held, work.flow.state) == (2, "busy")
        work.finish(b"%d" % number)
        assert pull.recv() == b"%d" % number
    wait_until(lambda: work.flow.state == "waiting")
    work.finish(b"4")
    assert pull.recv() == b"4"


def test_idle_while_the_handler_is_busy(awaiting: Environment, connect: Connect) -> None:
    work = Work(awaiting, connect, max_concurrency=1)
    work.push.send(b"1")
    work.push.send(b"2")
    wait_until(lambda: work.flow.state == "busy")
    before = awaiting.do(lambda: awaiting.sync.statistics().turns)
    awaiting.do(lambda: anyio.sleep(0.05))
    assert awaiting.do(lambda: awaiting.sync.statistics().turns) - before < 20


def _raise(error: BaseException) -> Any:
    raise error


@pytest.mark.parametrize(
    ("result", "counters"),
    [
        (lambda: _raise(ValueError("no")), {"failed": 1}),
        (lambda: "no message", {"failed": 1}),
        (lambda: To("nowhere", [b"1"]), {"failed": 1}),
        (lambda: None, {"filtered": 1}),
        (lambda: iter(()), {"filtered": 1}),
        (lambda: To("backend", [b"1"]), {"sent": 1}),
        (lambda: iter([[b"a"], [b"b"]]), {"sent": 2, "added": 1}),
    ],
    ids=["raised", "no message", "wrong port", "None", "nothing", "To", "several"],
)
def test_what_a_handler_gives(
    awaiting: Environment,
    connect: Connect,
    result: Callable[[], Any],
    counters: dict[str, int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    work = Work(awaiting, connect)
    pull = work.pull()
    work.give(b"1", b"2")
    work.finish(b"1", result)
    work.finish(b"2")
    while pull.recv() != b"2":
        pass
    wait_until(lambda: not work.flow.held)
    found = {name: getattr(work.flow, name) for name in ("failed", "filtered", "sent", "added")}
    expected = dict.fromkeys(found, 0) | counters
    assert found == expected | {"sent": expected["sent"] + 1}
    assert balanced(work.flow)
    assert caplog.text.count("handler Work.handle: a message was dropped (1 so far)") == counters.get("failed", 0)


def test_message_waits_for_a_sink_that_is_full(awaiting: Environment, connect: Connect) -> None:
    work = Work(awaiting, connect)
    work.give(b"1", b"2")
    work.finish(b"1")
    wait_until(lambda: work.flow.state == "stalled")
    assert work.flow.held == 2
    pull = work.pull()
    assert pull.recv() == b"1"
    work.finish(b"2")
    assert pull.recv() == b"2"
    assert work.flow.stalls == 1


def test_paused_broker_keeps_what_its_handler_is_done_with(awaiting: Environment, connect: Connect) -> None:
    work = Work(awaiting, connect)
    pull = work.pull()
    work.give(b"1")
    awaiting.do(lambda: awaiting.engine.pause("working"))
    work.finish(b"1")
    awaiting.do(lambda: None)
    assert (work.flow.held, work.flow.sent, work.flow.state) == (1, 0, "paused")
    awaiting.do(lambda: awaiting.engine.resume("working"))
    assert pull.recv() == b"1"


def test_drain_waits_for_the_handler(awaiting: Environment, connect: Connect) -> None:
    work = Work(awaiting, connect)
    pull = work.pull()
    work.give(b"1")
    assert awaiting.do(lambda: awaiting.engine.drain(0.01)) == ("working",)
    drained = awaiting.begin(lambda: awaiting.engine.drain(3600.0))
    work.finish(b"1")
    assert drained.result() == ()
    assert pull.recv() == b"1"


def test_removal_sends_what_was_with_the_handler_and_reads_nothing_more(
    awaiting: Environment, connect: Connect
) -> None:
    work = Work(awaiting, connect, max_concurrency=2)
    pull = work.pull()
    work.give(b"1", b"2")
    removed = awaiting.begin(lambda: work.broker.remove(timeout_s=3600.0))
    wait_until(lambda: work.broker.state == BrokerState.REMOVING)
    work.push.send(b"3")
    work.finish(b"1")
    assert pull.recv() == b"1"
    work.finish(b"2")
    final = removed.result()
    assert pull.recv() == b"2"
    assert (final.flows["frontend"].sent, final.flows["frontend"].held) == (2, 0)
    assert sorted(work.events) == [b"1", b"2"]


@pytest.mark.parametrize("how", ["remove", "close"])
def test_what_is_with_the_handler_after_the_time_limit_is_cancelled(
    awaiting: Environment, connect: Connect, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    work = Work(awaiting, connect)
    work.give(b"1", b"2")
    if how == "remove":
        final = awaiting.do(lambda: work.broker.remove(timeout_s=0.01))
    else:
        awaiting.do(lambda: awaiting.engine.close(timeout_s=0.01))
        final = awaiting.do(lambda: work.broker.removed)
    assert final.flows["frontend"].held == 2
    assert balanced(final.flows["frontend"])
    wait_until(lambda: sorted(work.cancelled) == [b"1", b"2"])
    assert "a message was dropped" not in caplog.text  # they are held, and not failed


def test_turn_in_another_thread_leaves_the_handler_to_the_loop(awaiting: Environment, connect: Connect) -> None:
    work = Work(awaiting, connect)
    pull = work.pull()
    holding = held(awaiting, connect)
    held_up, go_on = threading.Event(), threading.Event()

    def hold_up() -> None:
        held_up.set()
        assert go_on.wait(DEADLINE_S)

    blocked = awaiting.begin(hold_up)
    assert held_up.wait(DEADLINE_S)  # the loop makes no turn now
    drained = in_thread(lambda: awaiting.sync.drain(DEADLINE_S))  # but this thread does, as long as a message is held
    work.push.send(b"1")
    wait_until(lambda: work.flow.received == 1)
    assert work.events == {}
    go_on.set()
    blocked.result(DEADLINE_S)
    wait_until(lambda: b"1" in work.events)
    work.finish(b"1")
    assert pull.recv() == b"1"
    assert connect(zmq.PULL, holding.backend.endpoint).recv() == b"held"
    assert drained.result(DEADLINE_S) == ()
    assert work.flow.failed == 0


def test_removal_in_another_thread_cancels_the_handler_in_the_loop(awaiting: Environment, connect: Connect) -> None:
    work = Work(awaiting, connect)
    work.give(b"1")
    final = awaiting.sync.remove("working", timeout_s=0.01)
    assert final.flows["frontend"].held == 1
    wait_until(lambda: work.cancelled == [b"1"])


def test_context_that_ends_cancels_the_handler(awaiting: Environment, connect: Connect) -> None:
    started: list[bytes] = []

    async def handle(message: list[bytes]) -> list[bytes]:
        started.append(message[0])
        await anyio.Event().wait()
        raise AssertionError("nobody sets the event")

    with zmq.Context() as context:
        frontend, backend = context.socket(zmq.PULL), context.socket(zmq.PUSH)
        device = Device("working", zmq.PULL, zmq.PUSH, [Route("frontend", "backend", handle, max_concurrency=1)])
        address = bind(frontend)
        push = connect(zmq.PUSH, address)
        broker = awaiting.do(lambda: awaiting.engine.register(frontend, backend, device))
        push.send(b"1")
        push.send(b"2")
        wait_until(lambda: started == [b"1"])
        for socket in (frontend, backend):
            socket.linger = 0
        ended = in_thread(context.term)
        wait_until(lambda: broker.state == BrokerState.ENDED)
        frontend.close()
        backend.close()
        ended.result()


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_exit_of_a_coroutine_handler_comes_out_of_the_loop(connect: Connect, loop: str) -> None:
    async def handle(message: list[bytes]) -> list[bytes]:
        raise SystemExit(7)

    device = Device("ending", zmq.PULL, zmq.PUSH, [Route("frontend", "backend", handle)])
    finals: list[BrokerStatistics] = []

    async def main() -> None:
        async with pollbroker.anyio.Engine() as engine:
            broker = await engine.add("ending", device, frontend=ANY_PORT, backend=ANY_PORT)
            broker.sync.removed.add_done_callback(lambda removed: finals.append(removed.result()))
            connect(zmq.PUSH, broker.frontend.endpoint).send(b"1")
            await engine.wait_stopped()

    with pytest.raises(SystemExit) as caught:
        anyio.run(main, backend=loop)
    assert caught.value.code == 7
    assert [balanced(final.flows["frontend"]) for final in finals] == [True]

"""What is promised, as properties: random schedules over real inproc sockets, on both pumps and both waiters.

The test itself makes the engine's turns, so a schedule that fails fails again. Peers are inproc, so whatever was sent
is there at once, and at the end of a schedule nothing is on its way.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
import zmq
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pollbroker import DEVICES, Device, Engine, FlowStatistics, Route
from tests.support.accounts import balanced
from tests.support.types import Socket

COMBINATIONS = [(pump, waiter) for pump in ("native", "python") for waiter in ("nested", "flat")]
everywhere = pytest.mark.parametrize(("pump", "waiter"), COMBINATIONS)
thorough = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)

bodies = st.lists(
    st.one_of(
        st.just(b""),
        st.binary(max_size=40),
        st.binary(min_size=5, max_size=5).map(lambda b: b"\0" + b[1:]),  # looks like a ROUTER's routing id
    ),
    max_size=7,
)

sizes = st.integers(0, 12)
actions = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 2), sizes),
        st.tuples(st.just("take"), st.integers(0, 2), sizes),
        st.tuples(st.just("join"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("leave"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("pause"), st.integers(0, 1), st.just(0)),
        st.tuples(st.just("resume"), st.integers(0, 1), st.just(0)),
        st.tuples(st.just("remove"), st.integers(0, 1), st.just(0)),
        st.tuples(st.just("turn"), st.just(0), st.integers(1, 3)),
    ),
    max_size=60,
)

fresh = itertools.count()


class Stage:
    """Brokers of one device, each with producers and consumers on inproc sockets, in one context and one engine."""

    def __init__(self, device: Device, pump: str, waiter: str, high_water_mark: int, capture: bool) -> None:
        self.device = device
        self.high_water_mark = high_water_mark
        self.context: zmq.Context[Socket] = zmq.Context()
        self.engine = Engine(self.context, pump=pump, waiter=waiter, burst_messages=5)
        self.sockets: list[Socket] = []
        self.capture = capture
        self.captured: list[list[bytes]] = []
        self.names: list[str] = []
        self.capture_readers: dict[str, Socket] = {}
        for _ in range(2):
            self.add()

    def socket(self, socket_type: int, endpoint: str | None = None, **options: Any) -> Socket:
        socket = self.context.socket(socket_type)
        socket.linger = 0
        socket.set_hwm(self.high_water_mark)
        for name, value in options.items():
            setattr(socket, name, value)
        if endpoint is not None:
            socket.connect(endpoint)
        self.sockets.append(socket)
        return socket

    def add(self) -> None:
        """One more broker, on ports of the engine's own."""
        name = f"b{next(fresh)}"
        hwm = {"sndhwm": self.high_water_mark, "rcvhwm": self.high_water_mark}
        self.engine.add(
            name,
            self.device,
            frontend=f"inproc://{name}-frontend",
            backend=f"inproc://{name}-backend",
            frontend_options=hwm,
            backend_options=hwm,
            capture=f"inproc://{name}-capture" if self.capture else None,
            capture_type=zmq.PUSH,
            capture_options=hwm,
        )
        self.names.append(name)
        if self.capture:
            self.capture_readers[name] = self.socket(zmq.PULL, f"inproc://{name}-capture")

    def settle(self, take: Callable[[], int]) -> None:
        """Turn, and take what comes, until nothing comes any more and nothing is due."""
        quiet = 0
        while quiet < 3:
            quiet += 1
            if self.engine.step(0):
                quiet = 0
            next_s = self.engine.next_timer_s()
            if next_s is not None and next_s < 0.05:
                self.engine.step(0.05)
                quiet = 0
            if take():
                quiet = 0

    def flow(self, name: str, source: str = "frontend") -> FlowStatistics:
        return self.engine.statistics().brokers[name].flows[source]

    def close(self) -> None:
        self.engine.close(timeout_s=0)
        for socket in self.sockets:
            socket.close()
        self.context.term()


def take_up_to(socket: Socket, count: int) -> list[list[bytes]]:
    taken = []
    for _ in range(count):
        try:
            taken.append(socket.recv_multipart(zmq.DONTWAIT))
        except zmq.Again:
            break
    return taken


def send(socket: Socket, message: list[bytes]) -> bool:
    try:
        socket.send_multipart(message, zmq.DONTWAIT)
    except zmq.Again:
        return False
    return True


# Nothing is lost, doubled, split, changed, or crossed between brokers, unless it was in the queue of a consumer that
# left, or held by a broker that was removed; order is kept from each producer to each consumer; a paused broker moves
# nothing; the account balances at every moment; the capture is what was sent, less its counted drops.
@pytest.mark.slow
@everywhere
@given(
    schedule=actions,
    high_water_mark=st.integers(1, 5),
    capture=st.booleans(),
    body=st.lists(bodies, min_size=1, max_size=5),
)
@example(
    schedule=[("send", 0, 12), ("turn", 0, 3), ("join", 0, 0), ("take", 0, 1), ("turn", 0, 1), ("pause", 0, 0)],
    high_water_mark=1,
    capture=True,
    body=[[b"", b""]],
)
@thorough
def test_streamers_keep_their_promises(
    pump: str,
    waiter: str,
    schedule: list[tuple[str, int, int]],
    high_water_mark: int,
    capture: bool,
    body: list[list[bytes]],
) -> None:
    with closing(Stage(DEVICES["streamer"], pump, waiter, high_water_mark, capture)) as stage:
        producers: dict[tuple[str, int], Socket] = {}
        consumers: dict[tuple[str, int], Socket] = {}
        numbers = itertools.count()
        accepted: dict[str, list[list[bytes]]] = defaultdict(list)  # by broker, what its producers could send
        received: dict[tuple[str, int, int], list[list[bytes]]] = defaultdict(list)  # by broker, consumer and its life
        lives: Counter[tuple[str, int]] = Counter()
        lost_with_consumers: set[str] = set()
        removed: set[str] = set()
        copies: dict[str, list[list[bytes]]] = defaultdict(list)

        def take(key: tuple[str, int], count: int) -> int:
            if key not in consumers:
                return 0
            taken = take_up_to(consumers[key], count)
            received[(*key, lives[key])] += taken
            return len(taken)

        def take_everything() -> int:
            for name, reader in stage.capture_readers.items():
                copies[name] += take_up_to(reader, 1 << 20)
            return sum(take(key, 1 << 20) for key in list(consumers))

        for action, who, count in schedule:
            name = stage.names[who % 2 - 2]
            key = (name, who)
            if action == "send":
                if key not in producers:
                    producers[key] = stage.socket(zmq.PUSH, f"inproc://{name}-frontend")
                for _ in range(count):
                    number = next(numbers)
                    message = [b"%s/%d/%d" % (name.encode(), who, number), *body[number % len(body)]]
                    if send(producers[key], message):
                        accepted[name].append(message)
            elif action == "take":
                take(key, count)
            elif action == "join" and key not in consumers:
                consumers[key] = stage.socket(zmq.PULL, f"inproc://{name}-backend")
            elif action == "leave" and key in consumers:
                consumers.pop(key).close()
                lives[key] += 1
                lost_with_consumers.add(name)
            elif action == "pause":
                stage.engine.pause(name)
                moved = stage.flow(name)
                stage.engine.step(0)
                stage.engine.step(0)
                assert (stage.flow(name).received, stage.flow(name).sent) == (moved.received, moved.sent)
            elif action == "resume":
                stage.engine.resume(name)
            elif action == "remove":
                final = stage.engine.remove(name, timeout_s=0).flows["frontend"]
                assert balanced(final)
                removed.add(name)
                stage.names.remove(name)
                for sockets in (producers, consumers):
                    for key in [key for key in sockets if key[0] == name]:
                        if sockets is consumers:
                            take(key, 1 << 20)
                        sockets.pop(key).close()
                if name in stage.capture_readers:
                    copies[name] += take_up_to(stage.capture_readers[name], 1 << 20)
                stage.add()
            elif action == "turn":
                for _ in range(count):
                    stage.engine.step(0)
            for one in stage.engine.statistics().brokers.values():
                assert balanced(one.flows["frontend"])

        for name in stage.names:
            stage.engine.resume(name)
            if (name, 9) not in consumers:
                consumers[(name, 9)] = stage.socket(zmq.PULL, f"inproc://{name}-backend")
        stage.settle(take_everything)

        by_broker: dict[str, Counter[tuple[bytes, ...]]] = defaultdict(Counter)
        for (name, _, _), messages in received.items():
            by_broker[name].update(map(tuple, messages))
            order: dict[bytes, int] = {}
            for message in messages:
                _, producer, sequence = message[0].split(b"/")
                assert order.get(producer, -1) < int(sequence), "order from one producer to one consumer"
                order[producer] = int(sequence)
        for name, messages in accepted.items():
            given_to = Counter(map(tuple, messages))
            assert not by_broker[name] - given_to, "changed, doubled, or of another broker"
            if name not in removed:
                flow = stage.flow(name)
                assert (flow.received, flow.sent, flow.held) == (len(messages), len(messages), 0)
                assert flow.dropped == 0
                assert name in lost_with_consumers or by_broker[name] == given_to, "lost"
                if capture:
                    assert len(copies[name]) == flow.captured == flow.sent - flow.capture_dropped
            if capture:
                remaining = iter(messages)
                kept = Counter(map(tuple, copies[name]))
                assert not kept - given_to
                for producer in {message[0].rsplit(b"/", 1)[0] for message in copies[name]}:
                    mine = [m for m in copies[name] if m[0].rsplit(b"/", 1)[0] == producer]
                    remaining = (m for m in messages if m[0].rsplit(b"/", 1)[0] == producer)
                    assert all(m in remaining for m in mine), "copies in the order in which their originals went"


queue_actions = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 2), sizes),
        st.tuples(st.just("work"), st.integers(0, 2), sizes),
        st.tuples(st.just("take"), st.integers(0, 2), sizes),
        st.tuples(st.just("client leaves"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("pause"), st.integers(0, 1), st.just(0)),
        st.tuples(st.just("resume"), st.integers(0, 1), st.just(0)),
        st.tuples(st.just("turn"), st.just(0), st.integers(1, 3)),
    ),
    max_size=60,
)


# A reply reaches its requester, unchanged and once, and nobody else; what does not arrive is counted by name, or was
# the reply to a client that has left; each direction's account balances at every moment.
@pytest.mark.slow
@everywhere
@given(
    schedule=queue_actions,
    high_water_mark=st.integers(1, 5),
    slow_peer=st.sampled_from(["drop", "wait"]),
    body=st.lists(bodies, min_size=1, max_size=5),
)
@thorough
def test_queues_bring_replies_to_their_requesters(
    pump: str,
    waiter: str,
    schedule: list[tuple[str, int, int]],
    high_water_mark: int,
    slow_peer: Any,
    body: list[list[bytes]],
) -> None:
    queue = DEVICES["queue"]
    device = replace(queue, name="q", slow_peer=slow_peer)
    with closing(Stage(device, pump, waiter, high_water_mark, capture=False)) as stage:
        clients: dict[tuple[str, int], Socket] = {}
        workers: dict[tuple[str, int], Socket] = {}
        lives: Counter[tuple[str, int]] = Counter()
        numbers = itertools.count()
        asked: dict[tuple[str, int], list[list[bytes]]] = defaultdict(list)
        answered: dict[tuple[str, int], list[list[bytes]]] = defaultdict(list)
        client_left: set[str] = set()
        owed: dict[tuple[str, int], list[list[bytes]]] = defaultdict(list)  # by worker, replies it could not send yet

        def take(key: tuple[str, int], count: int) -> int:
            if key not in clients:
                return 0
            taken = take_up_to(clients[key], count)
            for reply in taken:
                _, who, life, _ = reply[0].split(b"/")
                assert (int(who), int(life)) == (key[1], lives[key]), "a reply for somebody else"
            answered[key] += taken
            return len(taken)

        def work(key: tuple[str, int], count: int) -> int:
            if key not in workers:
                workers[key] = stage.socket(zmq.DEALER, f"inproc://{key[0]}-backend")
            owed[key] += take_up_to(workers[key], count - len(owed[key]))
            done = 0
            while owed[key] and send(workers[key], owed[key][0]):
                owed[key].pop(0)
                done += 1
            return done

        for action, who, count in schedule:
            key = (stage.names[who % 2], who)
            if action == "ask":
                if key not in clients:
                    clients[key] = stage.socket(zmq.DEALER, f"inproc://{key[0]}-frontend")
                for _ in range(count):
                    message = [
                        b"%s/%d/%d/%d" % (key[0].encode(), who, lives[key], next(numbers)),
                        *body[who % len(body)],
                    ]
                    if send(clients[key], message):
                        asked[key].append(message)
            elif action == "work":
                work(key, count)
            elif action == "take":
                take(key, count)
            elif action == "client leaves" and key in clients:
                take(key, 1 << 20)
                clients.pop(key).close()
                lives[key] += 1
                client_left.add(key[0])
            elif action == "pause":
                stage.engine.pause(key[0])
            elif action == "resume":
                stage.engine.resume(key[0])
            elif action == "turn":
                for _ in range(count):
                    stage.engine.step(0)
            for one in stage.engine.statistics().brokers.values():
                assert all(balanced(flow) for flow in one.flows.values())

        for name in stage.names:
            stage.engine.resume(name)
            work((name, 9), 1)

        def serve() -> int:
            return sum(work(key, 1 << 20) for key in list(workers)) + sum(take(key, 1 << 20) for key in list(clients))

        stage.settle(serve)
        for name in stage.names:
            requests = Counter(tuple(m) for key, ms in asked.items() if key[0] == name for m in ms)
            replies = Counter(tuple(m) for key, ms in answered.items() if key[0] == name for m in ms)
            assert not replies - requests, "a reply that was changed, doubled, or of another broker"
            there, back = (stage.flow(name, source) for source in ("frontend", "backend"))
            assert (there.held, back.held, there.dropped) == (0, 0, 0)
            assert slow_peer == "drop" or back.slow_peer == 0
            lost = requests.total() - replies.total()
            if name in client_left:
                assert lost >= back.dropped
            else:
                assert (lost, back.unroutable) == (back.slow_peer, 0)


# One burst each: however much is queued elsewhere, a broker with a message has moved it after its next turn.
@pytest.mark.slow
@everywhere
@given(backlog=st.lists(st.integers(0, 60), min_size=2, max_size=6), burst=st.integers(1, 7))
@thorough
def test_no_broker_waits_longer_than_a_burst_of_each(pump: str, waiter: str, backlog: list[int], burst: int) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    # The clock stands still: no turn takes so long that it ends early.
    engine = Engine(context, pump=pump, waiter=waiter, burst_messages=burst, clock=lambda: 0.0)
    sockets = []
    consumers = []
    for number, count in enumerate(backlog):
        line = [context.socket(kind) for kind in (zmq.PUSH, zmq.PULL, zmq.PUSH, zmq.PULL)]
        for socket in line:
            socket.set_hwm(0)
        producer, frontend, backend, consumer = line
        frontend.bind(f"inproc://{number}-in")
        producer.connect(f"inproc://{number}-in")
        backend.bind(f"inproc://{number}-out")
        consumer.connect(f"inproc://{number}-out")
        engine.register(frontend, backend, "streamer")
        for _ in range(count):
            producer.send(b"x")
        sockets += line
        consumers.append(consumer)
    moved = [0] * len(backlog)
    while moved != backlog:
        before = list(moved)
        engine.step(0)
        for number, consumer in enumerate(consumers):
            moved[number] += len(take_up_to(consumer, 1 << 20))
            expected = min(burst, backlog[number] - before[number])
            assert moved[number] - before[number] == expected, "each ready broker moves one burst in each turn"
    engine.close()
    for socket in sockets:
        socket.close(linger=0)
    context.term()


# A handler sees each message once and whole, and what it makes of it is all that is sent, in that order.
@pytest.mark.slow
@everywhere
@given(
    plan=st.lists(st.one_of(st.just("raise"), st.just("nonsense"), st.integers(0, 4)), max_size=20),
    high_water_mark=st.integers(1, 5),
)
@thorough
def test_handler_routes_account_for_every_message(
    pump: str, waiter: str, plan: list[str | int], high_water_mark: int
) -> None:
    seen: list[list[bytes]] = []

    def handle(frames: list[bytes]) -> Any:
        seen.append(frames)
        what = plan[int(frames[0])]
        if what == "raise":
            raise ValueError("on purpose")
        if what == "nonsense":
            return "nonsense"
        assert isinstance(what, int)
        return ([frames[0], b"%d" % copy] for copy in range(what))

    device = Device("handled", zmq.PULL, zmq.PUSH, (Route("frontend", "backend", via=handle),))
    with closing(Stage(device, pump, waiter, high_water_mark, capture=False)) as stage:
        name = stage.names[0]
        producer = stage.socket(zmq.PUSH, f"inproc://{name}-frontend", sndhwm=0)
        consumer = stage.socket(zmq.PULL, f"inproc://{name}-backend")
        received: list[list[bytes]] = []

        def take() -> int:
            taken = take_up_to(consumer, 1 << 20)
            received.extend(taken)
            return len(taken)

        waiting = [[b"%d" % number, b"", b"x"] for number in range(len(plan))]
        sent = list(waiting)
        while waiting:
            while waiting and send(producer, waiting[0]):
                waiting.pop(0)
            stage.engine.step(0)
            take()
        stage.settle(take)
        assert seen == sent
        assert received == [
            [b"%d" % number, b"%d" % copy]
            for number, what in enumerate(plan)
            if isinstance(what, int)
            for copy in range(what)
        ]
        flow = stage.flow(name)
        assert balanced(flow)
        assert flow.failed == sum(isinstance(what, str) for what in plan)
        assert flow.filtered == plan.count(0)

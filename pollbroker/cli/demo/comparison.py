"""What pollbroker and zmq.proxy do in the same situations, in the same run, with the same peers.

Each function brings both into one situation, and returns what was seen: a row for each figure of both sides, and a
check of what pollbroker promises. Nothing is said of zmq.proxy but what was measured here, since another libzmq may do
better. What a busy machine could turn around has no check: rates are figures. Processor time is measured as such, so
that it does not depend on what else runs.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import zmq

from pollbroker.cli.demo.checks import Check, wrong_replies
from pollbroker.cli.demo.requesting import WINDOW
from pollbroker.cli.demo.side import Side, bodies_of, receive
from pollbroker.cli.demo.workload import Report

_AWAY_S: Final = 0.5
"""How long the consumer is away at least."""
_AWAY_CPU_S: Final = 0.2
_LONGEST_AWAY_S: Final = 3.0
"""On a busy machine it stays away until zmq.proxy was given that much processor time, but no longer than this."""

_ASLEEP: Final = 0.1
"""A process that takes less of a core than this sleeps: it does not ask again and again."""

_WAITING: Final = 500
"""How many messages wait for the consumer."""

_ASKED: Final = 20
"""How many requests a client sends before it leaves."""

_PASSING: Final = 100
"""How many messages are sent to a broker that was paused, and to one that was resumed."""

_QUIET_MS: Final = 250
"""When nothing has come for this time, nothing more is expected."""

_SLICES: Final = 3
_SLICE_S: Final = 0.3
"""Both sides serve clients in turns: so many slices each, so that what else the machine does concerns both."""

_SURE_MS: Final = 10_000
"""How long pollbroker may take to deliver what it has promised."""


@dataclass(frozen=True)
class Row:
    """One figure of both sides, ready to be shown."""

    what: str
    ours: str
    theirs: str


@dataclass(frozen=True)
class Seen:
    """What one situation has shown."""

    rows: tuple[Row, ...]
    check: Check


def see_absent_consumer(ours: Side, theirs: Side) -> Seen:
    """Messages wait for a consumer that is away. What does waiting cost, and do they arrive when it comes?"""
    bodies = bodies_of("w0", 1, _WAITING)
    with (
        ours.sockets((zmq.PUSH, ours.address("away", "frontend"))) as (our_pusher,),
        theirs.sockets((zmq.PUSH, theirs.address("away", "frontend"))) as (their_pusher,),
    ):
        for body in bodies:
            our_pusher.send(body)
            their_pusher.send(body)
        began_s = time.monotonic()
        before = [side.facts().cpu_s for side in (ours, theirs)]
        taken = [0.0, 0.0]
        elapsed_s = 0.0
        while elapsed_s < _AWAY_S or (taken[1] < _AWAY_CPU_S and elapsed_s < _LONGEST_AWAY_S):
            time.sleep(0.1)
            taken = [side.facts().cpu_s - then for side, then in zip((ours, theirs), before, strict=True)]
            elapsed_s = time.monotonic() - began_s
        with ours.sockets((zmq.PULL, ours.address("away", "backend"))) as (puller,):
            arrived = receive(puller, bodies, _SURE_MS)
        with theirs.sockets((zmq.PULL, theirs.address("away", "backend"))) as (puller,):
            receive(puller, bodies, _SURE_MS)  # what waits for a consumer costs it no processor time after this
    shares = [f"{100 * one / elapsed_s:.1f} % of a core" for one in taken]
    return Seen(
        (Row("waiting for an absent consumer", *shares),), check_of_absence(taken[0], elapsed_s, bodies, arrived)
    )


def check_of_absence(cpu_s: float, elapsed_s: float, sent: Sequence[bytes], arrived: Sequence[bytes]) -> Check:
    """Whether pollbroker slept while a consumer was away, and kept what waited for it.

    Arguments:
        cpu_s: how much processor time it took.
        elapsed_s: how long the consumer was away.
        sent: the messages for the consumer.
        arrived: the messages that it got at last.
    """
    wrong = []
    if cpu_s > _ASLEEP * elapsed_s:
        wrong.append(f"it took {cpu_s:.2f} s of processor time in {elapsed_s:.2f} s")
    if list(arrived) != list(sent):
        same = "" if len(arrived) != len(sent) else ", but not the same ones"
        wrong.append(f"{len(sent)} were sent, {len(arrived)} arrived{same}")
    claim = "away: while its consumer was away pollbroker slept, and then it delivered everything in order"
    return Check(claim, len(arrived), tuple(wrong))


def see_departed_client(ours: Side, theirs: Side) -> Seen:
    """A client leaves before its replies come. Who says so, and does another client get its own?"""
    (lost, counted, own), (their_lost, their_counted, _) = (_leave(side) for side in (ours, theirs))
    wrong = []
    if counted != lost:
        wrong.append(f"{lost} replies were for the client that had left, {counted} were counted as unroutable")
    if not own:
        wrong.append("another client did not get its own reply")
    rows = (
        Row("replies to a departed client", f"{lost} lost", f"{their_lost} lost"),
        Row("  of these it counted", *("nothing" if one is None else f"{one}" for one in (counted, their_counted))),
    )
    return Seen(
        rows, Check("departed: each reply to a client that had left was counted as unroutable", lost, tuple(wrong))
    )


def _leave(side: Side) -> tuple[int, int | None, bool]:
    """Have a client leave before its replies come.

    Return how many replies were sent to it, how many of those were counted as not deliverable, and whether another
    client got its own reply.
    """
    frontend = side.address("departed", "frontend")
    before = side.facts().unroutable
    with side.sockets((zmq.DEALER, side.address("departed", "backend"))) as (worker,):
        with side.sockets((zmq.DEALER, frontend)) as (leaving,):
            for body in bodies_of("l0", 1, _ASKED):
                leaving.send_multipart([b"", body])
            requests = [worker.recv_multipart() for _ in range(_ASKED)]
        # The client's connection is closed. The broker sees that before it sees the request of the next client.
        with side.sockets((zmq.REQ, frontend)) as (staying,):
            (body,) = bodies_of("l1", 1, 1)
            staying.send(body)
            requests.append(worker.recv_multipart())
            for request in requests:
                worker.send_multipart(request)
            own = staying.recv() == body
    after = side.facts().unroutable
    return _ASKED, None if after is None or before is None else after - before, own


def see_pause(ours: Side, theirs: Side) -> Seen:
    """A broker is sent PAUSE, and later RESUME, as in zmq_proxy_steerable(3). What passes in between, and then?"""
    ours_seen, theirs_seen = _pause(ours, _SURE_MS), _pause(theirs, _QUIET_MS)
    paused, resumed = ours_seen
    wrong = []
    if paused:
        wrong.append(f"{paused} of {_PASSING} messages passed while it was paused")
    if paused + resumed != 2 * _PASSING:
        wrong.append(f"{2 * _PASSING} were sent, {paused + resumed} arrived after all")
    rows = (
        Row(f"passed after PAUSE, of {_PASSING}", f"{paused}", f"{theirs_seen[0]}"),
        Row(f"passed after RESUME, of {2 * _PASSING}", f"{sum(ours_seen)}", f"{sum(theirs_seen)}"),
    )
    return Seen(
        rows, Check("pause: nothing passed while paused, and everything afterwards", sum(ours_seen), tuple(wrong))
    )


def _pause(side: Side, sure_ms: int) -> tuple[int, int]:
    """Return how many messages pass after PAUSE, and how many of the others, and of as many more, after RESUME."""
    with side.sockets(
        (zmq.PUSH, side.address("paused", "frontend")),
        (zmq.PULL, side.address("paused", "backend")),
        (zmq.REQ, side.control),
    ) as (pusher, puller, control):
        pusher.send(b"connected")
        puller.recv()
        control.send(b"PAUSE")
        control.recv()
        first, second = bodies_of("z0", 1, _PASSING), bodies_of("z0", _PASSING + 1, _PASSING)
        for body in first:
            pusher.send(body)
        while_paused = receive(puller, first, _QUIET_MS)
        control.send(b"RESUME")
        control.recv()
        for body in second:
            pusher.send(body)
        missing = [*first, *second][len(while_paused) :]
        afterwards = receive(puller, missing, sure_ms)
        if len(afterwards) < len(missing):  # libzmq 4.3.5 has taken RESUME for PAUSE; it must not go on asking
            control.send(b"PAUSE")
            control.recv()
            receive(puller, missing[len(afterwards) :], sure_ms)
    return len(while_paused), sum(1 for got, sent in zip(afterwards, missing, strict=False) if got == sent)


@dataclass
class _Served:
    """What one side did for its clients, over all slices."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    lockstep: int = 0
    pipelined: int = 0

    def rate(self, requests: int) -> str:
        return f"{requests / self.seconds:,.0f} a second"

    @property
    def each(self) -> str:
        requests = self.lockstep + self.pipelined
        return f"{1e6 * self.cpu_s / requests:.1f} µs" if requests else "nothing was served"


_SENDERS: Final = ("client", "pipeliner")


def see_requests(ours: Side, theirs: Side) -> Seen:
    """A client that waits for each reply, and one that does not, side by side. How much is served, at which cost?"""
    served = {side.name: _Served() for side in (ours, theirs)}
    reports: dict[str, list[Report]] = {side.name: side.peers.ask("report", _SENDERS) for side in (ours, theirs)}
    for side in (ours, theirs) * _SLICES:
        before, cpu_s, began_s = reports[side.name], side.facts().cpu_s, time.monotonic()
        side.peers.tell("go", _SENDERS)
        time.sleep(_SLICE_S)
        reports[side.name] = side.peers.ask("stop", _SENDERS)
        one = served[side.name]
        one.seconds += time.monotonic() - began_s
        one.cpu_s += side.facts().cpu_s - cpu_s
        one.lockstep += _replies(reports[side.name], "client") - _replies(before, "client")
        one.pipelined += _replies(reports[side.name], "pipeliner") - _replies(before, "pipeliner")
    here, there = served[ours.name], served[theirs.name]
    rows = (
        Row("lockstep client, requests", here.rate(here.lockstep), there.rate(there.lockstep)),
        Row(
            f"client with {WINDOW} at a time, requests",
            here.rate(here.pipelined),
            there.rate(there.pipelined),
        ),
        Row("broker's processor time, each", here.each, there.each),
        Row("threads for its brokers", f"{ours.facts().threads}", f"{theirs.facts().threads}"),
    )
    answered = min(here.lockstep, here.pipelined)  # a claim about both kinds says nothing if one of them had no reply
    wrong = tuple(wrong_replies(reports[ours.name]))
    return Seen(
        rows, Check("requests: lockstep and pipelined clients got a reply to each, and their own", answered, wrong)
    )


def _replies(reports: Iterable[Report], role: str) -> int:
    return sum(report.replies for report in reports if report.role == role)


SITUATIONS: Final[tuple[tuple[str, Callable[[Side, Side], Seen]], ...]] = (
    ("messages wait for a consumer that is away", see_absent_consumer),
    ("a client leaves before its replies come", see_departed_client),
    ("PAUSE and RESUME, with messages coming", see_pause),
    (f"clients that wait for each reply, and clients with {WINDOW} requests on their way", see_requests),
)
"""Every situation, with what is said before it."""


def start_peers_of(sides: Iterable[Side]) -> None:
    """Start the clients and the worker of each side."""
    for side in sides:
        side.peers.start("worker", 0, side.address("requests", "backend"))
        for role in _SENDERS:
            side.peers.start(role, 0, side.address("requests", "frontend"))


def compare(ours: Side, theirs: Side, say: Callable[[str], object]) -> Iterator[Seen]:
    """Bring both sides into one situation after the other, and yield what each has shown."""
    for side in (ours, theirs):
        side.wait_until_ready()
        say(f"  {side.name}: {side.about}")
    start_peers_of((ours, theirs))
    for number, (what, see) in enumerate(SITUATIONS, 1):
        if see is see_requests:
            for side in (ours, theirs):
                side.peers.wait_until_ready(say)
        say(f"  {number} of {len(SITUATIONS)}: {what}")
        yield see(ours, theirs)

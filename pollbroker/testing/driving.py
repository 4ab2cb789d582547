"""Driving a behaviour by hand: what an engine would tell it, without sockets, without a clock, in a plain test.

    def test_request_goes_to_the_free_worker():
        balancer = drive(Balancer())
        balancer.message("backend", b"worker", b"", b"READY")
        assert balancer.message("frontend", b"client", b"", b"question") == [
            Send("backend", [b"worker", b"", b"client", b"", b"question"])
        ]

What the behaviour asks for is accounted for as in an engine. What it raises is too, and is raised in the test as well:
an engine logs it and goes on, so that a test would pass that has looked at nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from pollbroker.behaviour import Behaviour
from pollbroker.errors import DeviceError, describe_error, did_you_mean
from pollbroker.frozen import FrozenDict
from pollbroker.pump import BehaviourRun
from pollbroker.pump.outcomes import DROPPED, FULL, SENT
from pollbroker.statistics import Counters
from pollbroker.timers import Handle, Timers

_DEFAULT_PORTS: Final = ("frontend", "backend")


class Send(NamedTuple):
    """A message that a behaviour sent."""

    port: str
    frames: list[bytes]


class _Outlet:
    """Takes the messages for one port, unless it is full."""

    def __init__(self, port: str, sent: list[Send]) -> None:
        self._port = port
        self._sent = sent
        self.full = False
        self.gone: set[bytes] = set()
        self.dropped = 0
        self.finished = 0

    def send(self, message: list[bytes], /) -> int:
        if message[0] in self.gone:
            self.dropped += 1
            self.finished += 1
            return DROPPED
        if self.full:
            return FULL
        self._sent.append(Send(self._port, list(message)))
        self.finished += 1
        return SENT


class _Run(BehaviourRun):
    """Also keeps the exceptions of the behaviour, beside logging them."""

    def __init__(self, behaviour: Behaviour, **at_work: Any) -> None:
        super().__init__(behaviour, **at_work)
        self.raised: list[Exception] = []

    def _log(self, error: Exception) -> None:
        super()._log(error)
        self.raised.append(error)


class Driver:
    """A behaviour that a test drives. Each method that lets something happen returns what was sent because of it.

    What the behaviour raises meanwhile is raised by that method. All else is done before, as in an engine: nothing is
    done that the failed call had asked for, its message counts as `failed`, and the behaviour may be driven on. If
    several calls fail, as those of several timers in `advance`, the first exception is raised, with the others in its
    notes. What other calls have sent is returned by the next method::

        with pytest.raises(ValueError):
            balancer.message("backend", b"worker", b"garbage")
        assert balancer.account.failed == 1

    A source that the behaviour has closed, or that waits for room, may not be given a message: `message` raises
    `AssertionError`, since no engine would read it. Every method raises `DeviceError` for a port that `drive` was not
    given.
    """

    def __init__(self, behaviour: Behaviour, ports: Iterable[str]) -> None:
        self.behaviour = behaviour
        self.received = 0
        self._sent: list[Send] = []
        self._now_s = 0.0
        self._timers = Timers(self.now_s)
        self._outlets = {port: _Outlet(port, self._sent) for port in ports}
        self._run = _Run(
            behaviour,
            sources=self._outlets,
            outlets=self._outlets,
            call_later=self._timers.add,
            clock=self.now_s,
        )
        with self._raising():
            self._run.start()
        self.started = self._take()
        """What `on_start` sent."""

    def message(self, port: str, *frames: bytes) -> list[Send]:
        """Let a message come from a port."""
        assert self.is_open(port), f"{port} is closed, or waits for room; an engine would read nothing from it now"
        self.received += 1
        with self._raising():
            self._run.message(port, list(frames))
        return self._take()

    def advance(self, seconds: float) -> list[Send]:
        """Let this time pass, and each timer that comes in it."""
        end_s = self._now_s + seconds
        with self._raising():
            while (first := self._timers.first()) is not None and first.when_s <= end_s:
                self._now_s = max(self._now_s, first.when_s)
                self._timers.run_due(Handle.run)
                self._run.run_due_timers()
            self._now_s = end_s
        return self._take()

    def fill(self, port: str) -> None:
        """Let a port be full from now on."""
        self._outlet(port).full = True

    def empty(self, port: str) -> list[Send]:
        """Let a port have room again."""
        self._outlet(port).full = False
        with self._raising():
            self._run.flush()
            self._run.tell_of_room()
        return self._take()

    def leave(self, port: str, routing_id: bytes) -> None:
        """Let a peer of a ROUTER leave: from now on a message that begins with its routing id is dropped, and counted
        as `unroutable`."""
        self._outlet(port).gone.add(routing_id)

    def come_back(self, port: str, routing_id: bytes) -> None:
        """Let a peer that has left be there again."""
        self._outlet(port).gone.discard(routing_id)

    def stop(self) -> list[Send]:
        """Let the broker be about to be removed."""
        with self._raising():
            self._run.stop()
        return self._take()

    def end(self) -> None:
        """Let the broker have ended, for whatever reason. Nothing can happen to the behaviour any more."""
        with self._raising():
            self._run.end()

    def is_open(self, port: str) -> bool:
        """Return True if an engine would read this port now."""
        self._outlet(port)
        return self._run.may_read(port)

    def now_s(self) -> float:
        """Seconds since the start."""
        return self._now_s

    @property
    def counters(self) -> Mapping[str, int]:
        """The behaviour's own counters."""
        return FrozenDict(self._run.counters)

    @property
    def account(self) -> Counters:
        """Received + added = sent + held + dropped, as for a broker."""
        run = self._run
        return Counters(
            received=self.received,
            sent=sum(outlet.finished - outlet.dropped for outlet in self._outlets.values()),
            unroutable=sum(outlet.dropped for outlet in self._outlets.values()),
            held=run.held,
            added=run.account.added,
            filtered=run.account.filtered,
            failed=run.account.failed,
        )

    @contextmanager
    def _raising(self) -> Iterator[None]:
        """As a context: at its end, raise what the behaviour has raised meanwhile."""
        raised = self._run.raised
        raised.clear()
        yield
        if raised:
            first, *others = raised
            for error in others:
                first.add_note(f"then a call raised {describe_error(error)}")
            raise first

    def _take(self) -> list[Send]:
        taken = self._sent.copy()
        self._sent.clear()
        return taken

    def _outlet(self, port: str) -> _Outlet:
        if port not in self._outlets:
            near = did_you_mean(str(port), self._outlets)
            expected = f"; expected one of {', '.join(self._outlets)}, or other `ports`"
            raise DeviceError(f"drive: {type(self.behaviour).__name__} has no port {port} here{near or expected}")
        return self._outlets[port]


def drive(behaviour: Behaviour, ports: Iterable[str] = _DEFAULT_PORTS) -> Driver:
    """Let a behaviour begin, and return what a test drives it with.

    Arguments:
        ports: the names of the ports, each of which can be read and sent to.

    Raises whatever `on_start` raises, and `DeviceError` if `ports` is one string.
    """
    if isinstance(ports, str):
        raise DeviceError(f"drive: ports: {ports!r}: expected a list of names")
    return Driver(behaviour, ports)

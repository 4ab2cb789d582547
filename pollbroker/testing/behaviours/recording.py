"""Records what a behaviour is told, and what it asks for in each call."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pollbroker.behaviour import Actions, Behaviour, IfFull
from pollbroker.statistics import BrokerStatistics
from pollbroker.testing.driving import Send
from pollbroker.testing.violation import InvariantViolation


@dataclass
class BehaviourCall:
    """One call of a behaviour."""

    method: str
    """`on_message`, `on_timer` and so on."""
    arguments: tuple[Any, ...]
    now_s: float
    held: int
    """How many messages the behaviour kept when the call had returned."""
    sends: list[Send] = field(default_factory=list)
    """The messages that it sent. They are none if the call failed."""
    failed: str = ""
    """What the call raised."""


@dataclass
class BehaviourTrace:
    """What happened to a behaviour in a run."""

    behaviour: Behaviour
    calls: list[BehaviourCall] = field(default_factory=list)
    peers_sent: dict[tuple[str, str], list[list[bytes]]] = field(default_factory=dict)
    """What each peer has sent, by the port and the name of the peer. A peer that leaves and comes again is another."""
    peers_got: dict[tuple[str, str], list[list[bytes]]] = field(default_factory=dict)
    """What each peer has received."""
    routing_ids: dict[tuple[str, str], bytes] = field(default_factory=dict)
    """The routing ids of peers at ROUTERs."""
    may_lose: frozenset[str] = frozenset()
    """The ports that drop messages in silence: ROUTERs without `router_mandatory`."""
    left: set[tuple[str, str]] = field(default_factory=set)
    """The peers that have left."""
    statistics: BrokerStatistics | None = None
    """The broker's statistics at the end, before it was removed."""
    last_statistics: BrokerStatistics | None = None
    """Its statistics after it was removed."""

    def sends_to(self, port: str) -> list[list[bytes]]:
        """The messages that the behaviour has sent to a port, without those that were refused and given back.

        Of several that are alike, the one that was refused is the last before it was given back: behind it nothing of
        the same call was accepted. What is sent when one is given back waits, and is not refused.
        """
        sends: list[tuple[list[bytes], bool]] = []
        """Each with whether it waits in any case."""
        for call in self.calls:
            gives_back = call.method == "on_refused" and call.arguments[0] == port
            if gives_back:
                at = max((at for at, one in enumerate(sends) if one == (call.arguments[1], False)), default=None)
                if at is None:
                    raise InvariantViolation(
                        "whole and unchanged", f"{port}: {call.arguments[1]} was given back, and not sent before"
                    )
                del sends[at]
            sends += [(send.frames, gives_back) for send in call.sends if send.port == port]
        return [frames for frames, _ in sends]

    def given_from(self, port: str) -> list[list[bytes]]:
        """The messages that the behaviour was given from a port."""
        return [call.arguments[1] for call in self.calls if call.method == "on_message" and call.arguments[0] == port]


class RecordedBehaviour(Behaviour):
    """A behaviour whose calls are recorded.

    Arguments:
        inner: the behaviour.
        trace: what the calls are added to.
    """

    def __init__(self, inner: Behaviour, trace: BehaviourTrace) -> None:
        self.max_held = inner.max_held
        self.closed: set[str] = set()
        """The sources that the behaviour has closed, so far as its calls have returned."""
        self.timers: dict[Hashable, float] = {}
        """When each of its timers is due."""
        self.counted: dict[str, int] = {}
        self.wrong: list[str] = []
        """What the engine has done that a behaviour must not see."""
        self._inner = inner
        self._trace = trace
        self._last_s = 0.0
        """The time of the last call."""

    @property
    def held(self) -> int:
        return self._inner.held

    @property
    def outstanding(self) -> int:
        return self._inner.outstanding

    def on_start(self) -> None:
        self._call("on_start", self._inner.on_start)

    def on_message(self, port: str, frames: list[bytes]) -> None:
        if port in self.closed:
            self.wrong.append(f"a message was given from {port}, which the behaviour had closed")
        self._call("on_message", self._inner.on_message, port, frames)

    def on_timer(self, key: Hashable) -> None:
        due_s = self.timers.pop(key, None)
        if due_s is None:
            self.wrong.append(f"the timer {key!r} came, which is not set")
        elif self.now_s < due_s:
            self.wrong.append(f"the timer {key!r} came at {self.now_s} s; it was set for {due_s} s")
        self._call("on_timer", self._inner.on_timer, key)

    def on_refused(self, port: str, frames: list[bytes]) -> None:
        self._call("on_refused", self._inner.on_refused, port, frames)

    def on_room(self, port: str) -> None:
        self._call("on_room", self._inner.on_room, port)

    def on_dropped(self, port: str, frames: list[bytes]) -> None:
        self._call("on_dropped", self._inner.on_dropped, port, frames)

    def on_stop(self) -> None:
        self._call("on_stop", self._inner.on_stop)

    def on_end(self) -> None:
        call = BehaviourCall("on_end", (), self._last_s, self._inner.held)
        self._trace.calls.append(call)
        self._inner.actions = None
        try:
            self._inner.on_end()
        except Exception as error:
            call.failed = _account_of(error)
            raise

    def _call(self, method: str, inner: Callable[..., None], *arguments: Any) -> None:
        recorded = tuple(list(one) if isinstance(one, list) else one for one in arguments)
        now_s = self._last_s = self.now_s
        call = BehaviourCall(method, recorded, now_s, 0)
        noted = _Noted(self._act(), now_s)
        self._inner.actions = noted
        try:
            inner(*arguments)
        except Exception as error:
            call.failed = _account_of(error)
            raise
        else:
            call.sends = noted.sends
            self.closed = (self.closed | noted.closed) - noted.opened
            for key, due_s in noted.timers.items():
                self.timers.pop(key, None)
                if due_s is not None:
                    self.timers[key] = due_s
            for name, by in noted.counted.items():
                self.counted[name] = self.counted.get(name, 0) + by
        finally:
            call.held = self._inner.held
            self._trace.calls.append(call)


def recorded(inner: Behaviour, trace: BehaviourTrace) -> RecordedBehaviour:
    """A behaviour whose calls are recorded, of a class of the same name, which errors say."""
    of_the_class = {"request_ports": inner.request_ports}
    made: RecordedBehaviour = type(type(inner).__name__, (RecordedBehaviour,), of_the_class)(inner, trace)
    return made


def _account_of(error: Exception) -> str:
    return f"raised {error!r}"


class _Noted:
    """The `Actions` of the behaviour in one call: passed on, and noted."""

    def __init__(self, actions: Actions, now_s: float) -> None:
        self.sends: list[Send] = []
        self.opened: set[str] = set()
        self.closed: set[str] = set()
        self.timers: dict[Hashable, float | None] = {}
        self.counted: dict[str, int] = {}
        self._actions = actions
        self._now_s = now_s

    def send(self, port: str, frames: Sequence[bytes], if_full: IfFull) -> None:
        self._actions.send(port, frames, if_full)
        self.sends.append(Send(port, list(frames)))

    def open(self, port: str) -> None:
        self._actions.open(port)
        self.opened.add(port)
        self.closed.discard(port)

    def close(self, port: str) -> None:
        self._actions.close(port)
        self.closed.add(port)
        self.opened.discard(port)

    def set_timer(self, key: Hashable, delay_s: float) -> None:
        self._actions.set_timer(key, delay_s)
        self.timers[key] = self._now_s + delay_s

    def cancel_timer(self, key: Hashable) -> None:
        self._actions.cancel_timer(key)
        self.timers[key] = None

    def count(self, name: str, by: int) -> None:
        self._actions.count(name, by)
        self.counted[name] = self.counted.get(name, 0) + by

    def now_s(self) -> float:
        return self._actions.now_s()

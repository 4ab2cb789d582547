"""Three brokers in one thread under traffic: what passes them is paused, added to, and counted to the last message.

1. Start the brokers and the peers, and wait until all are connected from end to end. Publishing loses messages until
   every subscription has reached every publisher.
2. Let the sources send. Show the rates, pause a broker, and add another.
3. Stop the sources, wait until their messages have passed the brokers, and let the sinks receive them all.
4. Compare what the sources sent, what the engine counted, and what the sinks received.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from pollbroker.cli.demo.checks import BROKER_ROLES, Check, Sum, check_all, count_unwanted, sum_up
from pollbroker.cli.demo.processes import PeerProcesses
from pollbroker.cli.demo.screen import Screen, ShowRates, compute_rates
from pollbroker.cli.demo.steering import PAUSED, Added, Paused, add_one, pause_one
from pollbroker.cli.demo.workload import SOCKET_OPTIONS, Report
from pollbroker.engine import Engine
from pollbroker.standard_devices import FORWARDER, QUEUE, STREAMER

_SOURCES: Final = tuple(source for _, sources, _ in BROKER_ROLES for source in sources)
_SINKS: Final = tuple(sink for _, _, sink in BROKER_ROLES)
_EACH: Final = 2
"""How many peers have each role. With two, messages that went to the wrong peer would be found."""

_WANTED: Final = {0: ("a0", "a1"), 1: ("a0", "a1", "b0", "b1")}
"""The streams (a topic and a publisher) that each subscriber wants: one topic goes to both, one only to the second."""

_ANY_PORT: Final = "tcp://127.0.0.1:*"

_STAGNATION_S: Final = 10.0
"""A count that has not changed for this time will not change any more."""

_LOOK_S: Final = 0.02
"""The time between two looks at a count."""

_PAUSED_PART: Final = 0.15
"""The part of the traffic for which a broker is paused."""


def open_brokers(engine: Engine) -> None:
    """Add the three brokers, on ports that the system chooses."""
    # A subscriber that reads too slowly makes the publishers wait; by default libzmq would drop messages for it. When
    # such a sink has room again it gives no wake-up, so the engine tries again every few milliseconds. The high-water
    # mark is large enough to keep the subscribers busy in between.
    never_drop = {"xpub_nodrop": 1, "sndhwm": 10_000}
    for device, more in ((QUEUE, {}), (FORWARDER, never_drop), (STREAMER, {})):
        engine.add(
            device.name,
            device,
            frontend=_ANY_PORT,
            backend=_ANY_PORT,
            frontend_options=SOCKET_OPTIONS,
            backend_options={**SOCKET_OPTIONS, **more},
        )


def start_peers(processes: PeerProcesses, engine: Engine) -> None:
    """Start all peers, each connected to its broker."""
    topics = sorted({stream[0] for streams in _WANTED.values() for stream in streams})
    for broker, sources, sink in BROKER_ROLES:
        ports = engine.brokers[broker]
        assert ports.backend is not None
        frontend, backend = ports.frontend.endpoints[0], ports.backend.endpoints[0]
        for number in range(_EACH):
            processes.start(sink, number, backend, *(_WANTED[number] if sink == "subscriber" else ()))
            # Both kinds of clients share one broker, one client of each kind. Of other sources there are two.
            source = sources[number % len(sources)]
            processes.start(source, number, frontend, *(topics if source == "publisher" else ()))


@dataclass(frozen=True)
class Outcome:
    """What the traffic has shown."""

    sums: list[Sum]
    probes: int
    """How many probes the publishers sent before the start."""
    unwanted: int
    """How many messages were published that nobody has subscribed to."""
    checks: list[Check]
    interrupted: bool
    """True if Ctrl-C ended the traffic early."""


class _Rates:
    """Shows the rates while time passes."""

    def __init__(self, engine: Engine, show: ShowRates, refresh_s: float) -> None:
        self._engine = engine
        self._show = show
        self._refresh_s = refresh_s
        self._began_s = self._then_s = time.monotonic()
        self._before = engine.statistics()

    def show_for(self, duration_s: float) -> None:
        """Show the rates for so long."""
        end_s = time.monotonic() + duration_s
        while (now_s := time.monotonic()) < end_s:
            time.sleep(max(0.0, min(self._then_s + self._refresh_s - now_s, end_s - now_s)))
            now_s = time.monotonic()
            if now_s - self._then_s >= self._refresh_s:
                after = self._engine.statistics()
                self._show(now_s - self._began_s, compute_rates(self._before, after, now_s - self._then_s))
                self._then_s, self._before = now_s, after


def _wait_for_count(count: Callable[[], int], expected: int) -> None:
    """Wait until a count has reached the expected number, or does not change any more."""
    counted, changed_s = count(), time.monotonic()
    while counted < expected and time.monotonic() - changed_s < _STAGNATION_S:
        time.sleep(_LOOK_S)
        now = count()
        if now != counted:
            counted, changed_s = now, time.monotonic()


def _finish(processes: PeerProcesses, engine: Engine) -> list[Report]:
    """Stop the sources, drain the brokers, and wait until every message has arrived. Return the reports of all
    peers."""
    sources = processes.ask("stop", _SOURCES)
    engine.drain(timeout_s=_STAGNATION_S)

    def count_arrived() -> int:
        return sum(report.count for report in processes.ask("report", _SINKS))

    _wait_for_count(count_arrived, sum(one.expected for one in sum_up(sources, engine.statistics().brokers, _WANTED)))
    return sources + processes.ask("end", _SINKS)


@contextmanager
def _removed_on_error(engine: Engine) -> Iterator[None]:
    """As a context: if the demo is interrupted, remove the brokers, so that `close` does not warn of what they hold."""
    try:
        yield
    except BaseException:
        for name in engine.brokers:
            engine.remove(name, timeout_s=0.0)
        raise


def _steer(engine: Engine, screen: Screen, run_s: float) -> Iterator[Paused | Added]:
    """Show the rates for about `run_s`, and in between pause a broker and add one. Yield what that has shown."""
    with screen.live_rates() as show:
        rates = _Rates(engine, show, min(screen.refresh_s, run_s / 4))
        rates.show_for(run_s * 0.3)
        yield pause_one(engine, partial(rates.show_for, run_s * _PAUSED_PART))
        rates.show_for(run_s * 0.2)
        yield add_one(engine)
        rates.show_for(run_s * (0.5 - _PAUSED_PART))


def run_traffic(screen: Screen, run_s: float) -> Outcome:
    """Let messages pass three brokers for about `run_s`, or until Ctrl-C, and check what became of each."""
    with Engine() as engine, PeerProcesses() as processes, _removed_on_error(engine):
        open_brokers(engine)
        start_peers(processes, engine)
        pump, peers = engine.statistics().pump, len(processes.members)
        screen.say(f"{len(BROKER_ROLES)} brokers in one thread ({pump} pump), {peers} peers in other processes, on TCP")
        processes.wait_until_ready(screen.say)
        screen.say(
            f"  all are connected; {run_s:g} s of traffic, in which the {PAUSED} is paused and a broker is added"
        )
        seen: list[Paused | Added] = []
        interrupted = False
        try:
            processes.tell("go", _SOURCES)
            for one in _steer(engine, screen, run_s):
                seen.append(one)
        except KeyboardInterrupt:
            interrupted = True
            screen.say("interrupted: what was sent is still delivered and checked; Ctrl-C ends this at once")
        reports = _finish(processes, engine)
        brokers = engine.statistics().brokers
    sums = sum_up(reports, brokers, _WANTED)
    lost = sum(one.expected - one.arrived for one in sums if one.broker == PAUSED)
    checks = [one.check(lost) if isinstance(one, Paused) else one.check() for one in seen]
    return Outcome(
        sums,
        sum(report.probes for report in reports),
        count_unwanted(reports, _WANTED),
        check_all(reports, brokers, _WANTED) + checks,
        interrupted,
    )

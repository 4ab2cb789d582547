"""`pollbroker demo`: three brokers in one thread, a dozen peers in other processes, and proof that nothing was lost.

1. Start the brokers and the peers, and wait until all are connected from end to end: pub/sub is only exact from the
   moment at which every subscription has reached every publisher.
2. Let the sources run, and show the rates.
3. Stop the sources, wait until what they sent has come through, and let the sinks take what may still come.
4. Compare what the sources sent, what the engine counted, and what the sinks got.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import click

from pollbroker.cli.arguments import some_seconds
from pollbroker.cli.demo.checks import TRIOS, check_all, count_unwanted, sum_up
from pollbroker.cli.demo.crew import Crew
from pollbroker.cli.demo.screen import Screen, compute_rates
from pollbroker.cli.demo.workload import SOCKET_OPTIONS, Report
from pollbroker.engine import Engine
from pollbroker.standard_devices import FORWARDER, QUEUE, STREAMER

_SOURCES: Final = tuple(source for _, source, _ in TRIOS)
_SINKS: Final = tuple(sink for _, _, sink in TRIOS)
_EACH: Final = 2
"""Peers of each role: with two, crossed streams would show."""

_WANTED: Final = {0: ("a0", "a1"), 1: ("a0", "a1", "b0", "b1")}
"""The streams (a topic and a publisher) that each subscriber wants: one topic goes to both, one to the second alone."""

_ANY_PORT: Final = "tcp://127.0.0.1:*"

_STAGNATION_S: Final = 10.0
"""Sums that have not changed for so long will not change any more."""

_LOOK_S: Final = 0.02


def open_brokers(engine: Engine) -> None:
    """The three brokers, on ports that the system chooses."""
    # A subscriber that reads too slowly makes the publishers wait; by default libzmq would drop messages for it. Such a
    # sink gives no wake-up and is tried again every few milliseconds: there is to be enough for the time between.
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


def hire_peers(crew: Crew, engine: Engine) -> None:
    """All peers, each connected to its broker."""
    topics = sorted({stream[0] for streams in _WANTED.values() for stream in streams})
    for broker, source, sink in TRIOS:
        ports = engine.brokers[broker]
        assert ports.backend is not None
        for number in range(_EACH):
            crew.hire(sink, number, ports.backend.endpoints[0], *(_WANTED[number] if sink == "subscriber" else ()))
            crew.hire(source, number, ports.frontend.endpoints[0], *(topics if source == "publisher" else ()))


def _show_rates(screen: Screen, engine: Engine, run_s: float) -> None:
    began_s = then_s = time.monotonic()
    before = engine.statistics()
    with screen.live_rates() as show:
        while then_s - began_s < run_s:
            time.sleep(min(screen.refresh_s, run_s - (then_s - began_s)))
            now_s, after = time.monotonic(), engine.statistics()
            show(now_s - began_s, compute_rates(before, after, now_s - then_s))
            then_s, before = now_s, after


def _let_through(count: Callable[[], int], expected: int) -> None:
    """Wait until as many were counted, or until the count stands still."""
    counted, changed_s = count(), time.monotonic()
    while counted < expected and time.monotonic() - changed_s < _STAGNATION_S:
        time.sleep(_LOOK_S)
        now = count()
        if now != counted:
            counted, changed_s = now, time.monotonic()


def _finish(crew: Crew, engine: Engine) -> list[Report]:
    """Stop the sources, drain the brokers, and let everything arrive; returns the reports of all peers."""
    sources = crew.ask("stop", _SOURCES)
    engine.drain(timeout_s=_STAGNATION_S)

    def count_arrived() -> int:
        return sum(report.count for report in crew.ask("report", _SINKS))

    _let_through(count_arrived, sum(one.expected for one in sum_up(sources, engine.statistics().brokers, _WANTED)))
    return sources + crew.ask("end", _SINKS)


@contextmanager
def _removed_if_broken_off(engine: Engine) -> Iterator[None]:
    """As a context: what the brokers of a demo that is broken off still hold is not worth the warning of a `close`."""
    try:
        yield
    except BaseException:
        for name in engine.brokers:
            engine.remove(name, timeout_s=0.0)
        raise


@click.command(short_help="See three brokers and a dozen peers at work, and nothing lost.")
@click.option(
    "--seconds",
    "run_s",
    type=some_seconds,
    metavar="SECONDS",
    default=5.0,
    show_default=True,
    help="How long the sources run.",
)
def demo(run_s: float) -> int:
    """Run a queue, a forwarder and a streamer in one thread, with a dozen peers, and check that nothing is lost.

    Exits with 1 if a check failed, or had no message to check.
    """
    screen = Screen()
    with Engine() as engine, Crew() as crew, _removed_if_broken_off(engine):
        open_brokers(engine)
        hire_peers(crew, engine)
        pump, peers = engine.statistics().pump, len(crew.members)
        screen.say(f"{len(TRIOS)} brokers in one thread ({pump} pump), {peers} peers in other processes, on TCP")
        crew.wait_until_ready()
        crew.tell("go", _SOURCES)
        _show_rates(screen, engine, run_s)
        reports = _finish(crew, engine)
        brokers = engine.statistics().brokers
    screen.show_sums(sum_up(reports, brokers, _WANTED))
    probes = sum(report.probes for report in reports)
    unwanted = count_unwanted(reports, _WANTED)
    screen.say(
        f"forwarder: and {probes} probes before the start; {unwanted:,} on a topic that nobody wants went nowhere"
    )
    checks = check_all(reports, brokers, _WANTED)
    screen.show_checks(checks)
    return 0 if all(check.holds for check in checks) else 1

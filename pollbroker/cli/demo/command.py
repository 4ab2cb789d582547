"""`pollbroker demo`: three brokers in one thread, a dozen peers in other processes, and a check that nothing was lost.

1. Start the brokers and the peers, and wait until all are connected from end to end. Publishing loses messages until
   every subscription has reached every publisher.
2. Let the sources send, and show the rates.
3. Stop the sources, wait until their messages have passed the brokers, and let the sinks receive them all.
4. Compare what the sources sent, what the engine counted, and what the sinks received.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import click

from pollbroker.cli.arguments import some_seconds
from pollbroker.cli.demo.checks import BROKER_ROLES, check_all, count_unwanted, sum_up
from pollbroker.cli.demo.processes import PeerProcesses
from pollbroker.cli.demo.screen import Screen, compute_rates
from pollbroker.cli.demo.workload import SOCKET_OPTIONS, Report
from pollbroker.engine import Engine
from pollbroker.standard_devices import FORWARDER, QUEUE, STREAMER

_SOURCES: Final = tuple(source for _, source, _ in BROKER_ROLES)
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
    for broker, source, sink in BROKER_ROLES:
        ports = engine.brokers[broker]
        assert ports.backend is not None
        for number in range(_EACH):
            processes.start(
                sink, number, ports.backend.endpoints[0], *(_WANTED[number] if sink == "subscriber" else ())
            )
            processes.start(source, number, ports.frontend.endpoints[0], *(topics if source == "publisher" else ()))


def _show_rates(screen: Screen, engine: Engine, run_s: float) -> None:
    began_s = then_s = time.monotonic()
    before = engine.statistics()
    with screen.live_rates() as show:
        while then_s - began_s < run_s:
            time.sleep(min(screen.refresh_s, run_s - (then_s - began_s)))
            now_s, after = time.monotonic(), engine.statistics()
            show(now_s - began_s, compute_rates(before, after, now_s - then_s))
            then_s, before = now_s, after


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


@click.command(short_help="Run three brokers and a dozen peers, and check that nothing is lost.")
@click.option(
    "--seconds",
    "run_s",
    type=some_seconds,
    metavar="SECONDS",
    default=5.0,
    show_default=True,
    help="How long the sources send.",
)
def demo(run_s: float) -> int:
    """Run a queue, a forwarder and a streamer in one thread, with a dozen peers, and check that nothing is lost.

    Exits with 1 if a check failed, or had no message to check.
    """
    screen = Screen()
    with Engine() as engine, PeerProcesses() as processes, _removed_on_error(engine):
        open_brokers(engine)
        start_peers(processes, engine)
        pump, peers = engine.statistics().pump, len(processes.members)
        screen.say(f"{len(BROKER_ROLES)} brokers in one thread ({pump} pump), {peers} peers in other processes, on TCP")
        processes.wait_until_ready()
        processes.tell("go", _SOURCES)
        _show_rates(screen, engine, run_s)
        reports = _finish(processes, engine)
        brokers = engine.statistics().brokers
    screen.show_sums(sum_up(reports, brokers, _WANTED))
    probes = sum(report.probes for report in reports)
    unwanted = count_unwanted(reports, _WANTED)
    screen.say(
        f"forwarder: not in the table: {probes} probes before the start, and {unwanted:,} messages on a topic without "
        "subscribers"
    )
    checks = check_all(reports, brokers, _WANTED)
    screen.show_checks(checks)
    return 0 if all(check.holds for check in checks) else 1

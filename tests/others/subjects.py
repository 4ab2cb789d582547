"""What is tried with every library: the devices, by name, with random schedules of their peers."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from pollbroker import Engine
from tests.support.schedules import exchange, news
from tests.support.schedules.peers import Library
from tests.support.schedules.steps import news_schedules, schedules
from tests.support.wire_ports import alive

TRANSPORTS: Final = ("wire", "libzmq")

Engines: TypeAlias = Callable[[int], Engine]
"""Gives a running engine that moves so many messages at a time."""


@contextmanager
def running_engines() -> Iterator[Engines]:
    """Engines that go on through all schedules. In the end nothing of the wire may be left in any of them."""
    made: dict[int, Engine] = {}

    def get(burst: int) -> Engine:
        if burst not in made:
            made[burst] = Engine(burst_messages=burst)
            made[burst].start()
        return made[burst]

    try:
        yield get
        left = {burst: alive(engine) for burst, engine in made.items()}
        assert set(left.values()) <= {(0, 0, 0, 0)}, f"slabs, segments, ports or peers are left, by burst: {left}"
    finally:
        for engine in made.values():
            engine.close(timeout_s=0)


@dataclass(frozen=True)
class Subject:
    """A device and the types of its peers.

    Attributes:
        strategy: draws a schedule.
        run: runs a schedule over a transport, and returns how many messages were sent.
        kinds: the types of the peers at the frontend, and at the backend.
        with_kinds: the same with these types at the frontend, and these at the backend.
    """

    strategy: SearchStrategy[Any]
    run: Callable[[Engines, Library, str, Any], int]
    kinds: tuple[tuple[int, ...], tuple[int, ...]]
    with_kinds: Callable[[tuple[int, ...], tuple[int, ...]], "Subject"]

    def without(self, kinds: tuple[int, ...]) -> "Subject":
        """The same without these types."""
        frontend, backend = (tuple(kind for kind in side if kind not in kinds) for side in self.kinds)
        return self.with_kinds(frontend, backend)

    def only(self, kind: int) -> "Subject":
        """The same with this type alone, on its side."""
        frontend, backend = ((kind,) if kind in side else side for side in self.kinds)
        return self.with_kinds(frontend, backend)


def _exchange(of: exchange.Exchange) -> Subject:
    return Subject(
        schedules,
        lambda engines, library, transport, schedule: exchange.run(
            engines(schedule.burst), library, transport, schedule, of
        ),
        (of.senders, of.receivers),
        lambda senders, receivers: _exchange(replace(of, senders=senders, receivers=receivers)),
    )


def _distribution(of: news.Distribution) -> Subject:
    return Subject(
        news_schedules,
        lambda engines, library, transport, schedule: news.run(engines(1000), library, transport, schedule, of),
        (of.publishers, of.subscribers),
        lambda publishers, subscribers: _distribution(replace(of, publishers=publishers, subscribers=subscribers)),
    )


SUBJECTS: Final[Mapping[str, Subject]] = {
    **{name: _exchange(of) for name, of in exchange.EXCHANGES.items()},
    **{name: _distribution(of) for name, of in news.DISTRIBUTIONS.items()},
}


@dataclass
class Outcome:
    """What a run has done, and what went wrong in it."""

    schedules: int = 0
    messages: int = 0
    wrong: Exception | None = None


def try_schedules(
    subject: Subject, engines: Engines, library: Library, transport: str, *, examples: int, number: int, shrink: bool
) -> Outcome:
    """Run so many schedules, drawn from the seed `number`, up to one that goes wrong, which is then made smaller
    with `shrink`."""
    outcome = Outcome()

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, *([Phase.shrink] if shrink else [])],
        suppress_health_check=list(HealthCheck),
    )
    @given(subject.strategy)
    def check(schedule: Any) -> None:
        outcome.messages += subject.run(engines, library, transport, schedule)
        outcome.schedules += 1

    try:
        check()
    except Exception as error:  # noqa: BLE001 - whatever goes wrong, the others are to be run
        outcome.wrong = error
    return outcome

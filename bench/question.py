"""What a question consists of: its cells, the cases that alternate in each cell, the figures, and the goals.

A question is data: `run.py` measures its cells and `report.py` prints the figures. The only code of a question is its
function `measure`, which takes one sample of one case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from bench.peers.table import Peer
from bench.work import Work

Sample = dict[str, float]


@dataclass(frozen=True)
class Figure:
    """How a number of a sample is printed: as `value * scale`, in whole numbers or with about three digits.

    `quantity` is the name of the ratio of two such numbers, which has no unit; by default it is the heading.
    """

    heading: str
    scale: float = 1.0
    whole: bool = False
    quantity: str = ""

    @property
    def name(self) -> str:
        """The name of the ratio of two such numbers."""
        return self.quantity or self.heading


FIGURES: Mapping[str, Figure] = MappingProxyType(
    {
        "rate_per_s": Figure("thousand/s", 1e-3, quantity="messages/s"),
        "megabytes_per_s": Figure("MB/s"),
        "captured_per_s": Figure("copies, thousand/s", 1e-3),
        "delivered_percent": Figure("delivered %"),
        "cpu_ns": Figure("CPU ns/message", whole=True, quantity="CPU per message"),
        "cpu_percent": Figure("CPU % of a core"),
        "message_ns": Figure("ns/message", whole=True),
        "wake_ups_per_s": Figure("wake-ups/s"),
        "p50_us": Figure("p50 us", quantity="p50"),
        "p99_us": Figure("p99 us", quantity="p99"),
        "p999_us": Figure("p99.9 us", quantity="p99.9"),
        "loop_wake_ups_per_s": Figure("of the loops"),
        "answered": Figure("answered", whole=True),
        "idle_late_p99_ms": Figure("p99 late, idle, ms"),
        "late_p50_ms": Figure("p50 late, ms"),
        "late_p99_ms": Figure("p99 late, ms"),
        "late_more_p99_ms": Figure("p99 later than idle, ms"),
        "p50_ms": Figure("p50 ms", quantity="p50"),
        "p99_ms": Figure("p99 ms", quantity="p99"),
        "worst_ms": Figure("worst ms"),
        "removed_p50_ms": Figure("remove p50 ms"),
        "removed_worst_ms": Figure("remove worst ms"),
        "ready_s": Figure("ready after s"),
        "ready_cpu_s": Figure("ready: CPU s"),
        "end_cpu_s": Figure("end: CPU s"),
        "unasked_turn_ms": Figure("unasked: longest turn, ms"),
        "stats_turn_ms": Figure("STATS: longest turn, ms"),
        "scrape_turn_ms": Figure("scrape: longest turn, ms"),
        "kib_per_pair": Figure("memory KiB/pair", quantity="memory per pair"),
        "kib_per_connection": Figure("memory KiB/connection", quantity="memory per connection"),
        "resident_mib": Figure("memory MiB", quantity="memory"),
        "grown_mib": Figure("grown by MiB"),
        "heartbeats_per_s": Figure("heartbeats/s", whole=True),
        "threads": Figure("threads", whole=True),
    }
)


@dataclass(frozen=True)
class Plan:
    """How often and how long: `rounds` alternations, each a warm-up and a measured window.

    `start_s` is how long a sample takes to start; by default that of the question. Thousands of pairs take longer.
    """

    rounds: int
    warm_up_s: float
    window_s: float
    start_s: float | None = None


@dataclass(frozen=True)
class Case:
    """A peer and its work, measured in alternation with the other cases of its cell; `label` is unique there."""

    peer: Peer
    work: Work
    label: str

    @classmethod
    def of(cls, peer: Peer, work: Work) -> Case:
        """Return a case that has the name of its peer as its label."""
        return cls(peer, work, peer.name)


@dataclass(frozen=True)
class Goal:
    """A bound for a figure of case `of`: for its ratio to case `to`, or for the figure itself if there is no `to`."""

    figure: str
    of: str
    to: str | None
    bound: float
    at_least: bool

    def __str__(self) -> str:
        figure = FIGURES[self.figure]
        return f"{figure.name}: {self.of} / {self.to}" if self.to else f"{figure.heading}: {self.of}"


@dataclass(frozen=True)
class OverallGoal:
    """A bound for the geometric mean of one ratio, over every cell of some questions that has both cases.

    The mean is geometric, so that twice as fast in one cell and half as fast in another make 1.
    """

    questions: tuple[str, ...]
    figure: str
    of: str
    to: str
    bound: float
    at_least: bool

    def __str__(self) -> str:
        figure = FIGURES[self.figure].name
        return f"{figure}: {self.of} / {self.to}, geometric mean over {', '.join(self.questions)}"


@dataclass(frozen=True)
class Cell:
    """Cases that are measured in alternation, and their goals."""

    label: str
    cases: tuple[Case, ...]
    plan: Plan
    goals: tuple[Goal, ...] = ()


@dataclass(frozen=True)
class Question:
    """One question.

    - `figures` are in the order of the columns.
    - `cells` returns the cells of a full run, or, given True, of a quick run.
    - `measure` takes one sample of a case.
    - `start_s` is how long a sample takes beside its warm-up and window, for the estimate of the time.
    - `in_whole_quick_run` is False if a quick run asks it only when it is named: the others take the minute that there
      is.
    """

    name: str
    title: str
    figures: tuple[str, ...]
    cells: Callable[[bool], tuple[Cell, ...]]
    measure: Callable[[Case, Plan], Sample]
    start_s: float = 0.4
    note: str = ""
    in_whole_quick_run: bool = True

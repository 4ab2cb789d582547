"""The vocabulary of a question: cells, the cases that alternate in them, the figures taken and the goals set.

A question is a table, not a program: `run.py` walks it, `report.py` prints it. What is particular to a question is its
`measure`, which takes one sample of one case.
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
    """How a number of a sample is printed: `value * scale`, in whole numbers or to about three digits."""

    heading: str
    scale: float = 1.0
    whole: bool = False


FIGURES: Mapping[str, Figure] = MappingProxyType(
    {
        "rate_per_s": Figure("thousand/s", 1e-3),
        "megabytes_per_s": Figure("MB/s"),
        "cpu_ns": Figure("CPU ns/message", whole=True),
        "cpu_percent": Figure("CPU % of a core"),
        "p50_us": Figure("p50 us"),
        "p99_us": Figure("p99 us"),
        "resident_mib": Figure("memory MiB"),
        "threads": Figure("threads", whole=True),
    }
)


@dataclass(frozen=True)
class Plan:
    """How often and how long: `rounds` alternations, each a warm-up and a measured window."""

    rounds: int
    warm_up_s: float
    window_s: float


@dataclass(frozen=True)
class Case:
    """What is measured in turn with the others of its cell; `label` is unique there."""

    peer: Peer
    work: Work
    label: str

    @classmethod
    def of(cls, peer: Peer, work: Work) -> Case:
        """The case that is called as its peer is."""
        return cls(peer, work, peer.name)


@dataclass(frozen=True)
class Goal:
    """A bound for a figure of case `of`: as a ratio to case `to`, or for the figure itself where there is no `to`."""

    figure: str
    of: str
    to: str | None
    bound: float
    at_least: bool

    def reached_by(self, value: float) -> bool:
        """Whether a median is within the bound."""
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        comparison = "at least" if self.at_least else "at most"
        what = FIGURES[self.figure].heading
        return f"{what}: {self.of} {f'/ {self.to} ' if self.to else ''}{comparison} {self.bound:g}"


@dataclass(frozen=True)
class Cell:
    """Cases that are measured in alternation, and what is expected of them."""

    label: str
    cases: tuple[Case, ...]
    plan: Plan
    goals: tuple[Goal, ...] = ()


@dataclass(frozen=True)
class Question:
    """One question: its cells, full or quick; its figures in the order of the columns; how one sample is taken.

    `start_s` is what a sample takes beside its warm-up and window, for the estimate of the time.
    """

    name: str
    title: str
    figures: tuple[str, ...]
    cells: Callable[[bool], tuple[Cell, ...]]
    measure: Callable[[Case, Plan], Sample]
    start_s: float = 0.4
    note: str = ""

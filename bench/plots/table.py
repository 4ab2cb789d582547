"""The table of the plots. Each plot is drawn for every question that has data for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Axis:
    """The x axis of a plot: the sum of some fields of the work, times `scale`. The field `varies` differs within a
    panel.

    Work without the field that varies, or in which it has its default, has no place on the axis.
    """

    label: str
    fields: tuple[str, ...]
    varies: str
    in_bytes: bool = False
    scale: float = 1.0


SIZE = Axis("size of a frame", ("size",), "size", in_bytes=True)
PAIRS = Axis("pairs", ("pairs",), "pairs")
IDLE = Axis("pairs, one of them busy", ("pairs", "idle_pairs"), "idle_pairs")
BURST = Axis("burst_messages of the engine", ("burst_messages",), "burst_messages")
MARK = Axis("high-water mark of the broker's sockets", ("mark",), "mark")
SPIN = Axis("spin_s of the engine, us", ("spin_s",), "spin_s", scale=1e6)


@dataclass(frozen=True)
class LinePlot:
    """One line for each peer along an axis; a row of panels for each figure."""

    name: str
    axis: Axis
    figures: tuple[str, ...]


@dataclass(frozen=True)
class BarPlot:
    """One bar for each case, one panel for each cell in which at least `peers` brokers are compared."""

    name: str
    figure: str
    peers: int


PLOTS: tuple[LinePlot | BarPlot, ...] = (
    LinePlot("rate-by-size", SIZE, ("rate_per_s",)),
    LinePlot("cpu-by-size", SIZE, ("cpu_ns",)),
    LinePlot("rate-and-cpu-by-pairs", PAIRS, ("rate_per_s", "cpu_ns")),
    LinePlot("round-trip-by-pairs", IDLE, ("p50_us", "p99_us")),
    LinePlot("memory-by-pairs", PAIRS, ("resident_mib", "kib_per_pair")),
    LinePlot("memory-by-idle-pairs", IDLE, ("resident_mib", "kib_per_pair")),
    LinePlot("time-by-pairs", PAIRS, ("p50_ms", "worst_ms")),
    LinePlot("rate-and-cpu-by-burst", BURST, ("rate_per_s", "cpu_ns", "p99_ms")),
    LinePlot("rate-and-cpu-by-mark", MARK, ("rate_per_s", "cpu_ns")),
    LinePlot("round-trip-by-spin", SPIN, ("p50_us", "cpu_ns")),
    BarPlot("peers", "rate_per_s", peers=3),
)

# Where the heading of a column is too short to stand alone on an axis.
AXIS_LABELS: Mapping[str, str] = MappingProxyType(
    {
        "rate_per_s": "thousand messages/s",
        "cpu_ns": "CPU of the broker, ns/message",
        "p50_us": "round trip p50, us",
        "p99_us": "round trip p99, us",
        "resident_mib": "resident memory, MiB",
        "p50_ms": "p50, ms",
        "p99_ms": "control p99, ms",
        "worst_ms": "worst, ms",
        "kib_per_pair": "resident memory, KiB/pair",
    }
)

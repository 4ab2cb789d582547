"""What the rate questions share: a sample of messages per second and CPU per message, and the grid of sizes."""

from __future__ import annotations

from bench.peers.table import NATIVE, NONE, PROXY, Peer
from bench.question import Case, Cell, Goal, Plan, Sample
from bench.rig import Rig, Window
from bench.work import Work

HEADLINE = Plan(rounds=5, warm_up_s=0.4, window_s=1.0)
GRID = Plan(rounds=5, warm_up_s=0.3, window_s=0.7)
QUICK = Plan(rounds=1, warm_up_s=0.2, window_s=0.4)

FIGURES = ("rate_per_s", "megabytes_per_s", "cpu_ns")
SIZES = {"16 B": 16, "64 B": 64, "1 KiB": 1 << 10, "64 KiB": 1 << 16, "1 MiB": 1 << 20}
TRANSPORTS = ("tcp", "ipc", "inproc")
EVERYWHERE = tuple((transport, size) for transport in TRANSPORTS for size in SIZES)
HEADLINE_CELL = ("tcp", "64 B")
PEERS = (NATIVE, PROXY, NONE)
NOT_SLOWER = (Goal("rate_per_s", NATIVE.name, PROXY.name, 1.0, at_least=True),)
NOTE = "Of inproc, CPU includes the load, which shares the broker's process."


def measure(case: Case, plan: Plan) -> Sample:
    """Messages per second where they are counted, and CPU time of the broker's process over the same window."""
    with Rig(case.peer, case.work) as rig:
        rig.start()
        window = rig.window(plan.warm_up_s, plan.window_s)
    return figures_of(window, case.work)


def figures_of(window: Window, work: Work) -> Sample:
    """The figures of one window. There is no CPU per message without a broker, or without a message."""
    sample = {
        "rate_per_s": window.rate_per_s,
        "megabytes_per_s": window.rate_per_s * work.size * work.frames / 1e6,
    }
    if window.broker is not None and window.rate_per_s:
        sample["cpu_ns"] = window.cpu_share / window.rate_per_s * 1e9
    if work.traffic == "forwarder" and window.rate_per_s:
        sample["delivered_percent"] = 100 * window.rate_per_s / (window.rate_per_s + window.missed_per_s)
    return sample


def grid(
    traffic: str,
    headline_goals: tuple[Goal, ...],
    *,
    quick: bool,
    places: tuple[tuple[str, str], ...] = EVERYWHERE,
    headline_peers: tuple[Peer, ...] = PEERS,
) -> tuple[Cell, ...]:
    """Cells for sizes and transports (`places`), with the goal not to be slower than `zmq.proxy`. Quick: the headline
    cell."""
    cells = []
    for transport, label in places:
        headline = (transport, label) == HEADLINE_CELL
        if quick and not headline:
            continue
        work = Work(traffic, transport=transport, size=SIZES[label])
        goals = headline_goals if headline else NOT_SLOWER
        plan = QUICK if quick else HEADLINE if headline else GRID
        cases = tuple(Case.of(peer, work) for peer in (headline_peers if headline else PEERS))
        cells.append(Cell(f"{transport} {label}", cases, plan, goals))
    return tuple(cells)

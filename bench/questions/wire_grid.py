"""Are ports of the wire faster than `zmq.proxy` at every size of message, over tcp and ipc, for every device?"""

from __future__ import annotations

from bench.peers.table import PROXY, WIRE
from bench.question import Case, Cell, Goal, Plan, Question
from bench.questions import rates
from bench.work import Work

DEVICES = {"STREAMER": "streamer", "QUEUE, requests": "requests", "QUEUE, replies": "queue", "FORWARDER": "forwarder"}
"""The traffic through each device, by the name that the tables print."""
TRANSPORTS = ("tcp", "ipc")
PEERS = (WIRE, PROXY)
QUICK = Plan(rounds=1, warm_up_s=0.1, window_s=0.2)
NOT_SLOWER = (Goal("rate_per_s", WIRE.name, PROXY.name, 1.0, at_least=True),)


def cells(quick: bool) -> tuple[Cell, ...]:
    """A cell for each device, transport and size. Quick: the headline cell of a STREAMER."""
    if quick:
        return (_cell("STREAMER", *rates.HEADLINE_CELL, quick=True),)
    return tuple(
        _cell(device, transport, size, quick=False)
        for device in DEVICES
        for transport in TRANSPORTS
        for size in rates.SIZES
    )


def _cell(device: str, transport: str, size: str, *, quick: bool) -> Cell:
    work = Work(DEVICES[device], transport=transport, size=rates.SIZES[size])
    plan = QUICK if quick else rates.GRID
    return Cell(f"{device}, {transport} {size}", tuple(Case.of(peer, work) for peer in PEERS), plan, NOT_SLOWER)


QUESTION = Question(
    name="wire-grid",
    title="Ports of the wire beside zmq.proxy: every device, tcp and ipc, 16 B to 1 MiB",
    figures=rates.FIGURES,
    cells=cells,
    measure=rates.measure,
)

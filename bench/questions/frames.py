"""What do more frames a message cost, one way through a STREAMER and through a QUEUE?"""

from __future__ import annotations

from bench.peers.table import NATIVE, PROXY
from bench.question import Case, Cell, Question
from bench.questions import rates
from bench.work import Work

FRAMES = (1, 3, 8)
QUICK_FRAMES = (8,)
DEVICES = {"STREAMER": "streamer", "QUEUE": "requests"}
QUICK_DEVICES = {"STREAMER": "streamer"}


def cells(quick: bool) -> tuple[Cell, ...]:
    """64 bytes each frame over tcp; a queue adds two frames, the routing id and an empty one."""
    return tuple(
        Cell(
            f"{device}, {frames} frame{'s' if frames > 1 else ''}",
            tuple(Case.of(peer, Work(traffic, frames=frames)) for peer in (NATIVE, PROXY)),
            rates.QUICK if quick else rates.GRID,
            rates.NOT_SLOWER,
        )
        for device, traffic in (QUICK_DEVICES if quick else DEVICES).items()
        for frames in (QUICK_FRAMES if quick else FRAMES)
    )


QUESTION = Question(
    name="frames",
    title="Messages of several frames of 64 bytes, one way over tcp",
    figures=rates.FIGURES,
    cells=cells,
    measure=rates.measure,
)

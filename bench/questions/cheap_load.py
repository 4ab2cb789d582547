"""What limits one STREAMER when the source and the sink take very little CPU time?

Clients on libzmq take about as much CPU time for a message as a broker does, and then three processes share two cores.
Here the source and the sink speak ZMTP without libzmq (`load/wire.c`), so a broker has a core for each of its threads.
There are no goals, because the limit is then libzmq's I/O thread, which is the same for every broker, including the
bare loop.
"""

from __future__ import annotations

from bench.peers.table import BARE, NATIVE, NONE, PROXY
from bench.question import Case, Cell, Question
from bench.questions import rates
from bench.work import Work

SIZES = ("64 B", "1 KiB")
PEERS = (NATIVE, PROXY, BARE, NONE)


def cells(quick: bool) -> tuple[Cell, ...]:
    """PUSH to PULL over tcp, one frame a message."""
    return tuple(
        Cell(
            f"tcp {size}",
            tuple(Case.of(peer, Work("wire", size=rates.SIZES[size])) for peer in PEERS),
            rates.QUICK if quick else rates.HEADLINE,
        )
        for size in (SIZES[:1] if quick else SIZES)
    )


QUESTION = Question(
    name="cheap-load",
    title="One STREAMER, with a source and a sink that cost next to nothing",
    figures=rates.FIGURES,
    cells=cells,
    measure=rates.measure,
)

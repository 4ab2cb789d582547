"""What limits one STREAMER when source and sink cost next to nothing?

With clients on libzmq, which spend about as much on a message as a broker does, three processes share two cores. Here
source and sink speak ZMTP themselves (`load/wire.c`), so a broker has a core for each of its threads. No goals: what is
seen then is libzmq's I/O thread, which reads and writes for every broker on it, the bare loop included.
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

"""How many messages a second does one FORWARDER deliver, to one subscriber and to ten, and what does one cost?

An XPUB drops messages for subscribers that are too slow, so a broker that loses many messages could look fast.
Therefore the publisher waits for the slowest subscriber (`load/publish.c`), and the rate, summed over the subscribers,
is what can be published without loss. In one cell the publisher does not wait: there `delivered %` says how many of the
messages arrived.
"""

from __future__ import annotations

from bench.peers.table import NATIVE, NONE, PROXY
from bench.question import Case, Cell, Question
from bench.questions import rates
from bench.work import Work

TOPICS = 10
PLACES = (*(("tcp", size) for size in rates.SIZES), ("ipc", "64 B"), ("inproc", "64 B"))
WIDE_SIZES = ("64 B", "1 KiB")


def cells(quick: bool) -> tuple[Cell, ...]:
    """One subscriber over sizes and transports; ten, and one that wants a tenth, over tcp."""
    one = rates.grid("forwarder", rates.NOT_SLOWER, quick=quick, places=PLACES)
    if quick:
        return one
    wide = [
        cell
        for size in WIDE_SIZES
        for cell in (
            _cell(f"10 subscribers, tcp {size}", Work("forwarder", size=rates.SIZES[size], subscribers=10)),
            _cell(f"1 topic of 10, tcp {size}", Work("forwarder", size=rates.SIZES[size], topics=TOPICS)),
        )
    ]
    each = _cell("10 subscribers, 1 topic each, tcp 64 B", Work("forwarder", subscribers=TOPICS, topics=TOPICS))
    # This cell has no goal and, because of its labels, is not in the mean over the grid: the brokers lose different
    # numbers of messages, so their rates cannot be compared.
    lossy = Work("forwarder", paced=False)
    cases = tuple(Case(peer, lossy, f"{peer.name}, not waiting") for peer in rates.PEERS)
    return (*one, *wide, each, Cell("with loss, tcp 64 B", cases, rates.GRID))


def _cell(label: str, work: Work) -> Cell:
    # Without a broker a publisher would have to connect to ten subscribers, which is not what is measured here.
    peers = (NATIVE, PROXY, NONE) if work.subscribers == 1 else (NATIVE, PROXY)
    return Cell(label, tuple(Case.of(peer, work) for peer in peers), rates.GRID, rates.NOT_SLOWER)


QUESTION = Question(
    name="forwarder-rate",
    title="One FORWARDER, PUB to SUB; every message counts for each subscriber that it reaches",
    figures=("rate_per_s", "delivered_percent", "megabytes_per_s", "cpu_ns"),
    cells=cells,
    measure=rates.measure,
    note=f"{rates.NOTE} Of a topic of 10, libzmq's PUB sends only what is subscribed to.",
)

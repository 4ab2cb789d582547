"""Answers to questions of the bench, made up for its tests."""

from bench.peers.table import NATIVE, PROXY, Peer
from bench.question import Goal, Sample
from bench.results import CaseResult, CellResult, Origin, QuestionResult, Results, Verdict
from bench.work import Work

ORIGIN = Origin("2030-01-01T00:00:00+00:00", {"processor": "A processor", "cores": 2}, {"libzmq": "4"})
FASTER = Goal("rate_per_s", NATIVE.name, PROXY.name, 1.5, at_least=True)


def rates(peer: Peer, *per_s: float, work: Work | None = None) -> CaseResult:
    """A case with so many messages/s, one figure a round."""
    samples: list[Sample] = [{"rate_per_s": rate} for rate in per_s]
    return CaseResult(peer.name, peer.name, (work or Work("streamer")).described(), samples)


def answer(name: str, *cells: CellResult) -> QuestionResult:
    return QuestionResult(name, f"About {name}", "A note.", ["rate_per_s", "p50_us"], ORIGIN, 10.0, 11.0, list(cells))


def run_of(*questions: QuestionResult) -> Results:
    goals = [Verdict("over all | of it", 1.4, True, [1.3, 1.5, 1.6])]
    return Results("latest", 9.0, 9.5, True, [*questions], goals)

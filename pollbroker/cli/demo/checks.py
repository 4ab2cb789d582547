"""The demo's checks: every message that was sent arrived, and the engine counted what the peers counted.

All functions here are pure.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pollbroker.cli.demo.workload import Report, Tallies, Tally, merge_tallies
from pollbroker.statistics import BrokerStatistics

BROKER_ROLES: Final = (
    ("queue", ("client", "pipeliner"), "worker"),
    ("forwarder", ("publisher",), "subscriber"),
    ("streamer", ("pusher",), "puller"),
)
"""Each broker of the demo, with the roles of the peers that send to it and the role of the peers that receive from
it."""


@dataclass(frozen=True)
class Check:
    """One claim, and whether it is true."""

    claim: str
    messages: int
    """How many messages the claim is about."""
    wrong: tuple[str, ...] = ()
    """What was found instead, if the claim is not true."""

    @property
    def holds(self) -> bool:
        """Return True if nothing was wrong. A claim about no message says nothing, so then this is False."""
        return self.messages > 0 and not self.wrong


@dataclass(frozen=True)
class Sum:
    """The numbers of messages that passed one broker from frontend to backend."""

    broker: str
    sent: int
    """Messages that the sources sent. Of a publisher's messages only those count to which a subscriber has
    subscribed."""
    received: int
    """Messages that the broker received."""
    sent_on: int
    """Messages that the broker sent on."""
    expected: int
    """Messages that should arrive at the sinks. A message for two subscribers counts twice."""
    arrived: int
    """Messages that arrived at the sinks."""


def sum_up(
    reports: Sequence[Report], brokers: Mapping[str, BrokerStatistics], wanted: Mapping[int, Sequence[str]]
) -> list[Sum]:
    """Return the sums of all brokers. For `wanted` see `check_all`."""
    takers = Counter(stream for streams in wanted.values() for stream in streams)
    sums = []
    for broker, sources, sink in BROKER_ROLES:
        sent = [item for report in reports if report.role in sources for item in report.tallies.items()]
        is_published = "publisher" in sources
        flow = brokers[broker].flows["frontend"]
        sums.append(
            Sum(
                broker=broker,
                sent=sum(tally.count for stream, tally in sent if takers[stream] or not is_published),
                received=flow.received,
                sent_on=flow.sent,
                expected=sum(tally.count * (takers[stream] if is_published else 1) for stream, tally in sent),
                arrived=sum(report.count for report in reports if report.role == sink),
            )
        )
    return sums


def count_unwanted(reports: Iterable[Report], wanted: Mapping[int, Sequence[str]]) -> int:
    """Return how many messages the publishers sent to which no subscriber has subscribed. For `wanted` see
    `check_all`."""
    streams = {stream for streams in wanted.values() for stream in streams}
    sent = [item for report in reports if report.role == "publisher" for item in report.tallies.items()]
    return sum(tally.count for stream, tally in sent if stream not in streams)


def check_all(
    reports: Sequence[Report], brokers: Mapping[str, BrokerStatistics], wanted: Mapping[int, Sequence[str]]
) -> list[Check]:
    """Make all checks.

    Arguments:
        reports: the reports of all peers.
        brokers: the final statistics of the brokers.
        wanted: the streams that each subscriber should receive, by the subscriber's number.
    """
    by_role: dict[str, list[Report]] = {}
    for report in reports:
        by_role.setdefault(report.role, []).append(report)
    clients, workers, publishers = by_role["client"] + by_role["pipeliner"], by_role["worker"], by_role["publisher"]
    pushers, pullers, subscribers = by_role["pusher"], by_role["puller"], by_role["subscriber"]
    totals = {one.broker: one for one in sum_up(reports, brokers, wanted)}
    sums = {broker: one.sent for broker, one in totals.items()}
    probes = sum(report.probes for report in publishers)
    topics = {stream[0] for streams in wanted.values() for stream in streams}
    return [
        Check("queue: every request was answered, by its own reply", sums["queue"], tuple(wrong_replies(clients))),
        Check(
            "queue: every request was worked on once, and in order",
            sums["queue"],
            (*_differences(_merged(clients), _merged(workers)), *_disorder(workers)),
        ),
        Check(
            "forwarder: every subscriber got all of its topics and nothing else, once and in order",
            totals["forwarder"].expected,
            (*_wrong_deliveries(publishers, subscribers, wanted), *_disorder(subscribers)),
        ),
        Check(
            "streamer: everything pushed was pulled, once and in order",
            sums["streamer"],
            (*_differences(_merged(pushers), _merged(pullers)), *_disorder(pullers)),
        ),
        Check(
            "engine: it counted what the peers counted, and dropped nothing",
            sum(sums.values()),
            (
                *_miscounts(brokers["queue"], {"frontend": sums["queue"], "backend": sums["queue"]}),
                # Messages without a subscriber do not reach the broker. Of the subscriptions to a topic only the first
                # is passed on.
                *_miscounts(brokers["forwarder"], {"frontend": sums["forwarder"] + probes, "backend": len(topics)}),
                *_miscounts(brokers["streamer"], {"frontend": sums["streamer"]}),
            ),
        ),
    ]


def _merged(reports: Iterable[Report]) -> Tallies:
    return merge_tallies(report.tallies for report in reports)


def wrong_replies(clients: Iterable[Report]) -> Iterator[str]:
    """Describe each client that did not get its own reply to every request."""
    for report in clients:
        if report.replies != report.count:
            yield f"{report.role} {report.number}: {report.replies} replies to {report.count} requests"
        if report.wrong:
            yield f"{report.role} {report.number}: {report.wrong} replies were not its own"


def _differences(expected: Mapping[str, Tally], found: Mapping[str, Tally]) -> Iterator[str]:
    """Describe each stream of which other messages arrived than were sent."""
    for stream in sorted(expected.keys() | found.keys()):
        there, here = expected.get(stream, Tally()), found.get(stream, Tally())
        if not there.same_messages(here):
            but = ", but not the same ones" if there.count == here.count else ""
            yield f"stream {stream}: {there.count} sent, {here.count} arrived{but}"


def _disorder(sinks: Iterable[Report]) -> Iterator[str]:
    for report in sinks:
        for stream, tally in report.tallies.items():
            if tally.disordered:
                yield f"{report.role} {report.number}: stream {stream}: {tally.disordered} not in order"


def _wrong_deliveries(
    publishers: Iterable[Report], subscribers: Iterable[Report], wanted: Mapping[int, Sequence[str]]
) -> Iterator[str]:
    sent = _merged(publishers)
    for report in subscribers:
        expected = {stream: tally for stream, tally in sent.items() if stream in wanted[report.number]}
        for difference in _differences(expected, report.tallies):
            yield f"subscriber {report.number}: {difference}"


def _miscounts(broker: BrokerStatistics, expected: Mapping[str, int]) -> Iterator[str]:
    for source, number in expected.items():
        flow = broker.flows[source]
        if (flow.received, flow.sent, flow.held, flow.dropped) != (number, number, 0, 0):
            yield (
                f"{broker.name}.{source}: {flow.received} received, {flow.sent} sent, {flow.held} held, "
                f"{flow.dropped} dropped; the peers counted {number}"
            )

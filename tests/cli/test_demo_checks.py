"""The demo's account of messages, and what its checks notice."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pollbroker.cli.demo.checks import Check, check_all, count_unwanted, sum_up
from pollbroker.cli.demo.comparison import check_of_absence
from pollbroker.cli.demo.steering import Added, Paused
from pollbroker.cli.demo.workload import (
    Report,
    Tallies,
    Tally,
    add_to_tallies,
    is_probe,
    make_body,
    merge_tallies,
    report_from_json,
)
from pollbroker.statistics import BrokerStatistics, FlowStatistics

# -- the account of messages -------------------------------------------------------------------------------------------


WANTED = {0: ("a0", "a1"), 1: ("a0", "a1", "b0", "b1")}

numbers = st.lists(st.integers(1, 1000), min_size=1, max_size=30, unique=True).map(sorted)


def tally_of(stream: str, numbers: Sequence[int]) -> Tally:
    """What counting these messages, in this order, comes to."""
    tally = Tally()
    for number in numbers:
        tally.add([make_body(stream, number)])
    return tally


# However the messages are spread over sinks and bursts, their tallies together equal the source's.
@given(numbers, st.data())
def test_tallies_of_the_same_messages_agree(sent: list[int], data: st.DataObject) -> None:
    sinks: list[Tallies] = [{}, {}]
    left = sent
    while left:
        size = data.draw(st.integers(1, len(left)))
        add_to_tallies(sinks[data.draw(st.integers(0, 1))], [make_body("s0", number) for number in left[:size]])
        left = left[size:]
    merged = merge_tallies(sinks)["s0"]
    assert merged.same_messages(tally_of("s0", sent))
    assert merged.disordered == 0


# A message lost, doubled, taken for another or changed in one byte makes a different tally.
@given(numbers, st.data())
def test_tallies_of_other_messages_differ(sent: list[int], data: st.DataObject) -> None:
    bodies = [make_body("s0", number) for number in sent]
    at = data.draw(st.integers(0, len(bodies) - 1))
    changed = bytearray(bodies[at])
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    other = make_body("s0", data.draw(st.integers(1001, 2000)))
    for instead in ([], [bodies[at]] * 2, [bytes(changed)], [other]):
        tally = Tally()
        tally.add(bodies[:at] + instead + bodies[at + 1 :])
        assert not tally.same_messages(tally_of("s0", sent))


# Messages out of order are the same messages, and are seen to be out of order; so is one that comes twice.
@given(numbers, st.data())
def test_tallies_count_messages_that_are_out_of_order(sent: list[int], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(sent))
    tally = tally_of("s0", shuffled)
    assert tally.same_messages(tally_of("s0", sent))
    assert (tally.disordered == 0) is (shuffled == sent)
    assert tally_of("s0", [*sent, sent[-1]]).disordered == 1


def test_only_the_number_0_is_a_probe() -> None:
    assert is_probe(make_body("a0", 0))
    assert not any(is_probe(make_body("a0", number)) for number in (1, 256, 1 << 56))


def test_a_report_survives_json() -> None:
    report = Report("client", 1, {"r1": tally_of("r1", [1, 3, 2])}, replies=3, wrong=1)
    again = report_from_json(report.as_json())
    assert again.tallies["r1"].same_messages(report.tallies["r1"])
    assert again.tallies["r1"].disordered == 1
    assert replace(again, tallies={}) == replace(report, tallies={})


# -- the checks --------------------------------------------------------------------------------------------------------


def sound_reports() -> dict[tuple[str, int], Report]:
    """What all peers report when all goes well: three messages in each stream."""

    def report(role: str, number: int, *streams: str, messages: Sequence[int] = (1, 2, 3), **more: int) -> Report:
        return Report(role, number, {stream: tally_of(stream, messages) for stream in streams}, **more)

    several = [
        report("client", 0, "r0", replies=3),
        report("pipeliner", 1, "p1", replies=3),
        *(report("publisher", i, f"a{i}", f"b{i}", f"c{i}", probes=4) for i in (0, 1)),
        *(report("pusher", i, f"s{i}") for i in (0, 1)),
        report("worker", 0, "r0", "p1", messages=(1, 3)),
        report("worker", 1, "r0", "p1", messages=(2,)),
        *(report("subscriber", i, *WANTED[i]) for i in (0, 1)),
        report("puller", 0, "s0", "s1", messages=(2, 3)),
        report("puller", 1, "s0", "s1", messages=(1,)),
    ]
    return {(one.role, one.number): one for one in several}


def sound_brokers() -> dict[str, BrokerStatistics]:
    """What the engine has counted then."""

    def broker(name: str, **counts: int) -> BrokerStatistics:
        flows = {port: FlowStatistics(source=port, received=count, sent=count) for port, count in counts.items()}
        return BrokerStatistics(name, name, "running", None, flows)

    brokers = (
        broker("queue", frontend=6, backend=6),
        broker("forwarder", frontend=4 * 3 + 2 * 4, backend=2),
        broker("streamer", frontend=6),
    )
    return {one.name: one for one in brokers}


def test_a_check_of_no_message_does_not_hold() -> None:
    reports = [replace(report, tallies={}, replies=0) for report in sound_reports().values()]
    flows = {"frontend": FlowStatistics(source="frontend"), "backend": FlowStatistics(source="backend")}
    brokers = {name: replace(broker, flows=flows) for name, broker in sound_brokers().items()}
    probed = {
        "frontend": replace(flows["frontend"], received=8, sent=8),
        "backend": replace(flows["backend"], received=2, sent=2),
    }
    brokers["forwarder"] = replace(brokers["forwarder"], flows=probed)
    checks = check_all(reports, brokers, WANTED)
    assert [(check.holds, check.messages, check.wrong) for check in checks] == [(False, 0, ())] * 5


def failed(reports: Mapping[tuple[str, int], Report], brokers: Mapping[str, BrokerStatistics]) -> list[Check]:
    """The checks that do not hold."""
    return [check for check in check_all(list(reports.values()), brokers, WANTED) if not check.holds]


def test_checks_hold_when_all_goes_well() -> None:
    assert failed(sound_reports(), sound_brokers()) == []
    assert len(check_all(list(sound_reports().values()), sound_brokers(), WANTED)) == 5


@pytest.mark.parametrize(
    ("role", "stream", "arrived", "claim", "wrong"),
    [
        ("worker", "r0", [1], "queue: every request was worked on once", "stream r0: 3 sent, 2 arrived"),
        ("worker", "p1", [1, 3, 3], "queue: every request was worked on once", "worker 0: stream p1: 1 not in order"),
        ("worker", "p1", [3, 1], "queue: every request was worked on once", "worker 0: stream p1: 1 not in order"),
        ("puller", "s1", [3], "streamer: everything pushed was pulled", "stream s1: 3 sent, 2 arrived"),
        ("puller", "s0", [2, 4], "streamer: everything pushed was pulled", "3 sent, 3 arrived, but not the same ones"),
        ("puller", "s0", [1, 2, 3], "streamer: everything pushed was pulled", "stream s0: 3 sent, 4 arrived"),
        ("puller", "s2", [1], "streamer: everything pushed was pulled", "stream s2: 0 sent, 1 arrived"),
        ("subscriber", "a1", [1, 3], "forwarder: every subscriber got", "subscriber 0: stream a1: 3 sent, 2 arrived"),
        ("subscriber", "a0", [2, 1, 3], "forwarder: every subscriber got", "subscriber 0: stream a0: 1 not in order"),
        ("subscriber", "b0", [1], "forwarder: every subscriber got", "subscriber 0: stream b0: 0 sent, 1 arrived"),
        ("subscriber", "c0", [1], "forwarder: every subscriber got", "subscriber 0: stream c0: 0 sent, 1 arrived"),
    ],
)
def test_a_sink_that_got_something_else_is_noticed(
    role: str, stream: str, arrived: list[int], claim: str, wrong: str
) -> None:
    reports = sound_reports()
    tallies = {**reports[role, 0].tallies, stream: tally_of(stream, arrived)}
    reports[role, 0] = replace(reports[role, 0], tallies=tallies)
    (check,) = failed(reports, sound_brokers())
    assert check.claim.startswith(claim)
    assert any(wrong in text for text in check.wrong)


@pytest.mark.parametrize("who", [("client", 0), ("pipeliner", 1)])
@pytest.mark.parametrize(
    ("change", "wrong"),
    [({"replies": 2}, "2 replies to 3 requests"), ({"wrong": 1}, "1 replies were not its own")],
)
def test_a_request_without_its_own_reply_is_noticed(who: tuple[str, int], change: dict[str, Any], wrong: str) -> None:
    reports = sound_reports()
    reports[who] = replace(reports[who], **change)
    (check,) = failed(reports, sound_brokers())
    expected = (f"{who[0]} {who[1]}: {wrong}",)
    assert (check.claim, check.wrong) == ("queue: every request was answered, by its own reply", expected)


@pytest.mark.parametrize("broker", ["queue", "forwarder", "streamer"])
@pytest.mark.parametrize("change", [{"received": 1}, {"sent": 1}, {"held": 1}, {"unroutable": 1}])
def test_an_engine_that_counted_something_else_is_noticed(broker: str, change: dict[str, Any]) -> None:
    for port in sound_brokers()[broker].flows:
        brokers = sound_brokers()
        flows = dict(brokers[broker].flows)
        flows[port] = replace(flows[port], **change)
        brokers[broker] = replace(brokers[broker], flows=flows)
        (check,) = failed(sound_reports(), brokers)
        assert check.claim.startswith("engine: ")
        assert check.wrong[0].startswith(f"{broker}.{port}: ")


def test_sums_count_a_message_for_two_subscribers_twice() -> None:
    reports = list(sound_reports().values())
    queue, forwarder, streamer = sum_up(reports, sound_brokers(), WANTED)
    assert (queue.sent, queue.expected, queue.arrived) == (6, 6, 6)
    assert (forwarder.sent, forwarder.expected, forwarder.arrived) == (12, 18, 18)
    assert (streamer.sent, streamer.received, streamer.sent_on, streamer.arrived) == (6, 6, 6, 6)
    assert count_unwanted(reports, WANTED) == 6


# -- the checks of what the demo does to its brokers -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moved", "others", "lost", "holds"),
    [(0, 9, 0, True), (1, 9, 0, False), (0, 0, 0, False), (0, 9, 1, False)],
)
def test_pause_must_stop_one_broker_and_no_other_and_lose_nothing(
    moved: int, others: int, lost: int, holds: bool
) -> None:
    assert Paused(moved, others).check(lost).holds is holds


@pytest.mark.parametrize(
    ("arrived", "counted", "others", "holds"),
    [(1000, 1000, 9, True), (999, 1000, 9, False), (1000, 999, 9, False), (1000, 1000, 0, False)],
)
def test_broker_that_was_added_must_deliver_and_count_beside_the_others(
    arrived: int, counted: int, others: int, holds: bool
) -> None:
    flow = FlowStatistics(source="frontend", received=counted, sent=counted)
    final = BrokerStatistics("added", "streamer", "removed", None, {"frontend": flow})
    assert Added(arrived, final, others).check().holds is holds


@pytest.mark.parametrize(
    ("cpu_s", "arrived", "holds"),
    [
        (0.01, [b"1", b"2"], True),
        (0.9, [b"1", b"2"], False),
        (0.01, [b"1"], False),
        (0.01, [b"2", b"1"], False),
        (0.01, [], False),
    ],
)
def test_waiting_for_a_consumer_must_cost_little_and_lose_nothing(
    cpu_s: float, arrived: list[bytes], holds: bool
) -> None:
    assert check_of_absence(cpu_s, 1.0, [b"1", b"2"], arrived).holds is holds

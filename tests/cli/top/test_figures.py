"""Figures are made of the last two documents of STATS."""

import pytest

from pollbroker.cli.top.figures import HISTORY, WAITS_OVER, Recent
from pollbroker.waits import WAIT_BOUNDS_S
from tests.cli.top.documents import broker, flow, stats, waits


def test_rates_are_those_of_the_last_interval() -> None:
    recent = Recent()
    recent.take(stats(broker("a", flow(received=100, sent=100, sent_bytes=1000)), turns=10), None)
    (first,) = recent.figures
    assert (first.received_s, first.sent_s, first.sent_bytes_s, recent.turns_s) == (0, 0, 0, 0)
    recent.take(
        stats(broker("a", flow(received=140, sent=130, sent_bytes=1800, stalled_s=0.5, slow_peer=4)), turns=30), 2.0
    )
    (second,) = recent.figures
    assert (second.received_s, second.sent_s, second.sent_bytes_s) == (20, 15, 400)
    assert (second.stalled, second.dropped, second.dropped_s, recent.turns_s) == (0.25, 4, 2, 10)
    assert second.rates == (0, 15)


def test_broker_that_was_replaced_begins_anew() -> None:
    recent = Recent()
    recent.take(stats(broker("a", flow(sent=100, waits=waits(first=100)))), None)
    recent.take(stats(broker("a", flow(sent=3, waits=waits(last=3)))), 1.0)
    (figures,) = recent.figures
    assert (figures.sent_s, figures.wait_p50_s) == (0, None)
    recent.take(stats(broker("a", flow(sent=5, waits=waits(last=5)))), 1.0)
    assert (recent.figures[0].sent_s, recent.figures[0].wait_p50_s) == (2, WAIT_BOUNDS_S[-1])


def test_another_engine_begins_anew() -> None:
    recent = Recent()
    recent.take(stats(broker("a", flow(sent=100)), turns=5), None)
    recent.take(stats(broker("a", flow(sent=200)), turns=9), None)
    assert (recent.figures[0].sent_s, recent.figures[0].rates, recent.turns_s) == (0, (0,), 0)


def test_waits_are_those_of_the_last_intervals() -> None:
    recent = Recent()
    recent.take(stats(broker("a", flow(waits=waits(last=7)))), None)
    recent.take(stats(broker("a", flow(waits=waits(last=7)))), 1.0)
    assert recent.figures[0].wait_p99_s is None  # nothing has moved
    recent.take(stats(broker("a", flow(waits=waits(first=1000, last=8)))), 1.0)
    assert recent.figures[0].wait_p99_s == pytest.approx(0.001 * 0.99 * 1001 / 1000)
    for _ in range(WAITS_OVER):
        recent.take(stats(broker("a", flow(waits=waits(first=1000, last=8)))), 1.0)
    assert recent.figures[0].wait_p99_s is None


def test_history_is_as_long_as_a_sparkline() -> None:
    recent = Recent()
    for number in range(HISTORY + 5):
        recent.take(stats(broker("a", flow(sent=number * number))), 1.0)
    assert len(recent.figures[0].rates) == HISTORY
    assert recent.figures[0].rates[-1] == (HISTORY + 4) ** 2 - (HISTORY + 3) ** 2


def test_state_is_that_of_the_broker_unless_it_runs() -> None:
    recent = Recent()
    paused = broker("b", flow(state="stalled"), state="paused")
    recent.take(stats(broker("a", flow(state="stalled")), paused), None)
    assert [one.state for one in recent.figures] == ["stalled", "paused"]


def test_peers_are_those_at_the_source_and_of_a_behaviour_all() -> None:
    recent = Recent()
    behaviour = broker("b", flow(source="behaviour"), peers=2)
    recent.take(stats(broker("a", flow(), flow(source="backend"), peers=3), behaviour, broker("c")), None)
    assert [(one.broker, one.peers) for one in recent.figures] == [("a", 3), ("a", 3), ("b", 4), ("c", None)]


def test_engine_that_tells_no_waits_is_shown_all_the_same() -> None:
    told = stats(broker("a", flow(sent=1)))
    del told["brokers"]["a"]["flows"]["frontend"]["waits"]
    recent = Recent()
    recent.take(told, None)
    assert recent.figures[0].wait_p50_s is None

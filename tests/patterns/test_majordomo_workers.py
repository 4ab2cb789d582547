"""Majordomo, driven by hand: workers that come and go, and what becomes of those that do not do what the RFCs say."""

import pytest

from pollbroker import Majordomo
from pollbroker.patterns.majordomo import mdp
from pollbroker.patterns.majordomo.mdp import PARTIAL, Version
from tests.patterns.majordomo_peers import VERSIONS, start
from tests.support.accounts import balanced


@pytest.mark.parametrize("version", VERSIONS)
def test_request_of_a_worker_that_leaves_goes_to_another_once(version: Version) -> None:
    peers = start()
    for worker in (b"w1", b"w2", b"w3"):
        peers.ready(worker, version=version)
    peers.ask(b"c", b"echo")
    assert peers.leave(b"w1", version) == [peers.given(b"w2", b"c", version=version)]
    assert peers.leave(b"w2", version) == []
    assert peers.driver.counters == {"ready": 3, "disconnected": 2, "given_again": 1, "abandoned": 1}
    assert peers.driver.account.held == 0
    assert peers.ask(b"c", b"echo") == [peers.given(b"w3", b"c", version=version)]


def test_request_that_is_given_again_comes_before_those_that_wait() -> None:
    peers = start()
    peers.ready(b"w1")
    peers.ask(b"a", b"echo")
    peers.ask(b"b", b"echo")
    assert peers.leave(b"w1") == []
    assert peers.driver.account.held == 2
    assert peers.ready(b"w2") == [peers.given(b"w2", b"a")]


def test_request_is_not_given_again_if_that_is_not_wanted() -> None:
    peers = start(give_again=False)
    peers.ready(b"w1")
    peers.ready(b"w2")
    peers.ask(b"c", b"echo")
    assert peers.leave(b"w1") == []
    assert peers.driver.counters == {"ready": 2, "disconnected": 1, "abandoned": 1}


def test_request_that_could_not_reach_its_worker_goes_to_the_next() -> None:
    peers = start(give_again=False)
    for worker in (b"w1", b"w2", b"w3"):
        peers.ready(worker)
    peers.driver.leave("frontend", b"w1")
    peers.driver.leave("frontend", b"w2")
    assert peers.ask(b"c", b"echo") == [peers.given(b"w3", b"c")]
    assert peers.driver.counters == {"ready": 3, "gone": 2, "given_again": 2}
    assert balanced(peers.driver.account)
    assert peers.driver.account.held == 1


def test_request_of_a_worker_that_a_heartbeat_does_not_reach_goes_to_another() -> None:
    peers = start(heartbeat_s=1.25)
    peers.ready(b"w1")
    peers.ask(b"c", b"echo")
    peers.ready(b"w2")
    peers.driver.leave("frontend", b"w1")
    assert peers.driver.advance(1.25) == [peers.heartbeat(b"w2"), peers.given(b"w2", b"c")]
    assert peers.driver.counters == {"ready": 2, "gone": 1, "given_again": 1}


def test_request_that_reached_no_second_worker_is_not_abandoned() -> None:
    peers = start(heartbeat_s=1.25)
    peers.ready(b"w1")
    peers.ask(b"c", b"echo")
    peers.ready(b"w2")
    peers.driver.leave("frontend", b"w1")
    peers.driver.leave("frontend", b"w2")
    peers.driver.advance(1.25)
    assert peers.driver.counters == {"ready": 2, "gone": 2, "given_again": 2}
    assert peers.ready(b"w3") == [peers.given(b"w3", b"c")]


def test_answer_to_a_client_that_has_left_is_counted_and_costs_nobody_else() -> None:
    peers = start()
    peers.ready(b"w")
    peers.ask(b"a", b"echo")
    peers.ask(b"b", b"echo")
    peers.driver.leave("frontend", b"a")
    assert peers.answer(b"w", b"a") == [peers.given(b"w", b"b")]
    assert peers.driver.account.unroutable == 1
    assert balanced(peers.driver.account)


def test_worker_that_has_left_is_not_forgotten_for_what_it_got_as_a_client() -> None:
    peers = start()
    peers.ready(b"w", b"front")
    peers.driver.leave("frontend", b"w")
    peers.ask(b"w", b"mmi.service", b"front")
    assert peers.driver.counters == {"ready": 1}


def test_worker_that_is_not_heard_of_is_no_longer_known() -> None:
    peers = start(heartbeat_s=1.25, liveness=3)
    peers.ready(b"w1")
    peers.ready(b"w2")
    peers.ask(b"c", b"echo")
    for _ in range(3):
        peers.driver.advance(1.25)
        peers.beat(b"w2")
    assert peers.driver.advance(0.125) == [peers.given(b"w2", b"c")]
    assert peers.driver.counters == {"ready": 2, "silent": 1, "given_again": 1}
    assert peers.answer(b"w1", b"c") == [peers.broken_off(b"w1")]
    assert peers.answer(b"w2", b"c") == [peers.answered(b"c")]
    assert peers.driver.counters["late"] == 1


def test_request_of_a_silent_worker_is_not_given_to_another_that_is_silent_too() -> None:
    peers = start(heartbeat_s=1.25, liveness=3)
    for worker in (b"w1", b"w2", b"w3"):
        peers.ready(worker)
    peers.ask(b"c", b"echo")
    for _ in range(3):
        peers.driver.advance(1.25)
        peers.beat(b"w3")
    assert peers.driver.advance(0.125) == [peers.given(b"w3", b"c")]
    assert peers.driver.counters == {"ready": 3, "silent": 2, "given_again": 1}


def test_request_waits_for_the_next_worker_if_all_are_silent_at_once() -> None:
    peers = start(heartbeat_s=1.25, liveness=3)
    for worker in (b"w1", b"w2", b"w3"):
        peers.ready(worker)
    peers.ask(b"a", b"echo")
    peers.driver.advance(4.0)
    assert peers.driver.counters == {"ready": 3, "silent": 3, "given_again": 1}
    assert peers.driver.account.held == 1
    assert peers.ready(b"w4") == [peers.given(b"w4", b"a")]


def test_any_message_of_a_worker_is_a_sign_of_life() -> None:
    peers = start(heartbeat_s=1.0, liveness=2)
    peers.ready(b"w", version=2)
    peers.ask(b"c", b"echo", version=2)
    for _ in range(5):
        peers.driver.advance(1.5)
        assert len(peers.answer(b"w", b"c", version=2, command=PARTIAL)) == 1
    peers.answer(b"w", b"c", version=2)
    peers.driver.advance(1.5)
    assert peers.ask(b"c", b"echo") != []


def test_worker_is_sent_a_heartbeat_unless_it_is_sent_something_else() -> None:
    peers = start(heartbeat_s=1.25, liveness=100)
    peers.ready(b"w1")
    peers.ready(b"w2", version=2)
    assert peers.driver.advance(1.125) == []
    assert peers.driver.advance(0.125) == [peers.heartbeat(b"w1"), peers.heartbeat(b"w2", 2)]
    peers.driver.advance(0.625)
    peers.ask(b"c", b"echo")
    assert peers.driver.advance(0.625) == [peers.heartbeat(b"w2", 2)]
    assert peers.driver.advance(0.625) == [peers.heartbeat(b"w1")]


def test_heartbeats_of_many_workers_are_spread_over_the_interval() -> None:
    peers = start(heartbeat_s=1.25, liveness=100)
    for number in range(10):
        peers.ready(b"%d" % number)
        peers.driver.advance(0.125)
    assert [len(peers.driver.advance(0.125)) for _ in range(20)] == [1] * 20


def test_broker_without_peers_sets_no_timer() -> None:
    peers = start(heartbeat_s=1.25, request_expiry_s=2.5)
    peers.ready(b"w")
    peers.leave(b"w")
    peers.ask(b"c", b"echo")
    peers.driver.advance(3.0)
    assert peers.driver.counters["expired"] == 1
    assert len(peers.driver._run.timers) == 0
    peers.ready(b"w")
    assert peers.driver.advance(1.25) == [peers.heartbeat(b"w")]


@pytest.mark.parametrize("version", VERSIONS)
def test_stranger_is_told_to_begin_again(version: Version) -> None:
    peers = start()
    assert peers.beat(b"w", version) == [peers.broken_off(b"w", version)]
    assert peers.answer(b"w", b"c", version=version) == [peers.broken_off(b"w", version)]
    assert peers.leave(b"w", version) == []
    assert peers.driver.counters == {"unknown": 1, "late": 1}


def test_ready_that_comes_twice_ends_the_connection() -> None:
    peers = start()
    peers.ready(b"w")
    assert peers.ready(b"w") == [peers.broken_off(b"w")]
    assert peers.ask(b"c", b"echo") == []
    assert peers.ready(b"w") == [peers.given(b"w", b"c")]
    assert peers.ready(b"w") == [peers.broken_off(b"w")]
    assert peers.driver.counters == {"ready": 2, "unexpected": 2, "given_again": 1}


def test_what_a_worker_may_not_say_ends_the_connection() -> None:
    peers = start()
    for wrong in (
        mdp.worker_reply(b"c", [b"answer"]),  # it has no request
        mdp.worker_heartbeat(2),  # of the other version
        mdp.worker_request(b"c", [b"question"]),
        [b"", b"MDPW01"],
        [b"", b"MDPW01", b"\6"],
        [b"", b"MDPW01", b"\3", b"c", b"", *[]],
        [b"", b"MDPW01", b"\3", b"c", b"full", b"answer"],
        [b"", b"MDPW01", b"\4", b"more"],
        [b"MDPW01", b"\4"],
    ):
        assert peers.ready(b"w") == []
        version: Version = 2 if wrong[0] == mdp.WORKER_2 else 1
        assert peers.say(b"w", wrong) == [peers.broken_off(b"w", version)]
    assert peers.driver.counters == {"ready": 9, "unexpected": 2, "malformed": 7}


def test_answer_that_comes_twice_does_not_go_to_the_next_client() -> None:
    peers = start()
    peers.ready(b"w")
    peers.ask(b"a", b"echo")
    peers.ask(b"b", b"echo")
    assert peers.answer(b"w", b"a") == [peers.answered(b"a"), peers.given(b"w", b"b")]
    assert peers.answer(b"w", b"a") == [peers.broken_off(b"w")]
    assert peers.ready(b"v") == [peers.given(b"v", b"b")]


def test_answer_that_comes_twice_is_unexpected_also_if_nobody_asks_next() -> None:
    peers = start()
    peers.ready(b"w")
    peers.ask(b"a", b"echo")
    peers.answer(b"w", b"a")
    assert peers.answer(b"w", b"a") == [peers.broken_off(b"w")]
    assert peers.driver.counters == {"ready": 1, "unexpected": 1}


def test_workers_are_told_that_the_broker_ends() -> None:
    peers = start()
    peers.ready(b"w1")
    peers.ready(b"w2", version=2)
    assert peers.driver.stop() == [peers.broken_off(b"w1"), peers.broken_off(b"w2", 2)]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_workers_say_at_the_end_is_no_loss_but_for_answers(version: Version) -> None:
    broker = Majordomo()
    for said in (mdp.worker_ready(b"echo", version), mdp.worker_heartbeat(version), mdp.worker_disconnect(version)):
        assert not broker.is_lost("frontend", [b"w", *said])
    assert broker.is_lost("frontend", [b"w", *mdp.worker_reply(b"c", [b"answer"], version)])
    assert broker.is_lost("frontend", [b"c", *mdp.client_request(b"echo", [b"question"], version)])

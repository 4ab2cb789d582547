"""The balancer without sockets: what becomes of a request whose worker has left, or does not answer in time."""

import pytest

from tests.patterns.balancer_peers import answer, answered, ask, balancer_with, given, ready
from tests.support.accounts import balanced

# -- workers that leave ------------------------------------------------------------------------------------------------


def test_request_that_could_not_be_delivered_goes_to_the_next_worker() -> None:
    driver = balancer_with(b"w1", b"w2")
    driver.leave("backend", b"w1")
    assert ask(driver, b"1") == given(b"w2", b"1")
    assert driver.counters == {"ready": 2, "gone": 1, "undelivered": 1}
    assert not driver.is_open("frontend")
    assert balanced(driver.account)


def test_request_that_could_not_be_delivered_waits_for_a_worker() -> None:
    driver = balancer_with(b"w1")
    driver.leave("backend", b"w1")
    assert ask(driver, b"1") == []
    assert driver.account.held == 1
    assert not driver.is_open("frontend")
    assert ready(driver, b"w2") == given(b"w2", b"1")
    assert driver.account.held == 0
    assert balanced(driver.account)


def test_request_that_could_not_be_delivered_keeps_its_turn() -> None:
    driver = balancer_with(max_wait_s=10.0)
    ask(driver, b"1", b"c1")
    ask(driver, b"2", b"c2")
    driver.leave("backend", b"w1")
    assert ready(driver, b"w1") == []
    assert ready(driver, b"w2") == given(b"w2", b"1", b"c1")


def test_a_thousand_workers_that_have_left_are_found_out_by_one_request() -> None:
    workers = [b"w%d" % number for number in range(1000)]
    driver = balancer_with(*workers, b"alive")
    for worker in workers:
        driver.leave("backend", worker)
    assert ask(driver, b"1") == given(b"alive", b"1")
    assert driver.counters["gone"] == 1000


@pytest.mark.parametrize("give_again", [False, True])
def test_what_a_worker_had_that_has_left_is_told_from_what_it_never_got(give_again: bool) -> None:
    driver = balancer_with(b"w1", capacity=3, policy="least_loaded", give_again=give_again)
    for number in (1, 2):
        ask(driver, b"%d" % number, b"c%d" % number)
    driver.leave("backend", b"w1")
    assert ask(driver, b"3", b"c3") == []
    driver.advance(0)
    counters = {"ready": 1, "gone": 1, "undelivered": 1, ("given_again" if give_again else "lost"): 2}
    assert driver.counters == counters
    taken = [send.frames[-1] for send in ready(driver, b"w2", 3)]
    assert taken == ([b"1", b"2", b"3"] if give_again else [b"3"])
    assert balanced(driver.account)


def test_several_requests_that_could_not_be_delivered_are_all_given_to_another() -> None:
    driver = balancer_with(capacity=3, policy="least_loaded", max_wait_s=10.0)
    for number in range(3):
        ask(driver, b"%d" % number, b"c%d" % number)
    driver.leave("backend", b"w1")
    assert ready(driver, b"w1", 3) == []
    driver.advance(0)
    assert driver.counters == {"ready": 1, "gone": 1, "undelivered": 3}
    assert driver.account.held == 3
    assert len(ready(driver, b"w2", 3)) == 3
    assert balanced(driver.account)


def test_worker_that_comes_back_while_it_is_known_to_have_left_is_a_new_one() -> None:
    driver = balancer_with(b"w", capacity=2, policy="least_loaded")
    ask(driver, b"1", b"c1")
    driver.leave("backend", b"w")
    ask(driver, b"2", b"c2")
    driver.come_back("backend", b"w")
    assert [send.frames[-1] for send in ready(driver, b"w", 1)] == [b"2"]
    driver.advance(0)
    assert driver.counters == {"ready": 2, "gone": 1, "undelivered": 1, "lost": 1}
    assert answer(driver, b"w", b"two", b"c2") == answered(b"two", b"c2")


def test_reply_for_a_client_that_has_left_frees_the_worker() -> None:
    driver = balancer_with(b"w")
    ask(driver, b"1")
    driver.leave("frontend", b"c")
    assert answer(driver, b"w", b"one") == []
    assert driver.counters == {"ready": 1}
    assert driver.account.unroutable == 1
    assert ask(driver, b"2", b"d") == given(b"w", b"2", b"d")


# -- time limits -------------------------------------------------------------------------------------------------------


def test_request_that_is_not_answered_in_time_is_given_to_another() -> None:
    driver = balancer_with(b"w1", b"w2", time_limit_s=5.0, give_again=True)
    ask(driver, b"1")
    assert driver.advance(4.9) == []
    assert driver.advance(0.1) == given(b"w2", b"1")
    assert driver.counters == {"ready": 2, "overdue": 1, "given_again": 1}
    assert answer(driver, b"w1", b"late") == []  # the other will answer
    assert driver.counters["late"] == 1
    assert answer(driver, b"w2", b"one") == answered(b"one")
    assert driver.account.held == 0
    assert balanced(driver.account)


def test_request_is_given_again_once() -> None:
    driver = balancer_with(b"w1", b"w2", b"w3", time_limit_s=5.0, give_again=True)
    ask(driver, b"1")
    assert driver.advance(5.0) == given(b"w2", b"1")
    assert driver.advance(5.0) == []
    assert driver.counters == {"ready": 3, "overdue": 2, "given_again": 1, "lost": 1}
    assert driver.account.held == 0


def test_late_answer_is_sent_if_no_other_worker_has_the_request() -> None:
    driver = balancer_with(b"w", time_limit_s=5.0, give_again=True)
    ask(driver, b"1")
    driver.advance(6.0)
    assert driver.account.held == 1
    assert answer(driver, b"w", b"one") == answered(b"one")
    assert driver.counters["accepted_late"] == 1
    assert driver.account.held == 0
    assert ask(driver, b"2") == given(b"w", b"2")
    assert balanced(driver.account)


def test_request_that_may_not_be_given_again_is_lost_when_its_time_is_over() -> None:
    driver = balancer_with(b"w1", time_limit_s=5.0)
    ask(driver, b"1")
    driver.advance(5.0)
    assert driver.counters == {"ready": 1, "overdue": 1, "lost": 1}
    assert not driver.is_open("frontend")  # the worker has not been heard of since
    assert answer(driver, b"w1", b"one") == []
    assert driver.counters["late"] == 1
    assert driver.is_open("frontend")


def test_worker_that_did_not_answer_in_time_is_given_nothing_until_it_answers_something() -> None:
    driver = balancer_with(b"w", policy="least_loaded", capacity=3, time_limit_s=5.0)
    ask(driver, b"1", b"c1")
    driver.advance(3.0)
    ask(driver, b"2", b"c2")
    driver.advance(2.0)
    assert not driver.is_open("frontend")
    assert answer(driver, b"w", b"two", b"c2") == answered(b"two", b"c2")
    assert driver.is_open("frontend")
    assert driver.counters == {"ready": 1, "overdue": 1, "lost": 1}


def test_request_that_is_given_again_and_then_turns_out_not_to_be_delivered_is_given_once() -> None:
    driver = balancer_with(b"w1", b"w2", time_limit_s=5.0, give_again=True)
    driver.fill("backend")
    assert ask(driver, b"1") == []
    driver.advance(5.0)
    driver.leave("backend", b"w1")
    assert driver.empty("backend") == given(b"w2", b"1")
    assert answer(driver, b"w2", b"one") == answered(b"one")
    driver.advance(0.0)
    assert driver.counters == {"ready": 2, "overdue": 1, "given_again": 1, "gone": 1}
    assert driver.account.held == 0
    assert balanced(driver.account)


def test_answers_in_time_set_no_timer_for_each_message() -> None:
    driver = balancer_with(b"w", time_limit_s=5.0)
    for _ in range(100):
        ask(driver, b"1")
        driver.advance(1.0)
        assert answer(driver, b"w", b"one") == answered(b"one")
    assert driver.counters == {"ready": 1}

"""The balancer without sockets: who is given what, which requests wait, and what is refused."""

import re
from typing import Any

import pytest

from pollbroker import BALANCER, Balancer, BehaviourError
from pollbroker.patterns.balancer.buckets import Buckets
from pollbroker.patterns.balancer.policies import Weighted
from pollbroker.patterns.balancer.workers import Worker
from pollbroker.testing import Driver, Send
from tests.patterns.balancer_peers import answer, answered, ask, balancer_with, given, ready
from tests.support.accounts import balanced

# -- who is given a request --------------------------------------------------------------------------------------------


def test_worker_that_has_been_free_for_longest_is_given_the_next_request() -> None:
    driver = balancer_with(b"w1", b"w2")
    assert ask(driver, b"1") == given(b"w1", b"1")
    assert answer(driver, b"w1", b"one") == answered(b"one")
    assert ask(driver, b"2") == given(b"w2", b"2")
    assert ask(driver, b"3") == given(b"w1", b"3")
    assert not driver.is_open("frontend")
    assert driver.counters == {"ready": 2}
    assert driver.account.held == 0
    assert balanced(driver.account)


def test_requests_are_not_read_until_a_worker_is_free() -> None:
    driver = balancer_with()
    assert not driver.is_open("frontend")
    ready(driver, b"w")
    assert driver.is_open("frontend")
    ask(driver, b"1")
    assert not driver.is_open("frontend")
    answer(driver, b"w", b"one")
    assert driver.is_open("frontend")


def test_envelopes_of_both_sides_pass_whole() -> None:
    driver = balancer_with(b"w")
    request = [b"c", b"another router", b"", b"a", b"", b"b"]
    assert driver.message("frontend", *request) == [Send("backend", [b"w", b"", *request])]
    assert driver.message("backend", b"w", b"", *request[:-1]) == [Send("frontend", request[:-1])]


def test_worker_has_one_request_at_a_time_by_default_whatever_it_says() -> None:
    driver = balancer_with(b"w", capacity=5)
    ask(driver, b"1")
    assert not driver.is_open("frontend")


def test_least_loaded_worker_is_given_the_next_request() -> None:
    driver = balancer_with(policy="least_loaded")
    ready(driver, b"small", 1)
    ready(driver, b"large", 4)
    questions = [ask(driver, b"%d" % number, b"c%d" % number)[0].frames[0] for number in range(3)]
    assert questions == [b"small", b"large", b"large"]  # 0/1 and 0/4 are equal, and then there is one left
    answer(driver, b"small", b"", b"c0")
    assert [ask(driver, b"", b"d%d" % number)[0].frames[0] for number in range(3)] == [b"small", b"large", b"large"]
    assert not driver.is_open("frontend")


def test_weighted_workers_are_given_requests_in_proportion() -> None:
    driver = balancer_with(policy="weighted")
    for worker, weight in ((b"a", 1), (b"b", 2), (b"c", 5)):
        ready(driver, worker, weight)
    taken = []
    for number in range(800):
        worker = ask(driver, b"", b"%d" % number)[0].frames[0]
        taken.append(worker)
        answer(driver, worker, b"", b"%d" % number)
    assert [taken.count(worker) for worker in (b"a", b"b", b"c")] == [100, 200, 500]
    assert [taken[:8].count(worker) for worker in (b"a", b"b", b"c")] == [1, 2, 5]


def test_worker_that_was_full_for_long_does_not_catch_up_on_its_share() -> None:
    driver = balancer_with(policy="weighted")
    ready(driver, b"busy", 1)
    assert ask(driver, b"", b"long") == given(b"busy", b"", b"long")
    ready(driver, b"other", 2)
    for number in range(20):
        assert ask(driver, b"", b"%d" % number)[0].frames[0] == b"other"
        answer(driver, b"other", b"", b"%d" % number)
    answer(driver, b"busy", b"", b"long")
    taken = []
    for number in range(6):
        taken.append(ask(driver, b"", b"%d" % number)[0].frames[0])
        answer(driver, taken[-1], b"", b"%d" % number)
    assert taken.count(b"busy") == 3  # its third, and one since it is first when shares are equal


def test_number_that_a_worker_says_again_counts_from_then_on() -> None:
    driver = balancer_with(b"w", policy="least_loaded")
    ready(driver, b"w", 2)
    ask(driver, b"", b"c1")
    assert driver.is_open("frontend")
    assert driver.counters == {"ready": 2}


def test_two_requests_of_one_client_are_told_apart_at_one_worker() -> None:
    driver = balancer_with(b"w", policy="least_loaded", capacity=2)
    assert ask(driver, b"1") == given(b"w", b"1")
    ((_, second),) = ask(driver, b"2")
    assert second[:2] == [b"w", b""]
    assert second[2] != b"c"
    assert driver.message("backend", b"w", b"", second[2], b"", b"two") == answered(b"two")
    assert answer(driver, b"w", b"one") == answered(b"one")
    assert answer(driver, b"w", b"one") == []
    assert driver.counters["late"] == 1


# -- READY -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", [b"READY", b"\x01"])
def test_both_words_of_the_guide_mean_ready(word: bytes) -> None:
    driver = balancer_with()
    driver.message("backend", b"w", b"", word)
    assert driver.is_open("frontend")


def test_another_word_may_be_set() -> None:
    driver = balancer_with(ready=b"HELLO")
    ready(driver, b"w")
    assert driver.counters == {"malformed": 1}
    driver.message("backend", b"w", b"", b"HELLO", b"1")
    assert driver.counters == {"malformed": 1, "ready": 1}


def test_ready_twice_changes_nothing() -> None:
    driver = balancer_with(b"w1", b"w2", b"w1")
    assert driver.counters == {"ready": 3}
    assert [ask(driver, b"")[0].frames[0] for _ in range(2)] == [b"w1", b"w2"]
    assert not driver.is_open("frontend")


def test_ready_of_a_worker_that_had_a_request_drops_it_by_name() -> None:
    driver = balancer_with(b"w")
    ask(driver, b"1")
    assert ready(driver, b"w") == []
    assert driver.counters == {"ready": 2, "restarted": 1, "lost": 1}
    assert answer(driver, b"w", b"one") == []
    assert driver.counters["late"] == 1
    assert ask(driver, b"2") == given(b"w", b"2")


def test_ready_of_a_worker_that_had_a_request_gives_it_again() -> None:
    driver = balancer_with(b"w", give_again=True)
    ask(driver, b"1")
    assert driver.account.held == 1
    assert ready(driver, b"w") == given(b"w", b"1")
    assert driver.counters == {"ready": 2, "restarted": 1, "given_again": 1}
    assert ready(driver, b"w") == []  # once, and no more
    assert driver.counters["lost"] == 1
    assert balanced(driver.account)


def test_client_that_is_called_ready_is_no_worker_that_begins() -> None:
    driver = balancer_with(b"w", give_again=True)
    ask(driver, b"1", b"READY")
    assert ready(driver, b"w", 1)[0].frames[3:] == [b"", b"1"]
    assert driver.counters["restarted"] == 1


def test_more_workers_than_may_be_known_are_refused() -> None:
    driver = balancer_with(b"w1", b"w2", b"w3", max_workers=2)
    assert driver.counters == {"ready": 2, "refused": 1}
    ask(driver, b"")
    ask(driver, b"")
    assert not driver.is_open("frontend")
    assert answer(driver, b"w3", b"") == []
    assert driver.counters["unknown_worker"] == 1


def test_worker_that_does_not_answer_makes_room_for_a_new_one() -> None:
    driver = balancer_with(b"w1", max_workers=1, time_limit_s=1.0)
    ask(driver, b"1")
    ready(driver, b"w2")
    assert driver.counters["refused"] == 1
    driver.advance(1.0)
    ready(driver, b"w2")
    assert driver.counters == {"ready": 2, "refused": 1, "overdue": 1, "lost": 1}
    assert ask(driver, b"2") == given(b"w2", b"2")


def test_worker_that_has_answered_late_makes_no_room_for_a_new_one() -> None:
    driver = balancer_with(b"w1", max_workers=1, time_limit_s=1.0)
    ask(driver, b"1")
    driver.advance(1.0)
    answer(driver, b"w1", b"late")
    ready(driver, b"w2")
    assert driver.counters["refused"] == 1
    assert ask(driver, b"2") == given(b"w1", b"2")


@pytest.mark.parametrize(
    ("frames", "counter"),
    [
        ([b"w"], "malformed"),
        ([b"w", b""], "malformed"),
        ([b"w", b"", b"c"], "malformed"),
        ([b"w", b"", b""], "malformed"),
        ([b"w", b"x", b"c", b"", b"reply"], "malformed"),
        ([b"w", b"READY"], "malformed"),
        ([b"w", b"x", b"READY"], "malformed"),
        ([b"w", b"", b"READY", b""], "malformed"),
        ([b"w", b"", b"READY", b"0"], "malformed"),
        ([b"w", b"", b"READY", b"-1"], "malformed"),
        ([b"w", b"", b"READY", b"1.5"], "malformed"),
        ([b"w", b"", b"READY", b"101"], "malformed"),
        ([b"w", b"", b"READY", b"9" * 5000], "malformed"),
        ([b"w", b"", b"READY", "٣".encode()], "malformed"),
        ([b"w", b"", b"READY", b"1", b"1"], "late"),
        ([b"w", b"", b"another", b"", b"reply"], "late"),
        ([b"stranger", b"", b"c", b"", b"reply"], "unknown_worker"),
        ([b"stranger", b""], "malformed"),
    ],
)
def test_garbage_of_a_worker_is_counted_and_changes_nothing(frames: list[bytes], counter: str) -> None:
    driver = balancer_with(b"w", policy="least_loaded")
    ask(driver, b"1")
    assert driver.message("backend", *frames) == []
    assert driver.counters == {"ready": 1, counter: 1}
    assert answer(driver, b"w", b"one") == answered(b"one")
    assert balanced(driver.account)


def test_request_without_content_is_counted() -> None:
    driver = balancer_with(b"w")
    assert driver.message("frontend", b"c") == []
    assert driver.counters == {"ready": 1, "malformed": 1}
    assert driver.is_open("frontend")


# -- requests that wait ------------------------------------------------------------------------------------------------


def ask_with(driver: Driver, priority: bytes, question: bytes) -> list[Send]:
    return driver.message("frontend", b"c" + question, b"", priority, question)


def test_request_of_the_highest_priority_is_served_first_and_of_those_the_one_that_came_first() -> None:
    driver = balancer_with(priority_frame=2)
    for number, priority in enumerate((b"1", b"200", b"", b"200", b"1")):
        ask_with(driver, priority, b"%d" % number)
    assert driver.account.held == 5
    assert ready(driver, b"w")[0].frames[-1] == b"1"
    order = []
    for client in (b"1", b"3", b"0", b"4"):
        (reply, request) = driver.message("backend", b"w", b"", b"c" + client, b"", b"reply")
        assert reply.frames[0] == b"c" + client
        order.append(request.frames[-1])
    assert order == [b"3", b"0", b"4", b"2"]
    assert driver.counters == {"ready": 1, "no_priority": 1}
    assert balanced(driver.account)


@pytest.mark.parametrize("priority", [b"", b"256", b"-1", b"x", b"1 ", b"1_0", b"0000", b"9" * 5000, b"\xff"])
def test_request_without_a_valid_priority_comes_last(priority: bytes) -> None:
    driver = balancer_with(priority_frame=2)
    ask_with(driver, priority, b"1")
    ask_with(driver, b"1", b"2")
    assert ready(driver, b"w")[0].frames[-1] == b"2"
    assert driver.counters == {"ready": 1, "no_priority": 1}


def test_no_more_requests_are_kept_than_may_wait() -> None:
    driver = balancer_with(priority_frame=7, max_waiting=2)
    ask(driver, b"1")
    assert driver.is_open("frontend")
    ask(driver, b"2")
    assert not driver.is_open("frontend")
    ready(driver, b"w")
    assert driver.is_open("frontend")


def test_request_that_waits_too_long_expires() -> None:
    driver = balancer_with(max_wait_s=2.0)
    ask(driver, b"1")
    driver.advance(1.0)
    ask(driver, b"2")
    driver.advance(1.0)
    assert driver.counters == {"expired": 1}
    assert driver.account.held == 1
    assert ready(driver, b"w") == given(b"w", b"2")
    driver.advance(10.0)
    assert driver.counters == {"expired": 1, "ready": 1}
    assert balanced(driver.account)


def test_request_that_is_given_again_keeps_its_priority() -> None:
    driver = balancer_with(b"w1", priority_frame=2, time_limit_s=5.0, give_again=True)
    ask_with(driver, b"5", b"1")
    ask_with(driver, b"9", b"2")
    ask_with(driver, b"5", b"3")
    driver.advance(5.0)
    assert ready(driver, b"w2")[0].frames[-1] == b"2"
    (_, request) = driver.message("backend", b"w2", b"", b"c2", b"", b"reply")
    assert request.frames[-1] == b"1"


def test_stop_counts_what_was_not_answered_and_keeps_what_was_not_given() -> None:
    driver = balancer_with(b"w1", b"w2", give_again=True, max_wait_s=100.0, time_limit_s=10.0)
    for number in range(3):
        ask(driver, b"%d" % number)
    assert driver.account.held == 3
    driver.stop()
    assert driver.counters == {"ready": 2, "unanswered": 2}
    assert driver.account.held == 1
    driver.advance(20.0)
    assert balanced(driver.account)


# -- settings, and the parts -------------------------------------------------------------------------------------------


SECONDS = "expected a number of seconds above 0, or None (inf in a file)"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"policy": "random"}, "policy is 'random': expected one of least_recently_used, least_loaded, weighted"),
        ({"ready": "READY"}, "ready is 'READY': expected one or more bytes, or None"),
        ({"ready": b""}, "ready is b'': expected one or more bytes, or None"),
        ({"priority_frame": True}, "priority_frame is True: expected a whole number"),
        ({"max_waiting": 0}, "max_waiting is 0: expected a whole number from 1 on"),
        ({"max_wait_s": 0}, f"max_wait_s is 0: {SECONDS}"),
        ({"time_limit_s": float("nan")}, f"time_limit_s is nan: {SECONDS}"),
        ({"time_limit_s": float("inf")}, f"time_limit_s is inf: {SECONDS}"),
        ({"give_again": 1}, "give_again is 1: expected True or False"),
        ({"max_workers": 1.5}, "max_workers is 1.5: expected a whole number from 1 on"),
        ({"max_capacity": 0}, "max_capacity is 0: expected a whole number from 1 on"),
    ],
)
def test_unfit_setting_is_refused(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(BehaviourError, match=re.escape(f"Balancer: {expected}") + "$"):
        BALANCER.with_settings(**settings)


def test_policy_forgets_workers_that_come_and_go_without_a_request() -> None:
    policy = Weighted()
    worker = Worker(b"w")
    for _ in range(1000):
        policy.put(worker)
        policy.drop(worker)
    policy.put(worker)
    assert len(policy) == 1
    assert len(policy._heap) < 250
    assert policy.take() is worker


def test_buckets_keep_no_key_that_came_first_and_is_empty() -> None:
    buckets: Buckets[str] = Buckets()
    for number in range(1000):
        buckets.put(number, f"item {number}")
        buckets.put(number, f"before {number}", first=True)
        assert buckets.take() == f"before {number}"
        assert buckets.take() == f"item {number}"
    assert len(buckets) == 0
    assert len(buckets._keys) == 1


def test_worker_that_is_ready_at_the_end_is_no_loss() -> None:
    balancer = Balancer()
    assert not balancer.is_lost("backend", [b"w", b"", b"READY"])
    assert not balancer.is_lost("backend", [b"w", b"", b"READY", b"4"])
    assert balancer.is_lost("backend", [b"w", b"", b"c", b"", b"answer"])
    assert balancer.is_lost("frontend", [b"c", b"", b"READY"])

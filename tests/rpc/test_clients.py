"""Clients of both kinds, against a broker that the test plays by hand."""

import re
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import zmq

from pollbroker import ConfigError, EndpointError, PollbrokerError
from pollbroker.patterns.majordomo import mdp
from pollbroker.rpc import RequestTimeout, RpcError
from tests.rpc.ends import Ends
from tests.support.addresses import bind
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.threads import Threads, in_thread
from tests.support.types import Connect, Socket

Broker = tuple[Socket, str]
SHORT_S = 0.1


def answer(router: Socket, *replies: Callable[[bytes, mdp.ClientRequest], list[bytes]]) -> mdp.ClientRequest:
    """Receive a request, and answer it with these messages."""
    client, *frames = router.recv_multipart()
    request = mdp.parse_client_request(frames)
    assert request is not None
    for reply in replies:
        router.send_multipart([client, *reply(client, request)])
    return request


def final(*body: bytes) -> Callable[[bytes, mdp.ClientRequest], list[bytes]]:
    return lambda client, request: mdp.client_reply(request.service, body, request.version)


def part(*body: bytes) -> Callable[[bytes, mdp.ClientRequest], list[bytes]]:
    return lambda client, request: mdp.client_reply(request.service, body, 2, mdp.PARTIAL)


# -- a lazy pirate -----------------------------------------------------------------------------------------------------


def test_pirate_is_answered(ends: Ends, broker: Broker) -> None:
    router, address = broker
    client = ends.PirateClient(address)
    for number in (b"1", b"2"):
        reply = in_thread(partial(client.request, b"question", number))
        identity, *frames = router.recv_multipart()
        assert frames == [b"", b"question", number]
        router.send_multipart([identity, b"", b"reply", number])
        assert reply.result(DEADLINE_S) == [b"reply", number]


def test_pirate_asks_again_on_a_new_socket_and_never_takes_a_late_reply(ends: Ends, broker: Broker) -> None:
    router, address = broker
    client = ends.PirateClient(address, timeout_s=SHORT_S, retries=100)
    reply = in_thread(lambda: client.request(b"1"))
    first, *_ = router.recv_multipart()
    second, *frames = router.recv_multipart()
    assert first != second
    assert frames == [b"", b"1"]
    router.send_multipart([first, b"", b"late"])
    while not reply.done():
        router.send_multipart([second, b"", b"in time"])
        if router.poll(10):
            second, *_ = router.recv_multipart()
    assert reply.result() == [b"in time"]


def test_pirate_passes_over_what_is_no_reply_to_a_req_socket(ends: Ends, broker: Broker) -> None:
    router, address = broker
    client = ends.PirateClient(address, timeout_s=SHORT_S, retries=100)
    reply = in_thread(lambda: client.request(b"1"))
    identity, *_ = router.recv_multipart()
    router.send_multipart([identity, b"four", b"", b"with an id that was not asked for"])
    while not reply.done():
        if router.poll(10):
            identity, *frames = router.recv_multipart()
            assert frames == [b"", b"1"]
            router.send_multipart([identity, b"", b"reply"])
    assert reply.result() == [b"reply"]


def test_pirate_gives_up(ends: Ends, broker: Broker) -> None:
    router, address = broker
    client = ends.PirateClient(address, timeout_s=0.02, retries=2)
    with pytest.raises(RequestTimeout) as raised:
        client.request(b"question")
    assert isinstance(raised.value, TimeoutError)
    assert isinstance(raised.value, PollbrokerError)
    assert re.fullmatch(rf"pirate client: {address}: no reply in \d+\.\d+ s \(3 tries\)", str(raised.value))
    assert [router.recv_multipart()[1:] for _ in range(3)] == [[b"", b"question"]] * 3
    with pytest.raises(RequestTimeout, match=r"\(1 try\)$"):
        client.request(b"question", timeout_s=0.01, retries=0)


def test_pirate_asks_the_next_broker_when_one_is_gone(ends: Ends, connect: Connect) -> None:
    dead, alive = connect(zmq.ROUTER), connect(zmq.ROUTER)
    client = ends.PirateClient(f"{bind(dead)}, {bind(alive)}", timeout_s=0.05, retries=100)
    reply = in_thread(lambda: client.request(b"question"))
    identity, *_ = alive.recv_multipart()
    alive.send_multipart([identity, b"", b"reply"])
    while not reply.done():
        if alive.poll(10):
            alive.send_multipart([alive.recv_multipart()[0], b"", b"reply"])
    assert reply.result() == [b"reply"]


def test_requests_at_the_same_time_have_sockets_of_their_own(ends: Ends, broker: Broker) -> None:
    router, address = broker
    client = ends.PirateClient(address)
    with Threads() as threads:
        replies = [threads.submit(client.request, b"%d" % number) for number in range(5)]
        asked = [router.recv_multipart() for _ in range(5)]
        assert len({identity for identity, *_ in asked}) == 5
        for identity, empty, number in reversed(asked):
            router.send_multipart([identity, empty, b"reply to " + number])
        assert [reply.result(DEADLINE_S) for reply in replies] == [[b"reply to %d" % number] for number in range(5)]


def test_after_a_try_without_a_reply_no_socket_is_used_again(ends: Ends, broker: Broker) -> None:
    router, address = broker
    client = ends.PirateClient(address)
    with Threads() as threads:
        for number in range(3):
            threads.submit(client.request, b"%d" % number)
        asked = [router.recv_multipart() for _ in range(3)]
        for message in asked:
            router.send_multipart(message)
    used = {identity for identity, *_ in asked}
    reply = in_thread(lambda: client.request(b"question", timeout_s=SHORT_S, retries=1))
    assert router.recv_multipart()[0] in used
    second, *_ = router.recv_multipart()
    assert second not in used
    with pytest.raises(RequestTimeout):
        reply.result(DEADLINE_S)
    reply = in_thread(lambda: client.request(b"another question"))
    another, *frames = router.recv_multipart()
    assert another not in {second, *used}
    router.send_multipart([another, *frames])
    reply.result(DEADLINE_S)


# -- Majordomo ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
def test_majordomo_is_answered(ends: Ends, broker: Broker, version: mdp.Version) -> None:
    router, address = broker
    client = ends.MajordomoClient(address, version=version)
    reply = in_thread(lambda: client.request("écho", b"1", b"2"))
    assert answer(router, final(b"3", b"4")) == (version, "écho".encode(), [b"1", b"2"])
    assert reply.result(DEADLINE_S) == [b"3", b"4"]


def test_what_is_no_reply_to_this_request_is_passed_over(ends: Ends, broker: Broker) -> None:
    router, address = broker
    client = ends.MajordomoClient(address)
    reply = in_thread(lambda: client.request(b"echo", b"question"))
    answer(
        router,
        lambda identity, request: [b"garbage"],
        lambda identity, request: mdp.client_reply(b"another", [b"of another service"]),
        lambda identity, request: mdp.client_reply(b"echo", [b"of another version"], 2),
        final(b"reply"),
    )
    assert reply.result(DEADLINE_S) == [b"reply"]


def test_reply_in_parts_is_an_iterator(ends: Ends, broker: Broker) -> None:
    router, address = broker
    client = ends.MajordomoClient(address, version=2)
    parts = in_thread(lambda: list(client.replies("count", b"3")))
    answer(router, part(b"1"), part(b"2"), final(b"3"))
    assert parts.result(DEADLINE_S) == [[b"1"], [b"2"], [b"3"]]
    last = in_thread(lambda: client.request("count", b"3"))
    answer(router, part(b"1"), final(b"2"))
    assert last.result(DEADLINE_S) == [b"2"]


def test_of_a_reply_in_parts_no_more_than_the_last_is_kept(ends: Ends, broker: Broker) -> None:
    router, address = broker
    client = ends.MajordomoClient(address, version=2)
    tracemalloc.start()
    try:
        reply = in_thread(partial(client.request, "count", b"20"))
        answer(router, *[part(bytes(1 << 20))] * 20, final(b"last"))
        assert reply.result(DEADLINE_S) == [b"last"]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 << 20


def test_parts_that_nobody_waits_for_are_not_taken_for_another_reply(ends: Ends, broker: Broker) -> None:
    router, address = broker
    client = ends.MajordomoClient(address, version=2)
    parts = client.replies("count", b"3")
    first = in_thread(lambda: next(parts))
    answer(router, part(b"1"), final(b"2"))
    assert first.result(DEADLINE_S) == [b"1"]
    parts.close()
    reply = in_thread(lambda: client.request("count", b"3"))
    answer(router, final(b"another"))
    assert reply.result(DEADLINE_S) == [b"another"]


def test_request_is_not_sent_again_once_a_part_has_come(ends: Ends, broker: Broker) -> None:
    router, address = broker
    client = ends.MajordomoClient(address, version=2, timeout_s=0.3)
    parts = in_thread(lambda: list(client.replies("count", b"3")))
    answer(router, part(b"1"))
    with pytest.raises(RequestTimeout, match=r"service count: no further part of the reply within 0.3 s"):
        parts.result(DEADLINE_S)
    assert not router.poll(0)


def test_time_that_is_spent_with_one_part_does_not_count_for_the_next(ends: Ends, broker: Broker) -> None:
    router, address = broker
    client = ends.MajordomoClient(address, version=2)
    parts = client.replies("count", b"3", timeout_s=0.5)
    first = in_thread(lambda: next(parts))
    answer(router, part(b"1"), final(b"2"))
    assert first.result(DEADLINE_S) == [b"1"]
    end_s = time.monotonic() + 0.5
    wait_until(lambda: time.monotonic() > end_s)
    assert next(parts) == [b"2"]
    assert list(parts) == []


@pytest.mark.parametrize(("code", "found"), [(b"200", True), (b"404", False)])
def test_broker_is_asked_for_a_service(ends: Ends, broker: Broker, code: bytes, found: bool) -> None:
    router, address = broker
    client = ends.MajordomoClient(address)
    reply = in_thread(lambda: client.has_service("echo"))
    assert answer(router, final(code)) == (1, b"mmi.service", [b"echo"])
    assert reply.result(DEADLINE_S) is found


def test_broker_that_does_not_know_its_services_says_so(ends: Ends, broker: Broker) -> None:
    router, address = broker
    client = ends.MajordomoClient(address)
    reply = in_thread(lambda: client.has_service("echo"))
    answer(router, final(b"501"))
    with pytest.raises(RpcError, match=r"mmi\.service: the broker answered 501; expected 200 or 404"):
        reply.result(DEADLINE_S)


# -- mistakes, and the end ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "expected"),
    [
        ({"timeout_s": 0}, ConfigError, "timeout_s is 0: expected a number of seconds above 0"),
        ({"timeout_s": float("inf")}, ConfigError, "timeout_s is inf: expected"),
        ({"timeout_s": True}, ConfigError, "timeout_s is True: expected"),
        ({"retries": -1}, ConfigError, "retries is -1: expected a whole number from 0 on"),
        ({"retries": 1.0}, ConfigError, "retries is 1.0: expected"),
        ({"version": 3}, ConfigError, r"version is 3: expected one of 1, 2"),
        ({"options": {"sndhwn": 1}}, ConfigError, "'sndhwn' is not a socket option; did you mean 'sndhwm'"),
        (
            {"options": {"curve_serverkey": "k" * 40}},
            ConfigError,
            "option curve_serverkey: .* expected a curve_publickey",
        ),
        ({"endpoints": "tcp://127.0.0.1:70000"}, EndpointError, "port must be|expected"),
    ],
)
def test_wrong_setting_is_refused(ends: Ends, settings: dict[str, Any], error: type[Exception], expected: str) -> None:
    given = {"endpoints": "tcp://127.0.0.1:5555"} | settings
    with pytest.raises(error, match=rf"^majordomo client.*{expected}"):
        ends.MajordomoClient(**given)


@pytest.mark.parametrize(
    ("service", "frames", "expected"),
    [
        ("echo", (), r"\(\): expected one or more frames of bytes"),
        ("echo", ("text",), "expected one or more frames of bytes"),
        ("", (b"q",), "expected printable text of 1 to 255 bytes"),
        (b"\x00", (b"q",), "expected printable text"),
        (5, (b"q",), "5: expected a string or bytes"),
    ],
)
def test_what_cannot_be_sent_is_refused(
    ends: Ends, broker: Broker, service: Any, frames: tuple[Any, ...], expected: str
) -> None:
    client = ends.MajordomoClient(broker[1])
    with pytest.raises(RpcError, match=f"^majordomo client: {broker[1]}.*{expected}"):
        client.request(service, *frames)


def test_closed_client_asks_nothing(ends: Ends, broker: Broker) -> None:
    client = ends.PirateClient(broker[1])
    client.close()
    client.close()
    with pytest.raises(RpcError, match="the client was closed; expected an open one"):
        client.request(b"question")


def test_client_that_is_closed_meanwhile_finishes_its_request(ends: Ends, broker: Broker) -> None:
    router, address = broker
    client = ends.PirateClient(address)
    reply = in_thread(lambda: client.request(b"question"))
    identity, *_ = router.recv_multipart()
    client.close()
    router.send_multipart([identity, b"", b"reply"])
    assert reply.result(DEADLINE_S) == [b"reply"]


def test_end_of_the_context_ends_a_request(ends: Ends, broker: Broker) -> None:
    router, address = broker
    context: zmq.Context[Socket] = zmq.Context()
    client = ends.PirateClient(address, context=context, timeout_s=0.2)
    reply = in_thread(lambda: client.request(b"question"))
    router.recv_multipart()
    ended = in_thread(context.term)
    with pytest.raises(RpcError, match="the context was terminated"):
        reply.result(DEADLINE_S)
    ended.result(DEADLINE_S)

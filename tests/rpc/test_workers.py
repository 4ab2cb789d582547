"""Workers of both kinds, against a broker that the test plays by hand."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from pollbroker import ConfigError
from pollbroker.patterns.majordomo import mdp
from pollbroker.patterns.paranoid_pirate import ppp
from pollbroker.rpc import RequestTimeout, RpcError
from tests.rpc.ends import Ends
from tests.rpc.played_broker import FAST, SLOW, Broker, next_from
from tests.support.addresses import bind
from tests.support.deadline import DEADLINE_S
from tests.support.threads import in_thread
from tests.support.types import Connect


def echo(frames: list[bytes]) -> list[bytes]:
    return [b"echo", *frames]


# -- receiving and replying --------------------------------------------------------------------------------------------


def test_pirate_worker_answers(ends: Ends, broker: Broker) -> None:
    router, address = broker
    worker = ends.PirateWorker(address, **SLOW)
    request = in_thread(worker.receive)
    identity, frames = next_from(router)
    assert frames == [ppp.READY]
    for number in (b"1", b"2"):
        router.send_multipart([identity, b"client", b"", b"question", number])
        assert request.result(DEADLINE_S).frames == [b"question", number]
        assert worker.reply(b"reply", number) is True
        assert next_from(router) == (identity, [b"client", b"", b"reply", number])
        request = in_thread(worker.receive)
    router.send_multipart([identity, b"client", b"", b"the last"])
    request.result(DEADLINE_S)


@pytest.mark.parametrize("version", [1, 2])
def test_majordomo_worker_answers(ends: Ends, broker: Broker, version: mdp.Version) -> None:
    router, address = broker
    worker = ends.MajordomoWorker(address, "echo", version=version, **SLOW)
    request = in_thread(worker.receive)
    identity, frames = next_from(router)
    assert frames == mdp.worker_ready(b"echo", version)
    router.send_multipart([identity, *mdp.worker_request(b"client", [b"1", b"2"], version)])
    assert request.result(DEADLINE_S).frames == [b"1", b"2"]
    assert worker.reply(b"3") is True
    assert next_from(router) == (identity, mdp.worker_reply(b"client", [b"3"], version))
    worker.close()
    assert next_from(router) == (identity, mdp.worker_disconnect(version))


def test_majordomo_worker_replies_in_parts(ends: Ends, broker: Broker) -> None:
    router, address = broker
    worker = ends.MajordomoWorker(address, "count", version=2, **SLOW)
    request = in_thread(worker.receive)
    identity, _ = next_from(router)
    router.send_multipart([identity, *mdp.worker_request(b"client", [b"2"], 2)])
    request.result(DEADLINE_S)
    worker.reply_partially(b"1")
    worker.reply(b"2")
    assert next_from(router)[1] == mdp.worker_reply(b"client", [b"1"], 2, mdp.PARTIAL)
    assert next_from(router)[1] == mdp.worker_reply(b"client", [b"2"], 2)


def test_no_request_in_time(ends: Ends, broker: Broker) -> None:
    worker = ends.PirateWorker(broker[1])
    with pytest.raises(RequestTimeout, match=rf"^pirate worker: {broker[1]}: no request within 0.01 s"):
        worker.receive(timeout_s=0.01)


# -- serving -----------------------------------------------------------------------------------------------------------


def test_handler_is_given_requests_until_the_worker_is_stopped(ends: Ends, broker: Broker) -> None:
    router, address = broker
    worker = ends.PirateWorker(address, **SLOW)
    served = in_thread(lambda: worker.serve(echo))
    identity, _ = next_from(router)
    for number in (b"1", b"2"):
        router.send_multipart([identity, b"client", b"", number])
        assert next_from(router)[1] == [b"client", b"", b"echo", number]
    worker.stop()
    assert served.result(DEADLINE_S) is None
    served = in_thread(lambda: worker.serve(lambda frames: b"one frame"))  # and it can serve again
    router.send_multipart([identity, b"client", b"", b"3"])
    assert next_from(router)[1] == [b"client", b"", b"one frame"]
    worker.stop()
    served.result(DEADLINE_S)


@pytest.mark.parametrize("in_thread_", [False, True], ids=["", "in a thread"])
def test_handler_that_is_a_generator_replies_in_parts(ends: Ends, broker: Broker, in_thread_: bool) -> None:
    def count(frames: list[bytes]) -> Iterator[bytes]:
        for number in range(int(frames[0])):
            yield b"%d" % number

    router, address = broker
    worker = ends.MajordomoWorker(address, "count", version=2, **SLOW)
    served = in_thread(lambda: worker.serve(count, in_thread=in_thread_))
    identity, _ = next_from(router)
    router.send_multipart([identity, *mdp.worker_request(b"client", [b"3"], 2)])
    for number, command in ((b"0", mdp.PARTIAL), (b"1", mdp.PARTIAL), (b"2", mdp.FINAL)):
        assert next_from(router)[1] == mdp.worker_reply(b"client", [number], 2, command)
    worker.stop()
    served.result(DEADLINE_S)


@pytest.mark.parametrize("in_thread_", [False, True], ids=["", "in a thread"])
def test_error_of_the_handler_gives_the_request_back(ends: Ends, broker: Broker, in_thread_: bool) -> None:
    router, address = broker
    worker = ends.MajordomoWorker(address, "echo", **SLOW)

    def fail(frames: list[bytes]) -> bytes:
        raise ValueError("no")

    served = in_thread(lambda: worker.serve(fail, in_thread=in_thread_))
    identity, _ = next_from(router)
    router.send_multipart([identity, *mdp.worker_request(b"client", [b"1"])])
    with pytest.raises(ValueError, match="no"):
        served.result(DEADLINE_S)
    assert next_from(router) == (identity, mdp.worker_disconnect())
    served = in_thread(lambda: worker.serve(echo))
    another, frames = next_from(router)
    assert frames == mdp.worker_ready(b"echo")
    assert another != identity
    worker.stop()
    served.result(DEADLINE_S)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ([], "expected one or more frames of bytes"),
        (None, "None: expected one or more frames"),
        ("text", "'text': expected one or more frames"),
        ([b"1", 2], "expected one or more frames"),
        (iter([b"1"]), r"a reply in parts cannot be sent; expected frames, or MDP 0.2 \(version=2\)"),
    ],
)
def test_what_cannot_be_a_reply_is_refused(ends: Ends, broker: Broker, result: Any, expected: str) -> None:
    router, address = broker
    worker = ends.PirateWorker(address, **SLOW)
    served = in_thread(lambda: worker.serve(lambda frames: result))
    identity, _ = next_from(router)
    router.send_multipart([identity, b"client", b"", b"1"])
    with pytest.raises(RpcError, match=f"^pirate worker: {address}.*{expected}"):
        served.result(DEADLINE_S)


def test_iterator_without_a_part_is_no_reply(ends: Ends, broker: Broker) -> None:
    router, address = broker
    worker = ends.MajordomoWorker(address, "echo", version=2, **SLOW)
    served = in_thread(lambda: worker.serve(lambda frames: iter(())))
    identity, _ = next_from(router)
    router.send_multipart([identity, *mdp.worker_request(b"client", [b"1"], 2)])
    with pytest.raises(RpcError, match="the handler's iterator was empty; expected one part or more"):
        served.result(DEADLINE_S)


# -- heartbeats, and brokers that are gone -----------------------------------------------------------------------------


def test_heartbeats_go_on_while_nothing_else_happens(ends: Ends, broker: Broker) -> None:
    router, address = broker
    worker = ends.MajordomoWorker(address, "echo", heartbeat_s=0.02, liveness=1000)
    waiting = in_thread(worker.receive)
    identity, _ = next_from(router)
    for _ in range(3):
        assert router.recv_multipart() == [identity, *mdp.worker_heartbeat()]
    worker.stop()
    with pytest.raises(RpcError, match="the worker was stopped"):
        waiting.result(DEADLINE_S)


def test_heartbeats_go_on_while_a_handler_works_in_a_thread(ends: Ends, broker: Broker) -> None:
    router, address = broker
    worker = ends.PirateWorker(address, heartbeat_s=0.02, liveness=1000)
    may_end = threading.Event()

    def work(frames: list[bytes]) -> bytes:
        may_end.wait(DEADLINE_S)
        return b"done"

    served = in_thread(lambda: worker.serve(work, in_thread=True))
    identity, _ = next_from(router)
    router.send_multipart([identity, b"client", b"", b"1"])
    for _ in range(5):
        assert router.recv_multipart() == [identity, ppp.HEARTBEAT]
    may_end.set()
    assert next_from(router)[1] == [b"client", b"", b"done"]
    worker.stop()
    served.result(DEADLINE_S)


def test_handler_that_works_for_long_keeps_its_worker_alive(ends: Ends, broker: Broker) -> None:
    router, address = broker
    worker = ends.PirateWorker(address, heartbeat_s=0.02, liveness=1000)
    request = in_thread(worker.receive)
    identity, _ = next_from(router)
    router.send_multipart([identity, b"client", b"", b"1"])
    request.result(DEADLINE_S)
    heard = 0
    end_s = time.monotonic() + DEADLINE_S
    while heard < 3:
        assert time.monotonic() < end_s
        worker.keep_alive()
        if router.poll(1):
            assert router.recv_multipart() == [identity, ppp.HEARTBEAT]
            heard += 1
    assert worker.reply(b"done")


def test_worker_begins_again_when_its_broker_says_nothing(ends: Ends, connect: Connect) -> None:
    dead, alive = connect(zmq.ROUTER), connect(zmq.ROUTER)
    worker = ends.MajordomoWorker([bind(dead), bind(alive)], "echo", **FAST)
    served = in_thread(lambda: worker.serve(echo))
    assert next_from(dead)[1] == mdp.worker_ready(b"echo")
    _, frames = next_from(alive)  # the next of its endpoints
    assert frames == mdp.worker_ready(b"echo")
    worker.stop()
    served.result(DEADLINE_S)


def test_reply_that_comes_after_the_broker_was_lost_is_not_sent(ends: Ends, broker: Broker) -> None:
    router, address = broker
    worker = ends.PirateWorker(address, **FAST)
    request = in_thread(worker.receive)
    identity, _ = next_from(router)
    router.send_multipart([identity, b"client", b"", b"1"])
    while not request.done():  # on a busy machine it may have begun again before it has read that
        if router.poll(10) and (told := router.recv_multipart())[1:] == [ppp.READY]:
            identity = told[0]
            router.send_multipart([identity, b"client", b"", b"1"])
    request.result(DEADLINE_S)
    another = identity
    while another == identity:  # until it has begun again
        worker.keep_alive()
        if router.poll(1):
            another, *frames = router.recv_multipart()
    assert frames == [ppp.READY]
    assert worker.reply(b"late") is False


def test_worker_whose_broker_disconnects_begins_again(ends: Ends, broker: Broker) -> None:
    router, address = broker
    worker = ends.MajordomoWorker(address, "echo", **SLOW)
    served = in_thread(lambda: worker.serve(echo))
    identity, _ = next_from(router)
    router.send_multipart([identity, *mdp.worker_heartbeat()])
    router.send_multipart([identity, *mdp.worker_disconnect()])
    another, frames = next_from(router)
    assert frames == mdp.worker_ready(b"echo")
    assert another != identity
    router.send_multipart([another, *mdp.worker_request(b"client", [b"1"])])
    assert next_from(router) == (another, mdp.worker_reply(b"client", [b"echo", b"1"]))
    worker.stop()
    served.result(DEADLINE_S)


def test_garbage_does_no_harm(ends: Ends, broker: Broker) -> None:
    router, address = broker
    worker = ends.MajordomoWorker(address, "echo", **SLOW)
    served = in_thread(lambda: worker.serve(echo))
    identity, _ = next_from(router)
    for garbage in ([b""], [b"", b""], [b"", b"MDPW01"], [b"", b"MDPW01", b"\x02"], [b"MDPW02", b"\x05"], [b"x"] * 50):
        router.send_multipart([identity, *garbage])
    router.send_multipart([identity, *mdp.worker_request(b"client", [b"1"])])
    assert next_from(router) == (identity, mdp.worker_reply(b"client", [b"echo", b"1"]))
    worker.stop()
    served.result(DEADLINE_S)


# -- mistakes, and the end ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "expected"),
    [
        ({"heartbeat_s": 0}, ConfigError, "heartbeat_s is 0: expected a number of seconds above 0"),
        ({"reconnect_s": -1}, ConfigError, "reconnect_s is -1: expected"),
        ({"reconnect_max_s": None}, ConfigError, "reconnect_max_s is None: expected"),
        ({"linger_s": "1"}, ConfigError, "linger_s is '1': expected"),
        ({"liveness": 0}, ConfigError, "liveness is 0: expected a whole number from 1 on"),
        ({"version": "0.1"}, ConfigError, "version is '0.1': expected one of 1, 2"),
        ({"service": ""}, RpcError, "service : expected printable text of 1 to 255 bytes"),
        ({"service": "mmi.x"}, RpcError, r"service mmi\.x: names that begin with mmi\. are the broker's own"),
        ({"options": {"linge": 1}}, ConfigError, "'linge' is not a socket option"),
    ],
)
def test_wrong_setting_is_refused(ends: Ends, settings: dict[str, Any], error: type[Exception], expected: str) -> None:
    given = {"endpoints": "tcp://127.0.0.1:5555", "service": "echo"} | settings
    with pytest.raises(error, match=f"^majordomo worker.*{expected}"):
        ends.MajordomoWorker(**given)


def test_reply_without_a_request_is_refused(ends: Ends, broker: Broker) -> None:
    worker = ends.PirateWorker(broker[1])
    with pytest.raises(RpcError, match="there is no request to be answered"):
        worker.reply(b"reply")


def test_majordomo_1_has_no_replies_in_parts(ends: Ends, broker: Broker) -> None:
    router, address = broker
    worker = ends.MajordomoWorker(address, "echo", **SLOW)
    request = in_thread(worker.receive)
    identity, _ = next_from(router)
    router.send_multipart([identity, *mdp.worker_request(b"client", [b"1"])])
    request.result(DEADLINE_S)
    with pytest.raises(RpcError, match=r"MDP 0\.1 has no replies in parts; expected MDP 0\.2"):
        worker.reply_partially(b"1")
    assert worker.reply(b"whole")


def test_closed_worker_does_nothing(ends: Ends, broker: Broker) -> None:
    worker = ends.PirateWorker(broker[1])
    worker.close()
    worker.close()
    for call in (worker.receive, worker.keep_alive, lambda: worker.reply(b"1"), lambda: worker.serve(echo)):
        with pytest.raises(RpcError, match="the worker was closed; expected an open one"):
            call()


def test_close_ends_soon_though_nobody_is_there(ends: Ends) -> None:
    worker = ends.MajordomoWorker("ipc:///nowhere/to/be/found", "echo", linger_s=0.05)
    with pytest.raises(RequestTimeout):
        worker.receive(timeout_s=0.01)
    begun_s = time.monotonic()
    worker.close()
    assert time.monotonic() - begun_s < 2


def test_last_reply_leaves_before_the_worker_is_closed(ends: Ends, broker: Broker) -> None:
    router, address = broker
    worker = ends.PirateWorker(address, **SLOW)
    request = in_thread(worker.receive)
    identity, _ = next_from(router)
    router.send_multipart([identity, b"client", b"", b"1"])
    request.result(DEADLINE_S)
    worker.reply(b"x" * 1_000_000)
    worker.close()
    assert len(next_from(router)[1][-1]) == 1_000_000


def test_what_was_said_last_leaves_when_the_broker_comes(ends: Ends, connect: Connect, tmp_path: Path) -> None:
    worker = ends.MajordomoWorker(f"ipc://{tmp_path}/broker", "echo", linger_s=DEADLINE_S, **SLOW)
    with pytest.raises(RequestTimeout):
        worker.receive(timeout_s=0.01)
    closed = in_thread(worker.close)
    router = connect(zmq.ROUTER)
    router.bind(f"ipc://{tmp_path}/broker")
    assert next_from(router)[1] == mdp.worker_ready(b"echo")
    assert next_from(router)[1] == mdp.worker_disconnect()
    closed.result(DEADLINE_S)


def test_interrupt_ends_serving_and_the_worker_says_goodbye(broker: Broker) -> None:
    """The blocking worker, in the main thread, where Ctrl-C is raised."""
    from pollbroker.rpc import MajordomoWorker

    router, address = broker

    def interrupt_once_ready() -> bytes:
        next_from(router)
        os.kill(os.getpid(), signal.SIGINT)
        return next_from(router)[1][-1]

    told = in_thread(interrupt_once_ready)
    often: dict[str, Any] = {"heartbeat_s": 0.05, "liveness": 1000}  # a signal just before a sleep is seen after it
    with pytest.raises(KeyboardInterrupt), MajordomoWorker(address, "echo", **often) as worker:
        worker.serve(echo)
    assert told.result(DEADLINE_S) == mdp.worker_disconnect()[-1]

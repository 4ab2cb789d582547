"""Workers whose broker reads more slowly than they reply, or reads nothing. The test plays the broker by hand."""

import asyncio
from collections.abc import Iterator

import pytest
import zmq

from pollbroker.patterns.majordomo import mdp
from pollbroker.rpc.asyncio import MajordomoWorker
from tests.rpc.ends import Ends
from tests.rpc.played_broker import SLOW, Broker, next_from
from tests.support.addresses import bind
from tests.support.deadline import DEADLINE_S
from tests.support.threads import in_thread
from tests.support.types import Connect

NARROW = {"sndhwm": 1, "sndbuf": 4096}
"""The options of a worker's socket that has room for little."""

PART = b"x" * 65536


@pytest.fixture
def broker(connect: Connect) -> Broker:
    """A ROUTER that has room for little."""
    router = connect(zmq.ROUTER, rcvhwm=1, rcvbuf=4096)
    return router, bind(router)


def ask(broker: Broker, version: mdp.Version = 2) -> bytes:
    """Give the worker that says READY next a request. Return who it is."""
    identity, frames = next_from(broker[0])
    assert frames[-2:] == mdp.worker_ready(b"parts", version)[-2:]
    broker[0].send_multipart([identity, *mdp.worker_request(b"client", [b"question"], version)])
    return identity


@pytest.mark.parametrize("in_thread_", [False, True], ids=["", "in a thread"])
def test_no_part_of_a_reply_is_lost(ends: Ends, broker: Broker, in_thread_: bool) -> None:
    router, address = broker

    def parts(frames: list[bytes]) -> Iterator[list[bytes]]:
        for number in range(100):
            yield [b"%d" % number, PART]

    worker = ends.MajordomoWorker(address, "parts", version=2, options=NARROW, **SLOW)
    served = in_thread(lambda: worker.serve(parts, in_thread=in_thread_))
    ask(broker)
    for number in range(100):
        command = mdp.FINAL if number == 99 else mdp.PARTIAL
        assert next_from(router)[1] == mdp.worker_reply(b"client", [b"%d" % number, PART], 2, command)
    worker.stop()
    served.result(DEADLINE_S)


def test_reply_waits_until_its_broker_is_taken_for_dead(ends: Ends, broker: Broker) -> None:
    worker = ends.MajordomoWorker(broker[1], "parts", version=2, options=NARROW, heartbeat_s=0.1, liveness=10)
    request = in_thread(worker.receive)
    ask(broker)
    request.result(DEADLINE_S)
    were_sent = [worker.reply_partially(PART) for _ in range(100)]
    assert were_sent[0]
    assert not were_sent[-1]
    assert were_sent == sorted(were_sent, reverse=True)  # none after one that was not sent
    assert worker.reply(PART) is False


def test_heartbeats_of_the_broker_are_heard_while_a_reply_waits(ends: Ends, broker: Broker) -> None:
    router, address = broker
    worker = ends.MajordomoWorker(address, "parts", version=2, options=NARROW, heartbeat_s=0.1, liveness=10)
    request = in_thread(worker.receive)
    identity = ask(broker)
    request.result(DEADLINE_S)
    replied = in_thread(lambda: [worker.reply_partially(PART) for _ in range(20)])
    for _ in range(20):  # for twice as long as the broker may say nothing
        with pytest.raises(TimeoutError):
            replied.result(0.1)
        router.send_multipart([identity, *mdp.worker_heartbeat(2)])
    for _ in range(20):
        assert next_from(router)[1] == mdp.worker_reply(b"client", [PART], 2, mdp.PARTIAL)
    assert all(replied.result(DEADLINE_S))


def test_worker_that_is_cancelled_while_a_reply_waits_begins_again(broker: Broker) -> None:
    router, address = broker

    async def play() -> None:
        made = 0

        def parts(frames: list[bytes]) -> Iterator[bytes]:
            nonlocal made
            for _ in range(100):
                made += 1
                yield PART

        async with MajordomoWorker(address, "parts", version=2, options=NARROW, linger_s=0, **SLOW) as worker:
            serving = asyncio.create_task(worker.serve(parts))
            identity = await asyncio.to_thread(ask, broker)
            while not made:  # nothing but waiting for room lets others run from then on
                await asyncio.sleep(0)
            assert made < 100
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving
            while (said := await asyncio.to_thread(next_from, router))[0] == identity:
                pass
            assert said[1] == mdp.worker_ready(b"parts", 2)

    asyncio.run(play())

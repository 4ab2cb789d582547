"""What is said of the workers of asyncio alone, against a broker that the test plays by hand."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pollbroker.patterns.majordomo import mdp
from pollbroker.patterns.paranoid_pirate import ppp
from pollbroker.rpc.asyncio import MajordomoWorker, PirateWorker, RpcError
from tests.rpc.played_broker import SLOW, Broker, next_from
from tests.support.deadline import wait_until


def test_coroutines_and_asynchronous_generators_are_handlers(broker: Broker) -> None:
    router, address = broker

    async def reply(frames: list[bytes]) -> bytes:
        await asyncio.sleep(0)
        return b"whole"

    async def parts(frames: list[bytes]) -> AsyncIterator[bytes]:
        for number in (b"1", b"2"):
            await asyncio.sleep(0)
            yield number

    async def serve(handler: Any) -> None:
        async with MajordomoWorker(address, "echo", version=2, heartbeat_s=0.02, liveness=1000) as worker:
            await worker.serve(handler)

    async def play(handler: Any, *expected: tuple[bytes, mdp.Command]) -> None:
        serving = asyncio.create_task(serve(handler))
        identity, _ = await asyncio.to_thread(next_from, router)
        router.send_multipart([identity, *mdp.worker_request(b"client", [b"1"], 2)])
        for body, command in expected:
            _, frames = await asyncio.to_thread(next_from, router)
            assert frames == mdp.worker_reply(b"client", [body], 2, command)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert (await asyncio.to_thread(next_from, router))[1] == mdp.worker_disconnect(2)

    asyncio.run(play(reply, (b"whole", mdp.FINAL)))
    asyncio.run(play(parts, (b"1", mdp.PARTIAL), (b"2", mdp.FINAL)))


def test_heartbeats_go_on_while_a_coroutine_works(broker: Broker) -> None:
    router, address = broker

    async def play() -> None:
        may_end = asyncio.Event()

        async def work(frames: list[bytes]) -> bytes:
            await may_end.wait()
            return b"done"

        async with PirateWorker(address, heartbeat_s=0.02, liveness=1000) as worker:
            serving = asyncio.create_task(worker.serve(work))
            identity, _ = await asyncio.to_thread(next_from, router)
            router.send_multipart([identity, b"client", b"", b"1"])
            for _ in range(5):
                assert await asyncio.to_thread(router.recv_multipart) == [identity, ppp.HEARTBEAT]
            may_end.set()
            assert (await asyncio.to_thread(next_from, router))[1] == [b"client", b"", b"done"]
            worker.stop()
            await serving

    asyncio.run(play())
    wait_until(lambda: threading.active_count() < 100)


def test_keep_alive_sends_the_heartbeat_that_is_due_before_it_returns(broker: Broker) -> None:
    router, address = broker
    heartbeat_s = 0.02

    async def play() -> None:
        async with PirateWorker(address, heartbeat_s=heartbeat_s, liveness=1000) as worker:
            identity, _ = await asyncio.to_thread(next_from, router)
            for _ in range(3):
                end_s = time.monotonic() + heartbeat_s
                while time.monotonic() < end_s:
                    pass  # as a handler does that computes, and lets nothing else run
                await worker.keep_alive()
                assert router.recv_multipart() == [identity, ppp.HEARTBEAT]  # nor does this

    asyncio.run(play())


def test_worker_leaves_the_broker_however_often_its_task_is_cancelled(broker: Broker) -> None:
    router, address = broker

    async def play() -> None:
        has_begun = asyncio.Event()

        async def work(frames: list[bytes]) -> bytes:
            has_begun.set()
            await asyncio.Event().wait()
            return b"never"

        async with MajordomoWorker(address, "echo", **SLOW) as worker:
            serving = asyncio.create_task(worker.serve(work))
            identity, _ = await asyncio.to_thread(next_from, router)
            router.send_multipart([identity, *mdp.worker_request(b"client", [b"1"])])
            await has_begun.wait()
            while not serving.done():
                serving.cancel()
                await asyncio.sleep(0)
            assert serving.cancelled()
            assert await asyncio.to_thread(next_from, router) == (identity, mdp.worker_disconnect())
            another, frames = await asyncio.to_thread(next_from, router)
            assert frames == mdp.worker_ready(b"echo")
            assert another != identity

    asyncio.run(play())


def test_worker_goes_on_in_another_loop_when_its_own_has_ended(broker: Broker) -> None:
    router, address = broker
    worker = MajordomoWorker(address, "echo", **SLOW)
    identities: list[bytes] = []

    async def play(body: bytes) -> None:
        receiving = asyncio.create_task(worker.receive())
        if not identities:
            identities.append((await asyncio.to_thread(next_from, router))[0])
        router.send_multipart([*identities, *mdp.worker_request(b"client", [body])])
        assert (await receiving).frames == [body]
        await worker.reply(body)
        assert (await asyncio.to_thread(next_from, router))[1] == mdp.worker_reply(b"client", [body])
        await asyncio.wait(
            [asyncio.create_task(worker.receive())], timeout=0
        )  # whoever waits is cancelled with the loop

    for body in (b"1", b"2", b"3"):
        asyncio.run(play(body))
    asyncio.run(worker.close())
    assert next_from(router) == (identities[0], mdp.worker_disconnect())


def test_worker_is_in_one_loop_at_a_time(broker: Broker) -> None:
    _, address = broker

    async def play() -> None:
        async with MajordomoWorker(address, "echo", **SLOW) as worker:
            for use in (worker.receive, worker.close):
                with pytest.raises(RpcError, match="the worker is used in another loop, which runs"):
                    await asyncio.to_thread(asyncio.run, use())

    asyncio.run(play())

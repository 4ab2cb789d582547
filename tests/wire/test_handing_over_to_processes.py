"""Brokers that are handed over between processes, of which the new one may die at any step."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zmq

from pollbroker import STREAMER, BrokerState, HandOverError
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.threads import Threads, in_thread
from tests.support.types import Connect, MakeEngine
from tests.wire.moving import MOVES, Receiving, Sending, socket_pair
from tests.wire.partner import STEPS


@contextmanager
def partner(*arguments: str, descriptor: int | None = None) -> Iterator["subprocess.Popen[str]"]:
    """A process of `partner.py`, which has ended at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.wire.partner", *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=() if descriptor is None else (descriptor,),
    )  # fmt: skip
    try:
        yield process
        process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.wait()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()


def said(process: "subprocess.Popen[str]") -> Any:
    """The next line of a process."""
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def test_old_engine_goes_on_when_the_new_process_dies_at_any_step(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    engine.start()
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    push, pull = connect(zmq.PUSH, endpoint(broker.frontend)), connect(zmq.PULL, endpoint(broker.backend))
    with Receiving(pull) as receiving:
        sending = Sending(push, b"steady", receiving=receiving)
        for step in STEPS:
            with (
                socket_pair() as (ours, theirs),
                partner("adopt", str(theirs.fileno()), step, descriptor=theirs.fileno()),
            ):
                theirs.close()
                handed_over = in_thread(partial(engine.hand_over, ours, freeze_s=DEADLINE_S))
                with pytest.raises(HandOverError, match=r"has closed its end, or has died|is gone"):
                    handed_over.result(60)
                assert broker.state is BrokerState.RUNNING
                before = receiving.count
                wait_until(lambda count=before: receiving.count > count + 10)  # type: ignore[misc]
        with socket_pair() as (ours, theirs), partner("adopt", str(theirs.fileno()), descriptor=theirs.fileno()) as new:
            theirs.close()
            handed_over = in_thread(partial(engine.hand_over, ours, freeze_s=DEADLINE_S))
            assert said(new) == {"moved": ["a"]}
            assert handed_over.result(DEADLINE_S).moved == ("a",)
            before = receiving.count
            wait_until(lambda: receiving.count > before + 10)
            sent = sending.stop()
            wait_until(lambda: receiving.count == sent)
    assert receiving.messages == {b"steady": list(range(sent))}


def ask(client: zmq.Socket[bytes], stopped: list[bool]) -> int:
    count = 0
    while not stopped:
        client.send(b"%d" % count)
        assert client.recv() == b"answer %d" % count
        count += 1
    return count


def work(worker: zmq.Socket[bytes], stopped: list[bool]) -> None:
    while not stopped:
        if worker.poll(10):
            worker.send(b"answer " + worker.recv())


def hand_over_between_processes(connect: Connect, directory: Path, count: int) -> Any:
    """Let two processes hand a streamer and a queue to each other so often, under traffic."""
    stopped_asking: list[bool] = []
    stopped_working: list[bool] = []
    with partner("rounds", str(directory), "0", str(count)) as first:
        endpoints = said(first)
        pushes = [connect(zmq.PUSH, endpoints["streamer.frontend"], sndhwm=100) for _ in range(2)]
        with Receiving(connect(zmq.PULL, endpoints["streamer.backend"], rcvhwm=100)) as receiving, Threads() as threads:
            sendings = {
                b"%d" % number: Sending(push, b"%d" % number, receiving=receiving) for number, push in enumerate(pushes)
            }
            working = [threads.submit(work, connect(zmq.REP, endpoints["queue.backend"]), stopped_working)]
            asking = [
                threads.submit(ask, connect(zmq.REQ, endpoints["queue.frontend"]), stopped_asking) for _ in range(3)
            ]
            with partner("rounds", str(directory), "1", str(count)) as second:
                last = said(first if count % 2 == 0 else second)
                sent = {name: sending.stop() for name, sending in sendings.items()}
                stopped_asking.append(True)
                asked = sum(done.result(DEADLINE_S) for done in asking)
                stopped_working.append(True)
                working[0].result(DEADLINE_S)
                wait_until(lambda: receiving.count == sum(sent.values()))
    assert receiving.messages == {name: list(range(number)) for name, number in sent.items()}
    assert asked > 0
    return last | {"sent": sum(sent.values()), "asked": asked}


@pytest.mark.slow
def test_two_processes_hand_over_to_each_other(connect: Connect, tmp_path: Path) -> None:
    last = hand_over_between_processes(connect, tmp_path, 5 * MOVES)
    for received, sent, held, dropped in last["flows"].values():
        assert received == sent + held + dropped
        assert dropped == 0

"""Output that nobody reads."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import zmq

from pollbroker.control import request
from tests.support.addresses import ANY_PORT
from tests.support.commands import Run
from tests.support.deadline import DEADLINE_MS, DEADLINE_S, wait_until
from tests.support.transports import over_the_wire
from tests.support.types import Connect


@pytest.mark.parametrize("arguments", ["doctor", "--help", "queue --help", "--version"])
def test_output_that_is_cut_off_ends_the_command_in_silence(run: Run, arguments: str) -> None:
    command = run(*arguments.split())
    assert command.process.stdout is not None
    command.process.stdout.close()
    code, _, stderr = command.end()
    assert (code, stderr) == (141, "")


def test_ctl_whose_output_is_cut_off_has_been_carried_out(run: Run) -> None:
    broker = run("queue", ANY_PORT, ANY_PORT, "--control", ANY_PORT)
    command = run("ctl", broker.addresses()["control"], "TERMINATE")
    assert command.process.stdout is not None
    command.process.stdout.close()
    code, _, stderr = command.end()
    assert (code, stderr) == (141, "")
    assert broker.end()[0] == 0


def test_a_broker_whose_output_is_closed_goes_on_and_ends_in_order(run: Run, connect: Connect) -> None:
    command = run("streamer", ANY_PORT, ANY_PORT, "--drain", "60", "--control", ANY_PORT)
    addresses = command.addresses()
    pusher = connect(zmq.PUSH, addresses["frontend"], linger=DEADLINE_MS)
    pusher.send(b"through")
    pusher.close()
    pusher.context.term()  # so that the message has come to the broker's process
    if not over_the_wire():  # libzmq's own thread may not have read it yet
        wait_until(lambda: received(addresses["control"]) == 1)
    assert command.process.stdout is not None
    command.process.stdout.close()
    command.process.send_signal(signal.SIGHUP)
    with zmq.Context() as context, context.socket(zmq.PULL) as puller:
        puller.connect(addresses["backend"])
        assert puller.poll(DEADLINE_MS)
        assert puller.recv() == b"through"
    code, _, stderr = command.end()
    assert (code, stderr) == (0, "")


def received(control: str) -> int:
    """How many messages the broker has taken from its frontend."""
    _, told = request(control, "STATS", "streamer")
    count = json.loads(told)["flows"]["frontend"]["received"]
    assert isinstance(count, int)
    return count


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_full_disk_is_one_line_or_none_and_exit_code_2(stream: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pollbroker", *(["doctor"] if stream == "stdout" else ["frobnicate"])],
            stdout=full if stream == "stdout" else subprocess.PIPE,
            stderr=full if stream == "stderr" else subprocess.PIPE,
            timeout=DEADLINE_S,
        )
    assert done.returncode == 2
    assert done.stderr == (b"pollbroker: [Errno 28] No space left on device\n" if stream == "stdout" else None)

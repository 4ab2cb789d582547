"""The wire in the test kit's simulation: its ports on streams that a seed cuts, delays and breaks."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import zmq
from click.testing import CliRunner

from pollbroker import DEVICES, STREAMER, Device, DeviceError
from pollbroker.cli import main
from pollbroker.testing import InvariantViolation, Left, check_device, check_scenario, check_seed
from pollbroker.testing.environments.streams import StreamsEnvironment
from pollbroker.testing.scenario import Action, LinePlan, Scenario, Step, Topology
from pollbroker.testing.streams.channel import Channel
from pollbroker.testing.streams.port_stream import PortStream
from pollbroker.testing.streams.zmtp import Reader, encode_message, greeting
from tests.support.tree import TREE

DEVICES_TRIED = ("queue", "forwarder", "streamer", "filter", "reflector")


def check_several(device: Device | None, count: int, first: int = 0) -> None:
    for seed in range(first, first + count):
        check_seed(seed, device, column="streams")


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES_TRIED)
@pytest.mark.parametrize("first", [0, 1000])
def test_device_keeps_its_promises(device: str, first: int) -> None:
    check_several(DEVICES[device], 10, first)


@pytest.mark.slow
def test_chains_and_handlers_keep_their_promises() -> None:
    check_several(None, 25)


def test_hypothesis_tries_a_device() -> None:
    check_device(STREAMER, examples=5, steps=20, columns=["streams"])


# Any run can be repeated.


def test_seed_gives_the_same_trace_again() -> None:
    for seed in range(4):
        first, second = (check_seed(seed, column="streams") for _ in range(2))
        assert first.events == second.events


@pytest.mark.slow
def test_seed_gives_the_same_trace_in_another_process() -> None:
    program = (
        "import zlib; from pollbroker.testing import Got, Left, Sent, check_seed\n"
        "for seed in range(6):\n"
        "    events = check_seed(seed, column='streams').events\n"
        "    print(len(events), zlib.crc32(repr([e for e in events if isinstance(e, (Got, Sent))]).encode()))\n"
    )
    told = {
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=TREE).stdout
        for _ in range(2)
    }
    assert len(told) == 1, told


def test_seeds_cut_delay_refuse_and_break(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the simulation is for does happen, in a few seeds."""
    seen: set[str] = set()
    deliver, read, write = Channel.deliver, PortStream.read, PortStream.write

    def seen_deliver(self: Channel, count: int) -> None:
        if count < len(self.flying):
            seen.add("cut")
        deliver(self, count)

    def seen_read(self: PortStream, count: int) -> bytes | int:
        got = read(self, count)
        if isinstance(got, int):
            seen.add(f"read {got}")
        return got

    def seen_write(self: PortStream, given: bytes) -> int:
        count = write(self, given)
        seen.add("partial write" if 0 < count < len(given) else f"write {min(count, 0)}")
        return count

    monkeypatch.setattr(Channel, "deliver", seen_deliver)
    monkeypatch.setattr(PortStream, "read", seen_read)
    monkeypatch.setattr(PortStream, "write", seen_write)
    wanted = {"cut", "partial write", "write -11", "read -104", "write -32", "lost"}  # EAGAIN, ECONNRESET, EPIPE
    for seed in range(40):
        trace = check_seed(seed, DEVICES["streamer"], column="streams")
        if any(event.lost for _, event in trace.of(Left)):
            seen.add("lost")
        if seen >= wanted:
            break
    assert seen >= wanted


# Faults are found. These are planted between a port and its streams, and `test_stream_mutants.py` has some of the core.


def whole(self: PortStream, given: bytes) -> int:
    """A write that takes a part says that it has taken everything."""
    self.output.write(given[: self.output.room // 2])
    return len(given)


def deaf(self: PortStream, arrived: int) -> None:
    """Nothing that comes is told once hands were shaken."""
    if arrived and self.input.messages == 0:
        TELL_NEWS(self, arrived)


def blocked(self: PortStream, arrived: int) -> None:
    """Nobody is told that there is room again."""
    self._is_full = False
    TELL_NEWS(self, arrived)


def doubled(self: Channel, count: int) -> bytes:
    """A message that is read alone comes twice."""
    taken = READ(self, count)
    return taken * 2 if taken[-4:] == b"body" else taken


TELL_NEWS = PortStream.tell_news
READ = Channel.read


@pytest.mark.parametrize(
    ("owner", "name", "fault"),
    [(PortStream, "write", whole), (PortStream, "tell_news", deaf), (PortStream, "tell_news", blocked)],
    ids=["whole", "deaf", "blocked"],
)
def test_fault_is_found(
    monkeypatch: pytest.MonkeyPatch, owner: type[Any], name: str, fault: Callable[..., Any]
) -> None:
    monkeypatch.setattr(owner, name, fault)
    with pytest.raises(InvariantViolation):
        check_several(STREAMER, 20)


def test_message_that_comes_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Channel, "read", doubled)
    line = LinePlan(STREAMER, client=zmq.SocketType.PUSH, worker=zmq.SocketType.PULL)
    scenario = Scenario(Topology((line,)), (Step(Action.SEND), Step(Action.REST), Step(Action.TAKE, side="backend")))

    def check_some_seeds() -> None:
        for seed in range(10):  # in some of them it is read in two parts
            check_scenario(scenario, partial(StreamsEnvironment, seed=seed))

    with pytest.raises(InvariantViolation):
        check_some_seeds()


def test_error_of_a_peer_reaches_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: PortStream, count: int) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(PortStream, "read", fails)
    with pytest.raises(ZeroDivisionError):
        check_seed(0, STREAMER, column="streams")


# What is refused.


def test_behaviours_are_refused() -> None:
    result = CliRunner().invoke(main, ["fuzz", "--transport", "wire", "--device", "balancer", "--seeds", "1"])
    assert result.exit_code == 1
    assert "device balancer: it has a behaviour; with simulated streams expected one that has none" in result.output
    with pytest.raises(DeviceError, match="it has a behaviour"):
        check_device(DEVICES["balancer"], columns=["streams"], examples=1)


def test_command_tries_seeds_and_replays_them() -> None:
    tried = CliRunner().invoke(main, ["fuzz", "--transport", "wire", "--seeds", "3", "--jobs", "1"])
    assert (tried.exit_code, tried.output.endswith(": 0 failed\n")) == (0, True), tried.output
    replayed = CliRunner().invoke(main, ["fuzz", "--transport", "wire", "--replay", "3"])
    assert (replayed.exit_code, replayed.output) == (0, "seed 3: every promise was kept\n")


# The kit's own ZMTP.


def test_reader_finds_messages_however_they_are_cut() -> None:
    messages = [[b""], [b"a", b"b" * 300, b""], [b"#x/1"]]
    raw = greeting(1) + b"".join(map(encode_message, messages))
    for size in (1, 7, len(raw)):
        reader = Reader()
        found = [one for at in range(0, len(raw), size) for one in reader.feed(raw[at : at + size])]
        assert (found, reader.messages, reader.minor) == (messages, 3, 1)


@pytest.mark.parametrize("raw", [b"\xff" + bytes(63), greeting(1) + b"\x10\0", greeting(1) + b"\x05\0"])
def test_what_is_not_zmtp_is_found(raw: bytes) -> None:
    with pytest.raises(InvariantViolation, match="ports speak ZMTP"):
        Reader().feed(raw)

"""`python -m tests.soak --seconds 3600`: brokers whose peers are killed and begin again, for as long as is asked.

The ports are those of the wire: libzmq's may tear a message when a peer is killed (docs/testing.md).

What must hold is looked at all the time: each broker runs, each flow's account balances, messages move, and no peer is
given a message that it should not have. At the end nothing may be left in use, and memory may not have grown.
"""

import logging
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Final

import click

from pollbroker import DEVICES, Engine
from tests.soak.peers import ROLES
from tests.support.accounts import balanced
from tests.support.wire_ports import alive

PEERS: Final[Mapping[str, int]] = {
    "client": 2,
    "worker": 3,
    "source": 2,
    "sink": 2,
    "publisher": 2,
    "subscriber": 2,
    "stranger": 1,
}
"""How many processes there are of each role."""

SAMPLE_S: Final = 1.0
GROWTH_MAX_MIB: Final = 4.0
"""How much larger the memory may be in the last quarter of the time than in the second one. What the pools keep is
taken in the first."""

JUDGED_FROM_S: Final = 60.0
"""A shorter run says nothing of how memory grows."""


class Population:
    """The processes of the peers."""

    def __init__(
        self,
        endpoints: dict[tuple[str, str], list[str]],
        rate: int,
        chance: random.Random,
        counts: Mapping[str, int] = PEERS,
    ) -> None:
        self._counts = counts
        self._endpoints = endpoints
        self._rate = rate
        self._chance = chance
        self._peers: list[tuple[str, subprocess.Popen[str]]] = []
        self.killed = 0

    def fill(self) -> None:
        """Let peers begin until there are enough of each role. Raises `AssertionError` if one has ended by itself."""
        for ended in [one for one in self._peers if one[1].poll() is not None]:
            self._peers.remove(ended)
            role, peer = ended
            raise AssertionError(f"{role}: {peer.communicate()[1].strip()}")
        for role, count in self._counts.items():
            for _ in range(count - sum(one == role for one, _ in self._peers)):
                self._peers.append((role, self._begin(role)))

    def _begin(self, role: str) -> subprocess.Popen[str]:
        device, port, _ = ROLES[role]
        endpoints = self._endpoints[device, port] if device else list(chain(*self._endpoints.values()))
        arguments = (role, str(self._chance.getrandbits(32)), str(self._rate), *endpoints)
        return subprocess.Popen(
            [sys.executable, "-m", "tests.soak.peers", *arguments],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def kill_one(self) -> None:
        _, peer = self._peers.pop(self._chance.randrange(len(self._peers)))
        peer.kill()
        peer.communicate()
        self.killed += 1

    def end(self) -> None:
        for _, peer in self._peers:
            peer.kill()
        for _, peer in self._peers:
            peer.communicate()
        self._peers.clear()


def resident_mib() -> float:
    """What the process has in memory (proc_pid_statm(5))."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / (1 << 20)


def add_brokers(engine: Engine, directory: str) -> dict[tuple[str, str], list[str]]:
    """A broker of each device over tcp, and one over ipc. Returns the endpoints by device and port."""
    endpoints: dict[tuple[str, str], list[str]] = {}
    for name in ("queue", "streamer", "forwarder"):
        for address in ("tcp://127.0.0.1:*", "ipc://{0}/{1}-{2}"):
            frontend, backend = (address.format(directory, name, port) for port in ("frontend", "backend"))
            kind = address.partition(":")[0]
            broker = engine.add(f"{name}-{kind}", DEVICES[name], frontend=frontend, backend=backend, transport="wire")
            for port in (broker.frontend, broker.backend):
                endpoints.setdefault((name, port.name), []).extend(port.endpoints)
    return endpoints


def check(engine: Engine, moved_before: dict[str, int]) -> dict[str, int]:
    """Returns how many messages each broker has moved. `AssertionError`: one has failed, or does not balance."""
    moved = {}
    for name, broker in engine.statistics().brokers.items():
        assert broker.state == "running", f"{name}: {broker.state}: {broker.error}"
        for source, flow in broker.flows.items():
            assert balanced(flow), f"{name}.{source}: {flow}"
        moved[name] = sum(flow.sent for flow in broker.flows.values())
        assert moved[name] >= moved_before.get(name, 0), f"{name}: a counter has gone back"
    return moved


def soak(seconds: float, seed: int, rate: int, every_s: float) -> tuple[int, int, list[float]]:
    """Returns the number of messages, that of the peers that were killed, and the memory at each sample."""
    chance = random.Random(seed)
    memory: list[float] = []
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        engine = stack.enter_context(Engine())
        endpoints = add_brokers(engine, directory)
        population = Population(endpoints, rate, chance)
        stack.callback(population.end)
        begun_s = told_s = time.monotonic()
        moved: dict[str, int] = {}
        moved_when_told: dict[str, int] = {}
        while (now_s := time.monotonic()) < begun_s + seconds:
            population.fill()
            moved = check(engine, moved)
            memory.append(resident_mib())
            if now_s - told_s >= every_s:
                still = [name for name in moved if moved[name] == moved_when_told.get(name, 0)]
                assert not still, f"nothing has moved for {every_s:.0f} s: {still}"
                _tell(now_s - begun_s, moved, population.killed, memory[-1])
                told_s, moved_when_told = now_s, moved
            time.sleep(SAMPLE_S * chance.random() * 2)
            population.kill_one()
        population.end()
        moved = check(engine, moved)
        for broker in engine.brokers.values():
            broker.remove(timeout_s=0)
        left = alive(engine)
        assert left == (0, 0, 0, 0), f"slabs, segments, ports and peers that are left: {left}"
    return sum(moved.values()), population.killed, memory


def _tell(at_s: float, moved: dict[str, int], killed: int, memory_mib: float) -> None:
    print(f"{at_s:6.0f} s: {sum(moved.values()):,} messages, {killed} peers killed, {memory_mib:.1f} MiB", flush=True)


def growth_mib(memory: Sequence[float]) -> float:
    """How much larger the last quarter of the samples is than the second, by their medians."""
    quarter = len(memory) // 4
    return statistics.median(memory[-quarter:]) - statistics.median(memory[quarter : 2 * quarter])


@click.command()
@click.option("--seconds", default=60.0, show_default=True, help="How long to go on.")
@click.option("--seed", default=lambda: int(time.time()), type=int, help="What the peers draw from.")
@click.option("--rate", default=300, show_default=True, help="Messages a second of each peer that sends, and broker.")
@click.option(
    "--every", "every_s", default=60.0, show_default=True, help="Seconds from one line of figures to the next."
)
def main(seconds: float, seed: int, rate: int, every_s: float) -> None:
    """Relay messages, kill peers, and look at what must hold."""
    logging.getLogger("pollbroker").setLevel(logging.ERROR)  # strangers are warned of once a second
    print(f"seed {seed}")
    messages, killed, memory = soak(seconds, seed, rate, every_s)
    grown = f", memory {growth_mib(memory):+.1f} MiB" if len(memory) >= 8 else ""
    print(f"{messages:,} messages, {killed} peers killed{grown}: every account balances, and nothing is left in use")
    if seconds >= JUDGED_FROM_S and growth_mib(memory) > GROWTH_MAX_MIB:
        sys.exit(f"memory has grown by more than {GROWTH_MAX_MIB} MiB")


if __name__ == "__main__":
    main()

"""Relays to compare: libzmq's, pyzmq's, the one of many tutorials, and pollbroker, each a `start(frontend, backend)`.

`python -m tests.support.relays` puts each of them into the situations of `pollbroker.testing.relay`, and prints what
they keep as a Markdown table. It writes nothing. Each cell is a process of its own, for some of them hang, or abort it.
"""

import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import click
import zmq
import zmq.devices.monitoredqueue
from zmq.backend.cython import _zmq

from bench.peers.need import GEVENT, Need
from pollbroker import DEVICES, FORWARDER, QUEUE, STREAMER, Device, Engine, Route
from pollbroker.pump import Socket
from pollbroker.testing.relay import SITUATIONS, examine_relay, situations_of

SWITCH: Final = Device("switch", zmq.ROUTER, zmq.ROUTER, (Route("frontend", "backend"), Route("backend", "frontend")))
"""Between two ROUTERs, for those relays that swap the two routing ids (`monitored_queue`)."""


# -- libzmq's ----------------------------------------------------------------------------------------------------------


def zmq_proxy(frontend: Socket, backend: Socket) -> None:
    """`zmq.proxy` as it is mostly used, on a ROUTER as it comes."""
    _without_mandatory(frontend)
    zmq.proxy(frontend, backend)


def zmq_proxy_mandatory(frontend: Socket, backend: Socket) -> None:
    """`zmq.proxy` on a ROUTER that says what it cannot deliver, as the kit hands it over (ROUTER_MANDATORY)."""
    zmq.proxy(frontend, backend)


def _without_mandatory(frontend: Socket) -> None:
    if frontend.type == zmq.ROUTER:
        frontend.setsockopt(zmq.ROUTER_MANDATORY, 0)


# -- pyzmq's -----------------------------------------------------------------------------------------------------------


def green_device(frontend: Socket, backend: Socket) -> None:
    """`zmq.green.device`, in this thread's own hub of gevent's."""
    import gevent  # type: ignore[import-not-found,import-untyped,unused-ignore]  # has no types, and is optional
    import zmq.green

    _without_mandatory(frontend)
    green: list[Any] = [zmq.green.Socket.shadow(socket) for socket in (frontend, backend)]
    gevent.joinall([gevent.spawn(zmq.green.device, zmq.QUEUE, *green)], raise_error=True)


def monitored_queue(frontend: Socket, backend: Socket) -> None:
    """`zmq.devices.monitored_queue`: compiled, where pyzmq is. Its copies go to nobody."""
    _monitored(_zmq.monitored_queue, frontend, backend)


def pure_monitored_queue(frontend: Socket, backend: Socket) -> None:
    """The same in pure Python, which pyzmq runs on PyPy."""
    _monitored(zmq.devices.monitoredqueue._monitored_queue, frontend, backend)


def _monitored(queue: Callable[..., object], frontend: Socket, backend: Socket) -> None:
    _without_mandatory(frontend)
    with frontend.context.socket(zmq.PUB) as monitor:
        monitor.linger = 0
        queue(frontend, backend, monitor)


# -- tutorials' --------------------------------------------------------------------------------------------------------


def two_threads(frontend: Socket, backend: Socket) -> None:
    """A thread for each direction, both on the same two sockets, which ZeroMQ sockets do not bear."""
    _without_mandatory(frontend)
    back = threading.Thread(target=_relay_until_the_end, args=(backend, frontend), daemon=True)
    if backend.type != zmq.PUSH:
        back.start()
    _relay_until_the_end(frontend, backend)
    if back.ident is not None:
        back.join()


def _relay_until_the_end(source: Socket, sink: Socket) -> None:
    try:
        while True:
            frame = source.recv()
            sink.send(frame, zmq.SNDMORE if source.getsockopt(zmq.RCVMORE) else 0)
    except zmq.ContextTerminated:
        return


def poller_loop(frontend: Socket, backend: Socket) -> None:
    """The loop that the ZeroMQ guide writes: a Poller, and one whole message a wake-up and direction."""
    _without_mandatory(frontend)
    sinks = {frontend: backend} if backend.type == zmq.PUSH else {frontend: backend, backend: frontend}
    poller = zmq.Poller()
    for source in sinks:
        poller.register(source, zmq.POLLIN)
    while True:
        for source, _ in poller.poll():
            sinks[source].send_multipart(source.recv_multipart())


# -- pollbroker --------------------------------------------------------------------------------------------------------


_DEVICES: Final = {zmq.ROUTER: QUEUE, zmq.XSUB: FORWARDER, zmq.PULL: STREAMER}


class Pollbroker:
    """pollbroker on the sockets of others. It counts what it drops."""

    def __init__(self, pump: str) -> None:
        self._pump = pump
        self._engine: Engine | None = None

    def __call__(self, frontend: Socket, backend: Socket) -> None:
        """Run an engine with one broker until the context ends."""
        with closing(Engine(frontend.context, pump=self._pump)) as engine:
            engine.register(frontend, backend, _DEVICES[zmq.SocketType(int(frontend.type))], name="relay")
            self._engine = engine
            engine.run()

    def dropped(self) -> int:
        """How many messages it has dropped by a rule that counts them."""
        if self._engine is None or self._engine.closed:
            return 0
        return sum(flow.dropped for flow in self._engine.broker_statistics("relay").flows.values())


pollbroker_native = Pollbroker("native")
pollbroker_python = Pollbroker("python")


# -- the table ---------------------------------------------------------------------------------------------------------


_ALL: Final = ("queue", "forwarder", "streamer")


@dataclass(frozen=True)
class Entry:
    """A relay: what the table calls it, where it is, what it needs, and at which devices it is worth looking at."""

    name: str
    start: str
    needs: Need | None = None
    devices: tuple[str, ...] = _ALL


RELAYS: Final = (
    Entry("pollbroker, native pump", "tests.support.relays:pollbroker_native"),
    Entry("pollbroker, Python pump", "tests.support.relays:pollbroker_python"),
    Entry("zmq.proxy", "tests.support.relays:zmq_proxy"),
    Entry("zmq.proxy, ROUTER_MANDATORY", "tests.support.relays:zmq_proxy_mandatory", devices=("queue",)),
    Entry("monitored_queue, compiled", "tests.support.relays:monitored_queue", devices=(*_ALL, "switch")),
    Entry("monitored_queue, pure Python", "tests.support.relays:pure_monitored_queue", devices=(*_ALL, "switch")),
    Entry("zmq.green.device", "tests.support.relays:green_device", needs=GEVENT),
    Entry("Poller loop", "tests.support.relays:poller_loop"),
    Entry("two threads", "tests.support.relays:two_threads"),
)


@click.command()
@click.option("--relay", "names", multiple=True, type=click.Choice([r.name for r in RELAYS]), help="By default all.")
@click.option("--device", "devices", multiple=True, type=click.Choice((*_ALL, "switch")), help="By default all.")
@click.option("--situation", "situations", multiple=True, type=click.Choice(list(SITUATIONS)), help="By default all.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="How many runs a cell.")
@click.option("--deadline", "deadline_s", type=float, default=2.0, show_default=True, help="Seconds without progress.")
def main(
    names: tuple[str, ...], devices: tuple[str, ...], situations: tuple[str, ...], seeds: int, deadline_s: float
) -> None:
    """Put relays into situations, and print what they keep."""
    chosen = [one for one in RELAYS if not names or one.name in names]
    for one in chosen:
        if one.needs is not None and not one.needs.met:
            click.echo(f"Left out: {one.name} ({one.needs.install}).\n")
    relays = [one for one in chosen if one.needs is None or one.needs.met]
    for device in devices or (*_ALL, "switch"):
        here = [one for one in relays if device in one.devices]
        where, definition = ("tests.support.relays:SWITCH", SWITCH) if device == "switch" else (device, DEVICES[device])
        columns = [name for name in situations_of(definition) if not situations or name in situations]
        if here and columns:
            _print_table(here, device, where, columns, range(seeds), deadline_s)


def _print_table(
    relays: list[Entry], device: str, where: str, situations: list[str], seeds: range, deadline_s: float
) -> None:
    click.echo(f"| {device} | {' | '.join(situations)} |\n| --- |{' --- |' * len(situations)}")
    accounts = []
    for relay in relays:
        verdicts: dict[str, list[str]] = defaultdict(list)
        for seed in seeds:
            examined = examine_relay(relay.start, where, situations=situations, seed=seed, deadline_s=deadline_s)
            for name, verdict in examined.items():
                verdicts[name].append(verdict)
        click.echo(f"| {relay.name} | {' | '.join(_cell(verdicts[name]) for name in situations)} |")
        for name in situations:
            kinds = {_short(verdict): verdict for verdict in reversed(verdicts[name]) if verdict != "kept"}
            accounts += [f"- {relay.name}, {name}: {verdict}" for verdict in kinds.values()]
    click.echo("\n" + "\n".join(accounts) + "\n")


def _cell(verdicts: list[str]) -> str:
    """What the runs came to: one word if they agree, else how many of each."""
    counts: dict[str, int] = defaultdict(int)
    for verdict in verdicts:
        counts[_short(verdict)] += 1
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{short} {count}/{len(verdicts)}" for short, count in counts.items())


def _short(verdict: str) -> str:
    return verdict if verdict == "kept" else f"**{verdict.partition(':')[0]}**"


if __name__ == "__main__":
    main()

"""What no single key shows: what is wrong with the brokers of a configuration together, and on this machine.

Nothing stays open. Sockets are opened to try their options, and closed again; nothing is bound or connected.
"""

import graphlib
import resource
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple, Self, TypeAlias

import zmq

from pollbroker.daemon.addresses import Bound, parse
from pollbroker.daemon.configuration import BrokerConfiguration, Configuration
from pollbroker.daemon.problems import ConfigurationError, Place, Problem
from pollbroker.daemon.resolving import read_what_is_right
from pollbroker.descriptors import SPARE_DESCRIPTORS, check_descriptors
from pollbroker.device import CAPTURE, RECEIVES, SENDS
from pollbroker.endpoint import is_loopback
from pollbroker.errors import ConfigError
from pollbroker.opening import PortPlan
from pollbroker.options import set_options
from pollbroker.transports import LIBZMQ

_ALWAYS_OPEN: Final = 40
"""Descriptors of a daemon without brokers: those of Python, of libzmq's threads, of the engine, and the 16 that must be
spare when a socket is opened."""

_OF_HTTP: Final = 8
"""Descriptors of the HTTP server: what listens and wakes it, and those that it keeps for a few connections."""

_PER_SOCKET: Final = {LIBZMQ: 1}
"""The descriptors of a socket itself: libzmq's has a mailbox, and the wire's has none."""


_Addresses: TypeAlias = tuple[tuple[str, Bound], ...]
"""Addresses as the file says them, and in parts."""


class _Opened(NamedTuple):
    """A port as it would be opened, and where the files say so. Wildcards are not among its addresses."""

    broker: BrokerConfiguration
    plan: PortPlan
    place: Place
    bound: _Addresses
    connected: _Addresses

    @classmethod
    def of(cls, broker: BrokerConfiguration, plan: PortPlan) -> Self:
        ipv6 = bool(dict(plan.options).get(zmq.SocketOption.IPV6)) or any(
            "://[" in endpoint.address for endpoint in plan.endpoints
        )
        bound, connected = (
            tuple(
                (endpoint.address, parsed)
                for endpoint in plan.endpoints
                if endpoint.bind is bind and (parsed := parse(endpoint.address, ipv6=ipv6)) is not None
            )
            for bind in (True, False)
        )
        return cls(broker, plan, broker.ports[plan.name].place, bound, connected)

    @property
    def node(self) -> str:
        return f"{self.broker.name}.{self.plan.name}"

    def problem(self, text: str) -> Problem:
        """A problem with the port, or with an option of it."""
        return self.broker.ports[self.plan.name].problem(text)


def read_checked(path: Path, environment: Mapping[str, str] | None = None) -> Configuration:
    """Read a configuration, and check its brokers together: those that are right by themselves, if others are not.

    Raises `ConfigurationError`, with everything that is wrong.
    """
    configuration, problems = read_what_is_right(path, environment)
    problems += check(configuration, is_whole=not problems)
    if problems:
        raise ConfigurationError(problems)
    return configuration


def checked(configuration: Configuration) -> Configuration:
    """The same configuration, whose brokers were checked together. Raises `ConfigurationError`."""
    problems = check(configuration)
    if problems:
        raise ConfigurationError(problems)
    return configuration


def check(configuration: Configuration, *, is_whole: bool = True) -> list[Problem]:
    """Everything that is wrong with the brokers together; an empty list if nothing is.

    With `is_whole=False` what was wrong by itself has been left out of the configuration. What depends on all of it is
    not judged then.
    """
    ports = [_Opened.of(broker, plan) for broker in configuration.brokers.values() for plan in broker.plan.ports]
    return sorted(
        {
            *_shared_addresses(_listening(configuration, ports)),
            *_loops(ports),
            *_refused_options(ports),
            *_closed_to_all(ports),
            *_coroutines(configuration),
            *(_descriptors(configuration, ports) if is_whole else ()),
            *_open_control(configuration),
        }
    )


class _Listening(NamedTuple):
    """An address that the daemon is to listen at."""

    owner: str
    place: Place
    address: str
    """As the file says it."""
    bound: Bound


def _listening(configuration: Configuration, ports: list[_Opened]) -> Iterator[_Listening]:
    """What is to listen, but for wildcards, in the order in which it is told who has an address already."""
    of_servers: list[tuple[str, Place, str, str]] = [
        ("the control socket", configuration.control_place, endpoint.address, endpoint.address)
        for endpoint in configuration.control
        if endpoint.bind
    ]
    if configuration.http is not None:
        http = configuration.http
        of_servers.append(("the HTTP server", configuration.http_place, http, f"tcp://{http}"))
    if configuration.takeover is not None:
        path = configuration.takeover
        of_servers.append(("the socket for successors", configuration.takeover_place, path, f"ipc://{path}"))
    for owner, place, address, endpoint in of_servers:
        bound = parse(endpoint)
        if bound is not None:
            yield _Listening(owner, place, address, bound)
    for port in ports:
        for address, bound in port.bound:
            yield _Listening(f"brokers.{port.node}", port.place, address, bound)


def _shared_addresses(listening: Iterable[_Listening]) -> Iterator[Problem]:
    taken: dict[tuple[str, str], list[_Listening]] = {}
    for one in listening:
        others = taken.setdefault(one.bound.key, [])
        for other in others:
            if one.bound.takes(other.bound):
                where = f", at {other.place}" if other.place.file else ""
                text = f"{one.address}: {other.owner} has this address already{where}; expected another"
                yield one.place.problem(text)
                break
        others.append(one)


def _loops(ports: list[_Opened]) -> Iterator[Problem]:
    """Ways by which a message would come back to where it was.

    A way leads from where a port receives to where another sends, by a route, and from there over a connection to where
    the next broker receives. So a reply that goes back the way of its request is no loop.
    """
    ways: dict[tuple[str, str], set[tuple[str, str]]] = {}  # from each step to those before it, as graphlib wants it
    connecting = [port for port in ports if port.connected]
    if not connecting:
        return
    by_key: dict[tuple[str, str], list[tuple[Bound, _Opened]]] = {}
    for port in ports:
        for _, one in port.bound:
            by_key.setdefault(one.key, []).append((one, port))
    places = {port.node: port.place for port in ports}
    linked = False
    for port in connecting:
        for _, address in port.connected:
            for one, other in by_key.get(address.key, ()):
                if one.takes(address):
                    linked = True
                    for sender, receiver in ((port, other), (other, port)):
                        if sender.plan.socket_type in SENDS and receiver.plan.socket_type in RECEIVES:
                            ways.setdefault(("in", receiver.node), set()).add(("out", sender.node))
    if not linked:
        return
    for broker in {port.broker.name: port.broker for port in ports}.values():
        for source, sink in _routes(broker):
            ways.setdefault(("out", f"{broker.name}.{sink}"), set()).add(("in", f"{broker.name}.{source}"))
        if CAPTURE in broker.ports:
            for source in broker.device.ports:
                ways.setdefault(("out", f"{broker.name}.{CAPTURE}"), set()).add(("in", f"{broker.name}.{source}"))
    while True:
        try:
            graphlib.TopologicalSorter(ways).prepare()
            return
        except graphlib.CycleError as error:
            nodes: list[tuple[str, str]] = error.args[1]
            names = list(dict.fromkeys(name for _, name in nodes))
            first = min(range(len(names)), key=lambda at: names[at])
            names = names[first:] + names[:first]
            yield places[names[0]].problem(f"messages would go round for ever: {' -> '.join([*names, names[0]])}")
            ways[nodes[1]].discard(nodes[0])  # the next circle, if there is one


def _routes(broker: BrokerConfiguration) -> Iterator[tuple[str, str]]:
    """From where to where messages go in a broker. What a behaviour does is not known: it may send what it receives at
    one port to every other."""
    device = broker.device
    if device.behaviour is None:
        yield from ((route.source, sink) for route in device.routes for sink in route.sinks)
    else:
        yield from ((source, sink) for source in device.ports for sink in device.ports if source != sink)


def _refused_options(ports: list[_Opened]) -> Iterator[Problem]:
    """Options that libzmq refuses for a type of socket. Each combination is tried once."""
    tried: dict[object, str | None] = {}
    ports = [port for port in ports if port.plan.transport == LIBZMQ]
    if not ports:  # a context takes descriptors, and there may be none
        return
    with zmq.Context[zmq.Socket[bytes]]() as context:
        for port in ports:
            key = (port.plan.socket_type, port.plan.options)
            if key not in tried:
                try:
                    check_descriptors()
                except OSError as error:
                    yield port.place.problem(
                        f"its options cannot be tried: {error.strerror}: fewer than {SPARE_DESCRIPTORS} descriptors "
                        "are left; expected a higher limit (ulimit -n)"
                    )
                    return
                tried[key] = None
                with context.socket(port.plan.socket_type) as socket:
                    try:
                        set_options("", socket, port.plan.options)
                    except ConfigError as error:
                        tried[key] = str(error).removeprefix(": ")
                    socket.linger = 0
            why = tried[key]
            if why is not None:
                yield port.problem(why)


def _closed_to_all(ports: list[_Opened]) -> Iterator[Problem]:
    """Options by which nobody can connect to a port (SECURITY.md, "Who may be a peer").

    An authenticator is a socket in the engine's context, which no other process can have, and a daemon opens none.
    """
    for port in ports:
        if all(endpoint.address.startswith("inproc:") for endpoint in port.plan.endpoints):
            continue  # nobody shakes hands there
        options = {option.name.lower(): value for option, value in port.plan.options}
        if options.get("plain_server"):
            yield port.problem(
                "option plain_server: nobody could connect: a server of PLAIN asks an authenticator about each client, "
                "and a daemon has none; expected false"
            )
        is_client = bool(options.get("plain_username") or options.get("curve_serverkey"))
        if options.get("zap_enforce_domain") and not is_client:
            yield port.problem(
                "option zap_enforce_domain: nobody could connect: an authenticator would have to be asked about each "
                "peer, and a daemon has none; expected false"
            )


def _coroutines(configuration: Configuration) -> Iterator[Problem]:
    for broker in configuration.brokers.values():
        for route in broker.device.routes:
            if route.awaits:
                yield broker.place.problem(
                    f"device {broker.device_name}: {route}: via is a coroutine function, which needs a loop of asyncio "
                    "or trio; expected a function"
                )


def _descriptors(configuration: Configuration, ports: list[_Opened]) -> Iterator[Problem]:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _ALWAYS_OPEN + 2 * len(configuration.control) + (0 if configuration.http is None else _OF_HTTP)
    for port in ports:
        bound = sum(endpoint.bind for endpoint in port.plan.endpoints)
        needed += _PER_SOCKET.get(port.plan.transport, 0) + 2 * bound + (len(port.plan.endpoints) - bound)
    if limit != resource.RLIM_INFINITY and needed > limit:
        yield Problem(
            configuration.files[0] if configuration.files else "", 0, "brokers",
            f"{len(ports)} ports need about {needed} descriptors, before a peer connects, and this process may open "
            f"{limit}; expected a higher limit (ulimit -n)",
        )  # fmt: skip


def _open_control(configuration: Configuration) -> Iterator[Problem]:
    if configuration.engine.control_from_network:
        return
    for endpoint in configuration.control:
        if endpoint.bind and not is_loopback(endpoint.address):
            yield configuration.control_place.problem(
                f"{endpoint.address}: whoever reaches this address can stop the daemon; expected ipc://path or "
                "tcp://127.0.0.1:port, or control_from_network = true"
            )

"""`pollbroker doctor`: what is installed here, what it can do, and whether it works."""

import os
import platform
import resource
import sysconfig
import time
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from selectors import DefaultSelector
from typing import Final

import click
import zmq

from pollbroker.endpoint import TRANSPORTS
from pollbroker.engine import Engine
from pollbroker.errors import EngineError
from pollbroker.standard_devices import STREAMER
from pollbroker.version import __version__
from pollbroker.wire.served import TRANSPORTS as WIRE_TRANSPORTS
from pollbroker.wire.served import why_not_built

OLDEST_LIBZMQ: Final = (4, 3, 3)
"""With older versions anyone who can connect to a server can stop it, even before the handshake (CVE-2020-15166)."""

_OPTIONAL: Final = ("ipc", "curve", "gssapi")
"""The parts that pollbroker can use and that a libzmq may have been built without (zmq_has(3)). The other transports of
libzmq (pgm, norm, tipc, vmci, ws, wss) cannot be used in an endpoint, and no draft socket type fits a device."""

_MECHANISMS: Final = ("null", "plain", "curve", "gssapi")
"""The mechanisms by which peers can authenticate, which socket options choose (zmq_null(7), zmq_plain(7), ...)."""

_DESCRIPTORS_A_BROKER: Final = 4
"""How many descriptors a broker needs: two bound sockets with a mailbox and a listener each. Each connected peer needs
one more."""

_SOCKETS_A_BROKER: Final = 2

_LISTENERS_A_BROKER: Final = 2
"""How many descriptors a broker needs with ports of the wire. Each connected peer needs one, too."""

_SELF_TEST_MS: Final = 5000


def refuse_libzmq(version: tuple[int, ...]) -> str | None:
    """Return why this version of libzmq is refused, or None if it is new enough."""
    if version >= OLDEST_LIBZMQ:
        return None
    found, oldest = (".".join(map(str, numbers)) for numbers in (version, OLDEST_LIBZMQ))
    return f"libzmq {found} is too old: expected {oldest} or newer; install a current pyzmq, whose wheels bring one"


def usable(names: Iterable[str]) -> list[str]:
    """Return those transports or mechanisms that this libzmq has."""
    return [name for name in names if name not in _OPTIONAL or zmq.has(name)]


def explain_pump(chosen: str, asked: str | None, failure: ImportError | None, *, free_threaded: bool = False) -> str:
    """Describe which pump is used and why.

    Arguments:
        chosen: the pump that is used.
        asked: the value of POLLBROKER_PUMP.
        failure: why the native pump could not be imported; None if it could.
        free_threaded: True if this is a free-threaded Python.
    """
    if asked:
        return f"{chosen}, as POLLBROKER_PUMP says"
    if failure is None:
        return f"{chosen}, the faster of the two"
    if isinstance(failure, ModuleNotFoundError) and failure.name == "pollbroker.pump.native" and free_threaded:
        why = "the native one is not built for a free-threaded Python, which lacks the limited API that it needs"
    elif isinstance(failure, ModuleNotFoundError) and failure.name == "pollbroker.pump.native":
        why = "the native one was not built: there was no working C compiler at install; get one and install again"
    else:
        why = f"the native one cannot be loaded: {' '.join(str(failure).split())}"
    return f"{chosen}: {why}"


def explain_wire(why_not: str | None, asked: str | None) -> str:
    """Describe whether ports of the wire can be used, and whether they are unless a program says otherwise.

    Arguments:
        why_not: why the wire cannot be used; None if it can.
        asked: the value of POLLBROKER_TRANSPORT.
    """
    if why_not is not None:
        return " ".join(why_not.split())
    served = " and ".join(f"{transport}://" for transport in WIRE_TRANSPORTS)
    use = f"POLLBROKER_TRANSPORT is {asked}" if asked else "used for each port that it can serve"
    return f"it was built, and serves {served}; {use}"


def explain_waiter(chosen: str, asked: str | None, selector: str) -> str:
    """Describe which waiter is used and why.

    Arguments:
        chosen: the waiter that is used.
        asked: the value of POLLBROKER_WAITER.
        selector: the name of the best selector of this platform, such as "epoll".
    """
    if asked:
        return f"{chosen}, as POLLBROKER_WAITER says"
    if chosen == "nested":
        return f"{chosen}, on {selector}: an idle broker costs nothing"
    return f"{chosen}: the best selector of this platform, {selector}, cannot be polled itself"


def count_brokers(descriptors: int, used: int, sockets: int) -> int:
    """Return about how many brokers, without peers, the limits allow.

    Arguments:
        descriptors: the process's limit of descriptors.
        used: how many descriptors are in use.
        sockets: the context's limit of sockets.
    """
    by_descriptors = sockets if descriptors == resource.RLIM_INFINITY else (descriptors - used) // _DESCRIPTORS_A_BROKER
    return max(0, min(by_descriptors, sockets // _SOCKETS_A_BROKER))


def describe_brokers(descriptors: int, used: int, sockets: int, *, has_wire: bool) -> str:
    """Describe how many brokers fit, and what their peers take of that. The arguments are those of `count_brokers`."""
    at_libzmq = f"{count_brokers(descriptors, used, sockets)} brokers at ports of libzmq, less one for every 4 peers"
    if not has_wire:
        return at_libzmq
    if descriptors == resource.RLIM_INFINITY:
        return f"{at_libzmq}; any number at ports of the wire"
    at_the_wire = max(0, descriptors - used) // _LISTENERS_A_BROKER
    return f"{at_libzmq}; {at_the_wire} at ports of the wire, less one for every {_LISTENERS_A_BROKER} peers"


def self_test() -> float:
    """Send one message through a streamer and return how many seconds it took.

    Raises `EngineError` if the message does not arrive, or arrives changed.
    """
    with Engine() as engine:
        broker = engine.add("self-test", STREAMER, frontend="inproc://self-test-in", backend="inproc://self-test-out")
        pusher, puller = engine.context.socket(zmq.PUSH), engine.context.socket(zmq.PULL)
        try:
            pusher.connect(broker.frontend.endpoints[0])
            puller.connect(broker.backend.endpoints[0] if broker.backend else "")
            began_s = time.perf_counter()
            pusher.send_multipart([b"self", b"test"])
            if not puller.poll(_SELF_TEST_MS):
                raise EngineError(f"self-test: no message came through in {_SELF_TEST_MS} ms")
            if puller.recv_multipart() != [b"self", b"test"]:
                raise EngineError("self-test: another message came out than was sent")
            return time.perf_counter() - began_s
        finally:
            pusher.close(linger=0)
            puller.close(linger=0)


def _facts() -> Iterator[tuple[str, str]]:
    yield "pollbroker", __version__
    yield "Python", f"{platform.python_version()}, {platform.python_implementation()}, {platform.platform()}"
    yield "pyzmq", zmq.__version__
    yield "libzmq", zmq.zmq_version()
    with Engine() as engine:
        statistics = engine.statistics()
        sockets = engine.context.get(zmq.SOCKET_LIMIT)
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    asked = os.environ.get("POLLBROKER_PUMP")
    yield "pump", explain_pump(statistics.pump, asked, _native_failure(), free_threaded=free_threaded)
    yield "wire", explain_wire(why_not_built(), os.environ.get("POLLBROKER_TRANSPORT"))
    selector = DefaultSelector.__name__.removesuffix("Selector").lower()
    yield "waiter", explain_waiter(statistics.waiter, os.environ.get("POLLBROKER_WAITER"), selector)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = [f"{'no' if limit == resource.RLIM_INFINITY else limit} limit" for limit in (soft, hard)]
    fit = describe_brokers(soft, _used_descriptors(), sockets, has_wire=why_not_built() is None)
    yield "descriptors", f"{limits[0]} ({limits[1]} at most): about {fit}"
    yield "transports", ", ".join(usable(TRANSPORTS))
    yield "mechanisms", ", ".join(usable(_MECHANISMS))
    yield "missing", ", ".join(name for name in _OPTIONAL if not zmq.has(name)) or "nothing that pollbroker can use"


def _native_failure() -> ImportError | None:
    try:
        import_module("pollbroker.pump.native")
    except ImportError as error:
        return error
    return None


def _used_descriptors() -> int:
    try:
        return len(list(Path("/dev/fd").iterdir()))
    except OSError:
        return 0


@click.command(short_help="Show what is installed here, and check that it works.")
def doctor() -> int:
    """Show what is installed here and what it can do, and send one message through a broker.

    Exits with 1 if libzmq is too old, or if the message does not arrive.
    """
    for name, value in _facts():
        click.echo(f"{name:<12}{value}")
    refusal = refuse_libzmq(zmq.zmq_version_info())
    if refusal is not None:
        click.echo(f"pollbroker: {refusal}", err=True)
        return 1
    try:
        taken_s = self_test()
    except EngineError as error:
        click.echo(f"pollbroker: {error}", err=True)
        return 1
    click.echo(f"{'self-test':<12}one message through an inproc streamer in {taken_s * 1000:.1f} ms")
    return 0

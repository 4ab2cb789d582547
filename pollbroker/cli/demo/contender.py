"""One of the two that the demo compares, in a process of its own, so that its processor time can be told apart:
`python -m pollbroker.cli.demo.contender pollbroker`, or `zmq.proxy`.

Both run the same brokers, with the same sockets, in the way that their documentation shows: pollbroker in one engine,
and libzmq's proxy in a thread for each broker. It writes what it runs, as one JSON object on a line, and replies with
its `Facts` to each line on its stdin. It ends at the end of stdin.
"""

import json
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, Final, Protocol

import zmq

from pollbroker.cli.demo.stdin import StdinCommands
from pollbroker.cli.demo.workload import SOCKET_OPTIONS

BROKERS: Final[Mapping[str, tuple[zmq.SocketType, zmq.SocketType]]] = {
    "away": (zmq.PULL, zmq.PUSH),
    "departed": (zmq.ROUTER, zmq.DEALER),
    "paused": (zmq.PULL, zmq.PUSH),
    "requests": (zmq.ROUTER, zmq.DEALER),
}
"""What is compared, each with a broker of its own: the types of its frontend and backend."""

STEERED: Final = "paused"
"""The broker that is sent PAUSE and RESUME."""

_ANY_PORT: Final = "tcp://127.0.0.1:*"


class Contender(Protocol):
    """What runs the brokers."""

    def addresses(self) -> dict[str, dict[str, str]]:
        """The address of each port, by the names of broker and port."""
        ...

    def control(self) -> str:
        """The address at which it takes the commands of zmq_proxy_steerable(3)."""
        ...

    def unroutable(self) -> int | None:
        """How many replies could not be delivered since their client had left. None if nobody counts that."""
        ...

    def describe(self) -> str:
        """What it is, in a few words."""
        ...

    def close(self) -> None: ...


class Ours:
    """The brokers in one engine."""

    def __init__(self) -> None:
        from pollbroker.control import attach
        from pollbroker.engine import Engine
        from pollbroker.standard_devices import QUEUE, STREAMER

        self._engine = Engine()
        devices = {(zmq.PULL, zmq.PUSH): STREAMER, (zmq.ROUTER, zmq.DEALER): QUEUE}
        for name, types in BROKERS.items():
            self._engine.add(
                name,
                devices[types],
                frontend=_ANY_PORT,
                backend=_ANY_PORT,
                frontend_options=SOCKET_OPTIONS,
                backend_options=SOCKET_OPTIONS,
            )
        (self._control,) = attach(self._engine, _ANY_PORT).endpoints
        self._engine.start()

    def addresses(self) -> dict[str, dict[str, str]]:
        return {
            name: {port.name: port.endpoints[0] for port in broker.ports.values()}
            for name, broker in self._engine.brokers.items()
        }

    def control(self) -> str:
        return self._control

    def unroutable(self) -> int:
        brokers = self._engine.statistics().brokers.values()
        return sum(flow.unroutable for broker in brokers for flow in broker.flows.values())

    def describe(self) -> str:
        statistics = self._engine.statistics()
        transports = {port.transport for broker in statistics.brokers.values() for port in broker.ports.values()}
        return f"{statistics.pump} pump, {' and '.join(sorted(transports))} ports"

    def close(self) -> None:
        for name in self._engine.brokers:
            self._engine.remove(name, timeout_s=0.0)
        self._engine.close(timeout_s=0)


class Theirs:
    """The brokers in libzmq's proxy: it blocks its thread, so each has one."""

    def __init__(self) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self._addresses: dict[str, dict[str, str]] = {}
        self._control = ""
        for name, types in BROKERS.items():
            sockets = {port: self._bind(kind) for port, kind in zip(("frontend", "backend"), types, strict=True)}
            self._addresses[name] = {port: _address_of(one) for port, one in sockets.items()}
            control = self._bind(zmq.REP) if name == STEERED else None
            if control is not None:
                self._control = _address_of(control)
            threading.Thread(target=_run_proxy, args=(*sockets.values(), control)).start()

    def _bind(self, kind: int) -> zmq.Socket[Any]:
        socket: zmq.Socket[Any] = self._context.socket(kind)
        socket.linger = 0
        for name, value in SOCKET_OPTIONS.items():
            setattr(socket, name, value)
        socket.bind(_ANY_PORT)
        return socket

    def addresses(self) -> dict[str, dict[str, str]]:
        return self._addresses

    def control(self) -> str:
        return self._control

    def unroutable(self) -> None:
        return None

    def describe(self) -> str:
        return f"libzmq {zmq.zmq_version()}"

    def close(self) -> None:
        self._context.term()


def _address_of(socket: zmq.Socket[Any]) -> str:
    address: bytes = socket.getsockopt(zmq.LAST_ENDPOINT)  # type: ignore[assignment]
    return address.rstrip(b"\0").decode()


def _run_proxy(frontend: zmq.Socket[Any], backend: zmq.Socket[Any], control: zmq.Socket[Any] | None) -> None:
    """Run one proxy until its context is terminated."""
    try:
        if control is None:
            zmq.proxy(frontend, backend)
        else:
            zmq.proxy_steerable(frontend, backend, None, control)
    except zmq.ContextTerminated:
        pass  # this is how it ends
    finally:
        for socket in (frontend, backend, control):
            if socket is not None:
                socket.close(linger=0)


CONTENDERS: Final[Mapping[str, type[Ours] | type[Theirs]]] = {"pollbroker": Ours, "zmq.proxy": Theirs}


def _say(fields: Mapping[str, object]) -> None:
    print(json.dumps(fields), flush=True)  # noqa: T201 - stdout is how it replies


def serve(contender: Contender) -> None:
    """Say what runs, and reply with the facts to each line on stdin, until stdin ends."""
    commands = StdinCommands()
    _say({"about": contender.describe(), "addresses": contender.addresses(), "control": contender.control()})
    while True:
        commands.wait(1000)
        for _ in commands.read():
            _say(
                {
                    "cpu_s": time.process_time(),
                    "threads": threading.active_count() - 1,
                    "unroutable": contender.unroutable(),
                }
            )


def main(name: str) -> None:
    """Run one contender."""
    contender = CONTENDERS[name]()
    try:
        serve(contender)
    except (EOFError, BrokenPipeError):
        return
    finally:
        contender.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

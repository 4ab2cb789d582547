"""Looking into ports of the wire, in the thread of their engine."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TypeVar

from pollbroker import Broker, Engine
from pollbroker.broker import working_broker
from pollbroker.engine import engine_loop
from pollbroker.wire import native
from tests.support.deadline import wait_until

Result = TypeVar("Result")


def in_engine(engine: Engine, call: Callable[[], Result]) -> Result:
    """What a call gives, or raises, in a turn of an engine, whoever runs it."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            future.set_exception(error)

    engine.call_soon_threadsafe(run)
    wait_until(future.done, engine=None if engine.running else engine)
    return future.result()


def alive(engine: Engine) -> tuple[int, int, int, int]:
    """What is in use of the wire: slabs, segments, ports, peers."""
    return in_engine(engine, lambda: engine_loop(engine).access.wire_context().net.alive)


def wire_port(broker: Broker, name: str) -> native.Port:
    """The port of the wire that a broker has by this name. Only the engine's thread may use it."""
    port = working_broker(broker).port(name).wire
    assert isinstance(port, native.Port), f"{name} is a socket of libzmq"
    return port


def ended_by(engine: Engine, broker: Broker, name: str = "frontend") -> Mapping[str, int]:
    """How many connections of a port have ended, by the reason."""
    return in_engine(engine, lambda: wire_port(broker, name).ended_by)


def peer_count(engine: Engine, broker: Broker, name: str = "frontend") -> int:
    """How many peers of a port have shaken hands, and have not left."""
    return in_engine(engine, lambda: wire_port(broker, name).peer_count)


def peers_alive(engine: Engine) -> int:
    """How many connections there are at all ports, whether hands were shaken or not."""
    return alive(engine)[3]

"""A behaviour for tests in an engine, which does what the test says, and brokers with it between two ports."""

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

import zmq

from pollbroker import Behaviour, Device, Engine, FlowStatistics
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT


class Does(Behaviour):
    """Does what the test says, for a message; keeps what it is told to keep."""

    max_held = 100

    def __init__(self, do: Callable[["Does", str, list[bytes]], Any]) -> None:
        self.do = do
        self.kept: deque[list[bytes]] = deque()

    @property
    def held(self) -> int:
        return len(self.kept)

    def on_message(self, port: str, frames: list[bytes]) -> None:
        self.do(self, port, frames)

    def on_timer(self, key: Hashable) -> None:
        while self.kept:
            self.send("backend", self.kept.popleft())

    def on_refused(self, port: str, frames: list[bytes]) -> None:
        self.kept.append(frames)

    def on_room(self, port: str) -> None:
        for _ in range(len(self.kept)):
            self.send(port, self.kept.popleft(), if_full="tell")

    def on_dropped(self, port: str, frames: list[bytes]) -> None:
        if port == "backend":
            self.send("frontend", [frames[1], b"nobody", *frames[2:]])


def pipe(do: Callable[[Does, str, list[bytes]], Any], *, backend: zmq.SocketType = zmq.PUSH, **more: Any) -> Device:
    """PULL to PUSH, with a behaviour between them."""
    return Device("pipe", ports={"frontend": zmq.PULL, "backend": backend}, behaviour=lambda: Does(do), **more)


def pass_on(behaviour: Does, port: str, frames: list[bytes]) -> None:
    behaviour.send("backend", frames)


def account(engine: Engine, name: str = "a") -> FlowStatistics:
    return flow_of(engine, name, "behaviour")


def add(engine: Engine, device: Device, **more: Any) -> Any:
    endpoints: dict[str, Any] = dict.fromkeys(device.ports, ANY_PORT)
    return engine.add("a", device, **endpoints, **more)

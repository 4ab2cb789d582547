"""A behaviour for tests without an engine: it does what the test says, and records what it is told."""

from collections.abc import Callable, Hashable
from typing import Any

from pollbroker import Behaviour


class Does(Behaviour):
    """Does what the test says, for a message; records timers and refusals."""

    max_held = 3

    def __init__(self, do: Callable[["Does", list[bytes]], Any] = lambda behaviour, frames: None) -> None:
        self.do = do
        self.kept: list[list[bytes]] = []
        self.timers: list[tuple[Hashable, float]] = []
        self.refused: list[tuple[str, list[bytes]]] = []
        self.on_timer_do: Callable[[Hashable], Any] = lambda key: None
        self.dropped: list[tuple[str, list[bytes]]] = []
        self.room: list[str] = []
        self.on_refused_do: Callable[[str, list[bytes]], Any] = lambda port, frames: None
        self.on_dropped_do: Callable[[str, list[bytes]], Any] = lambda port, frames: None
        self.on_room_do: Callable[[str], Any] = lambda port: None

    @property
    def held(self) -> int:
        return len(self.kept)

    def on_message(self, port: str, frames: list[bytes]) -> None:
        self.do(self, frames)

    def on_timer(self, key: Hashable) -> None:
        self.timers.append((key, self.now_s))
        self.on_timer_do(key)

    def on_refused(self, port: str, frames: list[bytes]) -> None:
        self.refused.append((port, frames))
        self.on_refused_do(port, frames)

    def on_room(self, port: str) -> None:
        self.room.append(port)
        self.on_room_do(port)

    def on_dropped(self, port: str, frames: list[bytes]) -> None:
        self.dropped.append((port, frames))
        self.on_dropped_do(port, frames)


def pass_on(behaviour: Does, frames: list[bytes]) -> None:
    behaviour.send("backend", frames)

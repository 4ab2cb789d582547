"""Asks a running engine for its statistics again and again, in a thread of its own: an engine that does not answer
holds up no key."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Final, Self

import zmq

from pollbroker.cli.top.figures import Stats
from pollbroker.cli.top.view import Ask
from pollbroker.control import request
from pollbroker.errors import CommandRefusedError, ControlError, PollbrokerError

_TRIES_EVERY_S: Final = 1.0
"""How long it waits after the engine did not answer."""

_ENDS_WITHIN_S: Final = 0.5


@dataclass(frozen=True)
class Told:
    """The engine has answered STATS."""

    stats: Stats
    elapsed_s: float | None
    """Seconds since the answer before; None if there was none, or if the engine did not answer since."""


@dataclass(frozen=True)
class Silent:
    """The engine has not answered."""

    why: str


@dataclass(frozen=True)
class Done:
    """What has become of a command that the user has given."""

    text: str


def ask_stats(endpoint: str, timeout_s: float, context: zmq.Context[Any] | None = None) -> Stats:
    """Ask for STATS once. Raises as `request` does, and `ControlError` for an answer that is none of STATS."""
    reply = request(endpoint, "STATS", timeout_s=timeout_s, context=context)
    try:
        stats = json.loads(reply[1])
        stats["brokers"].items(), stats["turns"] + 0
    except (IndexError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ControlError(f"{endpoint}: STATS: {reply!r:.100} came back; expected statistics as JSON") from error
    checked: Stats = stats
    return checked


class Asking:
    """Asks until it is left; as a context.

    Arguments:
        on_news: called in the thread whenever there is something in `news`.
    """

    def __init__(self, endpoint: str, *, interval_s: float, timeout_s: float, on_news: Callable[[], object]) -> None:
        self.news: SimpleQueue[Told | Silent | Done] = SimpleQueue()
        self._endpoint = endpoint
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._on_news = on_news
        self._asks: SimpleQueue[Ask | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="pollbroker-top", daemon=True)
        self._told_s: float | None = None

    def ask(self, ask: Ask) -> None:
        """Have a command sent. What becomes of it is told as `Done`, and new statistics follow."""
        self._asks.put(ask)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._asks.put(None)
        self._thread.join(timeout=_ENDS_WITHIN_S)  # an engine that does not answer holds up the end of nothing

    def _run(self) -> None:
        with zmq.Context[Any]() as context:
            pause_s = 0.0
            while True:
                try:
                    ask = self._asks.get(timeout=pause_s) if pause_s else self._asks.get_nowait()
                except Empty:
                    pause_s = self._ask_stats(context)
                    continue
                if ask is None:
                    return
                self._steer(ask, context)
                pause_s = 0.0

    def _ask_stats(self, context: zmq.Context[Any]) -> float:
        """Ask for statistics, and return how long to wait until they are asked for again."""
        begun_s = time.monotonic()
        try:
            stats = ask_stats(self._endpoint, self._timeout_s, context)
        except PollbrokerError as error:
            self._told_s = None
            self._tell(Silent(str(error)))
            return _TRIES_EVERY_S
        now_s = time.monotonic()
        self._tell(Told(stats, None if self._told_s is None else now_s - self._told_s))
        self._told_s = now_s
        return max(0.001, self._interval_s - (now_s - begun_s))

    def _steer(self, ask: Ask, context: zmq.Context[Any]) -> None:
        try:
            request(self._endpoint, ask.command, ask.broker, timeout_s=self._timeout_s, context=context)
        except CommandRefusedError as error:
            self._tell(Done(f"refused: {error}"))
        except PollbrokerError as error:
            self._tell(Done(str(error)))
        else:
            self._tell(Done(f"{ask.command} {ask.broker}: done"))

    def _tell(self, news: Told | Silent | Done) -> None:
        self.news.put(news)
        self._on_news()

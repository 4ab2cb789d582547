"""The last events of an engine, for those who ask over HTTP.

- It is listened to events only while somebody asks: libzmq then monitors each of its sockets, which has its price. The
  first who asks begins it, and it ends when nobody has asked for `LEASE_S`.
- Nobody waits here. What has to be done in the engine's thread is put there, and whoever asks is given what there is.
- The server of HTTP looks for the end, and no timer of the engine, which would keep an engine from ending by itself.
"""

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from pollbroker.engine import Engine
from pollbroker.errors import EngineError
from pollbroker.events import Event

LEASE_S: Final = 15.0
"""How long it is listened when nobody asks. Browsers let a page in the background ask rarely."""

KEPT: Final = 500
"""How many events are kept. The oldest go first."""


class RecentEvents:
    """The last events, each with a number, from 1 on. Any thread may ask.

    Arguments:
        clock: seconds that never go back, such as `time.monotonic`.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._lock = threading.Lock()  # for the events and the time; never held while somebody is called
        self._kept: deque[tuple[int, Event]] = deque(maxlen=KEPT)
        self._last = 0
        self._asked_s = 0.0
        self._is_put = False
        """True while a call that begins or ends the listening is on its way to the engine's thread."""
        self._cancel: Callable[[], object] | None = None
        """Ends the listening; None while nobody listens."""
        self._closed = False
        self._run = secrets.token_hex(8)
        """Tells these numbers from those of another process, or of an earlier one."""

    @property
    def listening(self) -> bool:
        """True while it is listened to events."""
        return self._cancel is not None

    def after(self, number: int) -> dict[str, object]:
        """What is answered to whoever knows the events up to `number`, as what JSON can say.

        Raises `EngineError` if the engine is closed.
        """
        with self._lock:
            self._asked_s = self._clock()
        if not self.listening:
            self._put(self._begin)
        with self._lock:
            new = [vars(event) | {"number": at} for at, event in self._kept if at > number]
            missed = self._last - max(0, number) - len(new)
            return {
                "run": self._run,
                "last": self._last,
                "missed": max(0, missed),
                "listening": self.listening,
                "events": new,
            }

    def end_if_unwanted(self) -> None:
        """Listen no more if nobody has asked for long. Returns at once."""
        if self.listening and self._is_unwanted():
            with suppress(EngineError):  # it is closed, and so has no listeners
                self._put(self._end)

    def close(self) -> None:
        """Listen no more, and do not begin again. Returns at once."""
        self._closed = True
        with suppress(EngineError):
            self._put(self._end)

    def _is_unwanted(self) -> bool:
        with self._lock:
            return self._closed or self._clock() - self._asked_s > LEASE_S

    def _put(self, call: Callable[[], None]) -> None:
        with self._lock:
            if self._is_put and not self._closed:
                return
            self._is_put = True
        try:
            self._engine.call_soon_threadsafe(call)
        except EngineError:
            self._is_put = False
            raise

    # -- in the engine's thread ---------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._is_put = False
        if self._cancel is None and not self._closed:
            self._cancel = self._engine.on_event(self._keep, at_end=self._forget)

    def _end(self) -> None:
        self._is_put = False
        if self._cancel is not None and self._is_unwanted():
            cancel, self._cancel = self._cancel, None
            cancel()

    def _forget(self) -> None:
        self._cancel = None

    def _keep(self, event: Event) -> None:
        with self._lock:
            self._last += 1
            self._kept.append((self._last, event))

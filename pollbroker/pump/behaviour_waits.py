"""How long messages wait in a broker with a behaviour: those that the behaviour keeps, and those that wait for room.

- A message that the behaviour keeps waits from the end of the call that brought it. The behaviour says only how many it
  keeps. So the one that came first is taken for the one that leaves. The sum of the waits is right in any case; their
  distribution is right if the behaviour serves in the order in which messages came.
- A message that is sent to a full port waits from then until the port takes it, or until it is dropped. If the
  behaviour kept it before, or was given it back, that is one wait.
"""

from collections import deque
from collections.abc import Callable

from pollbroker.waits import Waits


class BehaviourWaits:
    """The waits of one behaviour's messages. `clock` is the time in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.waits = Waits()
        self.leaving: deque[float] = deque()
        """Since when those messages have waited that leave the behaviour in the present call, or that were given back
        to it for this call. What is kept or refused in the call are these; the others have gone when it ends."""
        self._kept: deque[float] = deque()
        self._clock = clock

    def kept_changed(self, by: int) -> None:
        """The behaviour keeps so many messages more; or fewer, if `by` is negative."""
        for _ in range(by):
            self._kept.append(self.since())
        for _ in range(-by):
            self.leaving.append(self._kept.popleft())

    def since(self) -> float:
        """Since when a message has waited that is kept now, or that a port has refused."""
        return self.leaving.popleft() if self.leaving else self._clock()

    def end(self, since_s: float) -> None:
        """A message has gone that has waited since then."""
        self.waits.add(self._clock() - since_s)

    def end_call(self) -> None:
        """Whatever has left the behaviour, and was not refused, has gone."""
        while self.leaving:
            self.end(self.leaving.popleft())

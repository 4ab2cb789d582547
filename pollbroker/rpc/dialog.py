"""A worker's conversation with its broker, as a state machine without I/O.

It says what is to be done (`take`), and when it wants to be asked again (`next_s`). Its rules:

- Whatever valid message comes from the broker is a sign of life. When none has come for `liveness` heartbeats, or when
  the broker says DISCONNECT, the conversation is over, and so is the socket: what was sent on it and has not left is
  dropped with it. After a while, which grows from time to time, another begins on a new socket. It begins at once if
  the broker has said DISCONNECT in a conversation that has lasted for a heartbeat.
- A reply belongs to the conversation in which its request came. In another the broker would not expect it.
- What has come is read before it is judged that nothing has come: `tick` is called when the socket is empty.
"""

import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias

from pollbroker.patterns.majordomo import mdp
from pollbroker.rpc.dialects import Dialect

_MOST_REQUESTS: Final = 100
"""How many requests may wait for their turn. A broker gives a worker one at a time; the guide's ppqueue may give it
another after each heartbeat."""


@dataclass(frozen=True)
class Request:
    """A request that a worker was given."""

    frames: list[bytes]
    """What the client has sent: one or more frames."""
    envelope: tuple[bytes, ...] = field(repr=False)
    """The way back to the client."""
    conversation: int = field(repr=False)
    """The number of the conversation in which it came."""


class Step(Enum):
    """What is to be done with the socket."""

    OPEN = "open"
    CLOSE = "close"
    """What was sent and has not left is dropped."""
    LEAVE = "leave"
    """Closed as well, but what was sent may still leave."""


Do: TypeAlias = Step | list[bytes]
"""A step, or a message that is to be sent."""


class Dialog:
    """One worker's side.

    Arguments:
        dialect: the protocol.
        heartbeat_s: how often a heartbeat is sent, and how often one is expected.
        liveness: after how many heartbeats in which nothing has come the broker is taken for dead.
        reconnect_s: how long to wait before the first attempt to begin again; each further wait is twice as long.
        reconnect_max_s: the longest wait.
        now_s: the time.
        chance: a number from 0 to 1, by which waits differ, so that workers do not all come back at once.
        on_refused: called when the broker has answered READY with DISCONNECT, with how long the worker now waits.
    """

    def __init__(
        self,
        dialect: Dialect,
        *,
        heartbeat_s: float,
        liveness: int,
        reconnect_s: float,
        reconnect_max_s: float,
        now_s: float,
        chance: Callable[[], float] = random.random,
        on_refused: Callable[[float], object] = lambda wait_s: None,  # noqa: ARG005 - for whoever wants to know
    ) -> None:
        self.dialect = dialect
        self.requests: deque[Request] = deque()
        """Those that wait for their turn."""
        self.conversation = 0
        """How many there were, with the present one."""
        self.is_open = False
        """True within a conversation; False while the worker waits to begin another."""
        self.malformed = 0
        """Messages that the protocol does not have, and requests beyond what may wait."""
        self._heartbeat_s = heartbeat_s
        self._lifetime_s = heartbeat_s * liveness
        self._reconnect_s = reconnect_s
        self._reconnect_max_s = reconnect_max_s
        self._chance = chance
        self._on_refused = on_refused
        self._has_heard = False
        """True once the broker has said something else than DISCONNECT in this conversation."""
        self._do: deque[Do] = deque()
        self._wait_s = reconnect_s
        self._lasts_from_s = self._expires_s = self._heartbeat_at_s = self._begin_at_s = now_s
        self.tick(now_s)

    @property
    def next_s(self) -> float:
        """When `tick` has something to do."""
        return min(self._expires_s, self._heartbeat_at_s) if self.is_open else self._begin_at_s

    def take(self) -> Do | None:
        """The next thing to be done, in order; None if there is none."""
        return self._do.popleft() if self._do else None

    def received(self, frames: list[bytes], now_s: float) -> None:
        """A message has come."""
        told = self.dialect.parse(frames)
        if told is None or not self.is_open:
            self.malformed += 1
            return
        if told.command is mdp.DISCONNECT:
            wait_s = 0.0 if now_s >= self._lasts_from_s else self._next_wait_s()
            self._end(now_s, wait_s)
            if wait_s and not self._has_heard:
                self._on_refused(wait_s)
            return
        self._has_heard = True
        self._wait_s = self._reconnect_s
        self._expires_s = now_s + self._lifetime_s
        if told.command is mdp.REQUEST:
            if len(self.requests) >= _MOST_REQUESTS:
                self.malformed += 1
            else:
                self.requests.append(Request(told.body, tuple(told.envelope), self.conversation))

    def tick(self, now_s: float) -> None:
        """Time has passed, and nothing more has come."""
        if not self.is_open:
            if now_s >= self._begin_at_s:
                self._begin(now_s)
        elif now_s >= self._expires_s:
            self._end(now_s, self._next_wait_s())
        elif now_s >= self._heartbeat_at_s:
            self._send(self.dialect.heartbeat(), now_s, is_heartbeat=True)

    def expects(self, request: Request) -> bool:
        """True if the broker expects a reply to a request: its conversation is not over."""
        return self.is_open and request.conversation == self.conversation

    def reply(self, request: Request, body: Sequence[bytes], *, is_last: bool, now_s: float) -> bool:
        """Answer a request. Returns False, and sends nothing, if its conversation is over."""
        if not self.expects(request):
            return False
        self._send(self.dialect.reply(request.envelope, body, is_last), now_s)
        return True

    def restart(self, now_s: float) -> None:
        """End the conversation, so that the broker gives a request that was not answered to another worker, and begin
        another at the next `tick`."""
        self._say_goodbye(now_s)
        self._end(now_s, 0.0, step=Step.LEAVE)

    def end(self, now_s: float) -> None:
        """End the conversation, and begin no other."""
        self._say_goodbye(now_s)
        self._end(now_s, math.inf, step=Step.LEAVE)

    def _begin(self, now_s: float) -> None:
        self.is_open = True
        self._has_heard = False
        self.conversation += 1
        self._lasts_from_s = now_s + self._heartbeat_s
        self._expires_s = now_s + self._lifetime_s
        self._heartbeat_at_s = now_s + self._heartbeat_s
        self._do.append(Step.OPEN)
        self._do.append(self.dialect.ready())

    def _say_goodbye(self, now_s: float) -> None:
        goodbye = self.dialect.disconnect()
        if self.is_open and goodbye is not None:
            self._send(goodbye, now_s)

    def _end(self, now_s: float, wait_s: float, *, step: Step = Step.CLOSE) -> None:
        """End the conversation. What was asked in it, and not begun, the broker gives to others."""
        if self.is_open:
            self._do.append(step)
        self.is_open = False
        self.requests.clear()
        self._begin_at_s = now_s + wait_s

    def _next_wait_s(self) -> float:
        wait_s = self._wait_s
        self._wait_s = min(2 * wait_s, max(self._reconnect_max_s, self._reconnect_s))
        return wait_s * (1 - self._chance() / 2)

    def _send(self, frames: list[bytes], now_s: float, *, is_heartbeat: bool = False) -> None:
        self._do.append(frames)
        if is_heartbeat or not self.dialect.heartbeats_always:
            self._heartbeat_at_s = now_s + self._heartbeat_s

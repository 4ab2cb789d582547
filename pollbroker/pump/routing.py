"""The pump of a route with a handler or with several sinks.

A handler is given one message (`list[bytes]`) and returns the message to send, or None to drop it. A generator function
yields any number of messages; it is asked for the next only when the last has been sent. An exception drops that one
message, is counted, and is logged once a second at most. So is `To` a port that is no sink of the route.

A message goes to every sink, and `To("port", frames)` goes to that one alone. A full sink does not delay the message
for the others: they are given it before the pump returns FULL, and it is held for the full sink only.
"""

import inspect
import logging
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pollbroker.pump.contract import Receiver, Sender, TapPoint
from pollbroker.pump.limits import BURST_FRAMES
from pollbroker.pump.message import Handler, Message, To, is_message
from pollbroker.pump.outcomes import EMPTY, FULL, LIMIT
from pollbroker.seldom import OF_A_MESSAGE, Seldom
from pollbroker.statistics import Counters

_logger = logging.getLogger("pollbroker")


class RoutingPump:
    """Moves messages from `receiver`, through `handler` if there is one, to the `senders`; see
    `pollbroker.pump.contract`.

    Arguments:
        senders: one for each sink of the route, by the name of its port.
    """

    def __init__(self, receiver: Receiver, handler: Handler | None, senders: Mapping[str, Sender]) -> None:
        self._receiver = receiver
        self._handler = handler
        self._senders = tuple(senders.values())
        self._several = len(senders) > 1
        self._send = self._send_to_each if self._several else self._send_to_one
        self._every_sink = tuple(range(len(senders)))
        self._sink_of = {name: (index,) for index, name in enumerate(senders)}
        self._held: list[bytes] | None = None
        self._destination = self._every_sink
        """The indices of the sinks that the present message goes to; if it is held, of those that have refused it."""
        self._rest: Iterator[Message | To] | None = None
        self._seldom = Seldom()
        self.holds = 0
        self._added = 0
        self._filtered = 0
        self._failed = 0
        self.discard_rest = receiver.discard_rest
        self.count_unread = receiver.count_unread

    @property
    def received(self) -> int:
        return self._receiver.received

    @property
    def sent(self) -> int:
        if self._several:
            return sum(sender.sent for sender in self._senders)
        return self._senders[0].sent  # it is asked twice in every burst

    @property
    def held(self) -> int:
        return self._number_held + self.queued

    @property
    def _number_held(self) -> int:
        """Messages that a sink has yet to accept."""
        return 0 if self._held is None else len(self._destination)

    @property
    def queued(self) -> int:
        if self._several:
            return sum(sender.queued for sender in self._senders)
        return self._senders[0].queued

    @property
    def full_sinks(self) -> tuple[int, ...]:
        return () if self._held is None else self._destination

    def counters(self) -> Counters:
        own = Counters(held=self._number_held, added=self._added, filtered=self._filtered, failed=self._failed)
        return sum(self.sink_counters(), self._receiver.counters() + own)

    def sink_counters(self) -> tuple[Counters, ...]:
        return tuple(sender.counters() for sender in self._senders)

    def set_taps(self, points: Sequence[TapPoint | None], /) -> None:
        for sender, point in zip(self._senders, points, strict=True):
            sender.tap = point

    @property
    def parts(self) -> tuple[Receiver | Sender, ...]:
        """The receiver and the senders, each of which has an account of its own."""
        return (self._receiver, *self._senders)

    @property
    def is_amid_a_message(self) -> bool:
        """True if a handler has yet to say what else is made of a message."""
        return self._rest is not None

    def carried(self) -> tuple[list[bytes] | None, tuple[int, ...], tuple[int, int, int]]:
        """What `carry_on` is given in another process: the message that is held, the sinks that have yet to accept it,
        and what was added, filtered and failed."""
        return self._held, self._destination, (self._added, self._filtered, self._failed)

    def carry_on(self, held: list[bytes] | None, destination: tuple[int, ...], counters: tuple[int, int, int]) -> None:
        """Go on where the pump of another process stopped."""
        self._held, self._destination = held, destination
        self.holds = int(held is not None)
        self._added, self._filtered, self._failed = counters

    def move(self, limit_messages: int, limit_bytes: int, /) -> int:
        receiver = self._receiver
        messages, begun = 0, receiver.received_bytes
        held_before = self._held
        receiver.burst_frames = 0
        while (
            messages < limit_messages
            and receiver.received_bytes - begun < limit_bytes
            and receiver.burst_frames < BURST_FRAMES
        ):
            message = self._held
            if message is None:
                if self._rest is not None:
                    message = self._next(self._rest, first=False)
                else:
                    frames = receiver()
                    if frames is None:
                        return EMPTY
                    message = self._handle(frames) if frames else None
                self._held = message
            if message is not None and not self._send(message):
                self.holds += message is not held_before
                return FULL
            messages += 1
        return LIMIT

    def _send_to_one(self, message: list[bytes]) -> bool:
        """Do what `_send_to_each` does, faster, for a route with one sink."""
        try:
            if self._senders[0].send(message) != FULL:
                self._held = None
                return True
        except BaseException:
            if self._is_accounted_for(0):
                self._held = None  # a later frame of it failed, or its copy
            raise
        self._held = list(message)  # a handler may use one list again
        return False

    def _send_to_each(self, message: list[bytes]) -> bool:
        """Offer the message to each sink that has yet to accept it. Return False if one of them refuses it."""
        full: list[int] = []
        destination = self._destination
        for position, index in enumerate(destination):
            try:
                if self._senders[index].send(message) == FULL:
                    full.append(index)
            except BaseException:
                left = destination[position + 1 :]
                if not self._is_accounted_for(len(full) + len(left)):
                    left = (index, *left)  # none of it was sent; otherwise a later frame or the copy has failed
                self._hold(message, (*full, *left))
                raise
        self._hold(message, tuple(full))
        return not full

    def _hold(self, message: list[bytes], sinks: tuple[int, ...]) -> None:
        if sinks:
            self._held = list(message)  # a handler may use one list again
            self._destination = sinks
        else:
            self._held = None

    def _is_accounted_for(self, held: int) -> bool:
        """Return True if every message except `held` of them is counted as sent or dropped."""
        accounted = self._receiver.dropped + self._filtered + self._failed + sum(one.finished for one in self._senders)
        return accounted + held == self._receiver.received + self._added

    def _handle(self, frames: list[bytes]) -> list[bytes] | None:
        """The first message that the handler makes of `frames`, or None if nothing is to be sent (counted)."""
        if self._handler is None:
            self._go_to_every_sink()
            return frames
        try:
            result = self._handler(frames)
        except Exception as error:  # noqa: BLE001 - any error of a handler drops this one message
            self._fail(error)
            return None
        except BaseException:
            self._failed += 1  # such as KeyboardInterrupt, which ends the run; the message is counted first
            raise
        return self._first(result)

    def _first(self, result: Any) -> list[bytes] | None:
        """The first message of what a handler gave, or None if nothing is to be sent (counted)."""
        if result is None:
            self._filtered += 1
            return None
        if type(result) is not list and isinstance(result, Iterator):
            self._rest = result
            return self._next(result, first=True)
        return self._checked(result)

    def _next(self, rest: Iterator[Message | To], *, first: bool) -> list[bytes] | None:
        """The next message of an iterator, or None (counted, if it is the first, or if the iterator raised)."""
        try:
            message = next(rest)
        except StopIteration:
            self._rest = None
            if first:
                self._filtered += 1
            return None
        except Exception as error:  # noqa: BLE001 - as above
            self._rest = None
            self._added += not first
            self._fail(error)
            return None
        except BaseException:
            self._rest = None
            self._added += not first
            self._failed += 1
            raise
        self._added += not first
        return self._checked(message)

    def _checked(self, message: Any) -> list[bytes] | None:
        """Return the message as a list, and set its destination; None (counted) if it cannot be sent as a message."""
        try:
            if type(message) is not list and isinstance(message, To):
                destination = self._sink_of.get(message.port)
                if destination is not None and is_message(message.frames):
                    self._destination = destination
                    return message.frames if type(message.frames) is list else list(message.frames)
            elif is_message(message):
                if self._several:
                    self._go_to_every_sink()
                return message if type(message) is list else list(message)
            found = reprlib.repr(message)
        except Exception as error:  # noqa: BLE001 - an object that raises when it is looked at is not a message
            found = f"an object that raised {error!r}"
        sinks = ", ".join(map(repr, self._sink_of))
        why = (
            f"a handler must give a non-empty sequence of bytes, To(port, frames) with such a sequence and one of "
            f"the sinks {sinks}, or None; it gave {found}"
        )
        if inspect.iscoroutine(message):
            message.close()  # nobody awaits it, of which Python would warn
            why = "it gave a coroutine, which nobody awaits; a handler that awaits must itself be an `async def`"
        self._fail(TypeError(why))
        return None

    def _go_to_every_sink(self) -> None:
        self._destination = self._every_sink
        self._added += len(self._every_sink) - 1

    def _fail(self, error: BaseException) -> None:
        self._failed += 1
        if self._seldom.admit() is not None:
            name = getattr(self._handler, "__qualname__", repr(self._handler))
            _logger.error(
                "handler %s: a message was dropped (%d so far)", name, self._failed, exc_info=error, extra=OF_A_MESSAGE
            )

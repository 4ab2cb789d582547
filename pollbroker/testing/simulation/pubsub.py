"""PUB, XPUB, SUB and XSUB: a message goes to every subscriber whose subscription matches.

Rules, which are libzmq's (xpub.cpp, pub.cpp, xsub.cpp, sub.cpp, generic_mtrie_impl.hpp):

- A subscription is a message from XSUB to XPUB: a byte 1 (0 to end it) and a prefix. Every frame that begins with such
  a byte is one.
- An XSUB passes each subscription on, but the end of a subscription only if it is the last of that prefix. To a new
  publisher it sends all its subscriptions. It does not filter messages; a SUB does.
- An XPUB reads its pipes as soon as it is told of them. It gives its user the first subscription to a prefix and the
  end of the last one, also when a peer leaves (with XPUB_VERBOSE and XPUB_VERBOSER all of them), and every other
  message.
- A subscriber that has no room misses a message, without an error. With XPUB_NODROP the frame is refused instead, if a
  subscriber that matches and is still in the list has no room. POLLOUT is always set.
"""

from collections import deque

import zmq

from pollbroker.testing.simulation.context import SimContext
from pollbroker.testing.simulation.frame import LAST, MORE, Item
from pollbroker.testing.simulation.pipe import Pipe
from pollbroker.testing.simulation.routing import NO_ROOM, TAKEN, Distributor, FairQueue
from pollbroker.testing.simulation.socket import SimSocket
from pollbroker.testing.simulation.truth import Outlook


class XPubSocket(SimSocket):
    __slots__ = ("_distributor", "_drops", "_in_message", "_pending", "_subscribers", "_verbose", "_verboser")

    def __init__(self, context: SimContext, socket_type: zmq.SocketType, number: int) -> None:
        super().__init__(context, socket_type, number)
        self._distributor = Distributor(self)
        self._subscribers: dict[bytes, dict[Pipe, None]] = {}
        """The subscribers to each prefix. The inner dict is used as a set with an order, so that a run can be
        repeated."""
        self._pending: deque[Item] = deque()
        """The frames that the user can receive."""
        self._in_message = False
        self._drops = True
        self._verbose = self._verboser = False

    def _set(self, option: int, value: int | bytes) -> None:
        if option == zmq.XPUB_NODROP:
            self._drops = not value
        elif option == zmq.XPUB_VERBOSE:
            self._verbose, self._verboser = bool(value), False
        elif option == zmq.XPUB_VERBOSER:
            self._verbose = self._verboser = bool(value)

    def _attach(self, pipe: Pipe) -> None:
        self._distributor.attach(pipe)
        self.on_readable(pipe)

    def _forget(self, pipe: Pipe) -> None:
        for prefix in sorted(prefix for prefix, pipes in self._subscribers.items() if pipe in pipes):
            pipes = self._subscribers[prefix]
            del pipes[pipe]
            if not pipes:
                del self._subscribers[prefix]
            if self._verboser or not pipes:
                self._tell(b"\0" + prefix, LAST)
        self._distributor.on_terminated(pipe)

    def on_readable(self, pipe: Pipe) -> None:
        item = pipe.read()
        while item is not None:
            body, kind = item
            if body[:1] not in (b"\0", b"\1"):
                self._tell(body, kind)
            elif body[0] == 1:
                if self._add(body[1:], pipe) or self._verbose:
                    self._tell(body, LAST)
            elif self._discard(body[1:], pipe) or self._verboser:
                self._tell(body, LAST)
            item = pipe.read()

    def on_writable(self, pipe: Pipe) -> None:
        self._distributor.on_writable(pipe)

    def _tell(self, body: bytes, kind: int) -> None:
        self._pending.append((body, kind))

    def _add(self, prefix: bytes, pipe: Pipe) -> bool:
        """Add a subscription. Return True if it is the first to that prefix."""
        first = prefix not in self._subscribers
        self._subscribers.setdefault(prefix, {})[pipe] = None
        return first

    def _discard(self, prefix: bytes, pipe: Pipe) -> bool:
        """Remove a subscription. Return True if it was the last to that prefix, or did not exist."""
        pipes = self._subscribers.get(prefix)
        if pipes is None or pipe not in pipes:
            return True
        del pipes[pipe]
        if not pipes:
            del self._subscribers[prefix]
        return not pipes

    def _send(self, body: bytes, kind: int) -> int:
        if not self._in_message:
            self._distributor.unmatch()  # a frame that was refused has left its matches
            for pipe in self._subscribers_to(body):
                self._distributor.match(pipe)
        if not self._drops and not self._distributor.matches_have_room():
            return NO_ROOM
        self._distributor.send_to_matching(body, kind)
        self._in_message = kind == MORE
        if kind == LAST:
            self._distributor.unmatch()
        return TAKEN

    def _subscribers_to(self, body: bytes) -> list[Pipe]:
        found: dict[Pipe, None] = {}
        subscribers = self._subscribers
        if len(subscribers) <= len(body):
            for prefix in sorted(subscribers, key=len):
                if body.startswith(prefix):
                    found.update(subscribers[prefix])
        else:
            for length in range(len(body) + 1):
                found.update(subscribers.get(body[:length], ()))
        return list(found)

    def _receive(self) -> Item | None:
        return self._pending.popleft() if self._pending else None

    def _has_in(self) -> bool:
        return bool(self._pending)

    def _has_out(self) -> bool:
        return True

    def _would_receive(self, outlooks: list[Outlook]) -> bool:
        if self._pending:
            return True
        wanted = {prefix: set(pipes) for prefix, pipes in self._subscribers.items()}
        for pipe in set(self.pipes) - {outlook.pipe for outlook in outlooks}:
            for pipes in wanted.values():
                if pipe in pipes and (self._verboser or len(pipes) == 1):
                    return True
                pipes.discard(pipe)
        return any(self._would_tell(outlook, wanted) for outlook in outlooks)

    def _would_tell(self, outlook: Outlook, wanted: dict[bytes, set[Pipe]]) -> bool:
        for body, _ in outlook.items:
            if body[:1] not in (b"\0", b"\1"):
                return True
            pipes = wanted.setdefault(body[1:], set())
            if body[0] == 1:
                if not pipes or self._verbose:
                    return True
                pipes.add(outlook.pipe)
            else:
                if outlook.pipe not in pipes or len(pipes) == 1 or self._verboser:
                    return True
                pipes.discard(outlook.pipe)
        return False

    def _would_send(self, outlooks: list[Outlook], first_frame: bytes | None) -> bool:
        if self._drops:
            return True
        if first_frame is None:
            wanted = {pipe for pipes in self._subscribers.values() for pipe in pipes}
        else:
            wanted = set(self._subscribers_to(first_frame))
        return not any(outlook.pipe in wanted and not outlook.room for outlook in outlooks)


class PubSocket(XPubSocket):
    __slots__ = ()

    def _attach(self, pipe: Pipe) -> None:
        pipe.set_nodelay()
        super()._attach(pipe)

    def _tell(self, body: bytes, kind: int) -> None:
        """Do nothing: the user of a PUB is not told of subscriptions."""

    def _receive(self) -> Item | None:
        raise zmq.ZMQError(zmq.ENOTSUP)

    def _has_in(self) -> bool:
        return False

    def _would_receive(self, outlooks: list[Outlook]) -> bool:  # noqa: ARG002
        return False


class XSubSocket(SimSocket):
    __slots__ = ("_ahead", "_distributor", "_in_message", "_queue", "_subscriptions")

    filters = False

    def __init__(self, context: SimContext, socket_type: zmq.SocketType, number: int) -> None:
        super().__init__(context, socket_type, number)
        self._queue = FairQueue()
        self._distributor = Distributor(self)
        self._subscriptions: dict[bytes, int] = {}
        """The number of subscriptions to each prefix."""
        self._ahead: Item | None = None
        """A frame that was fetched to find out whether there is one."""
        self._in_message = False

    def _attach(self, pipe: Pipe) -> None:
        self._queue.attach(pipe)
        self._distributor.attach(pipe)
        for prefix in sorted(self._subscriptions):
            pipe.write(b"\1" + prefix, LAST)

    def _forget(self, pipe: Pipe) -> None:
        self._queue.on_terminated(pipe)
        self._distributor.on_terminated(pipe)

    def on_readable(self, pipe: Pipe) -> None:
        self._queue.on_readable(pipe)

    def on_writable(self, pipe: Pipe) -> None:
        self._distributor.on_writable(pipe)

    def _send(self, body: bytes, kind: int) -> int:
        if body[:1] == b"\1":
            prefix = body[1:]
            self._subscriptions[prefix] = self._subscriptions.get(prefix, 0) + 1
        elif body[:1] == b"\0":
            prefix = body[1:]
            count = self._subscriptions.get(prefix, 0)
            if count != 1:
                if count:
                    self._subscriptions[prefix] = count - 1
                return TAKEN
            del self._subscriptions[prefix]
        self._distributor.send_to_all(body, kind)
        return TAKEN

    def _receive(self) -> Item | None:
        item, self._ahead = self._ahead, None
        if item is None:
            item = self._fetch()
        if item is not None:
            self._in_message = item[1] == MORE
        return item

    def _fetch(self) -> Item | None:
        """Return the next frame of a message that passes the filter, or None."""
        while True:
            item = self._queue.receive()
            if item is None or self._in_message or not self.filters or self._wants(item[0]):
                return item
            while item is not None and item[1] == MORE:
                item = self._queue.receive()

    def _wants(self, body: bytes) -> bool:
        return any(body.startswith(prefix) for prefix in self._subscriptions)

    def _has_in(self) -> bool:
        if self._in_message or self._ahead is not None:
            return True
        self._ahead = self._fetch()
        return self._ahead is not None

    def _has_out(self) -> bool:
        return True

    def _would_receive(self, outlooks: list[Outlook]) -> bool:
        if self._in_message or self._ahead is not None:
            return True
        return any(not self.filters or self._wants(message[0]) for outlook in outlooks for message in outlook.messages)

    def _would_send(self, outlooks: list[Outlook], first_frame: bytes | None) -> bool:  # noqa: ARG002
        return True


class SubSocket(XSubSocket):
    __slots__ = ()

    filters = True

    def subscribe(self, topic: bytes | str) -> None:
        self.setsockopt(zmq.SUBSCRIBE, topic)

    def unsubscribe(self, topic: bytes | str) -> None:
        self.setsockopt(zmq.UNSUBSCRIBE, topic)

    def _set(self, option: int, value: int | bytes) -> None:
        if option == zmq.SUBSCRIBE:
            super()._send(b"\1" + bytes(value), LAST)
        elif option == zmq.UNSUBSCRIBE:
            super()._send(b"\0" + bytes(value), LAST)

    def _send(self, body: bytes, kind: int) -> int:  # noqa: ARG002
        raise zmq.ZMQError(zmq.ENOTSUP)

    def _has_out(self) -> bool:
        return False

    def _would_send(self, outlooks: list[Outlook], first_frame: bytes | None) -> bool:  # noqa: ARG002
        return False

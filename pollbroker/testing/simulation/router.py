"""ROUTER: each message begins with the name (the routing id) of a peer.

Rules, which are libzmq's (router.cpp):

- The first item from a peer is its name. If that is empty, the ROUTER gives the peer a name: a zero byte and four more.
  A second peer of the same name is ignored, unless ROUTER_HANDOVER lets it take the place of the first.
- A message is dropped if no peer has the name, or if the peer's pipe is full or being ended. With ROUTER_MANDATORY its
  first frame is refused instead: EAGAIN for a full pipe, EHOSTUNREACH otherwise. A message of one frame is always
  dropped.
- To find out whether it has a message, it fetches the first frame ahead.
- With ROUTER_MANDATORY, POLLOUT is set if any peer has room; otherwise POLLOUT is always set.
"""

import zmq

from pollbroker.testing.simulation.context import SimContext
from pollbroker.testing.simulation.frame import MORE, ROUTING_ID, Item
from pollbroker.testing.simulation.pipe import Pipe
from pollbroker.testing.simulation.routing import NO_ROOM, TAKEN, FairQueue
from pollbroker.testing.simulation.socket import SimSocket
from pollbroker.testing.simulation.truth import Outlook


class RouterSocket(SimSocket):
    __slots__ = (
        "_ahead",
        "_handover",
        "_in_message",
        "_mandatory",
        "_named",
        "_next_name",
        "_out_message",
        "_queue",
        "_sink",
        "_source",
        "_source_must_go",
        "_unnamed",
    )

    takes_routing_ids = True

    def __init__(self, context: SimContext, socket_type: zmq.SocketType, number: int) -> None:
        super().__init__(context, socket_type, number)
        self._queue = FairQueue()
        self._named: dict[bytes, Pipe] = {}
        self._unnamed: set[Pipe] = set()
        self._next_name: int = self._network.random.getrandbits(32)
        self._ahead: list[Item] = []
        """The frames that were fetched ahead, in reverse order: the next one to receive is the last."""
        self._in_message = False
        self._out_message = False
        self._source: Pipe | None = None
        """The pipe of the message that is being received."""
        self._source_must_go = False
        self._sink: Pipe | None = None
        """The pipe of the message that is being sent; None while a message is dropped."""
        self._mandatory = False
        self._handover = False

    def _set(self, option: int, value: int | bytes) -> None:
        if option == zmq.ROUTER_MANDATORY:
            self._mandatory = bool(value)
        elif option == zmq.ROUTER_HANDOVER:
            self._handover = bool(value)

    # Peers

    def _attach(self, pipe: Pipe) -> None:
        if self._identify(pipe):
            self._queue.attach(pipe)
        else:
            self._unnamed.add(pipe)

    def _forget(self, pipe: Pipe) -> None:
        if pipe in self._unnamed:
            self._unnamed.remove(pipe)
            return
        del self._named[pipe.routing_id]
        self._queue.on_terminated(pipe)
        pipe.rollback()
        if pipe is self._sink:
            self._sink = None
            self.lost_with_peers += 1

    def on_readable(self, pipe: Pipe) -> None:
        if pipe not in self._unnamed:
            self._queue.on_readable(pipe)
        elif self._identify(pipe):
            self._unnamed.remove(pipe)
            self._queue.attach(pipe)

    def on_writable(self, pipe: Pipe) -> None:
        """Do nothing: each send asks the pipe itself."""

    def _identify(self, pipe: Pipe) -> bool:
        item = pipe.read()
        if item is None:
            return False
        name = item[0]
        if not name:
            name = self._fresh_name()
        elif name in self._named:
            if not self._handover:
                return False
            self._replace(name)
        pipe.routing_id = name
        self._named[name] = pipe
        return True

    def _replace(self, name: bytes) -> None:
        """End the pipe of the peer of that name. Until it has ended, it has another name."""
        pipe = self._named.pop(name)
        pipe.routing_id = self._fresh_name()
        self._named[pipe.routing_id] = pipe
        if pipe is self._source:
            self._source_must_go = True
        else:
            pipe.terminate(delays=True)

    def _fresh_name(self) -> bytes:
        name = b"\0" + self._next_name.to_bytes(4, "big")
        self._next_name = (self._next_name + 1) & 0xFFFFFFFF
        return name

    # Sending

    def _send(self, body: bytes, kind: int) -> int:
        if not self._out_message:
            return self._begin(body, kind)
        self._out_message = kind == MORE
        sink = self._sink
        if sink is not None:
            if not sink.write(body, kind):
                # It had room when the message began, so it is being ended.
                sink.rollback()
                self._sink = None
                self.lost_with_peers += 1
            elif kind != MORE:
                self._sink = None
        return TAKEN

    def _begin(self, name: bytes, kind: int) -> int:
        if kind != MORE:
            self.dropped_in_silence += 1
            return TAKEN
        pipe = self._named.get(name)
        if pipe is not None and pipe.can_write():
            self._sink = pipe
        elif self._mandatory:
            if pipe is not None and not pipe.has_room():
                return NO_ROOM
            raise zmq.ZMQError(zmq.EHOSTUNREACH)
        else:
            self.dropped_in_silence += 1
        self._out_message = True
        return TAKEN

    def _has_out(self) -> bool:
        return not self._mandatory or any(pipe.has_room() for pipe in self._named.values())

    # Receiving

    def _receive(self) -> Item | None:
        if self._ahead:
            item = self._ahead.pop()
            self._after(item)
            return item
        fetched = self._fetch()
        if fetched is None:
            return None
        if self._in_message:
            self._after(fetched)
            return fetched
        self._ahead.append(fetched)
        self._source = self._queue.used
        assert self._source is not None
        return self._source.routing_id, MORE

    def _after(self, item: Item) -> None:
        self._in_message = item[1] == MORE
        if not self._in_message:
            if self._source_must_go and self._source is not None:
                self._source.terminate(delays=True)
                self._source_must_go = False
            self._source = None

    def _fetch(self) -> Item | None:
        item = self._queue.receive()
        while item is not None and item[1] == ROUTING_ID:
            item = self._queue.receive()
        return item

    def _has_in(self) -> bool:
        if self._in_message or self._ahead:
            return True
        item = self._fetch()
        if item is None:
            return False
        self._source = self._queue.used
        assert self._source is not None
        self._ahead = [item, (self._source.routing_id, MORE)]
        return True

    # What the socket could do, found out without changing it

    def _would_receive(self, outlooks: list[Outlook]) -> bool:
        if self._in_message or self._ahead:
            return True
        return super()._would_receive(list(self._outlooks_by_name(outlooks).values()))

    def _would_send(self, outlooks: list[Outlook], first_frame: bytes | None) -> bool:
        if self._out_message or not self._mandatory:
            return True
        by_name = self._outlooks_by_name(outlooks)
        if first_frame is None:
            return any(outlook.takes for outlook in by_name.values())
        return first_frame in by_name and by_name[first_frame].takes

    def _outlooks_by_name(self, outlooks: list[Outlook]) -> dict[bytes, Outlook]:
        by_name = {
            outlook.pipe.routing_id: outlook
            for outlook in outlooks
            if self._named.get(outlook.pipe.routing_id) is outlook.pipe
        }
        named = list(by_name.values())
        # If two new peers have the same name, the one whose command is processed first gets it.
        for outlook in sorted(filter(lambda one: one.is_told_of, outlooks), key=lambda one: one.told_at or 0):
            if outlook not in named and outlook.items:
                name = outlook.items[0][0] or b"\0unnamed%d" % len(by_name)
                if self._handover or name not in by_name:
                    by_name[name] = outlook._replace(items=outlook.items[1:])
        return by_name

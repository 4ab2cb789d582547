"""The flat waiter: every socket in the `zmq.Poller` itself, watched for the events that can wake a flow now."""

from collections.abc import Iterable
from typing import Final

import zmq

from pollbroker.errors import EngineError
from pollbroker.pump import Bursts, Hub, Socket
from pollbroker.waiting.contract import Poller, Wake, check_new, spin_until

_POLLIN: Final = int(zmq.POLLIN)


class FlatWaiter:
    """Every socket in the `zmq.Poller` itself."""

    name = "flat"
    needs_interest = True
    has_wakes = False

    def __init__(self, poller: Poller, spin_s: float) -> None:
        self._poller = poller
        self._spin_s = spin_s
        self._wakes: dict[Socket | int, Wake] = {}
        self._watched: dict[Socket | int, int] = {}
        """The events that each target is in the poller for. A target without any is not in the poller."""
        self._ports: dict[Hub, dict[Socket, int]] = {}
        """The port indices of the sockets of each hub."""
        self._hub_of: dict[Socket | int, Hub] = {}
        self._woken: list[Hub] = []
        """The hubs at whose sockets something has happened since the last `update`."""

    def add(self, target: Socket | int, wake: Wake) -> None:
        check_new(target, self._wakes)
        self._wakes[target] = wake
        self._watch(target, _POLLIN)

    def add_port(self, socket: Socket, hub: Hub, port_index: int, wake: Wake) -> None:
        self.add(socket, wake)
        self._ports.setdefault(hub, {})[socket] = port_index
        self._hub_of[socket] = hub

    def update(self, hubs: Iterable[Hub]) -> None:
        """Watch the sockets of these hubs, and of those that were woken, for the events that can wake a flow now."""
        changed = dict.fromkeys((*self._woken, *hubs))  # a dict and not a set, so that every run has the same order
        self._woken.clear()
        for hub in changed:
            for socket, port_index in self._ports.get(hub, {}).items():
                events = hub.interest(port_index)
                if events != self._watched.get(socket, 0):
                    self._watch(socket, events)

    def _watch(self, target: Socket | int, events: int) -> None:
        if events:
            self._poller.register(target, events)
            self._watched[target] = events
        elif self._watched.pop(target, 0):
            self._poller.unregister(target)

    def remove(self, target: Socket | int) -> None:
        self._watch(target, 0)
        self._wakes.pop(target, None)
        hub = self._hub_of.pop(target, None)
        if hub is not None and not isinstance(target, int):
            del self._ports[hub][target]
            if not self._ports[hub]:
                del self._ports[hub]

    def wait(self, timeout_ms: int | None) -> list[Wake]:
        ready = self._ready(timeout_ms)
        self._woken += [self._hub_of[target] for target in ready if target in self._hub_of]
        return [self._wakes[target] for target in ready]

    def _ready(self, timeout_ms: int | None) -> list[Socket | int]:
        # pyzmq would poll descriptor 0 in place of a closed socket. Wake its owner instead, which finds out.
        closed: list[Socket | int] = [one for one in self._watched if not isinstance(one, int) and one.closed]
        if closed:
            return closed
        try:
            if self._spin_s and timeout_ms != 0 and spin_until(lambda: self._poller.poll(0), self._spin_s):
                timeout_ms = 0
            return [target for target, _ in self._poller.poll(timeout_ms)]
        except zmq.ZMQError:
            return list(
                self._wakes
            )  # a socket was closed, or its context terminated: wake all owners, so that the right one finds out

    def make_message_turns(self, bursts: Bursts) -> None:
        """None: the poller tells which sockets are ready, and no set."""

    def fileno(self) -> int:
        raise EngineError("the flat waiter has no descriptor: call step() at intervals, or use the nested waiter")

    def close(self) -> None:
        for target in list(self._wakes):
            self.remove(target)

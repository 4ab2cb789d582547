"""The harness: one relay in a thread of its own, and its peers, which all run in the calling thread.

The harness cannot know when a relay will act. So it waits for everything, by polling the sockets of the peers for as
long as messages move. A message that has not come out by then is reported as a fault of the relay: when nothing has
moved until the deadline, or as soon as a message that was sent later has come out.
"""

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

import zmq

from pollbroker.device import Device
from pollbroker.pump import Socket
from pollbroker.testing.environments import shut_down
from pollbroker.testing.peers import Peer
from pollbroker.testing.relay.activity import activity_of, is_another_thread_runnable, read_threads
from pollbroker.testing.relay.peers import SIDES, RelayPeers
from pollbroker.testing.relay.trace import RelayTrace, Unserved

_TURN_MS: Final = 10
"""How long a turn waits for messages before it checks whether the relay still runs."""

_PROBE_S: Final = 0.1
"""When a message is missing and nothing has moved for this time, another message is sent after it."""

_QUIET_S: Final = 0.25
"""When a later message has come out and nothing has moved for this time, the missing message counts as lost."""

_WINDOW_S: Final = 0.2
"""How long a measurement of the relay's activity takes: much longer than the few wake-ups in which a relay reads the
messages that wait for it."""

_LONGEST_WINDOW_S: Final = 1.0
"""A measurement goes on while another thread runs or wants a core, but not longer than this. Linux counts the time that
a thread waited for a core only when the thread gets one, which on a busy machine may be after the end of a window."""

_WINDOWS: Final = 2
"""How many measurements are made. The lowest counts, because in the first the relay reads what has just been sent. A
relay that spins does so in each of them."""


class Relay(Protocol):
    """A relay to test: a function that is given two bound sockets and relays between them until their context ends.

    A relay that counts the messages that it drops can report them by an attribute `dropped`: a function without
    arguments that may be called from another thread and returns their number.
    """

    def __call__(self, frontend: Socket, backend: Socket, /) -> object:
        """Relay until the context has ended; then return, or raise `zmq.ContextTerminated`."""


class RelayHarness(RelayPeers):
    """A relay at work, and its peers.

    Arguments:
        relay: the relay to test. It alone uses its two sockets, which are closed when it has ended.
        device: says which types the two sockets have, and which options.
        seed: decides what the messages carry.
        deadline_s: after this time in which nothing moved, what is missing counts as not coming any more.
        mark: the high-water marks of the relay's sockets; 0 is no limit.
        no_drop: True if a publishing backend refuses a message rather than drop it (XPUB_NODROP).
    """

    def __init__(
        self,
        relay: Relay,
        device: Device,
        *,
        seed: int = 0,
        deadline_s: float = 5.0,
        mark: int = 0,
        no_drop: bool = False,
    ) -> None:
        super().__init__(device, seed=seed, deadline_s=deadline_s, capacity=2 * mark, no_drop=no_drop)
        self._relay = relay
        self._deadline_s = deadline_s
        self._outcome: list[BaseException | None] = []
        ports = []
        for side in SIDES:
            socket = self.context.socket(self.types[side])
            ports.append(socket)
            socket.linger = 0
            socket.setsockopt(zmq.SNDHWM, mark)
            socket.setsockopt(zmq.RCVHWM, mark)
            for name, value in device.options_of(side).items():
                setattr(socket, name, value)
            if no_drop and self.types[side] is zmq.SocketType.XPUB:
                socket.setsockopt(zmq.XPUB_NODROP, 1)
            socket.bind(f"inproc://{side}")
        self._thread = threading.Thread(target=self._run, args=ports, name="relay", daemon=True)
        self._thread.start()

    def _run(self, frontend: Socket, backend: Socket) -> None:
        """Run the relay in its own thread, and then close its sockets, which only this thread may use."""
        error: BaseException | None = None
        try:
            self._relay(frontend, backend)
        except BaseException as raised:  # noqa: BLE001 - an invariant judges whatever was raised
            error = raised
        self._outcome.append(error)
        frontend.close(linger=0)
        backend.close(linger=0)

    # -- waiting ------------------------------------------------------------------------------------------------------

    def turn(self, timeout_ms: int = _TURN_MS) -> int:
        """Wait until a peer can send or receive, at most `timeout_ms`, and let it. Return how many messages moved."""
        poller = zmq.Poller()
        for peer in self.peers:
            has_replies = bool(peer.unsent_replies) and peer not in self.not_answering
            events = zmq.POLLIN if peer in self.reading and not has_replies else 0
            events |= zmq.POLLOUT if has_replies or peer in self.backlog else 0
            if events:
                poller.register(self.sockets[peer], events)
        if poller.sockets:
            poller.poll(timeout_ms)
        else:  # a poller without sockets would return at once
            self._thread.join(timeout_ms / 1000)
        moved = sum(self.flush(peer) for peer in self.peers if peer.unsent_replies or peer in self.backlog)
        return moved + sum(self.take(peer) for peer in self.peers if peer in self.reading)

    def wait_until(
        self, condition: Callable[[], bool], *, most_s: float | None = None, each_turn: Callable[[], int] = lambda: 0
    ) -> bool:
        """Make turns until a condition holds. Return False if the condition does not hold when nothing has moved until
        the deadline, when the relay has ended, or when a peer has received what it should not have.

        Arguments:
            most_s: the longest time to wait, even if messages move.
            each_turn: called in each turn; returns how many messages it has moved.
        """
        began_s = last_s = time.monotonic()
        while not condition():
            if self._is_over():
                return False
            now_s = time.monotonic()
            if self.turn() + each_turn():
                last_s = now_s
            elif now_s - last_s > self._deadline_s:
                return False
            if most_s is not None and now_s - began_s > most_s:
                return False
        return True

    def _is_over(self) -> bool:
        if self._outcome:
            self.trace.early_end = _describe_end(self._outcome[0])
        return self.outstanding.saw_violation or self.trace.early_end is not None

    def await_subscriptions(self) -> bool:
        """Wait until every publisher has been told of every subscriber. Return True if that has happened."""
        subscribers = [one for one in self.peers if one.kind is zmq.SocketType.SUB]
        publishers = [one for one in self.peers if one.kind is zmq.SocketType.XPUB]
        wanted = {b"!" + one.name.encode() for one in subscribers}
        heard = self.wait_until(lambda: all(one.topics >= wanted for one in publishers))
        if heard:
            for one in subscribers:
                one.is_known = True
        elif not self._is_over():
            self._record_unserved(publishers[0], "the subscriptions of all that came", "everybody took what came")
        return heard

    def expect_messages(self, peer: Peer, count: int, waited_for: str, meanwhile: str) -> bool:
        """Wait until a peer has received `count` messages in all. If it does not receive them, the trace says so."""
        served = self.wait_until(lambda: self.received_by(peer) >= count)
        if not served and not self._is_over():
            self._record_unserved(peer, f"{waited_for} (it got {self.received_by(peer)} of {count})", meanwhile)
        return served

    def _record_unserved(self, peer: Peer, waited_for: str, meanwhile: str) -> None:
        self.trace.unserved.append(Unserved(peer.name, waited_for, meanwhile))

    def expect_subscription(self, publisher: Peer, topic: bytes, meanwhile: str) -> bool:
        """Wait until a publisher has been told of a subscription. If it is not told, the trace says so."""
        heard = self.wait_until(lambda: topic in publisher.topics)
        if not heard and not self._is_over():
            self._record_unserved(publisher, f"the subscription to {topic!r}", meanwhile)
        return heard

    def finish(self, each_turn: Callable[[], int] = lambda: 0) -> None:
        """Wait until every message has been sent and has come out; `each_turn` is called in each turn.

        A message that has not come out then was lost if a later one has come out. If no later one has, the path is
        blocked.
        """
        self.trace.complete |= {path.name for path in self.paths.values() if not path.upstream}
        self.trace.alive.clear()
        last_s = probed_s = time.monotonic()
        while self.backlog or self.outstanding.missing:
            if self._is_over():
                break
            now_s = time.monotonic()
            if self.turn() + each_turn():
                last_s = now_s
                continue
            quiet_s = now_s - last_s
            incomplete = self.outstanding.paths_with_missing()
            unsent = self.unsent()
            if quiet_s > self._deadline_s or (quiet_s > _QUIET_S and incomplete <= self.trace.alive and not unsent):
                break
            if quiet_s > _PROBE_S and not unsent:
                if len(self.outstanding.missing) <= self.allowance_for_leavers() + self._count_dropped():
                    break
                if now_s - probed_s > _PROBE_S and not incomplete <= self.trace.alive:
                    self.probe("replies" in incomplete)
                    probed_s = now_s
        self._count_dropped()
        self.trace.unsent = self.unsent()

    def _count_dropped(self) -> int:
        told: Callable[[], int] = getattr(self._relay, "dropped", lambda: 0)
        self.trace.dropped = told()
        return self.trace.dropped

    def measure_activity(self) -> None:
        """Measure how busy the relay is while no peer does anything.

        A relay may have several threads, so the busiest thread of the process counts; the thread of the harness itself
        sleeps in a poll. The time in which a thread waits for a core is left out. So on a busy machine a relay that
        spins is found although it gets little of a core, and a relay that sleeps is not blamed for the waits at its
        few wake-ups.
        """
        for _ in range(_WINDOWS):
            began_s, before = time.monotonic(), read_threads()
            self._pass_time(began_s + _WINDOW_S)
            while is_another_thread_runnable() and time.monotonic() < began_s + _LONGEST_WINDOW_S:
                self._pass_time(time.monotonic() + _WINDOW_S / 4)
            window_s, after = time.monotonic() - began_s, read_threads()
            activity = max(
                activity_of(after[thread][0] - before[thread][0], after[thread][1] - before[thread][1], window_s)
                for thread in before.keys() & after.keys()
            )
            self.trace.activity = activity if self.trace.activity is None else min(self.trace.activity, activity)

    def _pass_time(self, until_s: float) -> None:
        while (left_s := until_s - time.monotonic()) > 0:
            self.turn(int(left_s * 1000) + 1)

    # -- the end ------------------------------------------------------------------------------------------------------

    def stop(self) -> RelayTrace:
        """End the context, wait until the relay has ended, and return the trace.

        A relay that has not ended by the deadline keeps its thread and its context until it ends.
        """
        self._is_over()
        shut_down(self.context)
        self._thread.join(self._deadline_s)
        self.trace.late = self._thread.is_alive()
        if self.trace.early_end is None and self._outcome and not _is_context_end(self._outcome[0]):
            self.trace.last_error = _describe_end(self._outcome[0]).removeprefix("raised ")
        for socket in self.sockets.values():
            socket.close(linger=0)
        # This runs in a thread, because it would wait for ever for a socket that the relay itself has opened in the
        # context and not closed.
        closer = threading.Thread(target=self._close, name="relay's context", daemon=True)
        closer.start()
        if not self.trace.late:
            closer.join(self._deadline_s)
        return self.trace

    def _close(self) -> None:
        self._thread.join()
        self.context.term()


def _is_context_end(error: BaseException | None) -> bool:
    """Return True if a relay that ended with this error has only noticed the end of its context."""
    return error is None or (isinstance(error, zmq.ZMQError) and error.errno == zmq.ETERM)


def _describe_end(error: BaseException | None) -> str:
    return "returned" if error is None else f"raised {type(error).__name__}: {error}"

"""The harness: one relay in a thread of its own, and its peers, all of them in the thread of the kit.

A relay acts when it likes, so everything is waited for: by polling the peers' sockets, for as long as something moves.
What is missing then is held against the relay when nothing has moved up to the deadline, or as soon as what was sent
later has come.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import zmq

from pollbroker.device import Device
from pollbroker.pump import Socket
from pollbroker.testing.environments import shut_down
from pollbroker.testing.peers import Peer
from pollbroker.testing.relay.peers import SIDES, RelayPeers
from pollbroker.testing.relay.trace import RelayTrace, Unserved

_TURN_MS: Final = 10
"""How long a turn waits for something to move; it looks then whether the relay is there still."""

_PROBE_S: Final = 0.1
"""When nothing has moved for so long and something is missing, something else is sent after it."""

_QUIET_S: Final = 0.25
"""When what was sent later has come, and nothing in so long, what is missing was lost."""

_WINDOW_S: Final = 0.2
"""For how long it is measured: long beside the few wake-ups in which a relay takes what waits."""

_LONGEST_WINDOW_S: Final = 1.0
"""As long as another thread runs or wants a core it goes on, up to so long: how long a thread has waited for a core is
told when it has got one, which on a busy machine may be later than a window."""

_WINDOWS: Final = 2
"""The quietest counts: in the first the relay takes what has just been sent. One that spins does so in each."""


class Relay(Protocol):
    """What is tested: given two bound sockets, it relays until their context ends.

    One that counts what it drops can say how many messages that is: by an attribute `dropped`, a function that may be
    called from another thread.
    """

    def __call__(self, frontend: Socket, backend: Socket, /) -> object:
        """Relay; return, or raise `zmq.ContextTerminated`, when the context has ended."""


class RelayHarness(RelayPeers):
    """A relay at work.

    Arguments:
        relay: what is tested. It has the two sockets for itself; they are closed when it has ended.
        device: says which sockets those are, with which options.
        mark: the high-water marks of the relay's sockets; 0: without limit.
        no_drop: whether a publishing backend refuses rather than drops (XPUB_NODROP).
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
        """In the relay's thread: relay, and close its sockets, which are this thread's alone."""
        error: BaseException | None = None
        try:
            self._relay(frontend, backend)
        except BaseException as raised:  # noqa: BLE001 - whatever it is, it is judged
            error = raised
        self._outcome.append(error)
        frontend.close(linger=0)
        backend.close(linger=0)

    # -- waiting ------------------------------------------------------------------------------------------------------

    def turn(self, timeout_ms: int = _TURN_MS) -> int:
        """Wait until something can be done, or so long, and do it; how many messages moved."""
        poller = zmq.Poller()
        for peer in self.peers:
            owes = bool(peer.unsent_replies) and peer not in self.not_answering
            events = zmq.POLLIN if peer in self.reading and not owes else 0
            events |= zmq.POLLOUT if owes or peer in self.backlog else 0
            if events:
                poller.register(self.sockets[peer], events)
        if poller.sockets:
            poller.poll(timeout_ms)
        else:  # a poll of nothing returns at once
            self._thread.join(timeout_ms / 1000)
        moved = sum(self.flush(peer) for peer in self.peers if peer.unsent_replies or peer in self.backlog)
        return moved + sum(self.take(peer) for peer in self.peers if peer in self.reading)

    def wait_until(
        self, condition: Callable[[], bool], *, most_s: float | None = None, each_turn: Callable[[], int] = lambda: 0
    ) -> bool:
        """Make turns until a condition holds; False if nothing has moved by the deadline, or the relay is past help.

        Arguments:
            most_s: how long at most, whatever moves.
            each_turn: what else to do in each turn; returns how many messages it has moved.
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
        return self.saw_violation or self.trace.early_end is not None

    def await_subscriptions(self) -> bool:
        """Wait until every publisher has heard of every subscriber; whether that has come about."""
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
        """Wait until a peer has received so many messages in all; if it does not, that is held against the relay."""
        served = self.wait_until(lambda: self.received_by(peer) >= count)
        if not served and not self._is_over():
            self._record_unserved(peer, f"{waited_for} (it got {self.received_by(peer)} of {count})", meanwhile)
        return served

    def _record_unserved(self, peer: Peer, waited_for: str, meanwhile: str) -> None:
        self.trace.unserved.append(Unserved(peer.name, waited_for, meanwhile))

    def expect_subscription(self, publisher: Peer, topic: bytes, meanwhile: str) -> bool:
        """Wait until a publisher has been told of a subscription; if it is not, that is held against the relay."""
        heard = self.wait_until(lambda: topic in publisher.topics)
        if not heard and not self._is_over():
            self._record_unserved(publisher, f"the subscription to {topic!r}", meanwhile)
        return heard

    def finish(self, each_turn: Callable[[], int] = lambda: 0) -> None:
        """Wait until all that was sent has arrived; `each_turn`: what else to do in each turn.

        What is missing after that was lost if something that was sent later has come, and stands still if nothing has.
        """
        self.trace.complete |= {path.name for path in self.paths.values() if not path.upstream}
        self.trace.alive.clear()
        last_s = probed_s = time.monotonic()
        while self.backlog or self.missing:
            if self._is_over():
                break
            now_s = time.monotonic()
            if self.turn() + each_turn():
                last_s = now_s
                continue
            quiet_s = now_s - last_s
            incomplete = self.paths_with_missing()
            unsent = self.unsent()
            if quiet_s > self._deadline_s or (quiet_s > _QUIET_S and incomplete <= self.trace.alive and not unsent):
                break
            if quiet_s > _PROBE_S and not unsent:
                if len(self.missing) <= self.allowance_for_leavers() + self._count_dropped():
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
        """Measure how busy the relay is while nobody does anything.

        It may have several threads: the busiest of the process counts, and the kit's own thread sleeps in a poll. What
        a thread waits for a core is no time of its own. So on a busy machine a relay that spins shows, although it gets
        little of a core; and one that sleeps is not blamed for having to wait at each of its few wake-ups.
        """
        for _ in range(_WINDOWS):
            began_s, before = time.monotonic(), _read_threads()
            self._pass_time(began_s + _WINDOW_S)
            while _is_another_runnable() and time.monotonic() < began_s + _LONGEST_WINDOW_S:
                self._pass_time(time.monotonic() + _WINDOW_S / 4)
            window_s, after = time.monotonic() - began_s, _read_threads()
            activity = max(
                _activity(after[one][0] - before[one][0], after[one][1] - before[one][1], window_s)
                for one in before.keys() & after.keys()
            )
            self.trace.activity = activity if self.trace.activity is None else min(self.trace.activity, activity)

    def _pass_time(self, until_s: float) -> None:
        while (left_s := until_s - time.monotonic()) > 0:
            self.turn(int(left_s * 1000) + 1)

    # -- the end ------------------------------------------------------------------------------------------------------

    def stop(self) -> RelayTrace:
        """End the context, and see to it that the relay ends; the trace.

        A relay that does not is left behind in its thread, and its context with it, until it ends after all.
        """
        self._is_over()
        shut_down(self.context)
        self._thread.join(self._deadline_s)
        self.trace.late = self._thread.is_alive()
        if self.trace.early_end is None and self._outcome and not _is_context_end(self._outcome[0]):
            self.trace.last_error = _describe_end(self._outcome[0]).removeprefix("raised ")
        for socket in self.sockets.values():
            socket.close(linger=0)
        # Whatever the relay itself has opened in the context and not closed would keep this waiting for ever.
        closer = threading.Thread(target=self._close, name="relay's context", daemon=True)
        closer.start()
        if not self.trace.late:
            closer.join(self._deadline_s)
        return self.trace

    def _close(self) -> None:
        self._thread.join()
        self.context.term()


def _read_threads() -> dict[str, tuple[float, float]]:
    """For how many seconds each thread of this process has run, and waited for a core to run on.

    Where the system does not tell (Linux does), there is one entry, for the process as a whole.
    """
    told: dict[str, tuple[float, float]] = {}
    for file in Path("/proc/self/task").glob("*/schedstat"):  # proc_pid_schedstat(5): ran, waited, how often
        with contextlib.suppress(OSError, ValueError, IndexError):  # the thread has ended meanwhile
            ran, waited, *_ = file.read_text().split()
            told[file.parent.name] = int(ran) / 1e9, int(waited) / 1e9
    return told or {"all": (time.process_time(), 0.0)}


def _is_another_runnable() -> bool:
    """Whether a thread of this process, other than this one, runs or wants a core at this moment."""
    this = str(threading.get_native_id())
    for file in Path("/proc/self/task").glob("*/stat"):  # proc_pid_stat(5): number, (name), state
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            if file.parent.name != this and file.read_text().rpartition(")")[2].split()[0] == "R":
                return True
    return False


def _activity(ran_s: float, waited_s: float, window_s: float) -> float:
    """The share of its own time, which is what it did not spend waiting for a core, that a thread ran: 0 to 1."""
    own_s = max(window_s - waited_s, ran_s)
    return ran_s / own_s if own_s > 0 else 0.0


def _is_context_end(error: BaseException | None) -> bool:
    """Whether a relay that ended so has noticed the end of its context, and nothing worse."""
    return error is None or (isinstance(error, zmq.ZMQError) and error.errno == zmq.ETERM)


def _describe_end(error: BaseException | None) -> str:
    return "returned" if error is None else f"raised {type(error).__name__}: {error}"

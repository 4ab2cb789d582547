"""What has an engine's brokers move to another process, and has it take over those of another one."""

import socket
from collections.abc import Iterable
from concurrent.futures import Future

from pollbroker.broker import Broker
from pollbroker.engine.running import Running
from pollbroker.errors import EngineError
from pollbroker.handing_over import Adoption, Departure, HandedOver


class Moving(Running):
    """The part of an engine that hands brokers over, and takes them over."""

    def hand_over(
        self,
        unix_socket: socket.socket,
        brokers: Iterable[str | Broker] | None = None,
        *,
        timeout_s: float = 60.0,
        freeze_s: float = 1.0,
    ) -> HandedOver:
        """Let another process, which calls `adopt`, take over brokers with their listeners and live connections.

        Their peers notice nothing: what is half read and half written, subscriptions, routing ids and counters go with
        the connections. Brokers can be moved whose ports are all the wire's, without a behaviour and without coroutine
        handlers. Those of them that the other process adds are moved; all others stay, and go on meanwhile.

        Arguments:
            unix_socket: a connected socket of the family AF_UNIX, SOCK_STREAM or SOCK_SEQPACKET. It is used for this
                alone, and is closed by the caller.
            brokers: their names or handles; None means all that can be moved.
            timeout_s: how long the other process may take until it has added its brokers. Nothing stands still yet.
            freeze_s: how long the connections may stand still then, as a rule some milliseconds.

        Return what was moved, and why the others were left. The brokers that were moved are removed here; `removed` of
        their handles is resolved.

        Whatever happens to the other process, nothing is lost: until it serves, this one goes on as before.

        Raises `HandOverError` if nothing was moved, because the other process refuses, dies, or does not answer in
        time; `ConfigError` if a broker that was named cannot be moved; and `EngineError` if there is no such broker, or
        if it is called from within a turn of the loop.
        """
        if self._calls.in_own_turn():
            raise EngineError("hand_over() was called from within a turn of the loop, which it would wait for")
        return self._wait_for(self.begin_hand_over(unix_socket, brokers, timeout_s=timeout_s, freeze_s=freeze_s))

    def begin_hand_over(
        self,
        unix_socket: socket.socket,
        brokers: Iterable[str | Broker] | None = None,
        *,
        timeout_s: float = 60.0,
        freeze_s: float = 1.0,
    ) -> "Future[HandedOver]":
        """Begin what `hand_over` does, and return at once: the future is resolved with what `hand_over` returns, or
        raises when it has begun. It cannot be cancelled. The conversation is held by a thread of its own.

        For programs with a loop of their own, which must not be blocked. Raises `ConfigError` and `EngineError` as
        `hand_over`.
        """
        self._calls.check_usable()
        return Departure(self._loop, self._table, unix_socket, brokers, timeout_s, freeze_s).start()

    def adopt(self, unix_socket: socket.socket, *, timeout_s: float = 60.0) -> Adoption:
        """Take over brokers of another process, which calls `hand_over`. Use it as `with engine.adopt(sock):`.

        In the block, add the brokers as usual. One whose name the other process offers binds and connects nothing: at
        the end of the block it is given the listeners, connections and state of the broker of that name. It must have
        the same ports, with the same types, endpoints and routes (a route may be given a handler); options and handlers
        are those of this process. The other process goes on with brokers that are not added here. After the block they
        serve, unless they were paused there, or were paused or disabled in the block.

        Arguments:
            unix_socket: the other end of that of `hand_over`. It is closed by the caller.
            timeout_s: how long the other process may take to answer, each time.

        If the block raises, or the two processes do not agree at its end, all brokers of the other process stay there,
        and those that were to be taken over are removed here.

        `add` raises `ConfigError` in the block if a broker is not the one that is offered. The beginning and the end of
        the block raise `HandOverError`.
        """
        self._calls.check_usable()
        return Adoption(self._loop, self._table, unix_socket, timeout_s)

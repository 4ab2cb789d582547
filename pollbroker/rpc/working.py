"""Workers that block: they keep up the conversation with their broker, and give requests to a handler."""

import math
import socket as net
import threading
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Final, Self

import zmq

from pollbroker.endpoint import Endpoints
from pollbroker.rpc.answers import Answer, Handler, answers
from pollbroker.rpc.dialects import Dialect
from pollbroker.rpc.dialog import Request, Step
from pollbroker.rpc.errors import RequestTimeout, RpcError, Stopped
from pollbroker.rpc.serving import Serving

_MOST_AT_ONCE: Final = 1000
"""How many messages are read before heartbeats are sent again."""


class Worker:
    """What both workers have. The thread that made it uses it; `stop` alone may be called from anywhere."""

    def __init__(
        self, where: str, dialect: Dialect, endpoints: Endpoints, context: zmq.Context[Any] | None, **settings: Any
    ) -> None:
        given: zmq.Context[Any] = zmq.Context() if context is None else context
        self._own_context = given if context is None else None
        try:
            self._serving = Serving(where, dialect, endpoints, context=given, **settings)
        except BaseException:
            if self._own_context is not None:
                self._own_context.term()
            raise
        self._socket: Any = None
        self._poller = zmq.Poller()
        self._waker, self._wakes = net.socketpair()
        self._waker.setblocking(False)
        self._wakes.setblocking(False)
        self._poller.register(self._wakes, zmq.POLLIN)
        self._is_stopped = False
        self._is_closed = False
        try:
            self._carry_out()
        except BaseException:
            self.close()
            raise

    def receive(self, *, timeout_s: float | None = None) -> Request:
        """The next request. It is to be answered with `reply` before the next call.

        Arguments:
            timeout_s: how long to wait; by default as long as it takes.

        Raises `RequestTimeout` if none came in time, `RpcError` if the worker was closed or stopped.
        """
        end_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while True:
            if self._is_stopped:
                self._is_stopped = False
                raise Stopped(f"{self._serving.where}: the worker was stopped")
            self._turn()
            request = self._serving.next_request()
            if request is not None:
                return request
            if time.monotonic() >= end_s:
                raise RequestTimeout(f"{self._serving.where}: no request within {timeout_s:g} s")
            self._wait(end_s)

    def reply(self, *frames: bytes) -> bool:
        """Answer the request that `receive` has returned, with one or more frames. If the broker has not read what it
        was sent before, this waits, and keeps up the conversation meanwhile.

        Returns False if the reply was not sent, because the broker was lost meanwhile; it gives the request to another
        worker, or the client asks again.

        Raises `RpcError` if there is no request to be answered.
        """
        return self._reply(list(frames), is_last=True)

    def keep_alive(self) -> None:
        """Send a heartbeat if it is time, and look for signs of life of the broker, without waiting.

        For whoever works long on a request: called at least once in `heartbeat_s`, it keeps the broker from taking this
        worker for dead.
        """
        self._turn()

    def serve(self, handler: Handler, *, in_thread: bool = False) -> None:
        """Give each request to a handler, and send what it returns, until `stop` is called.

        While the handler works, no heartbeat is sent, so that the broker takes this worker for dead after `heartbeat_s`
        times `liveness`. A handler that may work as long calls `keep_alive` meanwhile, or works in a thread of its own.

        Arguments:
            handler: given the frames of a request, it returns those of the reply. If it raises, the worker leaves the
                broker, which may give the request to another, and the exception is raised here.
            in_thread: call the handler in another thread, and send heartbeats meanwhile.
        """
        answer = self._answer_in_thread if in_thread else self._answer
        with suppress(Stopped):
            while True:
                request = self.receive()
                try:
                    answer(handler, request)
                except BaseException:
                    self._give_up()
                    raise

    def stop(self) -> None:
        """Let `serve` return when the request that it is working on is answered. May be called from any thread, and by
        a handler of signals."""
        self._is_stopped = True
        self._wake()

    def close(self) -> None:
        """Leave the broker. What was sent may take `linger_s` to go out."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._serving.dialog.end(time.monotonic())
            self._carry_out()
        finally:
            if self._socket is not None:
                self._socket.close(linger=0)
            self._waker.close()
            self._wakes.close()
            if self._own_context is not None:
                self._own_context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- answering ----------------------------------------------------------------------------------------------------

    def _answer(self, handler: Handler, request: Request) -> None:
        serving = self._serving
        for frames, is_last in answers(serving.where, serving.dialog.dialect.has_parts, handler(request.frames)):
            self._reply(frames, is_last=is_last)

    def _answer_in_thread(self, handler: Handler, request: Request) -> None:
        """Let the handler work in a thread of its own, and keep up the conversation."""
        outcomes: SimpleQueue[Answer | BaseException] = SimpleQueue()
        where, has_parts = self._serving.where, self._serving.dialog.dialect.has_parts

        def work() -> None:
            try:
                for answer in answers(where, has_parts, handler(request.frames)):
                    outcomes.put(answer)
                    self._wake()
            except BaseException as error:  # noqa: BLE001 - it is raised in the worker's thread
                outcomes.put(error)
                self._wake()

        threading.Thread(target=work, name=f"{where}: handler", daemon=True).start()
        is_last = False
        while not is_last:
            self._turn()
            try:
                outcome = outcomes.get_nowait()
            except Empty:
                self._wait(math.inf)
                continue
            if isinstance(outcome, BaseException):
                raise outcome
            frames, is_last = outcome
            self._reply(frames, is_last=is_last)

    def _reply(self, frames: list[bytes], *, is_last: bool) -> bool:
        self._check_open()
        self._wait_for_room()
        was_sent = self._serving.reply(frames, is_last=is_last)
        self._carry_out()
        return was_sent

    def _wait_for_room(self) -> None:
        """Keep up the conversation until there is room for a message to the broker, or no reply is expected."""
        while self._serving.is_awaited and not self._socket.poll(0, zmq.POLLOUT):
            self._poller.modify(self._socket, zmq.POLLIN | zmq.POLLOUT)
            try:
                self._wait(math.inf)
            finally:
                self._poller.modify(self._socket, zmq.POLLIN)
            self._turn()

    def _give_up(self) -> None:
        """Leave the broker, which may give the request to another worker. With the next turn, begin again."""
        if not self._is_closed:
            self._serving.give_up()
            self._carry_out()

    # -- one turn -----------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Read what has come, and say what is to be said."""
        self._check_open()
        dialog = self._serving.dialog
        try:
            for _ in range(_MOST_AT_ONCE):
                if self._socket is None or not self._socket.poll(0):
                    break
                dialog.received(self._socket.recv_multipart(zmq.NOBLOCK), time.monotonic())
                self._carry_out()
            dialog.tick(time.monotonic())
            self._carry_out()
        except zmq.ContextTerminated as error:
            raise RpcError(f"{self._serving.where}: the context was terminated") from error

    def _wait(self, end_s: float) -> None:
        """Sleep until something comes, the conversation has something to do, or it is time."""
        left_s = max(0.0, min(end_s, self._serving.dialog.next_s) - time.monotonic())
        try:
            ready = dict(self._poller.poll(math.ceil(left_s * 1000)))
        except zmq.ContextTerminated as error:
            raise RpcError(f"{self._serving.where}: the context was terminated") from error
        if self._wakes.fileno() in ready:
            with suppress(BlockingIOError):
                self._wakes.recv(4096)

    def _carry_out(self) -> None:
        """Do what the conversation wants to be done."""
        while (do := self._serving.dialog.take()) is not None:
            if do is Step.OPEN:
                self._socket = self._serving.opener.open()
                self._poller.register(self._socket, zmq.POLLIN)
            elif self._socket is None:
                continue
            elif isinstance(do, Step):
                self._poller.unregister(self._socket)
                self._socket.close(linger=self._serving.linger_ms if do is Step.LEAVE else 0)
                self._socket = None
            else:
                # A reply has room. A broker that has not read heartbeats for so long is dead, which will be noticed.
                with suppress(zmq.Again):
                    self._socket.send_multipart(do, zmq.NOBLOCK)

    def _wake(self) -> None:
        with suppress(OSError):  # there is a wake-up that was not read yet, or the worker was closed
            self._waker.send(b"x")

    def _check_open(self) -> None:
        if self._is_closed:
            raise RpcError(f"{self._serving.where}: the worker was closed; expected an open one")

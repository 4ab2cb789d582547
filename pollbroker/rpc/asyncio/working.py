"""Workers on asyncio: a task keeps up the conversation with the broker, whatever the handler does."""

import asyncio
import inspect
import math
import time
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

import zmq

from pollbroker.endpoint import Endpoints
from pollbroker.rpc.answers import AsyncHandler, async_answers
from pollbroker.rpc.asyncio.contexts import awaited
from pollbroker.rpc.dialects import Dialect
from pollbroker.rpc.dialog import Request, Step
from pollbroker.rpc.errors import RequestTimeout, RpcError, Stopped
from pollbroker.rpc.serving import Serving

_LONGEST_S: Final = 3600.0
"""The longest sleep: a loop cannot sleep for ever."""

_MOST_AT_ONCE: Final = 1000
"""How many messages are read before heartbeats are sent again."""


class Worker:
    """What both workers have. The conversation is kept up from the first `receive` or `serve` on, or in the block of
    `async with`. When its loop has ended, such as at the end of `asyncio.run`, another loop may go on with it."""

    def __init__(
        self, where: str, dialect: Dialect, endpoints: Endpoints, context: zmq.Context[Any] | None, **settings: Any
    ) -> None:
        given: zmq.Context[Any] = zmq.Context() if context is None else context
        self._own_context = given if context is None else None
        try:
            self._serving = Serving(where, dialect, endpoints, context=awaited(given), **settings)
        except BaseException:
            if self._own_context is not None:
                self._own_context.term()
            raise
        self._socket: Any = None
        self._sending: Any = None
        """The same socket, to send at once: at that of asyncio a message waits behind whoever waits for room."""
        self._conversing: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        """Set when a request has come, when `stop` was called, and when the task has ended."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_stopped = False
        self._is_closed = False

    async def receive(self, *, timeout_s: float | None = None) -> Request:
        """The next request. It is to be answered with `reply` before the next call.

        Arguments:
            timeout_s: how long to wait; by default as long as it takes.

        Raises `RequestTimeout` if none came in time, `RpcError` if the worker was closed or stopped.
        """
        self._start()
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    self._check_state()
                    request = self._serving.next_request()
                    if request is not None:
                        return request
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as error:
            if isinstance(error, RpcError):
                raise
            raise RequestTimeout(f"{self._serving.where}: no request within {timeout_s:g} s") from None

    async def reply(self, *frames: bytes) -> bool:
        """Answer the request that `receive` has returned, with one or more frames. If the broker has not read what it
        was sent before, this waits, while the conversation is kept up.

        Returns False if the reply was not sent, because the broker was lost meanwhile; it gives the request to another
        worker, or the client asks again.

        Raises `RpcError` if there is no request to be answered.
        """
        return await self._reply(list(frames), is_last=True)

    async def keep_alive(self) -> None:
        """Send a heartbeat if it is time, and look for signs of life of the broker, without waiting.

        For a handler that computes for long without awaiting anything: called at least once in `heartbeat_s`, it keeps
        the broker from taking this worker for dead.
        """
        self._check_conversing()
        self._stop_conversing()
        self._start()
        await asyncio.sleep(0)  # the new task begins with what is due

    async def serve(self, handler: AsyncHandler, *, in_thread: bool = False) -> None:
        """Give each request to a handler, and send what it returns, until `stop` is called or this task is cancelled.

        Heartbeats are sent meanwhile, as long as the handler does not block the loop.

        Arguments:
            handler: given the frames of a request, it returns those of the reply; it may be a coroutine function, or an
                asynchronous generator. If it raises, the worker leaves the broker, which may give the request to
                another, and the exception is raised here.
            in_thread: call the handler, an ordinary function, in another thread.
        """
        with suppress(Stopped):
            while True:
                request = await self.receive()
                try:
                    await self._answer(handler, request, in_thread=in_thread)
                except BaseException:
                    self._give_up()
                    raise

    def stop(self) -> None:
        """Let `serve` return when the request that it is working on is answered. May be called from any thread, and by
        a handler of signals."""
        self._is_stopped = True
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(self._news.set)

    async def close(self) -> None:
        """Leave the broker. What was sent may take `linger_s` to go out.

        Raises `RpcError` if the worker is used in another loop, which runs.
        """
        if self._is_closed:
            return
        self._be_in(asyncio.get_running_loop())
        self._is_closed = True
        self._news.set()
        conversing = self._stop_conversing()
        try:
            self._serving.dialog.end(time.monotonic())
            self._carry_out()
            if conversing is not None:
                await asyncio.wait([conversing])
        finally:
            if self._socket is not None:
                self._socket.close(linger=0)
            if self._own_context is not None:
                await asyncio.get_running_loop().run_in_executor(None, self._own_context.term)

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- answering ----------------------------------------------------------------------------------------------------

    async def _answer(self, handler: AsyncHandler, request: Request, *, in_thread: bool) -> None:
        serving = self._serving
        if in_thread:
            result: Any = await asyncio.to_thread(_call, handler, request.frames)
        else:
            result = handler(request.frames)
        if inspect.isawaitable(result):
            result = await result
        async for frames, is_last in async_answers(serving.where, serving.dialog.dialect.has_parts, result):
            await self._reply(frames, is_last=is_last)

    async def _reply(self, frames: list[bytes], *, is_last: bool) -> bool:
        self._check_open()
        await self._wait_for_room()
        was_sent = self._serving.reply(frames, is_last=is_last)
        self._carry_out()
        return was_sent

    async def _wait_for_room(self) -> None:
        """Wait until there is room for a message to the broker, or no reply is expected."""
        while self._serving.is_awaited and not self._socket.get(zmq.EVENTS) & zmq.POLLOUT:
            self._start()
            assert self._conversing is not None
            room = self._socket.poll(flags=zmq.POLLOUT)  # cancelled if the socket is closed
            try:
                await asyncio.wait([room, self._conversing], return_when=asyncio.FIRST_COMPLETED)
            finally:
                room.cancel()
            self._check_conversing()

    def _give_up(self) -> None:
        """Leave the broker, which may give the request to another worker, and begin again."""
        if not self._is_closed:
            self._stop_conversing()
            self._serving.give_up()
            self._carry_out()
            self._start()

    # -- the conversation ---------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Begin to keep up the conversation."""
        self._check_open()
        loop = asyncio.get_running_loop()
        self._be_in(loop)
        if self._conversing is None:
            self._conversing = loop.create_task(self._converse(), name=self._serving.where)

    def _be_in(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the conversation kept up in this loop from now on. If it was in another one, that has ended."""
        if loop is self._loop:
            return
        if self._loop is not None and self._loop.is_running():
            where = self._serving.where
            raise RpcError(f"{where}: the worker is used in another loop, which runs; expected one at a time")
        with suppress(RuntimeError):  # the other loop is closed
            self._stop_conversing()
        self._loop, self._news = loop, asyncio.Event()

    def _stop_conversing(self) -> asyncio.Task[None] | None:
        """Let the conversation rest until it is begun again. Returns the task that keeps it up, which does nothing more
        and ends when it runs next."""
        conversing, self._conversing = self._conversing, None
        if conversing is not None:
            conversing.cancel()
        return conversing

    async def _converse(self) -> None:
        """Keep up the conversation, turn by turn."""
        try:
            while True:
                await self._turn()
                left_s = max(0.0, min(self._serving.dialog.next_s - time.monotonic(), _LONGEST_S))
                if self._socket is None:
                    await asyncio.sleep(left_s)
                else:
                    await self._socket.poll(math.ceil(left_s * 1000))
        finally:
            self._news.set()

    async def _turn(self) -> None:
        """Read what has come, and say what is to be said. Nothing here waits."""
        dialog = self._serving.dialog
        if self._socket is not None:
            await self._read(self._socket)
        dialog.tick(time.monotonic())
        self._carry_out()
        if dialog.requests:
            self._news.set()

    async def _read(self, socket: Any) -> None:
        with suppress(zmq.Again):
            for _ in range(_MOST_AT_ONCE):
                self._serving.dialog.received(await socket.recv_multipart(zmq.NOBLOCK), time.monotonic())
                self._carry_out()
                if socket.closed:
                    return

    def _carry_out(self) -> None:
        """Do what the conversation wants to be done."""
        while (do := self._serving.dialog.take()) is not None:
            if do is Step.OPEN:
                self._socket = self._serving.opener.open()
                self._sending = zmq.Socket.shadow(self._socket)
            elif self._socket is None:
                continue
            elif isinstance(do, Step):
                self._socket.close(linger=self._serving.linger_ms if do is Step.LEAVE else 0)
                self._socket = self._sending = None
            else:
                # A reply has room. A broker that has not read heartbeats for so long is dead, which will be noticed.
                with suppress(zmq.Again):
                    self._sending.send_multipart(do, zmq.NOBLOCK)
                self._socket.get(zmq.EVENTS)  # by which whoever waits for the socket learns what sending has changed

    def _check_open(self) -> None:
        if self._is_closed:
            raise RpcError(f"{self._serving.where}: the worker was closed; expected an open one")

    def _check_state(self) -> None:
        """Raise what `receive` is to raise."""
        self._check_open()
        if self._is_stopped:
            self._is_stopped = False
            raise Stopped(f"{self._serving.where}: the worker was stopped")
        self._check_conversing()

    def _check_conversing(self) -> None:
        """Raise the error with which the conversation has ended, if it has."""
        if self._conversing is not None and self._conversing.done() and not self._conversing.cancelled():
            error = self._conversing.exception()
            self._conversing = None
            if isinstance(error, zmq.ContextTerminated):
                raise RpcError(f"{self._serving.where}: the context was terminated") from error
            if error is not None:
                raise error


def _call(handler: AsyncHandler, frames: list[bytes]) -> Any:
    """Call a handler in a thread, to the end of the iterator that it may return."""
    result = handler(frames)
    return iter(list(result)) if isinstance(result, Iterator) else result

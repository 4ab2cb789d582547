"""Clients whose requests are awaited: they send a request again on a new socket if no reply comes."""

import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Any, Self

import zmq

from pollbroker.endpoint import Endpoints
from pollbroker.patterns.majordomo.mdp import Version
from pollbroker.rpc.asking import FIND_SERVICE, RETRIES, TIMEOUT_S, Asking, MajordomoAsking, PirateAsking
from pollbroker.rpc.asyncio.contexts import awaited
from pollbroker.rpc.errors import RpcError
from pollbroker.rpc.exchange import Exchange


class Client:
    """What all clients have: moving an exchange along, and closing."""

    _asking: Asking

    def close(self) -> None:
        """Close the sockets. A request that another task is waiting for ends in its own time."""
        self._asking.sockets.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _parts(self, exchange: Exchange) -> AsyncGenerator[list[bytes], None]:
        """The parts of the reply, as they come."""
        sockets = self._asking.sockets
        socket = sockets.take()
        while True:
            try:
                with suppress(zmq.Again):  # with the option `immediate`, while nobody is connected
                    await socket.send_multipart(exchange.frames, zmq.NOBLOCK)
                while (left_s := exchange.until_s - time.monotonic()) > 0:
                    if not await socket.poll(math.ceil(left_s * 1000)):
                        continue
                    try:
                        came = await socket.recv_multipart(zmq.NOBLOCK)
                    except zmq.Again:  # a REQ socket has passed over what is no reply to it
                        continue
                    part = exchange.received(came)
                    if part is not None:
                        yield part
                        exchange.wait_on(time.monotonic())
                    if exchange.is_done:
                        return
            except zmq.ContextTerminated as error:
                raise RpcError(f"{self._asking.where}: the context was terminated") from error
            finally:
                sockets.give_back(socket, clean=exchange.is_done)
            sockets.close_idle()  # they may be connected to the broker that has not answered
            exchange.try_again(time.monotonic())
            socket = sockets.open()

    async def _last(self, exchange: Exchange) -> list[bytes]:
        last: list[bytes] = []
        async for part in self._parts(exchange):
            last = part
        return last


class PirateClient(Client):
    """Sends requests as a REQ socket does, and sends them again if no reply comes (the guide's Lazy Pirate, chapter 4).

    It is for a `pollbroker.PARANOID_PIRATE`, a `pollbroker.QUEUE`, and anything else that serves REQ sockets. A request
    may be carried out more than once: once for each try.

    Any number of tasks may use one client. Each request has a socket of its own meanwhile. A request that is cancelled
    is not sent again.

    Arguments:
        endpoints: where to connect. Of several, the next is used for each new socket.
        timeout_s: how long each try waits for a reply.
        retries: how often a request is sent again before `RequestTimeout` is raised.
        options: socket options by name, such as `{"plain_username": ..., "plain_password": ...}`.
        context: by default `zmq.Context.instance()`. It is not terminated.

    Raises `EndpointError` or `ConfigError`.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        options: Mapping[str, Any] | None = None,
        context: zmq.Context[Any] | None = None,
    ) -> None:
        self._asking: PirateAsking = PirateAsking(
            endpoints, timeout_s=timeout_s, retries=retries, options=options, context=awaited(context)
        )

    async def request(self, *frames: bytes, timeout_s: float | None = None, retries: int | None = None) -> list[bytes]:
        """The frames of the reply to a request of one or more frames.

        Arguments:
            timeout_s, retries: for this request, in place of the client's.

        Raises `RequestTimeout` if no reply came in any try.
        """
        return await self._last(self._asking.exchange(frames, timeout_s, retries, time.monotonic()))


class MajordomoClient(Client):
    """Sends requests to services, and sends them again if no reply comes (MDP 0.1, RFC 7; MDP 0.2, RFC 18).

    A request may be carried out more than once: once for each try, and again if a worker left with it.

    Any number of tasks may use one client. Each request has a socket of its own meanwhile. A request that is cancelled
    is not sent again.

    Arguments:
        endpoints: where to connect. Of several brokers, the next is used for each new socket.
        version: 1 for MDP 0.1, 2 for MDP 0.2, in which a reply may have several parts.
        timeout_s: how long each try waits for a reply, and for each further part of it.
        retries: how often a request is sent again before `RequestTimeout` is raised.
        options: socket options by name, such as `{"plain_username": ..., "plain_password": ...}`.
        context: by default `zmq.Context.instance()`. It is not terminated.

    Raises `EndpointError` or `ConfigError`.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        version: Version = 1,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        options: Mapping[str, Any] | None = None,
        context: zmq.Context[Any] | None = None,
    ) -> None:
        self._asking: MajordomoAsking = MajordomoAsking(
            "majordomo client",
            endpoints,
            version,
            timeout_s=timeout_s,
            retries=retries,
            options=options,
            context=awaited(context),
        )

    async def request(
        self, service: str | bytes, *frames: bytes, timeout_s: float | None = None, retries: int | None = None
    ) -> list[bytes]:
        """The frames of the reply of a service; of a reply in parts, those of the last part.

        Arguments:
            service: its name; a string is sent in UTF-8.
            frames: the request, one or more frames.
            timeout_s, retries: for this request, in place of the client's.

        Raises `RequestTimeout` if no reply came in any try.
        """
        return await self._last(self._asking.exchange(service, frames, timeout_s, retries, time.monotonic()))

    async def replies(
        self, service: str | bytes, *frames: bytes, timeout_s: float | None = None, retries: int | None = None
    ) -> AsyncIterator[list[bytes]]:
        """The parts of the reply of a service, as they come. In MDP 0.1 there is one.

        The request is sent when the first part is asked for. It is not sent again once a part has come. If the iterator
        is closed before its end, the parts that are still to come are dropped.

        Raises `RequestTimeout` if no reply came in any try, or if a further part did not come within `timeout_s` after
        it was asked for.
        """
        exchange = self._asking.exchange(service, frames, timeout_s, retries, time.monotonic())
        async with aclosing(self._parts(exchange)) as parts:
            async for part in parts:
                yield part

    async def has_service(
        self, service: str | bytes, *, timeout_s: float | None = None, retries: int | None = None
    ) -> bool:
        """True if a worker is registered for a service (RFC 8/MMI, `mmi.service`).

        Raises `RequestTimeout`, or `RpcError` if the broker does not know that.
        """
        name = service.encode() if isinstance(service, str) else service
        return self._asking.is_found(await self.request(FIND_SERVICE, name, timeout_s=timeout_s, retries=retries))

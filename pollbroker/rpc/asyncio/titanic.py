"""A Titanic client whose calls are awaited."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, TypeVar

import zmq

from pollbroker.checks import SettingChecks
from pollbroker.endpoint import Endpoints
from pollbroker.errors import ConfigError, PollbrokerError
from pollbroker.patterns.majordomo.mdp import Version
from pollbroker.rpc import titanic_calls as calls
from pollbroker.rpc.asking import RETRIES, TIMEOUT_S, MajordomoAsking
from pollbroker.rpc.asyncio.clients import Client
from pollbroker.rpc.asyncio.contexts import awaited
from pollbroker.rpc.titanic import EVERY_S, WITHIN_S

T = TypeVar("T")


class TitanicClient(Client):
    """Has requests stored, and fetches their replies later: the client and the worker need not be there at the same
    time (RFC 9; the ZeroMQ guide, chapter 4).

    Arguments:
        endpoints: where the broker is. Of several, the next is used for each new socket.
        version: 1 for MDP 0.1, 2 for MDP 0.2.
        timeout_s: how long each try waits for the Titanic server.
        retries: how often the server is asked again before `RequestTimeout` is raised. A request that is submitted
            again may be stored twice, and carried out twice.
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
            "titanic client",
            endpoints,
            version,
            timeout_s=timeout_s,
            retries=retries,
            options=options,
            context=awaited(context),
        )

    async def submit(self, service: str | bytes, *frames: bytes) -> str:
        """Have a request stored. Returns its UUID, with which the reply can be fetched, by anybody.

        Raises `TitanicError` if the server could not store it, `RequestTimeout` if there is no server.
        """
        return await self._run(calls.submit(self._asking.where, service, frames))

    async def fetch(self, uuid: str) -> list[bytes] | None:
        """The reply to a request, or None if there is none yet. It can be fetched again until the request is closed.

        Raises `UnknownRequest`, `TitanicError`, or `RequestTimeout` if there is no server.
        """
        return await self._run(calls.fetch(self._asking.where, uuid))

    async def close_request(self, uuid: str) -> None:
        """Have a request and its reply forgotten. Does nothing if the server does not know it.

        Raises `TitanicError`, or `RequestTimeout` if there is no server.
        """
        await self._run(calls.close(self._asking.where, uuid))

    async def call(
        self, service: str | bytes, *frames: bytes, timeout_s: float = WITHIN_S, every_s: float = EVERY_S
    ) -> list[bytes]:
        """Have a request stored, wait for the reply, and have both forgotten.

        Arguments:
            timeout_s: how long to wait for the reply.
            every_s: how often to ask for it.

        While the server does not answer, or cannot look for the reply, it is asked again. Raises what `submit` raises,
        and `RequestTimeout` if there is no reply in time. Once the request is stored, every error names its UUID, so
        that the reply can still be fetched.
        """
        SettingChecks(self._asking.where, ConfigError).seconds(timeout_s=timeout_s, every_s=every_s)
        where = self._asking.where
        return await self._run(
            calls.call(where, service, frames, timeout_s=timeout_s, every_s=every_s, clock=time.monotonic)
        )

    async def _run(self, call: "calls.Call[T]") -> T:
        """Do what a call asks for, and return what it returns."""
        try:
            do = next(call)
            while True:
                try:
                    reply = await self._step(do)
                except PollbrokerError as error:
                    do = call.throw(error)
                else:
                    do = call.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _step(self, do: calls.Ask | calls.Pause) -> list[bytes]:
        if isinstance(do, calls.Pause):
            await asyncio.sleep(do.seconds)
            return []
        return await self._last(self._asking.exchange(do.service, do.frames, None, None, time.monotonic()))

"""Both kinds of clients and workers by one face: those of asyncio run in a loop of their own, and calls wait."""

import asyncio
import inspect
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from tests.support.deadline import DEADLINE_S


class Blocking:
    """An object of asyncio whose methods block."""

    def __init__(self, loop: asyncio.AbstractEventLoop, made: Any) -> None:
        self._loop = loop
        self._made = made

    def __enter__(self) -> "Blocking":
        self._run(self._made.__aenter__())
        return self

    def __exit__(self, *error: Any) -> None:
        self._run(self._made.__aexit__(*error))

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._made, name)
        if inspect.isasyncgenfunction(method):
            return lambda *args, **kwargs: self._iterate(method(*args, **kwargs))
        if inspect.iscoroutinefunction(method):
            return lambda *args, **kwargs: self._run(method(*args, **kwargs))

        async def call(*args: Any, **kwargs: Any) -> Any:
            return method(*args, **kwargs)

        return lambda *args, **kwargs: self._run(call(*args, **kwargs))

    def _iterate(self, iterator: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._run(anext(iterator))
                except StopAsyncIteration:
                    return
        finally:
            self._run(iterator.aclose())


class Ends:
    """The names of `pollbroker.rpc` or `pollbroker.rpc.asyncio`. What is made is closed in the end."""

    def __init__(self, module: ModuleType) -> None:
        self.is_asyncio = module.__name__.endswith("asyncio")
        self._module = module
        self._made: list[Any] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        if self.is_asyncio:
            self._thread.start()

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: self._make(name, *args, **kwargs)

    def _make(self, name: str, *args: Any, **kwargs: Any) -> Any:
        kind = getattr(self._module, name)
        if not self.is_asyncio:
            self._made.append(kind(*args, **kwargs))
            return self._made[-1]

        async def make() -> Any:
            return kind(*args, **kwargs)

        made = Blocking(self._loop, asyncio.run_coroutine_threadsafe(make(), self._loop).result(DEADLINE_S))
        self._made.append(made)
        return made.__enter__()

    def close(self) -> None:
        for one in reversed(self._made):
            one.__exit__(None, None, None)
        if self.is_asyncio:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(DEADLINE_S)
        self._loop.close()

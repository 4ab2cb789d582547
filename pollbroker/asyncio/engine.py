"""The engine on a loop of asyncio."""

from types import TracebackType
from typing import Self

from pollbroker.asyncio.turns import AsyncioTurns
from pollbroker.awaiting import AwaitedEngine


class Engine(AwaitedEngine):
    """Runs any number of brokers on the running loop of asyncio. To be used in that loop's thread alone.

    The arguments are those of `pollbroker.Engine`, which see. An engine on a loop needs a descriptor, so its waiter is
    the nested one.

    Use it as `async with Engine() as engine:`; or call `start()`, and `await engine.close()` in the end.

    A `SystemExit` or `KeyboardInterrupt` that a handler, a timer or a reader of the engine raises comes out of the
    loop, as it does from any callback of asyncio: `asyncio.run` cancels the program's tasks, which closes the engine at
    the end of its `async with`, and then raises it. If it is raised a second time meanwhile, such as by a reader whose
    descriptor stays readable, `asyncio.run` gives up the tasks that it was cancelling, and Python closes the engine
    when it collects them. Any other exception of theirs is logged. Ctrl-C under `asyncio.run` cancels the main task,
    between two turns, so that nothing is lost.

    Raises `ConfigError` if an argument is unfit, or if the platform has no nested waiter.
    """

    _turns: AsyncioTurns

    def _make_turns(self) -> AsyncioTurns:
        return AsyncioTurns(self.sync)

    def start(self) -> None:
        """Have the running loop make the engine's turns, until `close`.

        Raises `EngineError` if the engine was started already or is closed, and `RuntimeError` if no loop runs.
        """
        self._turns.begin()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

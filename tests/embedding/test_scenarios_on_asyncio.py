"""The kit's scenarios, with an engine whose turns a loop of asyncio makes: every promise is kept there, too.

The loop makes a turn only when the engine's descriptor is readable. So a wake-up that is lost shows as a message that
could move and does not.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
import uvloop

from pollbroker.asyncio.turns import AsyncioTurns
from pollbroker.engine import engine_loop
from pollbroker.testing import INVARIANTS, Topology, check_scenario
from pollbroker.testing.drawing import scenario_of_seed
from pollbroker.testing.environments import InprocEnvironment
from pollbroker.testing.environments.environment import PATIENCE_S, ProgressWatch
from pollbroker.testing.invariants.liveness import bursts_are_bounded

NewLoop = Callable[[], asyncio.AbstractEventLoop]


class AsyncioEnvironment(InprocEnvironment):
    """Real inproc sockets, and turns that a loop makes. Timers go by the kit's clock, so the kit makes their turns."""

    def __init__(self, topology: Topology, pump: str, new_loop: NewLoop) -> None:
        super().__init__(replace(topology, waiter="nested"), pump)
        self._loop = new_loop()
        self._turns = AsyncioTurns(self.engine)
        self._loop.run_until_complete(self._begin())

    async def _begin(self) -> None:
        self._turns.begin()

    def _let_the_loop_run(self) -> None:
        """One turn, if the loop makes any. On uvloop it may be none, or several."""
        before = engine_loop(self.engine).turns
        for _ in range(3):
            self._loop.call_soon(self._loop.stop)
            self._loop.run_forever()
            if engine_loop(self.engine).turns > before:
                return

    def turn(self, meddle: Callable[[], None] | None) -> None:
        self._let_the_loop_run()
        self._until_done(meddle)

    def rest(self, meddle: Callable[[], None] | None) -> None:
        self._until_done(meddle)
        end_s = self.clock() + PATIENCE_S
        progress = ProgressWatch(self.engine, self.clock)
        quiet = 0
        while quiet < 3:
            self._let_the_loop_run()
            next_s = self.engine.next_timer_s()
            quiet = 0 if progress.moved() or next_s == 0.0 else quiet + 1
            if next_s:
                if self.clock() + next_s > end_s:
                    return
                self.clock.advance(next_s)
                self.engine.step()

    @staticmethod
    def _until_done(meddle: Callable[[], None] | None) -> None:
        if meddle is not None:
            for _ in range(64):  # as in the environment without a loop
                meddle()

    def close(self) -> None:
        self._turns.end()
        super().close()
        self._loop.close()


@pytest.mark.slow
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("pump", ["native", "python"])
def test_scenarios_keep_every_promise_on_a_loop(pump: str, new_loop: NewLoop) -> None:
    def make(topology: Topology) -> AsyncioEnvironment:
        return AsyncioEnvironment(topology, pump, new_loop)

    # What the kit takes for one turn may be several on uvloop.
    several = new_loop is uvloop.new_event_loop
    invariants = [one for one in INVARIANTS if not (several and one is bursts_are_bounded)]
    for seed in range(25):
        check_scenario(scenario_of_seed(seed), make, invariants=invariants)

"""The stage: a topology at work in a world, and the steps that can be taken on it.

It makes every turn of the engine itself, and writes down in the trace what was done and what came of it.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from pollbroker.statistics import BrokerStatistics
from pollbroker.testing.line import Line
from pollbroker.testing.scenario import Action, Meanwhile, Scenario, Step, Topology
from pollbroker.testing.trace import Counted, FlowKey, Lost, Slept, Steered, Trace, Turned
from pollbroker.testing.worlds import MakeWorld, World

_PATIENCE_TURNS: Final = 2
"""In a turn that takes no time every broker that is ready works; what a meddler makes ready in it works in the next."""

_ROUNDS: Final = 10_000
"""More than any schedule needs to drain."""

_logger = logging.getLogger("pollbroker")


class Stage:
    """Lines of brokers in one engine, with their peers."""

    def __init__(self, make_world: MakeWorld, topology: Topology) -> None:
        self.trace = Trace(
            burst_messages=topology.burst_messages,
            burst_bytes=topology.burst_bytes,
            patience=_PATIENCE_TURNS if topology.operation_s == 0.0 else 0,
        )
        self.world: World = make_world(topology)
        self._topology = topology
        self._record = self.trace.events.append
        self._lives = [0] * len(topology.lines)
        self._paused: set[str] = set()
        self._meanwhile: list[Meanwhile] = []
        self._operations = 0
        self._meddling = False
        self._shut_down = False
        try:
            self.lines = [self._add(number) for number in range(len(topology.lines))]
        except BaseException:
            self.world.close()
            raise

    def _add(self, number: int) -> Line:
        name = f"{number}{'abcdefghijklmnopqrstuvwxyz'[self._lives[number] % 26]}"
        self._lives[number] += 1
        line = Line(name, self._topology.lines[number], self._topology, self.world, self.trace)
        for broker in line.brokers:
            self._record(Steered(broker, "added"))
        return line

    # -- steps --------------------------------------------------------------------------------------------------------

    def do(self, step: Step) -> None:
        """Take a step. Raises `InvariantViolation` for what shows at once: that the engine blocks, or spins."""
        if not self._shut_down:
            _DEEDS[step.action](self, self.lines[step.line % len(self.lines)], step)

    def _join(self, line: Line, step: Step) -> None:
        line.join(step.side, step.who)

    def _leave(self, line: Line, step: Step) -> None:
        line.leave(step.side, step.who)

    def _rejoin(self, line: Line, step: Step) -> None:
        line.leave(step.side, step.who)
        again = False
        if not self._meddling:
            self._rest()
            broker = line.brokers[0 if step.side == "frontend" else -1]
            flow = self.world.engine.broker_statistics(broker).flows.get(step.side)
            again = flow is not None and flow.state == "waiting" and not line.departed
        line.join(step.side, step.who, again=again)

    def _send(self, line: Line, step: Step) -> None:
        line.send(step.side, step.who, step.count)

    def _take(self, line: Line, step: Step) -> None:
        line.take(step.side, step.who, step.count)

    def _answer(self, line: Line, step: Step) -> None:
        line.answer(step.side, step.who, step.count)

    def _subscribe(self, line: Line, step: Step) -> None:
        line.subscribe(step.side, step.who, step.count)

    def _unsubscribe(self, line: Line, step: Step) -> None:
        line.unsubscribe(step.side, step.who, step.count)

    def _copy(self, line: Line, step: Step) -> None:
        line.copy(step.count)

    def _pause(self, line: Line, _: Step) -> None:
        for broker in line.brokers:
            self.world.engine.pause(broker)
            self._paused.add(broker)
            self._count()  # what it has moved by now
            self._record(Steered(broker, "paused"))

    def _resume(self, line: Line, _: Step) -> None:
        for broker in line.brokers:
            if broker in self._paused:
                self._count()  # what it has moved meanwhile, which is to be nothing
                self._paused.discard(broker)
                self._record(Steered(broker, "resumed"))
                self.world.engine.resume(broker)

    def _replace(self, line: Line, _: Step) -> None:
        self._remove(line)
        number = self.lines.index(line)
        self.lines[number] = self._add(number)

    def _remove(self, line: Line) -> None:
        for broker in line.brokers:
            self._record(Steered(broker, "removed"))
            self._paused.discard(broker)
            self._count_broker(self.world.engine.remove(broker, timeout_s=0.0))
        self._count()  # the others have had turns meanwhile
        line.take_everything()
        line.close()

    def _turn(self, _line: Line, step: Step) -> None:
        for _ in range(step.count):
            movable = self._movable()
            with self._meddler(step) as meddle:
                self.world.turn(meddle)
            if self._shut_down:
                self._end()
                return
            self._record(Turned(movable))
            self._count()

    def _rest_step(self, _: Line, step: Step) -> None:
        self._rest(step)

    def _wait(self, _: Line, step: Step) -> None:
        self.world.clock.advance(step.count / 1000)

    def _shut_down_step(self, _: Line, __: Step) -> None:
        self.world.shut_down()
        self._shut_down = True
        if not self._meddling:
            self._end()

    def _end(self) -> None:
        """The context was terminated: let the engine notice."""
        self.world.rest(None)
        for broker in self.world.engine.brokers:
            self._record(Steered(broker, "ended"))
        self._count()

    # -- the engine ---------------------------------------------------------------------------------------------------

    def _rest(self, step: Step | None = None) -> None:
        """Have the engine run until it sleeps, and those that have left do their part of leaving."""
        with self._meddler(step) as meddle:
            self.world.rest(meddle)
        if self._shut_down:
            self._end()
            return
        if step is not None and step.meanwhile:
            self.world.rest(None)  # what somebody did in its last moment has its time too
        departed = [peer for line in self.lines for peer in line.departed]
        if departed:
            for _ in range(2):  # the broker's socket lets go of them, is told so, and lets go for good
                for peer in departed:
                    peer.look()
                self.world.rest(None)
            for line in self.lines:
                for peer in line.departed:
                    peer.close()
                line.departed.clear()
        self._record(Slept(self._movable()))
        statistics = self._count()
        for line in self.lines:
            flows = [flow for broker in line.brokers for flow in statistics[broker].flows.values()]
            if all(flow.state == "waiting" for flow in flows):  # who is stalled may not look who has come
                line.settle()

    def _movable(self) -> frozenset[FlowKey]:
        return self.world.movable(routing_id for line in self.lines for routing_id in line.routing_ids)

    @contextmanager
    def _meddler(self, step: Step | None) -> Iterator[Callable[[], None] | None]:
        """What lets others act while the engine works, if the step says that they do."""
        if step is None or not step.meanwhile:
            yield None
            return
        self._meanwhile = sorted(step.meanwhile, key=lambda one: one.after, reverse=True)
        self._operations = 0
        yield self._meddle
        self._meanwhile.clear()

    def _meddle(self) -> None:
        self._operations += 1
        while self._meanwhile and self._meanwhile[-1].after < self._operations and not self._meddling:
            self._meddling = True
            try:
                self.do(self._meanwhile.pop().step)
            finally:
                self._meddling = False

    def _count(self) -> Mapping[str, BrokerStatistics]:
        brokers = self.world.engine.statistics().brokers
        for broker in brokers.values():
            self._count_broker(broker)
        return brokers

    def _count_broker(self, broker: BrokerStatistics) -> None:
        for source, flow in broker.flows.items():
            self._record(Counted(FlowKey(broker.name, source), broker.state, flow, broker.error))

    # -- the end ------------------------------------------------------------------------------------------------------

    def finish(self) -> Trace:
        """Resume everything, let everybody take everything until nothing is left, and return the trace."""
        if self._shut_down:
            return self.trace
        for line in self.lines:
            self._resume(line, Step(Action.RESUME))
            line.staff()
        quiet = 0
        for _ in range(_ROUNDS):
            self._rest()
            quiet = 0 if sum(line.take_everything() for line in self.lines) else quiet + 1
            if quiet == 2:
                break
        self._rest()
        for line in self.lines:
            for path in line.paths.values():
                self.trace.complete.add(path.name)
                lost = self.world.lost_with_peers(path.flows[-1])
                if lost is not None:
                    self._record(Lost(path.flows[-1], lost))
        return self.trace

    def close(self) -> None:
        """Close everything."""
        for line in self.lines:
            line.close()
        self.world.close()


_DEEDS: Final[dict[Action, Callable[[Stage, Line, Step], None]]] = {
    Action.JOIN: Stage._join,
    Action.LEAVE: Stage._leave,
    Action.REJOIN: Stage._rejoin,
    Action.SEND: Stage._send,
    Action.TAKE: Stage._take,
    Action.ANSWER: Stage._answer,
    Action.SUBSCRIBE: Stage._subscribe,
    Action.UNSUBSCRIBE: Stage._unsubscribe,
    Action.COPY: Stage._copy,
    Action.PAUSE: Stage._pause,
    Action.RESUME: Stage._resume,
    Action.REPLACE: Stage._replace,
    Action.TURN: Stage._turn,
    Action.REST: Stage._rest_step,
    Action.WAIT: Stage._wait,
    Action.SHUT_DOWN: Stage._shut_down_step,
}


def run_scenario(scenario: Scenario, make_world: MakeWorld) -> Trace:
    """Run a scenario from beginning to end; the trace of it. Raises `InvariantViolation` for what shows at once."""
    with quiet_handlers():
        stage = Stage(make_world, scenario.topology)
        try:
            for step in scenario.steps:
                stage.do(step)
            return stage.finish()
        finally:
            stage.close()


@contextmanager
def quiet_handlers() -> Iterator[None]:
    """Keep the engine's log quiet: in a scenario handlers fail on purpose, by the thousand."""
    level = _logger.level
    _logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        _logger.setLevel(level)

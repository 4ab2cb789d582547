"""The runner: it builds the topology of a scenario in an environment and carries out the steps of the schedule.

The runner makes every turn of the engine itself. It records in the trace each step and what the step has brought about.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from pollbroker.statistics import BrokerStatistics
from pollbroker.testing.environments import Environment, MakeEnvironment
from pollbroker.testing.line import Line
from pollbroker.testing.scenario import Action, Meanwhile, Scenario, Step, Topology
from pollbroker.testing.trace import Counted, FlowKey, Lost, PortCounted, Slept, Steered, Trace, Turned

_PATIENCE_TURNS: Final = 2
"""A flow that can move does so within this number of turns, if turns take no time: every broker that is ready works in
each turn, and a broker that a peer makes ready during a turn works in the next one."""

_ROUNDS: Final = 10_000
"""How often `finish` lets every peer read: more often than any schedule needs until no message is left."""

_logger = logging.getLogger("pollbroker")


class ScenarioRunner:
    """Lines of brokers in one engine, with their peers.

    Arguments:
        make_environment: makes the environment from the topology.
        topology: what to build there.
    """

    def __init__(self, make_environment: MakeEnvironment, topology: Topology) -> None:
        self.trace = Trace(
            burst_messages=topology.burst_messages,
            burst_bytes=topology.burst_bytes,
            patience=_PATIENCE_TURNS if topology.operation_s == 0.0 else 0,
        )
        self.environment: Environment = make_environment(topology)
        self.trace.queues = self.environment.queues
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
            self.environment.close()
            raise

    def _add(self, number: int) -> Line:
        again, letter = divmod(self._lives[number], 26)
        name = f"{number}{'abcdefghijklmnopqrstuvwxyz'[letter]}{again or ''}"
        self._lives[number] += 1
        line = Line(name, self._topology.lines[number], self._topology, self.environment, self.trace)
        for broker in line.brokers:
            self._record(Steered(broker, "added"))
        return line

    # -- steps --------------------------------------------------------------------------------------------------------

    def do(self, step: Step) -> None:
        """Carry out one step. Raises `InvariantViolation` for what is found at once: the engine blocks, or spins."""
        if not self._shut_down:
            _ACTIONS[step.action](self, self.lines[step.line % len(self.lines)], step)

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
            flow = self.environment.engine.broker_statistics(broker).flows.get(step.side)
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
        line.take_copies(step.count)

    def _pause(self, line: Line, _: Step) -> None:
        for broker in line.brokers:
            self.environment.engine.pause(broker)
            self._paused.add(broker)
            self._count()  # records what the broker has moved before the pause
            self._record(Steered(broker, "paused"))

    def _resume(self, line: Line, _: Step) -> None:
        for broker in line.brokers:
            if broker in self._paused:
                self._count()  # records what the broker has moved during the pause, which must be nothing
                self._paused.discard(broker)
                self._record(Steered(broker, "resumed"))
                self.environment.engine.resume(broker)

    def _replace(self, line: Line, _: Step) -> None:
        self._remove(line)
        number = self.lines.index(line)
        self.lines[number] = self._add(number)

    def _remove(self, line: Line) -> None:
        for broker in line.brokers:
            self._record(Steered(broker, "removed"))
            self._paused.discard(broker)
            self._count_broker(self.environment.engine.remove(broker, timeout_s=0.0))
        self._count()  # the other brokers have had turns meanwhile
        line.take_everything()
        line.close()

    def _turn(self, _line: Line, step: Step) -> None:
        for _ in range(step.count):
            movable = self._movable()
            with self._meddler(step) as meddle:
                self.environment.turn(meddle)
            if self._shut_down:
                self._end()
                return
            self._record(Turned(movable))
            self._count()

    def _rest_step(self, _: Line, step: Step) -> None:
        self._rest(step)

    def _wait(self, _: Line, step: Step) -> None:
        self.environment.clock.advance(step.count / 1000)

    def _shut_down_step(self, _: Line, __: Step) -> None:
        if not self.environment.shut_down():
            return
        self._shut_down = True
        if not self._meddling:
            self._end()

    def _end(self) -> None:
        """The context was terminated. Run the engine until it has noticed that."""
        self.environment.rest(None)
        for broker in self.environment.engine.brokers:
            self._record(Steered(broker, "ended"))
        self._count()

    # -- the engine ---------------------------------------------------------------------------------------------------

    def _rest(self, step: Step | None = None) -> None:
        """Run the engine until it sleeps, and let the peers that have left complete their disconnection."""
        with self._meddler(step) as meddle:
            self.environment.rest(meddle)
        if self._shut_down:
            self._end()
            return
        if step is not None and step.meanwhile:
            # The engine must also handle what a peer did in the last moment of the first rest.
            self.environment.rest(None)
        departed = [peer for line in self.lines for peer in line.departed]
        if departed:
            for _ in range(2):  # the two ends of each pipe acknowledge its end to each other
                for peer in departed:
                    peer.process_commands()
                self.environment.rest(None)
            for line in self.lines:
                for peer in line.departed:
                    peer.close()
                line.departed.clear()
        self._record(Slept(self._movable()))
        statistics = self._count()
        for line in self.lines:
            flows = [flow for broker in line.brokers for flow in statistics[broker].flows.values()]
            if all(flow.state == "waiting" for flow in flows):  # a stalled flow may not have noticed new peers
                line.mark_peers_known()

    def _movable(self) -> frozenset[FlowKey]:
        return self.environment.movable(routing_id for line in self.lines for routing_id in line.routing_ids)

    @contextmanager
    def _meddler(self, step: Step | None) -> Iterator[Callable[[], None] | None]:
        """As a context: the function that lets peers act while the engine works, or None if the step has no such
        acts."""
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
        brokers = self.environment.engine.statistics().brokers
        for broker in brokers.values():
            self._count_broker(broker)
        return brokers

    def _count_broker(self, broker: BrokerStatistics) -> None:
        for source, flow in broker.flows.items():
            self._record(Counted(FlowKey(broker.name, source), broker.state, flow, broker.error))

    # -- the end ------------------------------------------------------------------------------------------------------

    def finish(self) -> Trace:
        """Resume every broker, let every peer read until no message is left, and return the trace."""
        if self._shut_down:
            return self.trace
        for line in self.lines:
            self._resume(line, Step(Action.RESUME))
            line.add_missing_consumers()
        quiet = 0
        for _ in range(_ROUNDS):
            self._rest()
            quiet = 0 if sum(line.take_everything() for line in self.lines) else quiet + 1
            if quiet == 2:
                break
        self._rest()
        statistics = self.environment.engine.statistics().brokers
        for line in self.lines:
            self.trace.complete |= {path.name for path in line.paths.values()}
            for broker in line.brokers:
                for port, counters in statistics[broker].ports.items():
                    self._record(PortCounted(broker, port, counters))
                    lost = self.environment.lost_with_peers(broker, port)
                    if lost is not None:
                        self._record(Lost(broker, port, lost))
        return self.trace

    def close(self) -> None:
        """Close the sockets of the peers, and the environment."""
        for line in self.lines:
            line.close()
        self.environment.close()


_ACTIONS: Final[dict[Action, Callable[[ScenarioRunner, Line, Step], None]]] = {
    Action.JOIN: ScenarioRunner._join,
    Action.LEAVE: ScenarioRunner._leave,
    Action.REJOIN: ScenarioRunner._rejoin,
    Action.SEND: ScenarioRunner._send,
    Action.TAKE: ScenarioRunner._take,
    Action.ANSWER: ScenarioRunner._answer,
    Action.SUBSCRIBE: ScenarioRunner._subscribe,
    Action.UNSUBSCRIBE: ScenarioRunner._unsubscribe,
    Action.COPY: ScenarioRunner._copy,
    Action.PAUSE: ScenarioRunner._pause,
    Action.RESUME: ScenarioRunner._resume,
    Action.REPLACE: ScenarioRunner._replace,
    Action.TURN: ScenarioRunner._turn,
    Action.REST: ScenarioRunner._rest_step,
    Action.WAIT: ScenarioRunner._wait,
    Action.SHUT_DOWN: ScenarioRunner._shut_down_step,
}


def run_scenario(scenario: Scenario, make_environment: MakeEnvironment) -> Trace:
    """Run a scenario from beginning to end and return its trace. Raises what `ScenarioRunner.do` raises."""
    with quiet_handlers():
        runner = ScenarioRunner(make_environment, scenario.topology)
        try:
            for step in scenario.steps:
                runner.do(step)
            return runner.finish()
        finally:
            runner.close()


@contextmanager
def quiet_handlers() -> Iterator[None]:
    """As a context: silence the engine's log, because in scenarios handlers fail on purpose, thousands of times."""
    level = _logger.level
    _logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        _logger.setLevel(level)

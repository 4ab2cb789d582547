"""Runs a scenario of a behaviour in one environment, and judges what can be judged while it runs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import zmq

from pollbroker.device import Device, make_behaviour
from pollbroker.testing.behaviours.judging import account_balances, every_send_is_accounted_for, is_told_of_room
from pollbroker.testing.behaviours.recording import BehaviourTrace, recorded
from pollbroker.testing.behaviours.scenario import (
    BehaviourAction,
    BehaviourScenario,
    BehaviourStep,
    Talk,
    port_kinds,
    receives,
    sends,
)
from pollbroker.testing.environments import MakeEnvironment
from pollbroker.testing.peer_types import ALONE, INITIATORS
from pollbroker.testing.peers import Peer
from pollbroker.testing.scenario import Topology
from pollbroker.testing.violation import InvariantViolation

_NAME: Final = "behaving"

_ROUNDS: Final = 1000
"""How often at most the peers read everything at the end, until there is nothing more. If there is something even after
that, it is not judged whether the behaviour was told of room."""


class BehaviourRunner:
    """A broker of a device with a behaviour in an environment, and its peers."""

    def __init__(self, make_environment: MakeEnvironment, scenario: BehaviourScenario, talk: Talk) -> None:
        self.scenario = scenario
        topology = Topology((), burst_messages=scenario.burst_messages, waiter=scenario.waiter)
        self._environment = make_environment(topology)
        self._talk = talk
        self._kinds = port_kinds(scenario.device)
        self._peers: dict[tuple[str, int], Peer] = {}
        self._departed: list[Peer] = []
        self._lives = 0
        self._paused = False
        marks: dict[str, Any] = {"sndhwm": scenario.high_water_mark, "rcvhwm": scenario.high_water_mark}
        endpoints: dict[str, Any] = {port: f"@inproc://{_NAME}/{port}" for port in self._kinds}
        try:
            device = self._recorded(scenario.device)
            broker = self._environment.engine.add(
                _NAME,
                device,
                options=dict.fromkeys(self._kinds, marks),
                **endpoints,
            )
            self._environment.watch(broker)
        except BaseException:
            self._environment.close()
            raise
        self._broker = broker

    def _recorded(self, device: Device) -> Device:
        inner = make_behaviour(device)
        silent = {
            port
            for port, kind in self._kinds.items()
            if kind == zmq.ROUTER and not device.options_of(port).get("router_mandatory")
        }
        self.trace = BehaviourTrace(inner, may_lose=frozenset(silent))
        self._behaviour = recorded(inner, self.trace)
        return replace(device, behaviour=lambda: self._behaviour)

    def run(self) -> BehaviourTrace:
        """Take all steps, let every peer read until no message is left, and remove the broker."""
        for step in self.scenario.steps:
            _ACTIONS[step.action](self, step)
            self._check()
        self._resume()
        for port, kind in self._kinds.items():
            if receives(kind) and not any(at == port for at, _ in self._peers):
                self._join(port, 0)
        for _ in range(_ROUNDS):
            self._rest()
            taken = self._take_everything()
            if not taken:
                break
        self._check()
        self.trace.statistics = self._broker.statistics()
        every_send_is_accounted_for(self.trace)
        if not taken:
            is_told_of_room(self.trace)
        self.trace.last_statistics = self._environment.engine.remove(_NAME, timeout_s=0)
        account_balances(self.trace.last_statistics)
        self._take_everything()
        return self.trace

    def close(self) -> None:
        """Close the sockets of the peers, and the environment."""
        for peer in (*self._peers.values(), *self._departed):
            peer.close()
        self._environment.close()

    # -- steps --------------------------------------------------------------------------------------------------------

    def _join(self, port: str, who: int) -> Peer:
        kind = self._kinds[port]
        who = 0 if kind in ALONE else who
        known = self._peers.get((port, who))
        if known is not None:
            return known
        self._lives += 1
        name = f"{port}{who}.{self._lives}"
        socket = self._environment.socket(INITIATORS[kind][0])
        for mark in (zmq.SNDHWM, zmq.RCVHWM):
            socket.setsockopt(mark, self.scenario.high_water_mark)
        peer = Peer(name, socket, f"inproc://{_NAME}/{port}", kind, name.encode())
        peer.connect()
        if socket.type == zmq.SUB:
            peer.subscribe(b"")
        self._peers[port, who] = peer
        key = port, name
        self.trace.peers_sent[key], self.trace.peers_got[key] = [], []
        if peer.routing_id is not None:
            self.trace.routing_ids[key] = peer.routing_id
        return peer

    def _join_step(self, step: BehaviourStep) -> None:
        self._join(step.port, step.who)

    def _leave(self, step: BehaviourStep) -> None:
        if self._kinds[step.port] in ALONE:
            return  # a PAIR accepts another peer only when it has read everything from the last one
        peer = self._peers.pop((step.port, step.who), None)
        if peer is not None:
            peer.leave()
            self._departed.append(peer)
            self.trace.left.add((step.port, peer.name))

    def _send(self, step: BehaviourStep) -> None:
        if sends(self._kinds[step.port]):
            self._send_frames(step.port, self._join(step.port, step.who), list(step.frames))

    def _send_frames(self, port: str, peer: Peer, frames: list[bytes]) -> None:
        if peer.send(frames):
            self.trace.peers_sent[port, peer.name].append(frames)

    def _take(self, step: BehaviourStep) -> None:
        peer = self._peers.get((step.port, step.who))
        for _ in range(step.count):
            if peer is None or self._take_one(step.port, peer) is None:
                return

    def _take_one(self, port: str, peer: Peer) -> list[bytes] | None:
        frames = peer.receive() if receives(self._kinds[port]) else None
        if frames is not None:
            self.trace.peers_got[port, peer.name].append(frames)
        return frames

    def _answer(self, step: BehaviourStep) -> None:
        if not sends(self._kinds[step.port]):
            return
        peer = self._join(step.port, step.who)
        for _ in range(step.count):
            frames = self._take_one(step.port, peer)
            if frames is None:
                return
            answer = self._talk.answer(step.port, list(frames))
            if answer is not None:
                self._send_frames(step.port, peer, answer)

    def _take_everything(self) -> int:
        taken = 0
        for (port, _), peer in self._peers.items():
            while self._take_one(port, peer) is not None:
                taken += 1
        return taken

    def _turn(self, step: BehaviourStep) -> None:
        for _ in range(step.count):
            self._environment.turn(None)

    def _rest(self, _: BehaviourStep | None = None) -> None:
        self._environment.rest(None)
        for _round in range(2):  # the two ends of each pipe acknowledge its end to each other
            for peer in self._departed:
                peer.process_commands()
            if self._departed:
                self._environment.rest(None)
        for peer in self._departed:
            peer.close()
        self._departed.clear()

    def _wait(self, step: BehaviourStep) -> None:
        self._environment.clock.advance(step.seconds)
        self._rest()

    def _pause(self, _: BehaviourStep) -> None:
        self._broker.pause()
        self._paused = True

    def _resume(self, _: BehaviourStep | None = None) -> None:
        self._broker.resume()
        self._paused = False

    # -- checks while it runs -----------------------------------------------------------------------------------------

    def _check(self) -> None:
        statistics = self._broker.statistics()
        if statistics.error is not None:
            raise InvariantViolation("brokers stay alive", f"the broker has ended: {statistics.error}")
        account_balances(statistics)
        if statistics.counters != self._behaviour.counted:
            account = f"{statistics.counters} were counted; {self._behaviour.counted} were asked for"
            raise InvariantViolation("counters are true", account)
        if self._behaviour.wrong:
            raise InvariantViolation("does what it was asked for", self._behaviour.wrong[0])


_ACTIONS: Final[dict[BehaviourAction, Callable[[BehaviourRunner, BehaviourStep], None]]] = {
    BehaviourAction.SEND: BehaviourRunner._send,
    BehaviourAction.ANSWER: BehaviourRunner._answer,
    BehaviourAction.TAKE: BehaviourRunner._take,
    BehaviourAction.JOIN: BehaviourRunner._join_step,
    BehaviourAction.LEAVE: BehaviourRunner._leave,
    BehaviourAction.TURN: BehaviourRunner._turn,
    BehaviourAction.REST: BehaviourRunner._rest,
    BehaviourAction.WAIT: BehaviourRunner._wait,
    BehaviourAction.PAUSE: BehaviourRunner._pause,
    BehaviourAction.RESUME: BehaviourRunner._resume,
}

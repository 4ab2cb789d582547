"""Traffic: small scenarios for what a handler does with each message.

A handler knows nothing of high-water marks, pauses and peers that leave: it is given one message after the other. So in
these scenarios there is one broker without limits, and its peers only send. They run fast, and hypothesis shrinks them
fast, so that a handler that breaks a promise is found in little time.
"""

from dataclasses import replace
from functools import lru_cache
from typing import Final

from pollbroker.device import Device
from pollbroker.testing.drawing import PEERS, Draw, draw_frame, draw_opening, draw_peers, peers_actions
from pollbroker.testing.peer_types import PUBLISHERS
from pollbroker.testing.scenario import Action, LinePlan, Scenario, Side, Step, Topology

_MOST_STEPS: Final = 12

_ACTIONS: Final = {Action.SEND, Action.ANSWER, Action.SUBSCRIBE, Action.UNSUBSCRIBE}


@lru_cache(maxsize=64)
def _menu(plan: LinePlan) -> tuple[tuple[Action, Side], ...]:
    traffic = dict.fromkeys(entry for entry in peers_actions(plan) if entry[0] in _ACTIONS)
    return (*traffic, (Action.REST, "frontend"))


def draw_traffic(draw: Draw, device: Device, most_steps: int = _MOST_STEPS) -> Scenario:
    """Draw a scenario in which the peers of one broker send messages, one after the other and several at once."""
    plan = draw_peers(draw, device)
    plan = replace(plan, delimited=plan.delimited or draw.integer(0, 1) == 1)
    topology = Topology((plan,), bodies=draw.several(_draw_body, 1, 12))
    publishers = tuple(
        Step(Action.JOIN, side=route.source) for route in device.routes if plan.peer_type(route.source) in PUBLISHERS
    )
    known = (*publishers, Step(Action.REST)) if publishers else ()
    steps = draw.several(lambda draw: _draw_step(draw, plan), 1, most_steps)
    return Scenario(topology, (*known, *draw_opening(draw, topology), *steps))


def _draw_body(draw: Draw) -> tuple[bytes, ...]:
    return draw.several(_draw_frame, 0, 7)


def _draw_frame(draw: Draw) -> bytes:
    """Draw a frame: as in any scenario, or one of many bytes, which hypothesis draws seldom."""
    if draw.integer(0, 3) < 3:
        return draw_frame(draw)
    return draw.choice((b"a", b"z", b"\xff", b"\0")) * draw.integer(1, 300)


def _draw_step(draw: Draw, plan: LinePlan) -> Step:
    action, side = draw.choice(_menu(plan))
    if action is Action.REST:
        return Step(Action.REST)
    return Step(action, side=side, who=draw.integer(0, PEERS - 1), count=draw.integer(1, 12))

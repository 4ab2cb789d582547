"""`REMOVE`: a broker ends in order. It delivers what it has first, and reads nothing more then.

All of it is done by futures of the engine, which are resolved in its thread.
"""

import time
from concurrent.futures import Future
from typing import Final

from pollbroker.control.arguments import find_broker, wrong_number
from pollbroker.control.replies import OK, Frames
from pollbroker.control.steered import Steered
from pollbroker.errors import PollbrokerError
from pollbroker.states import BrokerState
from pollbroker.statistics import BrokerStatistics

_TIMEOUT_S: Final = 5.0
"""How long a broker may take to deliver what it has."""


def remove_in_order(engine: Steered, arguments: Frames) -> "Future[Frames]":
    """Begin to remove the broker that is named. The reply comes when it is removed: `OK`, and a line that says what was
    lost, which is empty as a rule."""
    name = broker_named(engine, "REMOVE", arguments)
    answer: Future[Frames] = Future()
    end_s = time.monotonic() + _TIMEOUT_S

    def remove(_: object) -> None:
        try:
            removed = engine.begin_removal(name, timeout_s=max(0.0, end_s - time.monotonic()))
        except PollbrokerError as error:
            answer.set_exception(error)
            return
        removed.add_done_callback(lambda done: answer.set_result([OK, describe_left(done.result()).encode()]))

    if engine.brokers[name].state is BrokerState.RUNNING:  # a paused broker would only take all the time
        engine.begin_drain(_TIMEOUT_S, broker=name).add_done_callback(remove)
    else:
        remove(None)
    return answer


def broker_named(engine: Steered, verb: str, arguments: Frames) -> str:
    """The name of a broker that the frame behind a command names. Raises `ControlError`."""
    if len(arguments) != 1:
        raise wrong_number(verb, arguments, "the command and a broker's name")
    return find_broker(engine, verb, arguments[0])


def describe_left(final: BrokerStatistics) -> str:
    """How many messages of a broker were not delivered; empty if all were."""
    left = sum(flow.held + flow.unread for flow in final.flows.values())
    return f"brokers.{final.name}: {left} {'message' if left == 1 else 'messages'} lost" if left else ""

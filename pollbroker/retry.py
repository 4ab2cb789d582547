"""When a message that was refused is offered again although nothing wakes the engine for it.

As a rule a sink that has refused a message wakes the engine when it has room. Two kinds of sinks do not: one that says
that it has room and refuses all the same (an XPUB with XPUB_NODROP of which one subscriber is full), and a mandatory
ROUTER that says of all its peers together that they are full. A flow that is stalled on one of these `needs_timer`
(`pollbroker.pump.contract.Flow`), and this room sets it.
"""

from collections.abc import Callable
from typing import Final

from pollbroker.pump import Flow, FlowState, Hub
from pollbroker.timers import Handle

RETRY_FIRST_S: Final = 0.0005
RETRY_MOST_S: Final = 0.02
"""A message is offered again after half a millisecond, then after twice that, up to 20 ms: 50 times a second."""

_RETRIES_THAT_DOUBLE: Final = 10
"""More than it takes to reach the most; after a thousand the power of two is no float any more."""


class Retries:
    """The timers of the flows of one hub."""

    __slots__ = ("_call_later", "_hub", "waiting")

    def __init__(self, hub: Hub, call_later: Callable[[float, Callable[[], None]], Handle]) -> None:
        self._hub = hub
        self._call_later = call_later
        self.waiting: tuple[Flow, ...] = ()
        """The flows for which a timer is set."""

    def set_timers(self) -> None:
        """Set a timer for each flow that needs one and has none."""
        for flow in self._hub.flows:
            if flow.needs_timer and flow not in self.waiting:
                self._set_timer(flow)

    def _set_timer(self, flow: Flow) -> None:
        def retry() -> None:
            self.waiting = tuple(other for other in self.waiting if other is not flow)
            if flow.state in (FlowState.RETRYING, FlowState.STALLED):
                flow.state = FlowState.READY
                self._hub.schedule()

        self.waiting += (flow,)
        delay_s = min(RETRY_FIRST_S * 2 ** min(flow.retries, _RETRIES_THAT_DOUBLE), RETRY_MOST_S)
        self._call_later(delay_s, retry)
        flow.retries += 1

"""Timers for flows whose sink refused a message and does not wake the engine when it has room.

As a rule a sink that has refused a message wakes the engine when it has room. Two kinds of sinks do not: an XPUB with
XPUB_NODROP of which one subscriber is full, since it reports POLLOUT and refuses all the same; and a mandatory ROUTER
of which one peer is full, since its POLLOUT is about all peers together. A flow that is stalled on one of these
`needs_timer` (`pollbroker.pump.contract.Flow`), and the timer is set here.
"""

from collections.abc import Callable
from typing import Final

from pollbroker.pump import Flow, FlowState, Hub
from pollbroker.timers import Handle

RETRY_FIRST_S: Final = 0.0005
RETRY_MOST_S: Final = 0.02
"""A refused message is offered again after half a millisecond. Each further delay is twice as long, up to 20 ms, which
is 50 times a second."""

_RETRIES_THAT_DOUBLE: Final = 10
"""After so many retries the delay has long reached `RETRY_MOST_S`. Without this limit the power of two would be too
large for a float after a thousand."""


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

"""What a broker uses of the loop that it is in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pollbroker.events import EventSource
from pollbroker.monitors import Monitors
from pollbroker.port import WorkingPort
from pollbroker.pump import Hub
from pollbroker.timers import Handle

if TYPE_CHECKING:
    from pollbroker.wire.context import WireContext


@dataclass(frozen=True)
class LoopAccess:
    """The part of the loop that a broker uses."""

    ready: list[Hub]
    """The hubs that have work in the next turn."""
    watch: Callable[[Hub, int, WorkingPort], None]
    """Watch a port of a hub: call the hub's `wake` with this port index when something happens there."""
    unwatch: Callable[[WorkingPort], None]
    """Stop watching a port, before its socket is closed or may be used by the caller again."""
    call_later: Callable[[float, Callable[[], None]], Handle]
    call_soon: Callable[[Callable[[], None]], Handle]
    """Make a call in a turn of the loop. Any thread may use this."""
    clock: Callable[[], float]
    wire_context: Callable[[], "WireContext"]
    """The wire of this loop, which is made when it is first asked for."""
    events: EventSource
    """Who listens to events."""
    monitors: Monitors
    """What tells events of the connections of libzmq's sockets."""

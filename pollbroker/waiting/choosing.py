"""Chooses the waiter: the one that is asked for, by an argument or by POLLBROKER_WAITER, or else the best."""

import os
import selectors

import zmq

from pollbroker.errors import ConfigError
from pollbroker.pump import Implementation
from pollbroker.waiting.contract import Poller, Waiter
from pollbroker.waiting.flat import FlatWaiter
from pollbroker.waiting.nested import NestedWaiter, epoll_behind_gevent


def make_waiter(name: str | None, poller: Poller | None, implementation: Implementation, spin_s: float) -> Waiter:
    """The waiter of that name (`"nested"` or `"flat"`). Without a name POLLBROKER_WAITER decides; if that is not set
    either, the nested waiter is taken if the platform has it.

    Raises `ConfigError` for an unknown name, and for `"nested"` where the platform's selector cannot be polled.
    """
    where = "waiter" if name else "POLLBROKER_WAITER"
    name = name or os.environ.get("POLLBROKER_WAITER") or None
    if name not in (None, "nested", "flat"):
        raise ConfigError(f"{where}: {name!r}: expected 'nested' or 'flat'")
    pollable = hasattr(selectors.DefaultSelector, "fileno") or epoll_behind_gevent() is not None
    if name == "nested" and not pollable:
        raise ConfigError(f"{where}: the selector of this platform cannot be polled; expected 'flat'")
    if name == "flat" or not pollable:
        return FlatWaiter(zmq.Poller() if poller is None else poller, spin_s)
    if poller is None:
        return NestedWaiter(zmq.Poller(), implementation, spin_s)
    # A poller that is handed in may run other tasks while it is polled, as gevent's does. So it is polled in every
    # turn.
    return NestedWaiter(poller, implementation, spin_s, always_polls=True)

"""Waiting: the one place where the engine's thread sleeps, in `zmq.Poller.poll`.

Before it sleeps it may be told to look for a while whether something comes: to be woken takes the kernel longer than
most round trips are given.

Two strategies behind one interface. *Nested*: the ZMQ_FD of every socket is in one epoll or kqueue set, and that set's
own descriptor is in the `zmq.Poller`; an idle socket costs nothing. *Flat*: every socket is in the `zmq.Poller` itself,
with the events that matter now; for platforms without a pollable selector, and for pollers that are handed in and need
it. Both may report a socket that turns out not to be ready; neither misses one that was settled before `wait`.
"""

from pollbroker.waiting.choosing import make_waiter
from pollbroker.waiting.contract import Poller, Waiter, Wake
from pollbroker.waiting.flat import FlatWaiter
from pollbroker.waiting.nested import NestedWaiter

__all__ = ["FlatWaiter", "NestedWaiter", "Poller", "Waiter", "Wake", "make_waiter"]

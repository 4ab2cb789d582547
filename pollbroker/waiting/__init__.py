"""Waiting: the one place where the engine's thread sleeps, in `zmq.Poller.poll`. (Turns in which messages are moved and
nothing else happens are made natively, and sleep in the function that it calls: `pollbroker.pump.turns`.)

With `spin_s` the thread first asks repeatedly for a while whether something has happened, since being woken by the
kernel takes longer than most round trips should.

There are two strategies behind one interface. *Nested*: the ZMQ_FD of every socket is in one epoll or kqueue set, and
that set's own descriptor is in the `zmq.Poller`; an idle socket costs nothing. *Flat*: every socket is in the
`zmq.Poller` itself, with the events that can wake a flow now. It serves platforms whose selector has no descriptor, and
pollers that need the sockets themselves. Both may report a socket that is not ready; neither misses an event of a
socket that was settled before `wait`.
"""

from pollbroker.waiting.choosing import make_waiter
from pollbroker.waiting.contract import Poller, Waiter, Wake
from pollbroker.waiting.flat import FlatWaiter
from pollbroker.waiting.nested import NestedWaiter

__all__ = ["FlatWaiter", "NestedWaiter", "Poller", "Waiter", "Wake", "make_waiter"]

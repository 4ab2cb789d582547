"""Simulated streams: the ports of the wire, their peers and the bytes between them, in one thread and by a seed.

There are no sockets of the kernel. A port reads and writes by `native.Stream`, and its peers speak ZMTP by an
implementation of their own, so that the wire does not judge itself. Only `tick` moves bytes: the seed decides how many
of them arrive, how many a write takes, and whether a peer that leaves ends its stream in order or breaks it.
"""

from pollbroker.testing.streams.network import StreamNetwork
from pollbroker.testing.streams.sockets import StreamSocket

__all__ = ["StreamNetwork", "StreamSocket"]

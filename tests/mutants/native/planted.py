"""The mutants that break memory: the sanitizers must say so, and of what kind each of them is."""

from typing import Final

from tests.mutants.native.mutant import COLLECTOR, RECEIVING, Mutant

OVERFLOW: Final = Mutant(
    "more than 256 sockets ready at once write past the array",
    COLLECTOR,
    (("read_epoll(self.epoll, self.events, MOST_EVENTS)", "read_epoll(self.epoll, self.events, 4 * MOST_EVENTS)"),),
)
"""An overflow: what AddressSanitizer must find."""

READ_AFTER_CLOSE: Final = Mutant(
    "a handler's frame is read when it has been closed",
    RECEIVING,
    (
        (
            "        return PyBytes_FromStringAndSize(<char *> zmq_msg_data(frame), zmq_msg_size(frame))\n",
            "        cdef char *data = <char *> zmq_msg_data(frame)\n"
            "        cdef size_t size = zmq_msg_size(frame)\n"
            "        zmq_msg_close(frame)\n"
            "        zmq_msg_init(frame)\n"
            "        return PyBytes_FromStringAndSize(data, size)\n",
        ),
    ),
)
"""A use after it was freed: what AddressSanitizer must find."""

FREED_TWICE: Final = Mutant("room for frames is given back twice", RECEIVING, (("        self.rest = NULL\n", ""),))
"""Freed twice: what AddressSanitizer must find."""

"""The mutants that break memory: the sanitizers must say so, and of what kind each of them is."""

from typing import Final

from tests.mutants.native.mutant import COLLECTOR, RECEIVING, Mutant

OVERFLOW: Final = Mutant(
    "more than 256 sockets ready at once write past the array",
    COLLECTOR,
    (("self.events, MOST_EVENTS)  # the GIL", "self.events, 4 * MOST_EVENTS)  # the GIL"),),
    test="tests/waiting/test_nested.py::test_more_descriptors_than_one_read_has_room_for_are_all_reported",
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
    test="tests/native/test_sizes.py::test_frame_of_any_size_is_received_and_sent_whole",
)
"""A use after it was freed: what AddressSanitizer must find."""

FREED_TWICE: Final = Mutant(
    "room for frames is given back twice",
    RECEIVING,
    (("        self.rest = NULL\n", ""),),
    test="tests/native/test_live_frames.py::test_frames_that_passed_are_free",
)
"""Freed twice: what AddressSanitizer must find."""

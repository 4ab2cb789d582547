"""Mutants of receiving, and of the pump that asks for it."""

from typing import Final

from tests.mutants.native.mutant import NATIVE, RECEIVING, Mutant
from tests.mutants.native.planted import FREED_TWICE, READ_AFTER_CLOSE

RECEIVING_MUTANTS: Final[tuple[Mutant, ...]] = (
    # -- receiving
    Mutant(
        "the receiver of a handler cuts a frame's size to 16 bits",
        RECEIVING,
        (
            (
                "PyBytes_FromStringAndSize(<char *> zmq_msg_data(frame), zmq_msg_size(frame))",
                "PyBytes_FromStringAndSize(<char *> zmq_msg_data(frame), zmq_msg_size(frame) & 0xFFFF)",
            ),
        ),
        test="tests/native/test_sizes.py::test_frame_of_any_size_is_received_and_sent_whole",
    ),
    Mutant(
        "a received frame's size is counted with 16 bits",
        NATIVE,
        (("size[0] = <size_t> result if", "size[0] = <size_t> (result & 0xFFFF) if"),),
        test="tests/native/test_sizes.py::test_frame_of_any_size_passes_and_is_counted_and_copied",
    ),
    Mutant(
        "what zmq_msg_recv says of a frame of 2 GiB or more is believed",
        NATIVE,
        (("size[0] = <size_t> result if result < INT_MAX else zmq_msg_size(msg)", "size[0] = <size_t> result"),),
        test="tests/native/test_faults.py::test_size_of_a_frame_of_two_gibibytes_is_asked_for",
    ),
    Mutant(
        "an interrupted receive is told as an error",
        NATIVE,
        (
            (
                "            return 0\n"
                "        code = zmq_errno()\n        if code != EINTR:\n            return code\n",
                "            return 0\n        return zmq_errno()\n",
            ),
        ),
        test="tests/native/test_faults.py::test_interrupted_calls_are_made_again",
    ),
    Mutant(
        "a message whose rest cannot be read is not counted as interrupted",
        RECEIVING,
        (
            (
                "                self.interrupted += 1\n                self.discarding",
                "                self.discarding",
            ),
        ),
        test="tests/native/test_faults.py::test_message_whose_rest_cannot_be_read_is_counted_once",
    ),
    Mutant(
        "frames of a message whose rest cannot be read are kept",
        RECEIVING,
        (
            (
                "        self._count(self.used, size_of_all)\n        self._forget()\n",
                "        self._count(self.used, size_of_all)\n        self.used = 0\n",
            ),
        ),
        test="tests/native/test_faults.py::test_message_whose_rest_cannot_be_read_is_counted_once",
    ),
    Mutant(
        "room for frames grows by one frame too few",
        RECEIVING,
        (("realloc(self.rest, room * sizeof(zmq_msg_t))", "realloc(self.rest, (room - 1) * sizeof(zmq_msg_t))"),),
        test="tests/pump/test_pump.py::test_messages_pass_unchanged_and_in_order",
    ),
    Mutant(
        "one frame too few fits into the room for frames",
        RECEIVING,
        (("if self.used > self.room and", "if self.used > self.room + 1 and"),),
        test="tests/pump/test_hub.py::test_a_receiver_gives_whole_messages",
    ),
    Mutant(
        "room for frames is freed and its frames are not closed",
        RECEIVING,
        (("            zmq_msg_close(&self.rest[i])\n        free", "            pass\n        free"),),
        test="tests/native/test_faults.py::test_pump_that_is_dropped_closes_what_it_holds",
    ),
    Mutant(
        "a pump that holds a message leaks its first frame",
        RECEIVING,
        (("        zmq_msg_close(&self.first)\n        self._give_room_back()", "        self._give_room_back()"),),
        test="tests/native/test_faults.py::test_pump_that_is_dropped_closes_what_it_holds",
    ),
    Mutant(
        "frames of a dropped message are made anew and never closed",
        RECEIVING,
        (("            zmq_msg_close(frame)\n            zmq_msg_init(frame)", "            zmq_msg_init(frame)"),),
        test="tests/native/test_faults.py::test_message_whose_rest_cannot_be_read_is_counted_once",
    ),
    READ_AFTER_CLOSE,
    FREED_TWICE,
    Mutant(
        "one frame more than maxframes is let pass",
        RECEIVING,
        (("if self.used >= self.maxframes:", "if self.used > self.maxframes:"),),
        test="tests/pump/test_pump.py::test_message_of_too_many_frames_is_dropped_whole_and_counted",
    ),
    Mutant(
        "the rest of a message with too many frames is taken for the next message",
        RECEIVING,
        (
            (
                "                self.too_many_frames += 1\n                self.discarding = True\n",
                "                self.too_many_frames += 1\n",
            ),
        ),
        test="tests/pump/test_pump.py::test_message_of_too_many_frames_is_dropped_whole_and_counted",
    ),
    Mutant(
        "a message with too many frames is discarded too far",
        RECEIVING,
        (("self.discarding = zmq_msg_more(&self.first) != 0", "self.discarding = True"),),
        test="tests/pump/test_pump.py::test_message_of_too_many_frames_is_dropped_whole_and_counted",
    ),
    Mutant(
        "a message with too many frames is discarded in one go",
        RECEIVING,
        (("return self._discard(BURST_FRAMES)", "return self._discard(1 << 40)"),),
        test="tests/pump/test_pump.py::test_huge_message_is_discarded_over_several_moves",
    ),
    Mutant(
        "a message with too many frames is not counted",
        RECEIVING,
        (
            (
                "                self.too_many_frames += 1\n                self.discarding = True\n",
                "                self.discarding = True\n",
            ),
        ),
        test="tests/pump/test_pump.py::test_message_of_too_many_frames_is_dropped_whole_and_counted",
    ),
    Mutant(
        "received_bytes cut to 24 bits",
        RECEIVING,
        (
            (
                "        self.received_bytes_ += size\n",
                "        self.received_bytes_ = (self.received_bytes_ + size) & 0xFFFFFF\n",
            ),
        ),
        test="tests/native/test_sizes.py::test_frame_of_any_size_passes_and_is_counted_and_copied",
    ),
    Mutant(
        "received_bytes cut to 32 bits",
        RECEIVING,
        (
            (
                "        self.received_bytes_ += size\n",
                "        self.received_bytes_ = (self.received_bytes_ + size) & 0xFFFFFFFFu\n",
            ),
        ),
        test="tests/native/test_sizes.py::test_more_than_four_gibibytes_are_counted_to_the_byte",
    ),
    Mutant(
        "received_frames cut to 24 bits",
        RECEIVING,
        (
            (
                "        self.received_frames += frames\n",
                "        self.received_frames = (self.received_frames + frames) & 0xFFFFFF\n",
            ),
        ),
        test="tests/native/test_sizes.py::test_more_than_sixteen_million_messages_are_counted_one_by_one",
    ),
    Mutant(
        "messages received cut to 24 bits",
        RECEIVING,
        (("        self.received_ += 1\n", "        self.received_ = (self.received_ + 1) & 0xFFFFFF\n"),),
        test="tests/native/test_sizes.py::test_more_than_sixteen_million_messages_are_counted_one_by_one",
    ),
    # -- the pump
    Mutant(
        "budget of messages ignored",
        NATIVE,
        (("while messages < limit_messages and moved_bytes", "while moved_bytes"),),
        test="tests/pump/test_settling.py::test_a_sink_that_refused_is_believed_again",
    ),
    Mutant(
        "budget of bytes ignored",
        NATIVE,
        (("messages < limit_messages and moved_bytes < limit_bytes and", "messages < limit_messages and"),),
        test="tests/pump/test_hub.py::test_a_held_message_counts_against_the_limit",
    ),
    Mutant(
        "budget of bytes compared with the first frame alone",
        NATIVE,
        (("moved_bytes += receiver.message_bytes", "moved_bytes += zmq_msg_size(&receiver.first)"),),
        test="tests/pump/test_hub.py::test_a_held_message_counts_against_the_limit",
    ),
    Mutant(
        "budget spent taken for an empty source",
        NATIVE,
        (("        return LIMIT\n", "        return EMPTY\n"),),
        test="tests/pump/test_hub.py::test_a_held_message_counts_against_the_limit",
    ),
    Mutant(
        "a burst of frames without an end",
        NATIVE,
        ((" and receiver.burst_frames < BURST_FRAMES", ""),),
        test="tests/pump/test_pump.py::test_huge_message_is_discarded_over_several_moves",
    ),
)

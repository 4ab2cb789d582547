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
    ),
    Mutant(
        "a received frame's size is counted with 16 bits",
        NATIVE,
        (("size[0] = <size_t> result if", "size[0] = <size_t> (result & 0xFFFF) if"),),
    ),
    Mutant(
        "what zmq_msg_recv says of a frame of 2 GiB or more is believed",
        NATIVE,
        (("size[0] = <size_t> result if result < INT_MAX else zmq_msg_size(msg)", "size[0] = <size_t> result"),),
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
    ),
    Mutant(
        "room for frames grows by one frame too few",
        RECEIVING,
        (("realloc(self.rest, room * sizeof(zmq_msg_t))", "realloc(self.rest, (room - 1) * sizeof(zmq_msg_t))"),),
    ),
    Mutant(
        "one frame too few fits into the room for frames",
        RECEIVING,
        (("if self.used > self.room and", "if self.used > self.room + 1 and"),),
    ),
    Mutant(
        "room for frames is freed and its frames are not closed",
        RECEIVING,
        (("            zmq_msg_close(&self.rest[i])\n        free", "            pass\n        free"),),
    ),
    Mutant(
        "a pump that holds a message leaks its first frame",
        RECEIVING,
        (("        zmq_msg_close(&self.first)\n        self._give_room_back()", "        self._give_room_back()"),),
    ),
    Mutant(
        "frames of a dropped message are made anew and never closed",
        RECEIVING,
        (("            zmq_msg_close(frame)\n            zmq_msg_init(frame)", "            zmq_msg_init(frame)"),),
    ),
    READ_AFTER_CLOSE,
    FREED_TWICE,
    Mutant(
        "one frame more than maxframes is let pass",
        RECEIVING,
        (("if self.used >= self.maxframes:", "if self.used > self.maxframes:"),),
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
    ),
    Mutant(
        "a message with too many frames is discarded too far",
        RECEIVING,
        (("self.discarding = zmq_msg_more(&self.first) != 0", "self.discarding = True"),),
    ),
    Mutant(
        "a message with too many frames is discarded in one go",
        RECEIVING,
        (("return self._discard(BURST_FRAMES)", "return self._discard(1 << 40)"),),
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
    ),
    Mutant(
        "messages received cut to 24 bits",
        RECEIVING,
        (("        self.received_ += 1\n", "        self.received_ = (self.received_ + 1) & 0xFFFFFF\n"),),
    ),
    # -- the pump
    Mutant(
        "budget of messages ignored",
        NATIVE,
        (("while messages < limit_messages and moved_bytes", "while moved_bytes"),),
    ),
    Mutant(
        "budget of bytes ignored",
        NATIVE,
        (("messages < limit_messages and moved_bytes < limit_bytes and", "messages < limit_messages and"),),
    ),
    Mutant(
        "budget of bytes compared with the first frame alone",
        NATIVE,
        (("moved_bytes += receiver.message_bytes", "moved_bytes += zmq_msg_size(&receiver.first)"),),
    ),
    Mutant(
        "budget spent taken for an empty source",
        NATIVE,
        (("        return LIMIT\n", "        return EMPTY\n"),),
    ),
    Mutant(
        "a burst of frames without an end",
        NATIVE,
        ((" and receiver.burst_frames < BURST_FRAMES", ""),),
    ),
)

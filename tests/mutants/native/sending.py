"""Mutants of sending, and of the copies for a capture socket."""

from typing import Final

from tests.mutants.native.mutant import NATIVE, RECEIVING, SENDING, Mutant

SENDING_MUTANTS: Final[tuple[Mutant, ...]] = (
    # -- sending
    Mutant(
        "sent_bytes cut to 24 bits",
        SENDING,
        (
            (
                "        self.sent_bytes += self.message_bytes\n",
                "        self.sent_bytes = (self.sent_bytes + self.message_bytes) & 0xFFFFFF\n",
            ),
        ),
    ),
    Mutant(
        "sent_frames cut to 24 bits",
        SENDING,
        (
            (
                "        self.sent_frames += self.message_frames\n",
                "        self.sent_frames = (self.sent_frames + self.message_frames) & 0xFFFFFF\n",
            ),
        ),
    ),
    Mutant(
        "messages sent cut to 24 bits",
        SENDING,
        (("        self.sent_ += 1\n", "        self.sent_ = (self.sent_ + 1) & 0xFFFFFF\n"),),
    ),
    Mutant(
        "an interrupted send is told as an error",
        NATIVE,
        (
            (
                "    while zmq_msg_send(msg, socket, flags) < 0:\n        code = zmq_errno()\n"
                "        if code != EINTR:\n            return code\n",
                "    if zmq_msg_send(msg, socket, flags) < 0:\n        return zmq_errno()\n",
            ),
        ),
    ),
    Mutant(
        "a send that waits",
        SENDING,
        (
            (
                "cdef int flags = DONTWAIT | SNDMORE if more else DONTWAIT\n        if self.sink_is_router",
                "cdef int flags = SNDMORE if more else 0\n        if self.sink_is_router",
            ),
        ),
    ),
    Mutant(
        "the last frame of a message says that more follows",
        SENDING,
        (
            (
                "_send(msg, self.sink, DONTWAIT | SNDMORE if more else DONTWAIT)",
                "_send(msg, self.sink, DONTWAIT | SNDMORE)",
            ),
        ),
    ),
    Mutant(
        "a message ends a frame too early",
        SENDING,
        (
            (
                "self._send_next(&read.rest[i], i + 1 < last) == ERROR",
                "self._send_next(&read.rest[i], i + 2 < last) == ERROR",
            ),
        ),
    ),
    Mutant(
        "the last frame of a message is not sent",
        SENDING,
        (("        for i in range(last):\n", "        for i in range(last - 1 if last > 1 else last):\n"),),
    ),
    Mutant(
        "an unroutable message ends the flow",
        SENDING,
        (("        if self.code == EHOSTUNREACH or (", "        if self.code == EAGAIN + EHOSTUNREACH or ("),),
    ),
    Mutant(
        "what nobody has asked a REP for is held",
        SENDING,
        ((" or (self.code == EFSM and self.sink_is_rep):", ":"),),
    ),
    Mutant(
        "a REQ that waits for its reply ends the flow",
        SENDING,
        (
            (
                "        if self.code == EFSM:\n            return FULL",
                "        if self.code == EFSM:\n            return ERROR",
            ),
        ),
    ),
    Mutant(
        "a REP that has to reply ends the flow",
        RECEIVING,
        (
            (
                "return EMPTY if self.code == EAGAIN or self.code == EFSM else ERROR",
                "return EMPTY if self.code == EAGAIN else ERROR",
            ),
        ),
    ),
    Mutant(
        "a refusal taken for a drop",
        SENDING,
        (
            (
                "            return DROPPED\n        return FULL\n",
                "            return DROPPED\n        return DROPPED\n",
            ),
        ),
    ),
    Mutant(
        "one full peer of a ROUTER stops all of them",
        SENDING,
        (("        if self.drop_slow_peer:\n            self.slow_peer += 1\n            return DROPPED\n", ""),),
    ),
    Mutant(
        "a full peer is believed before its commands are processed",
        SENDING,
        (
            (
                "_send_rechecked(msg, self.sink, flags) if self.drop_slow_peer else _send(msg, self.sink, flags)",
                "_send(msg, self.sink, flags)",
            ),
        ),
    ),
    Mutant(
        "a routing id with nothing behind it counts as sent",
        SENDING,
        (("        if self.sink_is_router and not more:\n", "        if False and not more:\n"),),
    ),
    Mutant(
        "a frame refused in the middle ends nothing: the message counts as sent",
        SENDING,
        (("                self.broken = True\n", "                pass\n"),),
    ),
    Mutant(
        "one message is broken, and so are all that follow",
        SENDING,
        (("            self.broken = False\n", "            pass\n"),),
    ),
    Mutant(
        "the rest of a broken message is a message for the next peer of a PAIR",
        SENDING,
        (("        if not (self.broken and self.sink_is_pair):\n", "        if True:\n"),),
    ),
    Mutant(
        "a message whose rest cannot be sent is not counted as interrupted",
        SENDING,
        (
            (
                "            elif self.code != 0:\n                self._interrupt()\n",
                "            elif self.code != 0:\n                self._forget_copies()\n",
            ),
        ),
    ),
    Mutant(
        "a broken message is counted twice",
        SENDING,
        (
            (
                "            self._interrupt()\n            return SENT\n",
                "            self._interrupt()\n            self._interrupt()\n            return SENT\n",
            ),
        ),
    ),
    Mutant(
        "a handler's message that is refused is never closed",
        SENDING,
        (
            (
                "            zmq_msg_close(&msg)\n            if outcome == ERROR:\n",
                "            if outcome == ERROR:\n",
            ),
        ),
    ),
    Mutant(
        "a handler's message without memory in its middle is not counted",
        SENDING,
        (
            (
                "                if i > 0:\n                    self._interrupt()\n                raise MemoryError",
                "                raise MemoryError",
            ),
        ),
    ),
    Mutant(
        "a long subscription reaches an XSUB",
        SENDING,
        (("return size > SUBSCRIPTION_MAX_BYTES and", "return size > 2 * SUBSCRIPTION_MAX_BYTES and"),),
    ),
    Mutant(
        "the end of a long subscription reaches an XSUB",
        SENDING,
        (("and (data[0] == 0 or data[0] == 1)", "and data[0] == 1"),),
    ),
    # -- copies
    Mutant(
        "copies kept after an interruption",
        SENDING,
        (("        self.interrupted += 1\n        self._forget_copies()\n", "        self.interrupted += 1\n"),),
    ),
    Mutant(
        "copies kept after a refusal",
        SENDING,
        (
            (
                "        self._forget_copies()\n        if self.code == EHOSTUNREACH or",
                "        if self.code == EHOSTUNREACH or",
            ),
        ),
    ),
    Mutant(
        "copies are never closed",
        SENDING,
        (
            (
                "            zmq_msg_close(&self.copies[i])\n        self.copies_used = 0",
                "            pass\n        self.copies_used = 0",
            ),
        ),
    ),
    Mutant(
        "a copy for the capture shares its content without libzmq's knowing, and both are closed",
        SENDING,
        (
            (
                "zmq_msg_copy(&self.copies[self.copies_used], msg)",
                "memcpy(&self.copies[self.copies_used], msg, sizeof(zmq_msg_t))",
            ),
        ),
    ),
    Mutant(
        "no prefix before the second copy",
        SENDING,
        (
            (
                "if self.copies_used == 0 and self.prefix_data != NULL and",
                "if self.copies_used == 0 and self.captured == 0 and self.prefix_data != NULL and",
            ),
        ),
    ),
    Mutant(
        "a copy without its prefix is sent all the same",
        SENDING,
        (
            (
                "                self.copies_used = 1\n            else:\n                self.copies_lost = True\n",
                "                self.copies_used = 1\n",
            ),
        ),
    ),
    Mutant(
        "room for copies is counted in pointers",
        SENDING,
        (("realloc(self.copies, room * sizeof(zmq_msg_t))", "realloc(self.copies, room * sizeof(zmq_msg_t *))"),),
    ),
    Mutant(
        "a full capture is believed before its commands are processed",
        SENDING,
        (
            (
                "code = _send_rechecked(&self.copies[i], self.capture, flags)",
                "code = _send(&self.copies[i], self.capture, flags)",
            ),
        ),
    ),
    Mutant(
        "the rest of a refused copy is a copy for the next reader of a PAIR",
        SENDING,
        (("            if lost and (i <= 1 or self.capture_is_pair):\n", "            if lost and i <= 1:\n"),),
    ),
    Mutant(
        "the rest of a refused copy is sent as a copy",
        SENDING,
        (
            (
                "            if lost and (i <= 1 or self.capture_is_pair):\n",
                "            if lost and self.capture_is_pair:\n",
            ),
        ),
    ),
    Mutant(
        "a lost copy is counted as taken",
        SENDING,
        (
            (
                "                lost = True\n                if code != EAGAIN:\n",
                "                if code != EAGAIN:\n",
            ),
        ),
    ),
    Mutant(
        "the end of the capture's context is not told",
        SENDING,
        (("        if code != 0 and code != EAGAIN:\n            self.code = code\n            return ERROR\n", ""),),
    ),
)

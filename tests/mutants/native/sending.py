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
        test="tests/native/test_sizes.py::test_frame_of_any_size_passes_and_is_counted_and_copied",
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
        test="tests/native/test_sizes.py::test_more_than_sixteen_million_messages_are_counted_one_by_one",
    ),
    Mutant(
        "messages sent cut to 24 bits",
        SENDING,
        (("        self.sent_ += 1\n", "        self.sent_ = (self.sent_ + 1) & 0xFFFFFF\n"),),
        test="tests/native/test_sizes.py::test_more_than_sixteen_million_messages_are_counted_one_by_one",
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
        test="tests/native/test_faults.py::test_interrupted_calls_are_made_again",
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
        test="tests/pump/test_hub.py::test_a_draining_flow_sends_what_it_holds_and_ends",
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
        test="tests/pump/test_hub.py::test_a_sending_says_what_became_of_a_message",
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
        test="tests/pump/test_pump.py::test_messages_pass_unchanged_and_in_order",
    ),
    Mutant(
        "the last frame of a message is not sent",
        SENDING,
        (("        for i in range(last):\n", "        for i in range(last - 1 if last > 1 else last):\n"),),
        test="tests/pump/test_pump.py::test_messages_pass_unchanged_and_in_order",
    ),
    Mutant(
        "an unroutable message ends the flow",
        SENDING,
        (("        if self.code == EHOSTUNREACH or (", "        if self.code == EAGAIN + EHOSTUNREACH or ("),),
        test="tests/pump/test_hub.py::test_a_sending_says_what_became_of_a_message",
    ),
    Mutant(
        "what nobody has asked a REP for is held",
        SENDING,
        ((" or (self.code == EFSM and self.sink_is_rep):", ":"),),
        test="tests/pump/test_sinks.py::test_what_nobody_has_asked_a_rep_for_is_dropped_and_counted",
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
        test="tests/pump/test_sinks.py::test_req_takes_the_next_when_it_has_its_reply",
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
        test="tests/pump/test_sinks.py::test_rep_is_read_again_when_it_has_replied",
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
        test="tests/pump/test_settling.py::test_a_sink_at_which_a_flow_is_stalled_is_settled_by_work",
    ),
    Mutant(
        "one full peer of a ROUTER stops all of them",
        SENDING,
        (("        if self.drop_slow_peer:\n            self.slow_peer += 1\n            return DROPPED\n", ""),),
        test="tests/pump/test_sinks.py::test_one_slow_peer_loses_its_own_messages_only",
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
        test="tests/pump/test_sinks.py::test_one_slow_peer_loses_its_own_messages_only",
    ),
    Mutant(
        "a routing id with nothing behind it counts as sent",
        SENDING,
        (("        if self.sink_is_router and not more:\n", "        if False and not more:\n"),),
        test="tests/pump/test_sinks.py::test_message_of_a_routing_id_alone_is_counted_as_unroutable",
    ),
    Mutant(
        "a frame refused in the middle ends nothing: the message counts as sent",
        SENDING,
        (("                self.broken = True\n", "                pass\n"),),
        test="tests/native/test_faults.py::test_message_whose_rest_cannot_be_sent_is_interrupted_and_its_copy_forgotten",
    ),
    Mutant(
        "one message is broken, and so are all that follow",
        SENDING,
        (("            self.broken = False\n", "            pass\n"),),
        test="tests/native/test_faults.py::test_message_whose_rest_cannot_be_sent_is_interrupted_and_its_copy_forgotten",
    ),
    Mutant(
        "the rest of a broken message is a message for the next peer of a PAIR",
        SENDING,
        (("        if not (self.broken and self.sink_is_pair):\n", "        if True:\n"),),
        test="tests/native/test_faults.py::test_rest_of_a_broken_message_is_not_offered_to_the_next_peer_of_a_pair",
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
        test="tests/native/test_faults.py::test_message_whose_rest_cannot_be_sent_is_interrupted_and_its_copy_forgotten",
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
        test="tests/native/test_faults.py::test_message_whose_rest_cannot_be_sent_is_interrupted_and_its_copy_forgotten",
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
        test="tests/native/test_faults.py::test_rest_of_a_broken_message_is_not_offered_to_the_next_peer_of_a_pair",
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
        test="tests/native/test_faults.py::test_handlers_message_without_memory_is_counted_and_raises",
    ),
    Mutant(
        "a long subscription reaches an XSUB",
        SENDING,
        (("return size > SUBSCRIPTION_MAX_BYTES and", "return size > 2 * SUBSCRIPTION_MAX_BYTES and"),),
        test="tests/pump/test_sinks.py::test_long_subscription_is_dropped_and_counted",
    ),
    Mutant(
        "the end of a long subscription reaches an XSUB",
        SENDING,
        (("and (data[0] == 0 or data[0] == 1)", "and data[0] == 1"),),
        test="tests/pump/test_sinks.py::test_long_subscription_is_dropped_and_counted",
    ),
    # -- copies
    Mutant(
        "copies kept after an interruption",
        SENDING,
        (("        self.interrupted += 1\n        self._forget_copies()\n", "        self.interrupted += 1\n"),),
        test="tests/native/test_faults.py::test_message_whose_rest_cannot_be_sent_is_interrupted_and_its_copy_forgotten",
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
        test="tests/pump/test_capture.py::test_capture_is_what_was_sent",
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
        test="tests/native/test_faults.py::test_message_whose_rest_cannot_be_sent_is_interrupted_and_its_copy_forgotten",
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
        test="tests/native/test_faults.py::test_message_whose_rest_cannot_be_sent_is_interrupted_and_its_copy_forgotten",
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
        test="tests/pump/test_capture.py::test_capture_is_what_was_sent",
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
        test="tests/native/test_faults.py::test_copy_whose_prefix_has_no_memory_is_lost_and_the_traffic_is_not",
    ),
    Mutant(
        "room for copies is counted in pointers",
        SENDING,
        (("realloc(self.copies, room * sizeof(zmq_msg_t))", "realloc(self.copies, room * sizeof(zmq_msg_t *))"),),
        test="tests/native/test_faults.py::test_copies_have_as_many_frames_as_their_messages",
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
        test="tests/pump/test_capture.py::test_full_capture_loses_copies_and_never_the_traffic",
    ),
    Mutant(
        "the rest of a refused copy is a copy for the next reader of a PAIR",
        SENDING,
        (("            if lost and (i <= 1 or self.capture_is_pair):\n", "            if lost and i <= 1:\n"),),
        test="tests/native/test_faults.py::test_rest_of_a_refused_copy_is_not_offered_to_the_next_reader_of_a_pair",
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
        test="tests/native/test_faults.py::test_copy_whose_prefix_has_no_memory_is_lost_and_the_traffic_is_not",
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
        test="tests/pump/test_capture.py::test_message_whose_copy_meets_the_end_of_its_context_is_counted_once",
    ),
    Mutant(
        "the end of the capture's context is not told",
        SENDING,
        (("        if code != 0 and code != EAGAIN:\n            self.code = code\n            return ERROR\n", ""),),
        test="tests/pump/test_capture.py::test_message_whose_copy_meets_the_end_of_its_context_is_counted_once",
    ),
)

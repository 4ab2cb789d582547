"""The table of native mutants, and of those that the tests must find where the kit does not look.

A mutant replaces some lines of one source file. When the lines are no longer in it, the mutant says so: then it is to
be written anew, or struck out.
"""

from typing import Final, NamedTuple


class Mutant(NamedTuple):
    """A source file with some of its lines replaced."""

    claim: str
    """What it does wrong."""
    path: str
    """The file, below `pollbroker/`."""
    edits: tuple[tuple[str, str], ...]
    """Lines (or parts of them) that stand in it once, and what stands in their place."""


NATIVE: Final = "pump/native.pyx"
RECEIVING: Final = "pump/receiving.pxi"
SENDING: Final = "pump/sending.pxi"
HUB: Final = "pump/hub.pxi"
COLLECTOR: Final = "pump/collector.pxi"

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

MUTANTS: Final[tuple[Mutant, ...]] = (
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
        (("            return DROP\n        return FULL\n", "            return DROP\n        return DROP\n"),),
    ),
    Mutant(
        "one full peer of a ROUTER stops all of them",
        SENDING,
        (("        if self.drop_slow_peer:\n            self.slow_peer += 1\n            return DROP\n", ""),),
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
    # -- flows and their hub
    Mutant(
        "a flow whose source is empty is asked again and again",
        HUB,
        (("            self.state = WAITING\n", "            self.state = READY\n"),),
    ),
    Mutant(
        "a flow whose sink is full waits for its source",
        HUB,
        (("            self.state = STALLED\n", "            self.state = WAITING\n"),),
    ),
    Mutant(
        "nothing is settled after the work",
        HUB,
        (
            (
                "                self._settle(port)\n        return self._outcome()\n\n    def wake",
                "                pass\n        return self._outcome()\n\n    def wake",
            ),
        ),
    ),
    Mutant(
        "nothing is settled when something happens at a port",
        HUB,
        (
            (
                "            return 0\n        self._settle(port)\n        return self._outcome()\n",
                "            return 0\n        return self._outcome()\n",
            ),
        ),
    ),
    Mutant(
        "a source that was read dry is trusted after a send on its socket",
        HUB,
        (("                    read_dry &= ~(1u << flow.sink)\n", "                    pass\n"),),
    ),
    Mutant(
        "the wrong port is taken for read dry",
        HUB,
        (("                    read_dry |= 1u << flow.source\n", "                    read_dry |= 1u << flow.sink\n"),),
    ),
    Mutant(
        "the flow of the wrong port is woken",
        HUB,
        (
            (
                "if flow.source == port and (flow.state == WAITING or flow.state == READY):",
                "if flow.sink == port and (flow.state == WAITING or flow.state == READY):",
            ),
        ),
    ),
    Mutant(
        "a paused flow is woken",
        HUB,
        (
            (
                "(flow.state == WAITING or flow.state == READY):",
                "(flow.state == WAITING or flow.state == READY or flow.state == PAUSED):",
            ),
        ),
    ),
    Mutant(
        "a sink that says POLLOUT and refuses is believed for ever",
        HUB,
        (("            self.sink_is_trusted = False\n", "            pass\n"),),
    ),
    Mutant(
        "a context that ended is not noticed when a socket is settled",
        HUB,
        (("        if events < 0:\n            raise _error(zmq_errno())\n        for", "        for"),),
    ),
    Mutant(
        "an interrupted ZMQ_EVENTS is told as an error",
        NATIVE,
        (("        if zmq_errno() != EINTR:\n            return -1\n", "        return -1\n"),),
    ),
    Mutant(
        "a flushing flow takes more than what it holds",
        HUB,
        (("            limit_messages = limit_bytes = 1  #", "            limit_messages = 2  #"),),
    ),
    Mutant(
        "a hub that has worked is never put on the list again",
        HUB,
        (("        self.scheduled = False\n        if self.ended:\n", "        if self.ended:\n"),),
    ),
    Mutant(
        "a hub stands on the list twice",
        HUB,
        (
            (
                "            self.scheduled = True\n            self.ready.append(self)",
                "            self.ready.append(self)",
            ),
        ),
    ),
    Mutant(
        "only the first guarded socket is looked at",
        HUB,
        (
            (
                "                raise zmq.ZMQError(zmq.ENOTSOCK)\n        return 0",
                "                raise zmq.ZMQError(zmq.ENOTSOCK)\n            break\n        return 0",
            ),
        ),
    ),
    Mutant(
        "an ended hub works on",
        HUB,
        (("        self.ended = True\n", "        pass\n"),),
    ),
    # -- the collector
    OVERFLOW,
    Mutant(
        "of many ready sockets the last is left out",
        COLLECTOR,
        (
            (
                "        for i in range(count):\n",
                "        for i in range(count - 1 if count == MOST_EVENTS else count):\n",
            ),
        ),
    ),
    Mutant(
        "the wrong port is said to be ready",
        COLLECTOR,
        (("        self.wake(self.hub, self.port_index)", "        self.wake(self.hub, 1 - self.port_index)"),),
    ),
    Mutant(
        "the collector has the wrong port read",
        COLLECTOR,
        (("on_ready.hub._have_read(on_ready.port_index)", "on_ready.hub._have_read(1 - on_ready.port_index)"),),
    ),
    Mutant(
        "a wake-up that no flow waits for is lost",
        COLLECTOR,
        (("                    others.append(on_ready)\n", "                    pass\n"),),
    ),
    Mutant(
        "a descriptor that is known no longer is called",
        COLLECTOR,
        (("            elif wake is not None:\n", "            else:\n"),),
    ),
    Mutant(
        "who spins gives up at the first look",
        COLLECTOR,
        (("                if count != 0 or now.tv_sec", "                if count >= 0 or now.tv_sec"),),
    ),
    Mutant(
        "who spins always says that something has happened",
        COLLECTOR,
        (("        return count > 0\n", "        return count >= 0\n"),),
    ),
    # -- Python, where the kit does not look
    Mutant(
        "a registered socket of asyncio or gevent is used without its plain twin",
        "port.py",
        (("    return zmq.Socket(shadow=socket.underlying) if waits else socket\n", "    return socket\n"),),
    ),
    Mutant(
        "an iterator that raised is asked again",
        "pump/handler.py",
        (
            (
                "        except Exception as error:  # noqa: BLE001 - as above\n            self._rest = None\n",
                "        except Exception as error:  # noqa: BLE001 - as above\n",
            ),
        ),
    ),
    Mutant(
        "an iterator that was interrupted is asked again",
        "pump/handler.py",
        (
            (
                "        except BaseException:\n            self._rest = None\n",
                "        except BaseException:\n",
            ),
        ),
    ),
)

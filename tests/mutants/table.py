"""The table of mutants: what is broken, where, and how.

A mutant replaces some lines of one shipped function. When the function changes and the lines are no longer in it, the
mutant says so: then it is to be written anew, or struck out.
"""

from typing import Final, NamedTuple

from pollbroker import Device
from pollbroker.testing import FAN_OUT, SEVERAL_SINKS, TEE


class Mutant(NamedTuple):
    """A function with some of its lines replaced."""

    claim: str
    """What it does wrong."""
    target: str
    """The function: module, colon, qualified name."""
    edits: tuple[tuple[str, str], ...]
    """Lines (or parts of them) that stand in it once, and what stands in their place."""
    devices: tuple[Device | None, ...] = (None,)
    """The devices with which the kit looks for it, in turn; None has the seed choose."""
    found_by: int = 0
    """A seed that finds it, for those that take many. With it a test begins to look, so as to take less time; the
    command `python -m tests.mutants` begins with 0, and says how many it takes."""


PUMP: Final = "pollbroker.pump.python:Pump"
RECEIVER: Final = "pollbroker.pump.receiving:Receiver"
SENDING: Final = "pollbroker.pump.sending:Sender"
ROUTING: Final = "pollbroker.pump.routing:RoutingPump"
HUB: Final = "pollbroker.pump.hub:Hub"
FLOW: Final = "pollbroker.pump.hub:Flow"
BROKER: Final = "pollbroker.working:WorkingBroker"
RETRIES: Final = "pollbroker.retry:Retries"

MUTANTS: Final[tuple[Mutant, ...]] = (
    # -- the pump
    Mutant(
        "frames swapped",
        f"{RECEIVER}.read",
        (("            message.append(frame)\n", "            message.insert(max(1, len(message) - 1), frame)\n"),),
    ),
    Mutant(
        "message split at FULL",
        f"{PUMP}.move",
        (
            (
                "                    outcome = send(message)\n",
                "                    was_held = self.__dict__.pop('_was_held', False)\n"
                "                    outcome = send(message[:1] if was_held else message)\n",
            ),
            (
                "                    return FULL\n",
                "                    self._was_held = True\n                    return FULL\n",
            ),
        ),
    ),
    Mutant(
        "held message forgotten",
        f"{PUMP}.move",
        (
            (
                "                    return FULL\n",
                "                    self._held = None\n                    return FULL\n",
            ),
        ),
    ),
    Mutant(
        "held message overwritten by the next",
        f"{PUMP}.move",
        (
            (
                "            if message is None:\n                message = read()\n",
                "            if True:\n                message = read()\n",
            ),
        ),
    ),
    Mutant(
        "held message sent twice",
        f"{PUMP}.move",
        (
            (
                "                self._held = None\n            messages += 1\n",
                "                self._held = None if len(message) > 1 or sender.sent % 7 != 3 else message\n"
                "            messages += 1\n",
            ),
        ),
    ),
    Mutant(
        "rest of a message left in the source after EHOSTUNREACH",
        f"{PUMP}.move",
        (
            (
                "                self._held = None\n            messages += 1\n",
                "                self._held = message[1:] or None if outcome == 5 else None\n"
                "            messages += 1\n",
            ),
        ),
    ),
    Mutant(
        "the message behind one that is dropped is dropped with it",
        f"{PUMP}.move",
        (
            (
                "                self._held = None\n            messages += 1\n",
                "                self._held = None\n                if outcome == 5:\n                    read()\n"
                "            messages += 1\n",
            ),
        ),
    ),
    Mutant(
        "budget of messages ignored",
        f"{PUMP}.move",
        (("messages < limit_messages and moved_bytes < limit_bytes and", "moved_bytes < limit_bytes and"),),
    ),
    Mutant(
        "budget of bytes ignored",
        f"{PUMP}.move",
        (("messages < limit_messages and moved_bytes < limit_bytes and", "messages < limit_messages and"),),
    ),
    Mutant(
        "budget spent taken for source empty", f"{PUMP}.move", (("        return LIMIT\n", "        return EMPTY\n"),)
    ),
    Mutant(
        "frames counted as messages",
        f"{RECEIVER}._count",
        (("self.received_frames += 1", "self.received_frames += 1; self.received += frame.more"),),
    ),
    Mutant(
        "last frame of a long message cut off",
        f"{RECEIVER}.read",
        (
            (
                "            message.append(frame)\n",
                "            if len(message) < 4:\n                message.append(frame)\n",
            ),
        ),
    ),
    # -- sending
    Mutant(
        "reply to the wrong peer",
        f"{SENDING}.offer",
        (
            (
                "        flags = MORE_TO_COME if more else DONTWAIT\n",
                "        flags = MORE_TO_COME if more else DONTWAIT\n"
                "        if self._is_router:\n"
                "            frame, self._last_id = self.__dict__.get('_last_id', frame), frame\n",
            ),
        ),
    ),
    Mutant(
        "a refusal taken for a drop",
        f"{SENDING}.offer",
        (("                return FULL\n", "                return DROPPED\n"),),
    ),
    Mutant(
        "a drop not counted",
        f"{SENDING}.offer",
        (
            (
                "            self.unroutable += 1  # the peer is gone, or, at a REP, nobody has asked\n",
                "",
            ),
        ),
    ),
    Mutant(
        "a send that waits",
        f"{SENDING}.offer",
        (("self._send(frame, flags, False)", "self._send(frame, flags & ~DONTWAIT, False)"),),
    ),
    Mutant(
        "a frame refused in the middle sent again",
        f"{SENDING}.send_next",
        (
            (
                "                self._broken = True\n",
                "                self._send(frame, MORE_TO_COME if more else DONTWAIT, False)\n",
            ),
        ),
        found_by=136,
    ),
    Mutant(
        "an interrupted message counted as sent",
        f"{SENDING}._complete",
        (("        if self._broken:\n            self.interrupted += 1\n            return\n", ""),),
        found_by=136,
    ),
    Mutant(
        "bytes of the last frame alone counted",
        f"{SENDING}.send_next",
        (("self._bytes += len(frame)", "self._bytes = len(frame)"),),
    ),
    Mutant(
        "capture that blocks",
        SENDING.replace(":Sender", ":send_copies"),
        (
            (
                "MORE_TO_COME if last else DONTWAIT)\n        except",
                "MORE_TO_COME - DONTWAIT if last else 0)\n        except",
            ),
        ),
    ),
    Mutant(
        "capture out of order",
        f"{SENDING}._complete",
        (
            (
                "                taken = send_copies(self._capture, copies)\n",
                "                late = self.__dict__.setdefault('_late', [])\n"
                "                late.append(copies)\n"
                "                taken = True\n"
                "                if len(late) == 2:\n"
                "                    send_copies(self._capture, late.pop())\n"
                "                    send_copies(self._capture, late.pop())\n",
            ),
        ),
    ),
    Mutant(
        "a lost copy not counted",
        f"{SENDING}._complete",
        (("                self.capture_dropped += not taken\n", ""),),
    ),
    Mutant(
        "capture of a message's first frame alone",
        f"{SENDING}.send_next",
        (("            if self._copies is not None:\n                self._copies.append(frame)\n", ""),),
    ),
    # -- handlers
    Mutant(
        "a handler's exception loses the next message",
        f"{ROUTING}._handle",
        (
            (
                "            self._fail(error)\n            return None\n        except BaseException",
                "            self._fail(error)\n            self._receiver()\n            return None\n"
                "        except BaseException",
            ),
        ),
        found_by=46,
    ),
    Mutant(
        "a handler's second message lost",
        f"{ROUTING}._first",
        (("            self._rest = result\n", ""),),
    ),
    Mutant(
        "a handler's refused message given to the handler again",
        f"{ROUTING}.move",
        (("message = self._held\n", "message, self._held = None if self._rest is None else self._held, None\n"),),
        found_by=93,
    ),
    # -- several sinks
    Mutant(
        "a full sink's copy lost",
        f"{ROUTING}._send_to_each",
        (("                    full.append(index)\n", "                    self._added -= 1\n"),),
        (TEE,),
    ),
    Mutant(
        "a message for a full sink given to the others again",
        f"{ROUTING}._send_to_each",
        (
            (
                "        self._hold(message, tuple(full))\n        return not full\n",
                "        if full:\n"
                "            self._added += len(self._every_sink) - len(full)\n"
                "        self._hold(message, self._every_sink if full else ())\n"
                "        return not full\n",
            ),
        ),
        (TEE,),
    ),
    Mutant(
        "a full sink keeps the message from those behind it",
        f"{ROUTING}._send_to_each",
        (
            (
                "                    full.append(index)\n",
                "                    full += destination[position:]\n                    break\n",
            ),
        ),
        (TEE,),
    ),
    Mutant(
        "a held copy offered to the first of the full sinks alone",
        f"{ROUTING}._hold",
        (
            (
                "            self._destination = sinks\n",
                "            self._added -= len(sinks) - 1\n            self._destination = sinks[:1]\n",
            ),
        ),
        (TEE,),
    ),
    Mutant(
        "a route with one full sink goes on reading",
        f"{ROUTING}._send_to_each",
        (
            (
                "        return not full\n",
                "        if full and len(full) < len(self._every_sink):\n"
                "            self._late, self._held = [*self.__dict__.get('_late', ()), (list(message), full)], None\n"
                "            self._added -= len(full)\n"
                "            return True\n"
                "        for late, sinks in self.__dict__.pop('_late', ()):\n"
                "            for index in sinks:\n"
                "                self._added += self._senders[index].send(late) == 0\n"
                "        return not full\n",
            ),
        ),
        (TEE,),
    ),
    Mutant(
        "a plain message sent where the last message was held",
        f"{ROUTING}._go_to_every_sink",
        (
            ("        self._destination = self._every_sink\n", ""),
            ("len(self._every_sink) - 1", "len(self._destination) - 1"),
        ),
        (TEE,),
    ),
    Mutant(
        "copies beyond the first not counted",
        f"{ROUTING}._go_to_every_sink",
        (("        self._added += len(self._every_sink) - 1\n", ""),),
        (TEE,),
    ),
    Mutant(
        "a message To one sink sent to every sink",
        f"{ROUTING}._checked",
        (
            (
                "                    self._destination = destination\n",
                "                    self._go_to_every_sink()\n",
            ),
        ),
        SEVERAL_SINKS,
    ),
    Mutant(
        "a message To one sink sent to another",
        f"{ROUTING}._checked",
        (
            (
                "                    self._destination = destination\n",
                "                    self._destination = (len(self._every_sink) - 1 - destination[0],)\n",
            ),
        ),
        SEVERAL_SINKS,
    ),
    Mutant(
        "a message To no sink of the route sent to every sink",
        f"{ROUTING}._checked",
        (
            (
                "destination = self._sink_of.get(message.port)\n",
                "destination = self._sink_of.get(message.port)\n"
                "                if destination is None:\n"
                "                    self._go_to_every_sink()\n                    return list(message.frames)\n",
            ),
        ),
        (FAN_OUT,),
    ),
    Mutant(
        "a stalled flow that watches the first of its full sinks alone",
        f"{FLOW}.move",
        (("for index in pump.full_sinks)", "for index in pump.full_sinks[:1])"),),
        (TEE,),
    ),
    # -- flows and their hub
    Mutant(
        "events not read again before sleeping",
        f"{HUB}.work",
        (("                self._settle(port_index)\n", "                pass\n"),),
    ),
    Mutant(
        "a sink not settled before sleeping",
        f"{HUB}.work",
        (
            (
                "interest & _POLLOUT or (interest & _POLLIN and port_index not in read_dry)",
                "interest & _POLLIN and port_index not in read_dry",
            ),
        ),
    ),
    Mutant(
        "an empty source trusted after a send on its socket",
        f"{HUB}.work",
        (("                        read_dry.difference_update(flow.sinks)\n", "                        pass\n"),),
        found_by=3167,
    ),
    Mutant(
        "wake-up of the wrong flow",
        f"{HUB}.wake",
        (("reader = self._readers[port_index]", "reader = self._readers[port_index - 1]"),),
    ),
    Mutant(
        "a stalled flow that does not watch its sink",
        f"{HUB}.interest",
        (("                events |= _POLLOUT\n", "                pass\n"),),
    ),
    Mutant(
        "pause that leaks a burst",
        f"{FLOW}.pause",
        (("        self.state = _PAUSED\n", "        self.state = _PAUSED if self.state != _READY else _READY\n"),),
    ),
    Mutant(
        "a sink believed for ever that says POLLOUT and refuses",
        f"{FLOW}.sink_says",
        (("            self._distrusted.add(port_index)\n", ""),),
        found_by=42,
    ),
    # -- brokers and the loop
    Mutant("resume that does not rearm", f"{BROKER}.resume", (("            self.hub.schedule()\n", ""),)),
    Mutant(
        "a retry's timer never set",
        f"{RETRIES}._set_timer",
        (("        self._call_later(delay_s, retry)\n", ""),),
        found_by=42,
    ),
    Mutant(
        "a retry's timer set once and never again",
        f"{RETRIES}._set_timer",
        (("            self.waiting = tuple(other for other in self.waiting if other is not flow)\n", ""),),
        found_by=42,
    ),
    Mutant(
        "a removed broker still polled",
        f"{BROKER}._finish",
        (("                end.callback(self._loop_access.unwatch, port)\n", "                pass\n"),),
        found_by=130,
    ),
    Mutant(
        "unfair order: the first by name always comes first, and alone",
        "pollbroker.loop:Loop._work",
        (
            (
                "        ready = self._ready.copy()\n",
                "        self._ready.sort(key=lambda hub: hub.owner.name)\n        ready = self._ready[:1]\n",
            ),
        ),
    ),
    Mutant(
        "what a turn had no time for is forgotten",
        "pollbroker.loop:Loop._work",
        (("            del self._ready[:worked]", "            del self._ready[: len(ready)]"),),
    ),
    Mutant(
        "a timer that is due is not run",
        "pollbroker.timers:Timers.run_due",
        (("self._heap[0][0] <= now_s", "self._heap[0][0] < now_s - 1.0"),),
    ),
    Mutant(
        "an error of one socket ends nothing",
        f"{BROKER}.fail",
        (("            self._end(error)\n", "            pass\n"),),
    ),
)

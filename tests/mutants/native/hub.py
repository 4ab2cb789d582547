"""Mutants of flows, their hub, and the collector that wakes it."""

from typing import Final

from tests.mutants.native.mutant import COLLECTOR, HUB, NATIVE, Mutant
from tests.mutants.native.planted import OVERFLOW

HUB_MUTANTS: Final[tuple[Mutant, ...]] = (
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
                "                self._settle(i)\n        return self._outcome()\n\n    def wake",
                "                pass\n        return self._outcome()\n\n    def wake",
            ),
        ),
    ),
    Mutant(
        "nothing is settled when something happens at a port",
        HUB,
        (
            (
                "            return 0\n        self._settle(port_index)\n        return self._outcome()\n",
                "            return 0\n        return self._outcome()\n",
            ),
        ),
    ),
    Mutant(
        "a source that was read dry is trusted after a send on its socket",
        HUB,
        (("                    self.ports[flow.sink].read_dry = False\n", "                    pass\n"),),
    ),
    Mutant(
        "the wrong port is taken for read dry",
        HUB,
        (("self.ports[flow.source].read_dry = True", "self.ports[flow.sink].read_dry = True"),),
    ),
    Mutant(
        "a hub has room for two ports",
        HUB,
        (("calloc(self.port_count, sizeof(PortState))", "calloc(2, sizeof(PortState))"),),
    ),
    Mutant(
        "a hub settles its first 64 ports alone",
        HUB,
        (
            (
                "        for i in range(self.port_count):\n            wanted",
                "        for i in range(self.port_count if self.port_count < 64 else 64):\n            wanted",
            ),
        ),
    ),
    Mutant(
        "the flow of the wrong port is woken",
        HUB,
        (
            (
                "if flow.source == port_index and (flow.state == WAITING or flow.state == READY):",
                "if flow.sink == port_index and (flow.state == WAITING or flow.state == READY):",
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
        "only the first socket is checked to be open",
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
        (
            (
                "on_ready.hub._schedule_reader(on_ready.port_index)",
                "on_ready.hub._schedule_reader(1 - on_ready.port_index)",
            ),
        ),
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
)

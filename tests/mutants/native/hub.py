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
        test="tests/pump/test_settling.py::test_a_source_at_which_a_flow_waits_is_settled_by_work",
    ),
    Mutant(
        "a flow whose sink is full waits for its source",
        HUB,
        (("            self.state = STALLED\n", "            self.state = WAITING\n"),),
        test="tests/pump/test_settling.py::test_a_sink_at_which_a_flow_is_stalled_is_settled_by_work",
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
        test="tests/pump/test_settling.py::test_a_source_at_which_a_flow_waits_is_settled_by_work",
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
        test="tests/pump/test_settling.py::test_a_sink_that_refused_is_believed_again",
    ),
    Mutant(
        "a source that was read dry is trusted after a send on its socket",
        HUB,
        (("                    self.ports[flow.sink].read_dry = False\n", "                    pass\n"),),
        test="tests/pump/test_settling.py::test_a_source_that_was_read_dry_is_settled_if_something_was_sent_on_it_since",
    ),
    Mutant(
        "the wrong port is taken for read dry",
        HUB,
        (("self.ports[flow.source].read_dry = True", "self.ports[flow.sink].read_dry = True"),),
        test="tests/pump/test_settling.py::test_a_source_that_was_read_dry_is_settled_if_something_was_sent_on_it_since",
    ),
    Mutant(
        "a hub has room for two ports",
        HUB,
        (("calloc(self.port_count, sizeof(PortState))", "calloc(2, sizeof(PortState))"),),
        test="tests/pump/test_hub.py::test_hub_has_any_number_of_ports",
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
        test="tests/pump/test_hub.py::test_every_port_is_settled_after_the_work",
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
        test="tests/pump/test_waking.py::test_port_that_is_ready_wakes_its_hub",
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
        test="tests/pump/test_waking.py::test_port_that_is_ready_wakes_its_hub",
    ),
    Mutant(
        "a sink that says POLLOUT and refuses is believed for ever",
        HUB,
        (("            self.sink_is_trusted = False\n", "            pass\n"),),
        test="tests/pump/test_settling.py::test_a_sink_that_says_pollout_and_refuses_is_believed_once",
    ),
    Mutant(
        "a context that ended is not noticed when a socket is settled",
        HUB,
        (("        if events < 0:\n            raise _error(zmq_errno())\n        for", "        for"),),
        test="tests/native/test_faults.py::test_context_that_ends_while_a_socket_is_settled_raises",
    ),
    Mutant(
        "an interrupted ZMQ_EVENTS is told as an error",
        NATIVE,
        (("        if zmq_errno() != EINTR:\n            return -1\n", "        return -1\n"),),
        test="tests/native/test_faults.py::test_interrupted_calls_are_made_again",
    ),
    Mutant(
        "a flow that is to read no more takes another message",
        HUB,
        (("only_held = self.flushing or flow.reads_no_more", "only_held = self.flushing"),),
        test="tests/pump/test_hub.py::test_a_flow_that_reads_no_more_sends_what_it_holds_and_is_paused",
    ),
    Mutant(
        "a flushing flow takes more than what it holds",
        HUB,
        (("flow._move(1 if only_held else limit_messages", "flow._move(2 if only_held else limit_messages"),),
        test="tests/pump/test_hub.py::test_a_draining_flow_sends_what_it_holds_and_ends",
    ),
    Mutant(
        "a hub that has worked is never put on the list again",
        HUB,
        (("        self.scheduled = False\n        if self.ended:\n", "        if self.ended:\n"),),
        test="tests/pump/test_hub.py::test_a_hub_is_on_the_list_once_and_again_after_its_work",
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
        test="tests/pump/test_hub.py::test_a_hub_is_on_the_list_once_and_again_after_its_work",
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
        test="tests/pump/test_hub.py::test_every_socket_is_checked_to_be_open",
    ),
    Mutant(
        "an ended hub works on",
        HUB,
        (("        self.ended = True\n", "        pass\n"),),
        test="tests/pump/test_hub.py::test_an_ended_hub_touches_nothing",
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
        test="tests/waiting/test_nested.py::test_more_descriptors_than_one_read_has_room_for_are_all_reported",
    ),
    Mutant(
        "the wrong port is said to be ready",
        COLLECTOR,
        (("        self.wake(self.hub, self.port_index)", "        self.wake(self.hub, 1 - self.port_index)"),),
        test="tests/pump/test_waking.py::test_port_that_is_ready_wakes_its_hub",
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
        test="tests/pump/test_waking.py::test_port_that_is_ready_wakes_its_hub",
    ),
    Mutant(
        "a wake-up that no flow waits for is lost",
        COLLECTOR,
        (("                    others.append(on_ready)\n", "                    pass\n"),),
        test="tests/pump/test_waking.py::test_port_that_is_ready_wakes_its_hub",
    ),
    Mutant(
        "a descriptor that is known no longer is called",
        COLLECTOR,
        (("            elif wake is not None:\n", "            else:\n"),),
        test="tests/waiting/test_nested.py::test_closed_descriptor_that_is_open_elsewhere_is_not_reported",
    ),
    Mutant(
        "who spins gives up at the first look",
        COLLECTOR,
        (("            if count != 0 or now.tv_sec", "            if count >= 0 or now.tv_sec"),),
        test="tests/waiting/test_nested.py::test_input_that_comes_while_the_waiter_spins_is_reported_without_sleep",
    ),
    Mutant(
        "who spins always says that something has happened",
        COLLECTOR,
        (("        if count <= 0:\n", "        if count < 0:\n"),),
        test="tests/pump/test_waking.py::test_spinning_waiter_sleeps_only_if_nothing_came",
    ),
)

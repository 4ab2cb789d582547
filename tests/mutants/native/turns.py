"""Mutants of the turns that are made natively, and of the net that serves itself in them."""

from typing import Final

from tests.mutants.native.mutant import COLLECTOR, HUB, TURNS, Mutant

_TEST: Final = "tests/waiting/test_message_turns.py::"

TURN_MUTANTS: Final[tuple[Mutant, ...]] = (
    Mutant(
        "hubs work in a turn before what is to be called",
        TURNS,
        (("            if wakes:\n                return wakes\n", ""),),
        test=f"{_TEST}test_what_is_to_be_called_comes_before_a_burst",
    ),
    Mutant(
        "a hub that calls somebody works outside a turn of the loop",
        TURNS,
        (("                if not hub.only_moves:\n", "                if False:\n"),),
        test=f"{_TEST}test_hub_that_calls_somebody_is_left_to_the_loop_with_all_others",
    ),
    Mutant(
        "a hub that is tapped says that it calls nobody",
        HUB,
        (("            if flow.pump.sender.tapped:\n", "            if False:\n"),),
        test="tests/engine/test_endless_traffic.py::test_what_a_tap_calls_is_called_within_a_turn",
    ),
    Mutant(
        "more turns are made than were asked for",
        TURNS,
        ((" or only_one:\n", ":\n"),),
        test=f"{_TEST}test_only_one_turn_is_made_if_no_more_are_asked_for",
    ),
    Mutant(
        "turns that were made are not counted",
        TURNS,
        (("            self.made += 1\n", "            pass\n"),),
        test=f"{_TEST}test_hubs_work_until_something_else_is_to_be_done",
    ),
    Mutant(
        "timers wait for as long as there is work",
        TURNS,
        (("                if left_s <= 0:\n", "                if False:\n"),),
        test=f"{_TEST}test_turns_end_when_the_time_is_over_though_there_is_work",
    ),
    Mutant(
        "the thread sleeps though hubs are ready",
        TURNS,
        (("self._wait(0 if self.ready else sleep_ms)", "self._wait(sleep_ms)"),),
        test=f"{_TEST}test_only_one_turn_is_made_if_no_more_are_asked_for",
    ),
    Mutant(
        "the thread never sleeps",
        TURNS,
        (("            count = zmq_poll(&item, 1, sleep_ms)\n", "            count = zmq_poll(&item, 1, 0)\n"),),
        test=f"{_TEST}test_sleep_ends_when_the_time_is_over",
    ),
    Mutant(
        "a signal in a sleep is taken for an error",
        TURNS,
        (("        if count < 0 and zmq_errno() != EINTR:\n", "        if count < 0:\n"),),
        test=f"{_TEST}test_signal_handler_is_called_in_a_sleep",
    ),
    Mutant(
        "signals wait for as long as messages come",
        TURNS,
        (("            PyErr_CheckSignals()", "            pass"),),
        test=f"{_TEST}test_signal_handler_is_called_between_turns",
    ),
    Mutant(
        "what has ended a sleep is not read",
        TURNS,
        (("        return (self.collector.collect(0.0) or []) if count > 0 else []", "        return []"),),
        test=f"{_TEST}test_sleep_ends_when_something_happens",
    ),
    Mutant(
        "bursts of a turn have no time limit",
        TURNS,
        (("                    if <double> now_s >= end_s:\n", "                    if False:\n"),),
        test=f"{_TEST}test_no_hub_begins_after_the_time_limit_and_those_left_come_first",
    ),
    Mutant(
        "a hub that was interrupted is forgotten",
        TURNS,
        (("            worked = max(0, worked - 1)\n", "            pass\n"),),
        test=f"{_TEST}test_hub_that_was_interrupted_comes_first_in_the_next_turn",
    ),
    Mutant(
        "the turns go on after an owner was given flags",
        TURNS,
        (
            (
                "                    if flags:\n                        undisturbed = False\n",
                "                    if flags:\n",
            ),
        ),
        test=f"{_TEST}test_owner_is_given_flags_and_errors_and_the_turn_ends",
    ),
    Mutant(
        "the turns go on after an owner was given an error",
        TURNS,
        (
            (
                "                except Exception as error:\n                    undisturbed = False\n",
                "                except Exception as error:\n",
            ),
        ),
        test=f"{_TEST}test_owner_is_given_flags_and_errors_and_the_turn_ends",
    ),
    Mutant(
        "what a turn has sent is not flushed",
        TURNS,
        (("                self.net.flush()\n", "                pass\n"),),
        test=f"{_TEST}test_net_serves_itself_and_is_flushed_in_each_turn_but_the_last",
    ),
    Mutant(
        "a net that has somebody called is taken for served",
        COLLECTOR,
        (
            (
                "self.net_descriptor and self.serve_net_alone():\n",
                "self.net_descriptor and (self.serve_net_alone() or True):\n",
            ),
        ),
        test=f"{_TEST}test_net_that_has_somebody_called_is_left_to_the_loop",
    ),
)

"""A plugin of pytest for `mutmut run` (docs/mutation.md): which tests a mutant is run against, and in which order.

A mutant is to cost a second or two. So the tests of the parts come first, since they fail at once, and then those of
the whole, the fastest first; and a wait that is in vain, which is what most mutants of a loop come to, ends sooner than
elsewhere.
"""

import os
import sys
from typing import Any, Final

import pytest
from hypothesis import settings

from tests.support import deadline

DEADLINE_MS: Final = 1_500
"""Instead of the tests' own ten seconds."""

PARTS: Final = ("tests/broker/test_working.py", "tests/pump/", "tests/waiting/")

LEFT_OUT: Final = (
    "[native",  # the native code has no mutants
    "-native",
    # Crowds, long runs and other processes, which cost more than they find here:
    "test_a_spinning_engine_relays_and_falls_asleep",
    "test_any_command_is_carried_out_or_refused",
    "test_broker_is_removed_in_full_traffic",
    "test_callers_are_answered_while_run_begins_and_ends",
    "test_calls_work_while_nobody_runs_the_engine",
    "test_closed_sockets_address_may_be_used_again",
    "test_connection_is_made_once_the_name_resolves",
    "test_ctrl_c_ends_run_and_another_run_goes_on",
    "test_descriptor_limit_raises_and_the_engine_goes_on",
    "test_engine_gives_its_descriptors_back",
    "test_engine_may_be_closed_while_others_call_it",
    "test_fork_cannot_use_the_engine_and_the_parent_goes_on",
    "test_long_subscription_never_ends_the_process",
    "test_many_busy_brokers_take_turns_and_leave_control_its_own",
    "test_message_of_256_megabytes_passes",
    "test_others_are_undisturbed_while_brokers_come_and_go",
    "test_peer_that_comes_later_is_connected",
    "test_random_bytes_of_2_000_connections_are_survived",
    "test_results_and_exceptions_come_back_to_the_caller",
)

os.environ["POLLBROKER_PUMP"] = "python"  # for engines that choose for themselves
settings.register_profile("mutation", max_examples=10, deadline=None, derandomize=True, database=None)
settings.load_profile("mutation")
deadline.DEADLINE_MS = DEADLINE_MS  # before the tests are imported, which take it from there
deadline.DEADLINE_S = DEADLINE_MS / 1000


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A mutant is dead with the first test that fails: what it has left running might never end."""
    if report.failed and "__mutmut_" in os.environ.get("MUTANT_UNDER_TEST", ""):
        os._exit(pytest.ExitCode.TESTS_FAILED)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what costs more than it finds, and put the fastest first, by what mutmut measured of them."""
    left_out = [item for item in items if any(part in item.nodeid for part in LEFT_OUT)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    state: Any = sys.modules.get("mutmut.state")
    durations = {} if state is None else state.state().duration_by_test

    def order(item: pytest.Item) -> tuple[bool, float]:
        return not any(part in item.nodeid for part in PARTS), durations.get(item.nodeid, 0.0)

    items[:] = sorted((item for item in items if item not in left_out), key=order)

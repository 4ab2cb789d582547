"""What `python -m tests.others` tries with a library that is known to differ, and when it says something is wrong."""

from dataclasses import replace

import pytest
import zmq

from tests.others.__main__ import rows
from tests.others.libraries import LIBRARIES, Difference
from tests.others.subjects import SUBJECTS, Outcome

DIFFERENT = replace(
    LIBRARIES["pyzmq"], differences=(Difference("QUEUE", (zmq.REQ, zmq.REP), "this library has another REQ"),)
)


def test_types_that_differ_are_tried_by_themselves() -> None:
    assert [row.peers for row in rows(DIFFERENT, ["QUEUE", "STREAMER"], ["wire"])] == [
        "DEALER, ROUTER to DEALER, ROUTER",
        "REQ to REP, DEALER, ROUTER",
        "DEALER, REQ, ROUTER to REP",
        "PUSH to PULL",
    ]


@pytest.mark.parametrize("wrong", [None, AssertionError("a message is torn")])
def test_known_difference_has_to_be_there_still(wrong: Exception | None) -> None:
    outcome = Outcome(wrong=wrong)
    common, different, *_ = rows(DIFFERENT, ["QUEUE"], ["wire"])
    assert common.as_expected(outcome) == (wrong is None)
    assert different.as_expected(outcome) == (wrong is not None)
    assert "this library has another REQ" in different.seen(outcome)
    assert ("a message is torn" in common.seen(outcome)) == (wrong is not None)


@pytest.mark.parametrize("name", LIBRARIES)
def test_differences_name_devices_and_types_that_there_are(name: str) -> None:
    for difference in LIBRARIES[name].differences:
        frontend, backend = SUBJECTS[difference.device].kinds
        assert set(difference.kinds) <= {*frontend, *backend}

"""What the tests ask about turns: they find an engine that wakes up for nothing."""

import time
from types import SimpleNamespace
from typing import cast

import pytest

from pollbroker import Engine
from tests.support.turns import makes_no_turns


class Waking:
    """An engine that makes a turn for each question, and one in each interval."""

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self.begun_s = time.monotonic()
        self.questions = 0

    def statistics(self) -> SimpleNamespace:
        self.questions += 1
        return SimpleNamespace(turns=self.questions + (time.monotonic() - self.begun_s) // self.interval_s)


@pytest.mark.parametrize(("interval_s", "rests"), [(0.02, False), (0.05, False), (0.1, False), (3600.0, True)])
def test_engine_that_wakes_up_again_and_again_does_not_rest(interval_s: float, rests: bool) -> None:
    assert makes_no_turns(cast(Engine, Waking(interval_s))) is rests

"""One turn of the loop for a behaviour that a test drives: `Driver.advance(0)` goes on until no timer is due."""

from pollbroker.testing import Driver, Send
from pollbroker.timers import Handle


def turn(driver: Driver) -> list[Send]:
    """Let the timers come that are due now, but not those that they set. Return what was sent."""
    driver._timers.run_due(Handle.run)
    driver._run.run_due_timers()
    return driver._take()


def stand_still(driver: Driver, seconds: float) -> None:
    """Let time pass in which the engine makes no turn. Timers that have become due come with the next `advance`."""
    driver._now_s += seconds

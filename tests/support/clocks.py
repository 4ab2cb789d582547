"""Clocks that take the place of time."""


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Passing(Clock):
    """An eighth of a second passes each time that it is read."""

    def __call__(self) -> float:
        self.now_s += 0.125
        return self.now_s

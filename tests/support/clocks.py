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


class FakeTime:
    """A clock that stands still until it is moved."""

    now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


class PassingTime:
    """A clock on which 0.001 s pass each time that it is read."""

    def __init__(self) -> None:
        self.reads = 0

    def monotonic(self) -> float:
        self.reads += 1
        return self.reads / 1000

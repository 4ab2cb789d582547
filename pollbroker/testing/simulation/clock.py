"""The clock of a simulation: time passes only when it is told to."""


class SimClock:
    """A clock. Call it for the seconds since the simulation began; only `advance` makes time pass."""

    __slots__ = ("_now_s",)

    def __init__(self) -> None:
        self._now_s = 0.0

    def __call__(self) -> float:
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Let time pass. Raises `ValueError` for a negative time."""
        if seconds < 0:
            raise ValueError(f"{seconds!r}: expected a time of at least 0 s")
        self._now_s += seconds

"""The exception that says which promise was not kept."""


class InvariantViolation(AssertionError):
    """A promise was not kept.

    Attributes:
        invariant: the promise, in a few words.
        account: what went wrong: which message, on which path or flow, when it was sent and when it was seen. A number
            after an `@` is a place in the trace.
    """

    def __init__(self, invariant: str, account: str) -> None:
        super().__init__(f"{invariant}: {account}")
        self.invariant = invariant
        self.account = account

    def __reduce__(self) -> tuple[type["InvariantViolation"], tuple[str, str]]:
        return InvariantViolation, (self.invariant, self.account)  # so that it can be pickled

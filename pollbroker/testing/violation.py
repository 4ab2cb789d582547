"""What is raised when a promise was not kept."""


class InvariantViolation(AssertionError):
    """A promise was not kept.

    Attributes:
        invariant: which one, in a few words.
        account: what went wrong: which message, on which path or flow, sent when and seen when. A number behind a `@`
            is a place in the trace.
    """

    def __init__(self, invariant: str, account: str) -> None:
        super().__init__(f"{invariant}: {account}")
        self.invariant = invariant
        self.account = account

    def __reduce__(self) -> tuple[type["InvariantViolation"], tuple[str, str]]:
        return InvariantViolation, (self.invariant, self.account)  # so that it survives the way from another process

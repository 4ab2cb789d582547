"""What became of the last reload."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class ReloadOutcome:
    """Whether the last reload was successful, and when one was. The start counts as the first one."""

    def __init__(self) -> None:
        self.successful = True
        """True if the brokers are as the configuration had them at the last start or reload."""
        self.last_success_s = time.time()
        """When a start or a reload was successful last, in seconds since 1970."""

    def note(self, *, successful: bool) -> None:
        """A reload has ended. It was successful if the brokers are now as the file has them."""
        self.successful = successful
        if successful:
            self.last_success_s = time.time()

    @contextmanager
    def noting_failure(self) -> Iterator[None]:
        """As a context: a reload that raises was not successful."""
        try:
            yield
        except BaseException:
            self.note(successful=False)
            raise

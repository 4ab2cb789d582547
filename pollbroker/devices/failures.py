"""What a child process tells its parent of an exception that has ended it.

Not every exception can be sent to another process: pickle refuses some, and others it cannot make again, such as one
whose `__init__` takes other arguments than it hands on to `Exception`. So the text goes along with it, and the
traceback, which pickle leaves out.
"""

import pickle
import traceback
from contextlib import suppress
from dataclasses import dataclass

from pollbroker.errors import EngineError, describe_error


@dataclass(frozen=True)
class Failure:
    """An exception of a child process, as its parent is told."""

    pickled: bytes | None
    """The exception itself; None if it cannot be pickled."""
    described: str
    """Its type and its text."""
    trace: str
    """Its traceback."""

    def error(self) -> Exception:
        """The exception; an `EngineError` that says the same if it cannot be made here. A note has the traceback."""
        error: object = None
        with suppress(Exception):  # its constructor may raise anything, and so may the import of its module
            error = None if self.pickled is None else pickle.loads(self.pickled)
        if not isinstance(error, Exception):
            error = EngineError(f"the device's process was ended by {self.described}")
        error.add_note(f"in the device's process:\n{self.trace}")
        return error


def describe_failure(error: Exception) -> Failure:
    """What is to be told of an exception."""
    trace = "".join(traceback.format_exception(error))
    pickled = None
    with suppress(Exception):  # what the exception holds may raise anything
        pickled = pickle.dumps(error)
    return Failure(pickled, describe_error(error), trace)

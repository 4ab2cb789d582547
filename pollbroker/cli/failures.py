"""Which exceptions are errors of the user or of the system, and the exit code for each.

Such an error is printed in one line. Any other exception is a fault of pollbroker, and is printed with its traceback.
"""

from collections.abc import Mapping
from typing import Final

import zmq

from pollbroker.cli.commands import EXIT_MISUSED
from pollbroker.errors import CommandRefusedError, NoAnswerError, NobodyListensError, NotInTimeError, PollbrokerError

EXIT_CODES: Final[Mapping[type[Exception], int]] = {
    CommandRefusedError: 3,
    NobodyListensError: 4,
    NoAnswerError: 5,
    NotInTimeError: 5,
    PollbrokerError: EXIT_MISUSED,
    zmq.ZMQError: EXIT_MISUSED,
    OSError: EXIT_MISUSED,
}
"""The exit code for each kind of error. The first that fits counts."""


def exit_code_of(error: Exception) -> int | None:
    """Return the exit code for an error, or None if it is a fault of pollbroker."""
    return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), None)

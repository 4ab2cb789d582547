"""What a handler promises beyond what pollbroker does, checked on the trace of a run.

A promise is a function, or an object that can be called, that is given a `Trace` and raises `InvariantViolation`. The
promises of a handler are not in `INVARIANTS`: only the device's author knows which of them its handlers are to keep.
"""

from pollbroker.testing.promises.asked import AskedPromises, Promises
from pollbroker.testing.promises.calls import Call, calls_of
from pollbroker.testing.promises.purity import pure
from pollbroker.testing.promises.ready_made import keeps_envelope, keeps_order, loses_nothing, one_to_one

__all__ = [
    "AskedPromises",
    "Call",
    "Promises",
    "calls_of",
    "keeps_envelope",
    "keeps_order",
    "loses_nothing",
    "one_to_one",
    "pure",
]

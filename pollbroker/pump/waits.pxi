# How long messages waited for a sink, counted natively; `pollbroker/waits.py` is the Python version. It is included in
# the modules of both native pumps.

from pollbroker.waits import WAIT_BOUNDS_S as _WAIT_BOUNDS_S

cdef enum:
    WAIT_BOUNDS = 11

assert len(_WAIT_BOUNDS_S) == WAIT_BOUNDS

cdef double wait_bounds_s[WAIT_BOUNDS]
for _index, _bound_s in enumerate(_WAIT_BOUNDS_S):
    wait_bounds_s[<int> _index] = _bound_s


cdef struct Waits:
    uint64_t counts[WAIT_BOUNDS + 1]
    double total_s


cdef void waits_add(Waits *waits, double wait_s) noexcept:
    """Count a message that has waited so long."""
    cdef int i = 0
    while i < WAIT_BOUNDS and wait_s > wait_bounds_s[i]:
        i += 1
    waits.counts[i] += 1
    waits.total_s += wait_s


cdef tuple waits_counts(Waits *waits):
    """The histogram."""
    cdef int i
    return tuple([waits.counts[i] for i in range(WAIT_BOUNDS + 1)])

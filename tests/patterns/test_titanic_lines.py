"""Which stored requests of a Titanic broker are in memory."""

import tracemalloc

from pollbroker.patterns.majordomo.services import Service
from pollbroker.patterns.titanic.lines import Lines, StoredRequest
from pollbroker.patterns.titanic.store import Stored


def test_worker_that_is_lost_costs_no_look_at_all_that_are_in_memory() -> None:
    service = Service(b"echo", workers=1000)
    lines = Lines(10_000)
    lines.begin(service.name)

    def pending(name: bytes, after: int, most: int) -> list[Stored]:
        return [Stored(number, b"%032d" % number, []) for number in range(after + 1, after + most + 1)]

    def add(request: StoredRequest) -> None:
        service.waiting[request] = None

    assert lines.load(service, pending, add, pass_over=list)
    number = len(lines)
    service.workers -= 1
    tracemalloc.start()
    try:
        surplus = lines.shrink(service)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [request.number for request in surplus] == [number, number - 1]
    assert len(lines) == number - 2
    assert peak < number  # a list of them all would take 8 bytes for each

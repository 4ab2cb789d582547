"""Each scenario has a copy of the handlers, which remembers nothing of other scenarios."""

import threading
from typing import Any

from pollbroker.testing import check_device
from pollbroker.testing.handlers import fresh_copy
from tests.support import handlers
from tests.support.handlers import pipe


def test_each_scenario_has_a_handler_that_remembers_nothing() -> None:
    numbering = handlers.Numbering()
    check_device(pipe(numbering.handle), examples=5, columns=["simulation"])
    assert numbering.number == 0


def test_handlers_that_share_memory_still_share_it_in_a_scenario() -> None:
    memory: list[bytes] = []

    def put(message: list[bytes]) -> None:
        memory.append(message[0])

    def get(_: list[bytes]) -> list[bytes]:
        return list(memory)

    copies: dict[int, Any] = {}
    fresh_put, fresh_get = fresh_copy(put, copies), fresh_copy(get, copies)
    fresh_put([b"x"])
    assert (fresh_get([]), memory) == ([b"x"], [])
    assert fresh_copy(put, copies) is fresh_put
    assert fresh_copy(get, {})([]) == []


def test_handlers_that_share_a_variable_still_share_it_in_a_scenario() -> None:
    number = 0

    def count(message: list[bytes]) -> list[bytes]:
        nonlocal number
        number += 1
        return message

    def tell(_: list[bytes]) -> list[bytes]:
        return [b"%d" % number]

    copies: dict[int, Any] = {}
    fresh_count, fresh_tell = fresh_copy(count, copies), fresh_copy(tell, copies)
    fresh_count([b"x"])
    assert (fresh_tell([]), number) == ([b"1"], 0)


def test_default_arguments_of_a_handler_are_its_memory_too() -> None:
    def handle(message: list[bytes], seen: list[bytes] = [], *, last: list[bytes] = []) -> list[bytes]:  # noqa: B006
        seen += message
        last[:] = message
        return [*seen, *last]

    copy: Any = fresh_copy(handle, {})
    assert copy([b"x"]) == [b"x", b"x"]
    assert handle([b"y"]) == [b"y", b"y"]


def test_handler_that_cannot_be_copied_is_used_as_it_is() -> None:
    class Locked:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def __call__(self, message: list[bytes]) -> list[bytes]:
            return message

    handler = Locked()
    assert fresh_copy(handler, {}) is handler

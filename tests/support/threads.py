"""Calls in threads of their own. One that hangs fails its test, not the whole run."""

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from typing import Any

from tests.support.deadline import DEADLINE_S


def started_since(before: Collection[threading.Thread]) -> list[threading.Thread]:
    """Threads that run now and did not then. Those of earlier tests may end meanwhile."""
    return [thread for thread in threading.enumerate() if thread not in before]


@contextlib.contextmanager
def running(call: Callable[[], object]) -> Iterator[threading.Thread]:
    """A call in a thread of its own, which is to have returned at the end of the block."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    yield thread
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


def in_thread(call: Callable[[], Any]) -> "Future[Any]":
    """What a call in a thread of its own returns or raises."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


class Threads:
    """Calls in threads of their own, whose results are futures. One that hangs fails its test, not the whole run."""

    def __enter__(self) -> "Threads":
        self._futures: list[Future[Any]] = []
        return self

    def submit(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> "Future[Any]":
        """Begin a call, and return the future of its result."""
        self._futures.append(in_thread(lambda: call(*args, **kwargs)))
        return self._futures[-1]

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            for future in self._futures:
                future.result(DEADLINE_S)

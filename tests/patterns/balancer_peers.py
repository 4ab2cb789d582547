"""A balancer without sockets: what its clients and workers say, and what it sends them."""

from typing import Any

from pollbroker import Balancer
from pollbroker.testing import Driver, Send, drive


def balancer_with(*workers: bytes, capacity: int | None = None, **settings: Any) -> Driver:
    """A balancer of which these workers are known."""
    driver = drive(Balancer(**settings))
    for worker in workers:
        ready(driver, worker, capacity)
    return driver


def ready(driver: Driver, worker: bytes, capacity: int | None = None) -> list[Send]:
    return driver.message("backend", worker, b"", b"READY", *([] if capacity is None else [b"%d" % capacity]))


def ask(driver: Driver, question: bytes, client: bytes = b"c") -> list[Send]:
    return driver.message("frontend", client, b"", question)


def answer(driver: Driver, worker: bytes, text: bytes, client: bytes = b"c") -> list[Send]:
    return driver.message("backend", worker, b"", client, b"", text)


def given(worker: bytes, question: bytes, client: bytes = b"c") -> list[Send]:
    return [Send("backend", [worker, b"", client, b"", question])]


def answered(text: bytes, client: bytes = b"c") -> list[Send]:
    return [Send("frontend", [client, b"", text])]

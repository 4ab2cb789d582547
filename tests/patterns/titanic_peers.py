"""Titanic, driven by hand, with a store in memory, which fails if the test wants it."""

from typing import Any

from pollbroker.testing import drive
from tests.support.titanic import FailingStore, TitanicInMemory, TitanicPeers


def start(store: FailingStore | None = None, **settings: Any) -> TitanicPeers:
    behaviour = TitanicInMemory(store or FailingStore(), **({"heartbeat_s": 1000.0} | settings))
    return TitanicPeers(drive(behaviour, ["frontend"]))

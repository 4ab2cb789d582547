"""Devices that store something, with a store in memory: the kit's simulations write no file."""

from dataclasses import replace
from typing import Final

from pollbroker.device import Device
from pollbroker.patterns import TITANIC, Titanic
from pollbroker.patterns.titanic.store import MemoryStore, Store


class TitanicInMemory(Titanic):
    """A Titanic whose requests are gone when it ends."""

    def make_store(self) -> Store:
        return MemoryStore(lambda: self.now_s)


TITANIC_IN_MEMORY: Final = replace(TITANIC, behaviour=TitanicInMemory)

_IN_MEMORY: Final = {TITANIC.name: TITANIC_IN_MEMORY}


def in_memory(device: Device) -> Device:
    """The device that stands for this one in simulations: itself, if it stores nothing."""
    return _IN_MEMORY.get(device.name, device)

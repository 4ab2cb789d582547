"""Devices that store something, with a store in memory: the kit writes no file for them."""

from dataclasses import replace
from typing import Final

from pollbroker.device import Device
from pollbroker.patterns import TITANIC, Titanic
from pollbroker.patterns.titanic.store import MemoryStore, Store
from pollbroker.settings import MadeWithSettings


class TitanicInMemory(Titanic):
    """A Titanic whose requests are gone when it ends."""

    def make_store(self) -> Store:
        return MemoryStore(lambda: self.now_s)


TITANIC_IN_MEMORY: Final = replace(TITANIC, behaviour=TitanicInMemory)


def in_memory(device: Device) -> Device:
    """The same device, with the same settings, with a store in memory if its behaviour is `Titanic`. Any other device
    is returned as it is: what a behaviour of one's own stores, and where, belongs to what is tested."""
    made = device.behaviour
    if made is Titanic:
        return replace(device, behaviour=TitanicInMemory)
    if isinstance(made, MadeWithSettings) and made.make is Titanic:
        return replace(device, behaviour=replace(made, make=TitanicInMemory))
    return device

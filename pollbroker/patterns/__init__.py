"""The behaviours that ship with pollbroker, each with its device."""

from pollbroker.patterns.clone import CLONE, Clone
from pollbroker.patterns.last_value import LAST_VALUE, LastValue

__all__ = ["CLONE", "LAST_VALUE", "Clone", "LastValue"]

"""Behaviours that ship with pollbroker: brokers that decide for themselves what becomes of each message."""

from pollbroker.patterns.clone import CLONE, Clone
from pollbroker.patterns.last_value import LAST_VALUE, LastValue

__all__ = ["CLONE", "LAST_VALUE", "Clone", "LastValue"]

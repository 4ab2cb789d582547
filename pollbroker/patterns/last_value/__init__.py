"""The last value cache."""

from pollbroker.patterns.last_value.last_value import LAST_VALUE, LastValue

__all__ = ["LAST_VALUE", "LastValue"]

"""The sharder."""

from pollbroker.patterns.sharder.sharder import SHARDER, Sharder, sharder

__all__ = ["SHARDER", "Sharder", "sharder"]

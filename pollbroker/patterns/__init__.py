"""The behaviours that ship with pollbroker, each with its device."""

from pollbroker.patterns.balancer import BALANCER, Balancer
from pollbroker.patterns.sharder import SHARDER, Sharder, sharder

__all__ = ["BALANCER", "SHARDER", "Balancer", "Sharder", "sharder"]

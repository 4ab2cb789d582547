"""Behaviours that ship with pollbroker: brokers that decide for themselves what becomes of each message."""

from pollbroker.patterns.balancer import BALANCER, Balancer
from pollbroker.patterns.sharder import SHARDER, Sharder, sharder

__all__ = ["BALANCER", "SHARDER", "Balancer", "Sharder", "sharder"]

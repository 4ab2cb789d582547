"""Behaviours that ship with pollbroker: brokers that decide for themselves what becomes of each message."""

from pollbroker.patterns.paranoid_pirate import PARANOID_PIRATE, ParanoidPirate

__all__ = ["PARANOID_PIRATE", "ParanoidPirate"]

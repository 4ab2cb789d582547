"""Paranoid Pirate."""

from pollbroker.patterns.paranoid_pirate.paranoid_pirate import PARANOID_PIRATE, ParanoidPirate

__all__ = ["PARANOID_PIRATE", "ParanoidPirate"]

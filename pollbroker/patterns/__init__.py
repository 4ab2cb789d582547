"""Behaviours that ship: known ways of distributing messages, each as a device that needs no code of its user.

None of them has a socket, a clock or a thread of its own; see `pollbroker.behaviour`.
"""

from pollbroker.patterns.paranoid_pirate import PARANOID_PIRATE, ParanoidPirate

__all__ = ["PARANOID_PIRATE", "ParanoidPirate"]

"""The behaviours that ship with pollbroker, each with its device."""

from pollbroker.patterns.majordomo import MAJORDOMO, Majordomo
from pollbroker.patterns.paranoid_pirate import PARANOID_PIRATE, ParanoidPirate
from pollbroker.patterns.titanic import TITANIC, Titanic

__all__ = ["MAJORDOMO", "PARANOID_PIRATE", "TITANIC", "Majordomo", "ParanoidPirate", "Titanic"]

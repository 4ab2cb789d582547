"""The behaviours that ship with pollbroker, each with its device."""

from pollbroker.patterns.balancer import BALANCER, Balancer
from pollbroker.patterns.clone import CLONE, Clone
from pollbroker.patterns.last_value import LAST_VALUE, LastValue
from pollbroker.patterns.majordomo import MAJORDOMO, Majordomo
from pollbroker.patterns.paranoid_pirate import PARANOID_PIRATE, ParanoidPirate
from pollbroker.patterns.sharder import SHARDER, Sharder, sharder
from pollbroker.patterns.titanic import TITANIC, Titanic

__all__ = [
    "BALANCER",
    "CLONE",
    "LAST_VALUE",
    "MAJORDOMO",
    "PARANOID_PIRATE",
    "SHARDER",
    "TITANIC",
    "Balancer",
    "Clone",
    "LastValue",
    "Majordomo",
    "ParanoidPirate",
    "Sharder",
    "Titanic",
    "sharder",
]

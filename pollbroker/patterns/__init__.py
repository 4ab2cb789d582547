"""The behaviours that ship with pollbroker, each with its device."""

from pollbroker.patterns.majordomo import MAJORDOMO, Majordomo
from pollbroker.patterns.paranoid_pirate import PARANOID_PIRATE, ParanoidPirate
from pollbroker.patterns.titanic import TITANIC, Titanic

__all__ = ["MAJORDOMO", "TITANIC", "Majordomo", "Titanic"]
from pollbroker.patterns.balancer import BALANCER, Balancer
from pollbroker.patterns.sharder import SHARDER, Sharder, sharder

__all__ = ["BALANCER", "SHARDER", "Balancer", "Sharder", "sharder"]
__all__ = ["MAJORDOMO", "PARANOID_PIRATE", "TITANIC", "Majordomo", "ParanoidPirate", "Titanic"]
from pollbroker.patterns.clone import CLONE, Clone
from pollbroker.patterns.last_value import LAST_VALUE, LastValue

__all__ = ["CLONE", "LAST_VALUE", "Clone", "LastValue"]

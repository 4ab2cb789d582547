"""The behaviours that ship with pollbroker, each with its device, in a package of its own.

| package | what it is | its text |
| --- | --- | --- |
| `balancer` | requests to workers that are free | the ZeroMQ guide, chapter 3 |
| `sharder` | the requests of one key to one shard, by a consistent hash | |
| `paranoid_pirate` | a balancer with heartbeats both ways | RFC 6 |
| `majordomo` | services by name | RFC 7, RFC 18, RFC 8 |
| `titanic` | Majordomo with requests that are stored | RFC 9 |
| `last_value` | the last value of each topic for each new subscriber | the guide, chapter 5 |
| `clone` | a map that clients share | RFC 12 |

`ages` (when each of many things was last heard of) and `sorted_keys` (keys that begin with a prefix) serve several.
"""

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

"""Majordomo, driven by hand, with its clients and workers at one port or at two."""

from typing import Any

from pollbroker.patterns.majordomo import Majordomo
from pollbroker.patterns.majordomo.mdp import Version
from pollbroker.testing import drive
from tests.support.mdp_peers import Peers

VERSIONS: tuple[Version, Version] = (1, 2)


def start(**settings: Any) -> Peers:
    """A broker with clients and workers at one port."""
    return Peers(drive(Majordomo(**settings), ["frontend"]))


def start_apart(**settings: Any) -> Peers:
    """A broker with clients at one port and workers at another."""
    return Peers(drive(Majordomo(**settings)), workers_at="backend")

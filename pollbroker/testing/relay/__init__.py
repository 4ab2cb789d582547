"""Tests for relays that are not pollbroker: any function that passes messages on between two bound sockets."""

from pollbroker.testing.relay.checking import check_relay, examine_relay
from pollbroker.testing.relay.harness import Relay
from pollbroker.testing.relay.situations import SITUATIONS, Situation, situations_of

__all__ = ["SITUATIONS", "Relay", "Situation", "check_relay", "examine_relay", "situations_of"]

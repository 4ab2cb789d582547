"""The kit for relays that are not pollbroker: whatever is given two bound sockets and passes on what comes."""

from pollbroker.testing.relay.checking import check_relay, examine_relay
from pollbroker.testing.relay.harness import Relay
from pollbroker.testing.relay.situations import SITUATIONS, Situation, situations_of

__all__ = ["SITUATIONS", "Relay", "Situation", "check_relay", "examine_relay", "situations_of"]

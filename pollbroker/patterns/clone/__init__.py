"""The server of a map that clients share."""

from pollbroker.patterns.clone.clone import CLONE, Clone

__all__ = ["CLONE", "Clone"]

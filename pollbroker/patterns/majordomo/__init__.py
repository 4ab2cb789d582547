"""Majordomo: a broker of services."""

from pollbroker.patterns.majordomo.majordomo import MAJORDOMO, Majordomo

__all__ = ["MAJORDOMO", "Majordomo"]

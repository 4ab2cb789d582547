"""Titanic: Majordomo with requests that outlive the broker."""

from pollbroker.patterns.titanic.titanic import TITANIC, Titanic

__all__ = ["TITANIC", "Titanic"]

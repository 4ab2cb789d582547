"""Definitions of devices."""

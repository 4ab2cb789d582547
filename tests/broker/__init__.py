"""Brokers: the handle that the user holds, and the device at work behind it."""

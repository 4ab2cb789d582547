"""Steering an engine over a socket."""

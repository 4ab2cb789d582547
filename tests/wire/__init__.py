"""Tests of the wire: its core on simulated streams, under sanitizers and against a model."""
